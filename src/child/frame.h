/*
 * Frame: what parent and child say to each other: a length of four bytes (lowest first) and one
 * JSON object of that many bytes, at most FRAME_BYTES_MAX. And the page they share.
 */
#ifndef CHILD_FRAME_H
#define CHILD_FRAME_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    FRAME_BYTES_MAX = 4 << 20,
    FRAME_HEAD_BYTES = 4,
    FRAME_SOCKET_FD = 3, /* in the child */
    FRAME_PAGE_FD = 4,
    FRAME_PERMITS_FD = 5, /* permit.h; may be missing */
};

/* Written by the child but `asked`; read by the parent twice a second. No message, no system call
 * for progress. */
typedef struct {
    _Atomic uint64_t heartbeat;
    _Atomic uint32_t stage;
    _Atomic uint64_t rows, bytes, peak_bytes;
    _Atomic int64_t rows_estimated;
    _Atomic uint32_t permit; /* 1: this child holds a permit */
    _Atomic uint32_t asked;  /* by the parent: an ErrCode that says why to end; 0 goes on */
} FramePage;

/* Appends a frame, or nothing. Takes over `object` (NULL: no memory). */
bool frame_put(Buf *to, json_t *object, Err *e) MUST_CHECK;

/*
 * The first whole frame in `from`, which is then dropped from it and wiped, for it may hold a
 * password; NULL and no error while it is not
 * there yet. The caller owns it. Anything that is no frame: INTERNAL.
 */
json_t *frame_take(Buf *from, Err *e) MUST_CHECK;

#endif
