#include "api/range.h"

#include <string.h>
#include <strings.h>

#include "base/text.h"

/* Digits at *at; a number too large for any file becomes INT64_MAX. False without a digit. */
static bool
read_digits(const char **at, int64_t *number)
{
    size_t digits = strspn(*at, "0123456789");

    *number = 0;
    for (size_t i = 0; i < digits; i++)
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (*at)[i] - '0', number)) {
            *number = INT64_MAX;
            break;
        }
    *at += digits;
    return digits > 0;
}

static const char *
skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

RangeAnswer
range_read(const char *value, int64_t bytes, int64_t *from, int64_t *count)
{
    const char *at;
    int64_t first = 0, last = 0;
    bool has_first, has_last;

    *from = 0;
    *count = bytes;
    if (!value || strncasecmp(value, "bytes=", 6) != 0)
        return RANGE_WHOLE;
    at = skip_blanks(value + 6);
    has_first = read_digits(&at, &first);
    if (*at++ != '-')
        return RANGE_WHOLE;
    has_last = read_digits(&at, &last);
    /* Several ranges would be answered by several parts: the whole file is as good. */
    if (*skip_blanks(at) || (!has_first && !has_last) || (has_first && has_last && last < first))
        return RANGE_WHOLE;
    if (!has_first) {
        *count = last < bytes ? last : bytes;
        *from = bytes - *count;
        return *count > 0 ? RANGE_PART : RANGE_UNSATISFIABLE;
    }
    if (first >= bytes)
        return RANGE_UNSATISFIABLE;
    *from = first;
    *count = has_last && last < bytes ? last - first + 1 : bytes - first;
    return RANGE_PART;
}

bool
etag_is_in(const char *list, const char *etag)
{
    size_t bytes = strlen(etag);

    for (const char *at = list;;) {
        at += strspn(at, " \t,");
        if (!*at)
            return false;
        if (*at == '*')
            return true;
        if (text_starts(at, "W/"))
            at += 2;
        if (*at != '"')
            return false;
        if (strncmp(at, etag, bytes) == 0)
            return true;
        at += 1 + strcspn(at + 1, "\"");
        if (*at)
            at++;
    }
}

bool
if_range_fits(const char *value, const char *etag, const char *last_modified)
{
    return strcmp(value, etag) == 0 || strcmp(value, last_modified) == 0;
}
