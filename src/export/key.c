#include "export/key.h"

#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "base/time.h"

void
key_short_id(const char *task_id, char to[9])
{
    char hex[65] = "";

    if (text_is_uuid(task_id)) {
        memcpy(to, task_id, 8);
    } else {
        if (!digest_text(task_id, strlen(task_id), hex))
            memset(hex, '0', 8);
        memcpy(to, hex, 8);
    }
    to[8] = '\0';
}

bool
key_make(const char *user_id, const char *export_type, int64_t started_us, const char *task_id,
    const char *extension, char key[STORAGE_KEY_BYTES + 1], Err *e)
{
    char short_id[9], when[TIME_TEXT_BYTES];
    int bytes;

    if (!text_is_user_id(user_id) || !text_is_name(export_type) || strchr(extension, '/'))
        return fail(e, INTERNAL, "a task whose user or type makes no key");
    key_short_id(task_id, short_id);
    bytes = snprintf(key, STORAGE_KEY_BYTES + 1, "exports/%s/%s_%s_%s%s", user_id, export_type,
        time_key(started_us, when), short_id, extension);
    return (bytes > 0 && bytes <= STORAGE_KEY_BYTES && storage_key_check(key, e)) ||
           fail(e, INTERNAL, "a key that is too long");
}

bool
key_user(const char *key, const char **user, size_t *count)
{
    const char *slash;

    if (!text_starts(key, "exports/") || !(slash = strchr(key + 8, '/')) || slash == key + 8)
        return false;
    *user = key + 8;
    *count = (size_t)(slash - *user);
    return true;
}

const char *
key_file(const char *key)
{
    const char *slash = strrchr(key, '/');

    return slash ? slash + 1 : key;
}
