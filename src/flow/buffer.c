#include <string.h>

#include "flow/sink.h"

typedef struct {
    Sink base;
    size_t room_bytes, held_bytes;
    char *held;
} BufferSink;

static bool
pass_on(BufferSink *b, Err *e)
{
    size_t bytes = b->held_bytes;

    b->held_bytes = 0;
    return sink_write(b->base.next, b->held, bytes, e);
}

static bool
buffer_write(Sink *s, const void *data, size_t bytes, Err *e)
{
    BufferSink *b = (BufferSink *)s;

    if (bytes > b->room_bytes - b->held_bytes && !pass_on(b, e))
        return false;
    if (bytes >= b->room_bytes)
        return sink_write(s->next, data, bytes, e);
    memcpy(b->held + b->held_bytes, data, bytes);
    b->held_bytes += bytes;
    return true;
}

static bool
buffer_finish(Sink *s, Err *e)
{
    return pass_on((BufferSink *)s, e);
}

static const SinkKind buffer_sink = {"buffer", buffer_write, buffer_finish, NULL};

Sink *
buffer_open(Sink *next, size_t bytes, Arena *task, Err *e)
{
    BufferSink *b = arena_alloc(task, sizeof *b, e);

    if (!b || !(b->held = arena_alloc(task, bytes, e)))
        return NULL;
    b->base = (Sink){.kind = &buffer_sink, .next = next};
    b->room_bytes = bytes;
    return &b->base;
}
