/*
 * Any bytes from a relative: objects, or INTERNAL and then nothing more; in whatever pieces they
 * come. What was heard can be said again.
 */
#include <stdint.h>
#include <stdlib.h>

#include "child/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
check_again(json_t *frame)
{
    Buf said = buf_new(FRAME_BYTES_MAX * 8);
    json_t *heard;
    Err e = {0};

    if (!frame_put(&said, json_incref(frame), &e))
        abort();
    if (!(heard = frame_take(&said, &e)) || !json_equal(frame, heard) || said.bytes > 0)
        abort();
    json_decref(heard);
    buf_free(&said);
}

/* How many there were; -1 at the end when it was no frame. */
static int
hear(const uint8_t *data, size_t bytes, size_t piece, bool says)
{
    Buf in = buf_new(bytes + 1);
    int frames = 0;
    Err e = {0};

    for (size_t at = 0; at < bytes && !e.links; at += piece) {
        json_t *frame;

        buf_put(&in, data + at, bytes - at < piece ? bytes - at : piece);
        while ((frame = frame_take(&in, &e))) {
            if (!json_is_object(frame))
                abort();
            frames++;
            if (says)
                check_again(frame);
            json_decref(frame);
        }
    }
    if (e.links && e.code != ERR_INTERNAL)
        abort();
    buf_free(&in);
    return e.links ? -1 - frames : frames;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    int frames = hear(data, bytes, bytes + 1, true);

    if (hear(data, bytes, 1 + bytes % 7, false) != frames)
        abort();
    return 0;
}
