#include "codec/codec.h"

extern const CodecKind codec_none;

static Sink *
none_open(Sink *next, Arena *task, Err *e)
{
    (void)task;
    (void)e;
    return next;
}

const CodecKind codec_none = {.name = "none", .extension = "", .open = none_open};
