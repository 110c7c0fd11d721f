/* Any Range, If-None-Match and If-Range leads to bytes that the file has. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/range.h"
#include "base/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const int64_t sizes[] = {0, 1, 1000, INT64_MAX};
    Arena *arena = arena_new(1 << 20);
    Err e = {0};
    char *text = arena_bytes(arena, data, bytes < 4096 ? bytes : 4096, &e);

    if (!text)
        abort();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        int64_t from, count;

        switch (range_read(text, sizes[i], &from, &count)) {
        case RANGE_WHOLE:
            if (from != 0 || count != sizes[i])
                abort();
            break;
        case RANGE_PART:
            if (from < 0 || count <= 0 || count > sizes[i] || from > sizes[i] - count)
                abort();
            break;
        case RANGE_UNSATISFIABLE:
            break;
        }
    }
    /* A list holds the tag only where the tag's own text, or "*", stands in it. */
    if (etag_is_in(text, "\"a-1\"") && !strstr(text, "\"a-1\"") && !strchr(text, '*'))
        abort();
    if (if_range_fits(text, "\"a-1\"", "Tue, 02 Jan 2024 12:00:00 GMT") &&
        strcmp(text, "\"a-1\"") != 0 && strcmp(text, "Tue, 02 Jan 2024 12:00:00 GMT") != 0)
        abort();
    arena_free(arena);
    return 0;
}
