/* Codec: a sink with a next one that changes the bytes on their way. */
#ifndef CODEC_CODEC_H
#define CODEC_CODEC_H

#include "flow/sink.h"

typedef struct {
    const char *name;         /* "none" "gzip": as requests say it */
    const char *extension;    /* "" ".gz" */
    const char *content_type; /* NULL: that of the format */

    /* Memory from `task`. codec_none hands back `next`. */
    Sink *(*open)(Sink *next, Arena *task, Err *e);
} CodecKind;

#endif
