#include "child/frame.h"

#include <string.h>

#include "base/json.h"

enum { DEPTH_MAX = 24 };

bool
frame_put(Buf *to, json_t *object, Err *e)
{
    size_t start = to->bytes, bytes;
    bool ok;

    if (!object)
        return fail(e, MEMORY_LIMIT, "no memory for a frame");
    buf_put(to, "\0\0\0\0", FRAME_HEAD_BYTES);
    ok = json_write(object, to, e);
    json_decref(object);
    if (!ok)
        return false;
    bytes = to->bytes - start - FRAME_HEAD_BYTES;
    if (bytes > FRAME_BYTES_MAX)
        return fail(e, INTERNAL, "a frame of %zu bytes", bytes);
    for (int i = 0; i < FRAME_HEAD_BYTES; i++)
        to->data[start + (size_t)i] = (char)(bytes >> (8 * i) & 0xff);
    return true;
}

json_t *
frame_take(Buf *from, Err *e)
{
    const unsigned char *head = (const unsigned char *)from->data;
    size_t bytes;
    json_t *object;

    if (from->bytes < FRAME_HEAD_BYTES)
        return NULL;
    bytes = (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    if (bytes > FRAME_BYTES_MAX) {
        fail(e, INTERNAL, "a frame of %zu bytes", bytes);
        return NULL;
    }
    if (from->bytes - FRAME_HEAD_BYTES < bytes)
        return NULL;
    object = json_parse(from->data + FRAME_HEAD_BYTES, bytes, DEPTH_MAX, e);
    if (object && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
        fail(e, INTERNAL, "a frame that is no object");
    }
    if (object)
        buf_drop(from, FRAME_HEAD_BYTES + bytes);
    else if (e->code != ERR_INTERNAL)
        fail(e, INTERNAL, "a frame that is not JSON");
    return object;
}
