/*
 * Encoder: turns batches into the bytes of a format and pushes them into a sink. Calls come in
 * order: open, rows (any number of times), end. Lives in the task's arena; nothing to close.
 */
#ifndef FORMAT_ENCODER_H
#define FORMAT_ENCODER_H

#include "base/arena.h"
#include "base/err.h"
#include "flow/batch.h"
#include "flow/sink.h"

typedef struct Encoder Encoder;

/* What a request may choose about a format. Plain data; zero is not a default:
 * encoder_options_default. */
typedef struct {
    struct {
        bool line_ending_lf;    /* else CRLF */
        bool empty_string_bare; /* else "" is quoted, to differ from NULL */
        bool header;
    } csv;
} EncoderOptions;

EncoderOptions encoder_options_default(void);

typedef struct {
    const char *name;         /* "csv": as requests say it */
    const char *extension;    /* ".csv" */
    const char *content_type; /* "text/csv; charset=utf-8" */

    /* May write a header at once. `schema` outlives the encoder. */
    Encoder *(*open)(
        const Schema *schema, const EncoderOptions *options, Sink *sink, Arena *task, Err *e);

    /* ENCODE_FAILED names column and row (counted from 1 over the whole export). */
    bool (*rows)(Encoder *encoder, const Batch *batch, Err *e);

    /* Everything that comes after the last row; does not finish the sink. Optional. */
    bool (*end)(Encoder *encoder, Err *e);
} EncoderKind;

struct Encoder {
    const EncoderKind *kind;
    Sink *sink;
};

bool encoder_rows(Encoder *encoder, const Batch *batch, Err *e) MUST_CHECK;
bool encoder_end(Encoder *encoder, Err *e) MUST_CHECK;

#endif
