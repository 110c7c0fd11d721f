/* Sinks for tests: one that keeps what it is given, one that fails. */
#ifndef TEST_CONTRACT_SINKS_H
#define TEST_CONTRACT_SINKS_H

#include "base/buf.h"
#include "flow/sink.h"

typedef struct {
    Sink base;
    Buf got;
    unsigned writes, finishes, aborts;
    uint64_t fails_after; /* bytes; UINT64_MAX: never */
    bool fails_to_finish;
    bool has_failed; /* a write after that fails the test: sink.h forbids it */
} TestSink;

/* Free with buf_free(&sink.got). */
TestSink sink_new(void);

/*
 * What every sink with a next one promises (a codec, buffer, digest): empty writes change nothing,
 * any cut of the same bytes gives the same, what is held back comes with finish, a next one that
 * fails ends it, an abort passes through, bytes_in counts, every allocation may fail.
 */
typedef Sink *SinkOpen(Sink *next, Arena *task, Err *e);

void sink_contract(SinkOpen *open);

#endif
