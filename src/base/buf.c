#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 256 };

/* What an empty buffer points to; never written to, because room_bytes is 0. */
static char nothing[1];

Buf
buf_new(size_t limit_bytes)
{
    return (Buf){.data = nothing, .limit_bytes = limit_bytes};
}

void
buf_free(Buf *b)
{
    if (b->data != nothing)
        free(b->data);
    *b = buf_new(b->limit_bytes);
}

void
buf_wipe(Buf *b)
{
    explicit_bzero(b->data, b->room_bytes);
    buf_free(b);
}

void
buf_clear(Buf *b)
{
    b->bytes = 0;
    b->failed = false;
    if (b->room_bytes > 0)
        b->data[0] = '\0';
}

void
buf_reset(Buf *b, size_t keep_bytes_max)
{
    if (b->room_bytes > keep_bytes_max)
        buf_free(b);
    else
        buf_clear(b);
}

char *
buf_reserve(Buf *b, size_t bytes)
{
    size_t room;
    char *data;

    if (bytes > b->limit_bytes - b->bytes) {
        b->failed = true;
        return NULL;
    }
    if (b->room_bytes > 0 && bytes < b->room_bytes - b->bytes)
        return b->data + b->bytes;
    room = b->room_bytes ? b->room_bytes : FIRST_BYTES;
    while (room - b->bytes <= bytes)
        room = room > b->limit_bytes / 2 ? b->limit_bytes + 1 : room * 2;
    if (!(data = realloc(b->data == nothing ? NULL : b->data, room))) {
        b->failed = true;
        return NULL;
    }
    b->data = data;
    b->room_bytes = room;
    b->data[b->bytes] = '\0';
    return b->data + b->bytes;
}

void
buf_wrote(Buf *b, size_t bytes)
{
    b->bytes += bytes;
    b->data[b->bytes] = '\0';
}

void
buf_put(Buf *b, const void *data, size_t bytes)
{
    char *to;

    if (bytes == 0 || !(to = buf_reserve(b, bytes)))
        return;
    memcpy(to, data, bytes);
    buf_wrote(b, bytes);
}

void
buf_text(Buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void
buf_char(Buf *b, char c)
{
    buf_put(b, &c, 1);
}

void
buf_printf(Buf *b, const char *fmt, ...)
{
    va_list args;
    char *to;
    int bytes;

    va_start(args, fmt);
    bytes = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (bytes < 0) {
        b->failed = true;
        return;
    }
    if (bytes == 0 || !(to = buf_reserve(b, (size_t)bytes)))
        return;
    va_start(args, fmt);
    vsnprintf(to, (size_t)bytes + 1, fmt, args);
    va_end(args);
    buf_wrote(b, (size_t)bytes);
}

void
buf_drop(Buf *b, size_t bytes)
{
    if (bytes == 0)
        return;
    memmove(b->data, b->data + bytes, b->bytes - bytes);
    b->bytes -= bytes;
    b->data[b->bytes] = '\0';
}

bool
buf_is_good(const Buf *b, Err *e)
{
    return !b->failed || fail(e, MEMORY_LIMIT, "more than %zu bytes", b->limit_bytes);
}
