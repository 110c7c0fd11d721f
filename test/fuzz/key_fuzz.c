/* Any text is refused as a key, or it is a path that stays below exports/ whoever resolves it, and
 * that a URL brings back. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "storage/storage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
check_key(const char *key)
{
    size_t bytes = strlen(key), decoded, depth = 0;
    Buf url = buf_new(16 << 10);
    char again[STORAGE_KEY_BYTES];

    if (bytes > STORAGE_KEY_BYTES || strncmp(key, "exports/", 8) != 0 || strchr(key, '\\') ||
        strstr(key, "//") || key[bytes - 1] == '/' || !text_is_utf8(key, bytes) ||
        text_has_control(key, bytes, false))
        abort();
    for (const char *at = key;; at++) {
        size_t segment = strcspn(at, "/");

        if (segment == 0 || segment > 255 || (segment == 1 && at[0] == '.') ||
            (segment == 2 && at[0] == '.' && at[1] == '.'))
            abort();
        depth++;
        at += segment;
        if (!*at)
            break;
    }
    if (depth < 3)
        abort();
    text_percent_encode(&url, key, bytes, true);
    if (!text_percent_decode(url.data, url.bytes, again, sizeof again, &decoded) ||
        decoded != bytes || memcmp(again, key, bytes) != 0)
        abort();
    buf_free(&url);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *key = malloc(bytes + 9), *below = key;
    Err e = {0};

    if (!key)
        abort();
    memcpy(key, "exports/", 8);
    memcpy(key + 8, data, bytes);
    key[bytes + 8] = '\0';
    for (int i = 0; i < 2; i++, below += 8) { /* with and without what it must begin with */
        err_clear(&e);
        if (storage_key_check(below, &e))
            check_key(below);
        else if (e.code != ERR_INVALID_KEY)
            abort();
    }
    free(key);
    return 0;
}
