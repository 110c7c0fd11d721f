/* Any bytes may stand in a file: they become a value whose lines lie within it, or CONFIG_INVALID.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static unsigned
depth_of(const json_t *value)
{
    unsigned deepest = 0;
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_object(value))
        json_object_foreach((json_t *)(uintptr_t)value, key, member) deepest =
            depth_of(member) > deepest ? depth_of(member) : deepest;
    else if (json_is_array(value))
        json_array_foreach(value, i, member) deepest =
            depth_of(member) > deepest ? depth_of(member) : deepest;
    else
        return 0;
    return deepest + 1;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(64 << 20);
    unsigned lines = 1;
    const char *key;
    json_t *member;
    Err e = {0};
    Yaml *y = yaml_parse((const char *)data, bytes, "fuzz.yaml", arena, &e);

    for (size_t i = 0; i < bytes; i++) /* a line ends with LF, CR, NEL, LS, PS */
        lines += data[i] == '\n' || data[i] == '\r' || data[i] == 0x85 || data[i] == 0xa8 ||
                 data[i] == 0xa9;
    if (!y && e.code != ERR_CONFIG_INVALID && e.code != ERR_MEMORY_LIMIT)
        abort();
    if (y) {
        json_t *value = (json_t *)(uintptr_t)yaml_value(y);
        char *text = json_dumps(value, JSON_ENCODE_ANY);

        /* No alias: nothing grows much beyond what was written. */
        if (!text || depth_of(value) > 16 || strlen(text) > 16 * bytes + 64)
            abort();
        free(text);
        json_object_foreach(value, key, member)
        {
            char pointer[64] = "/";

            if (strlen(key) < 60 && !strpbrk(key, "~/"))
                memcpy(pointer + 1, key, strlen(key) + 1);
            if (yaml_line(y, pointer) < 1 || yaml_line(y, pointer) > lines)
                abort();
        }
        yaml_close(y);
    }
    arena_free(arena);
    return 0;
}
