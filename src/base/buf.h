/*
 * Buf: bytes that grow up to a limit told when the buffer is made. Holds a NUL behind the bytes, so
 * that it can be read as text. Failing to grow sets `failed` and keeps what was there: a run of
 * buf_put calls is checked once, at its end, with buf_is_good. One thread at a time.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

#include "base/err.h"

typedef struct {
    char *data; /* never NULL after buf_new; NUL behind */
    size_t bytes;
    size_t room_bytes;
    size_t limit_bytes;
    bool failed;
} Buf;

/* `Buf b = buf_new(64 << 10);` allocates nothing yet: data points to "". */
Buf buf_new(size_t limit_bytes);
void buf_free(Buf *b);                         /* may be used again afterwards, as new */
void buf_wipe(Buf *b);                         /* the same, overwritten before: for secrets that
                                                  were reserved at once and so never moved */
void buf_clear(Buf *b);                        /* no bytes, not failed; keeps the memory */
void buf_reset(Buf *b, size_t keep_bytes_max); /* the same, but gives back more memory than that */

void buf_put(Buf *b, const void *data, size_t bytes);
void buf_text(Buf *b, const char *text);
void buf_char(Buf *b, char c);
void buf_printf(Buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Room for `bytes` more; returns where to write, then buf_wrote() what was written. NULL if there
 * is none. */
char *buf_reserve(Buf *b, size_t bytes);
void buf_wrote(Buf *b, size_t bytes);

/* Take `bytes` away from the front (what has been sent or parsed). */
void buf_drop(Buf *b, size_t bytes);

/* False, and ERR_MEMORY_LIMIT in `e`, if anything did not fit since buf_new or buf_clear. */
bool buf_is_good(const Buf *b, Err *e) MUST_CHECK;

#endif
