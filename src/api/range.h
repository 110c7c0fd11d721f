/* Range: which bytes of a file an answer holds, and conditions on it (RFC 9110, 13 and 14). Pure.
 */
#ifndef API_RANGE_H
#define API_RANGE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
    RANGE_WHOLE,         /* no range, several, or one that is not well-formed: all bytes, 200 */
    RANGE_PART,          /* `count` bytes from `from` on: 206 */
    RANGE_UNSATISFIABLE, /* 416 */
} RangeAnswer;

/* `value` of Range (NULL: there is none) for a file of `bytes`. */
RangeAnswer range_read(const char *value, int64_t bytes, int64_t *from, int64_t *count);

/* Does If-None-Match (a list of tags, or "*") hold this tag? Weak comparison. */
bool etag_is_in(const char *list, const char *etag);

/* Does If-Range hold this strong tag, or exactly this HTTP date? Then Range counts. */
bool if_range_fits(const char *value, const char *etag, const char *last_modified);

#endif
