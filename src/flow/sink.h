/*
 * Sink: bytes go in. What happens to them is the sink's own business.
 *
 *     csv -> gzip -> sha256 -> s3
 *
 * A sink lives in its task's arena and belongs to the thread that runs the export.
 */
#ifndef FLOW_SINK_H
#define FLOW_SINK_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/err.h"

typedef struct Sink Sink;

typedef struct {
    const char *name; /* as users write it, and as it shows in errors and metrics */

    /* Takes all of it or fails. Never called again after a failure. */
    bool (*write)(Sink *s, const void *data, size_t bytes, Err *e);

    /* No more bytes: write out what is held back. For a storage: every byte is safe, nothing is
     * visible. Optional. */
    bool (*finish)(Sink *s, Err *e);

    /* Leave no trace: nothing that was written may become visible. Optional, cannot fail, may come
     * after finish. */
    void (*abort)(Sink *s);
} SinkKind;

struct Sink {
    const SinkKind *kind;
    Sink *next;
    uint64_t bytes_in;
};

bool sink_write(Sink *s, const void *data, size_t bytes, Err *e) MUST_CHECK;

/* From here down to the end of the chain, in order. */
bool sink_finish(Sink *s, Err *e) MUST_CHECK;
void sink_abort(Sink *s); /* NULL is fine */

/* buffer.c: gathers small writes into blocks of `bytes`. */
Sink *buffer_open(Sink *next, size_t bytes, Arena *task, Err *e) MUST_CHECK;

/* digest.c: SHA-256 of what passes. digest_hex is known after finish: 64 lower-case digits. */
Sink *digest_open(Sink *next, Arena *task, Err *e) MUST_CHECK;
const char *digest_hex(const Sink *digest);

const char *digest_library_version(void); /* OpenSSL's */

/* SHA-256 of a text at once, as 64 lower-case digits. False if OpenSSL refuses. */
bool digest_text(const char *text, size_t bytes, char hex[65]) MUST_CHECK;

#endif
