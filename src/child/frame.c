#include "child/frame.h"

#include <string.h>

#include "base/json.h"
#include "base/text.h"

enum { DEPTH_MAX = 24 };

bool
frame_put(Buf *to, json_t *object, Err *e)
{
    size_t start = to->bytes, bytes;
    bool had_failed = to->failed, ok;

    if (!object)
        return fail(e, MEMORY_LIMIT, "no memory for a frame");
    buf_put(to, "\0\0\0\0", FRAME_HEAD_BYTES);
    ok = json_write(object, to, e);
    json_decref(object);
    bytes = to->bytes - start - FRAME_HEAD_BYTES;
    if (ok && bytes > FRAME_BYTES_MAX)
        ok = fail(e, INTERNAL, "a frame of %zu bytes", bytes);
    if (!ok) {
        /* Half a frame would be read as the beginning of the next. */
        if (to->bytes > start) {
            to->bytes = start;
            to->data[start] = '\0';
        }
        to->failed = had_failed;
        return false;
    }
    for (int i = 0; i < FRAME_HEAD_BYTES; i++)
        to->data[start + (size_t)i] = (char)(bytes >> (8 * i) & 0xff);
    return true;
}

/* What a client might have sent is a bug when a relative says it. */
static void
be_internal(Err *e)
{
    char why[ERR_TEXT_BYTES];

    (void)text_copy(why, sizeof why, err_root(e));
    err_clear(e);
    fail(e, INTERNAL, "a frame that is not JSON: %s", why);
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
    if (object) {
        buf_drop(from, FRAME_HEAD_BYTES + bytes);
        explicit_bzero(from->data + from->bytes, FRAME_HEAD_BYTES + bytes);
    } else if (e->code != ERR_INTERNAL && e->code != ERR_MEMORY_LIMIT)
        be_internal(e);
    return object;
}
