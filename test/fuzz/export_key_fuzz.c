/* Any user, type, id and extension (a NUL between): no key, or one that stays in its user's folder.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "export/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 4), key[STORAGE_KEY_BYTES + 1], short_id[9];
    const char *part[4], *user, *at = text;
    size_t count;
    Err e = {0};

    memcpy(text, data, bytes);
    memset(text + bytes, 0, 4);
    for (size_t i = 0; i < 4; i++) {
        part[i] = at;
        if (at < text + bytes)
            at += strlen(at) + 1;
    }
    key_short_id(part[2], short_id);
    if (strspn(short_id, "0123456789abcdef") != 8 || short_id[8])
        abort();
    if (key_make(part[0], part[1], 1704110400000000, part[2], part[3], key, &e)) {
        Err why = {0};

        if (!storage_key_check(key, &why) || strstr(key, "/../") || strstr(key, "//"))
            abort();
        if (!key_user(key, &user, &count) || count != strlen(part[0]) ||
            memcmp(user, part[0], count) != 0 || !text_starts(key_file(key), part[1]))
            abort();
    } else if (e.code != ERR_INTERNAL && e.code != ERR_INVALID_KEY) {
        abort();
    }
    /* And as a key itself. */
    if (key_user(text, &user, &count) && (count == 0 || memchr(user, '/', count)))
        abort();
    if (strchr(key_file(text), '/'))
        abort();
    free(text);
    return 0;
}
