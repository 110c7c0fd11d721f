#include "storage/storage.h"

#include <string.h>

#include "base/text.h"

/* One segment of a key, between two slashes. */
static bool
check_segment(const char *segment, size_t bytes, Err *e)
{
    if (bytes == 0)
        return fail(e, INVALID_KEY, "an empty segment in the key");
    if (bytes > 255)
        return fail(e, INVALID_KEY, "a segment of the key is longer than 255 bytes");
    if ((bytes == 1 && segment[0] == '.') || (bytes == 2 && memcmp(segment, "..", 2) == 0))
        return fail(e, INVALID_KEY, "a segment of dots in the key");
    return true;
}

bool
storage_key_check(const char *key, Err *e)
{
    size_t bytes = strnlen(key, STORAGE_KEY_BYTES + 1), segments = 0;

    if (bytes > STORAGE_KEY_BYTES)
        return fail(e, INVALID_KEY, "the key is longer than %d bytes", STORAGE_KEY_BYTES);
    if (!text_starts(key, "exports/"))
        return fail(e, INVALID_KEY, "the key does not start with exports/");
    if (!text_is_utf8(key, bytes) || text_has_control(key, bytes, false))
        return fail(e, INVALID_KEY, "the key has bytes that no key has");
    if (memchr(key, '\\', bytes))
        return fail(e, INVALID_KEY, "the key has a backslash");
    for (const char *at = key; at; segments++) {
        const char *slash = strchr(at, '/');
        size_t length = slash ? (size_t)(slash - at) : strlen(at);

        if (!check_segment(at, length, e))
            return false;
        at = slash ? slash + 1 : NULL;
    }
    if (segments < 3)
        return fail(e, INVALID_KEY, "the key names no file");
    return true;
}
