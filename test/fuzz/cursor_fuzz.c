/* Nothing but what was given out is a cursor, whatever place it names: as it came, and behind a
 * seal that fits. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/cursor.h"
#include "base/arena.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char *const ring[] = {"a-secret-of-at-least-thirty-two-characters"};
static const Config config = {.url_secret_key = ring, .url_secret_keys = 1};

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(1 << 20);
    Err e = {0};
    char *text = arena_bytes(arena, data, bytes < 4096 ? bytes : 4096, &e);
    Cursor cursor = {.modified_us = 1}, back;
    Buf given = buf_new(16 << 10);

    if (!text)
        abort();
    if (cursor_read(text, "user_1", &config, &cursor, &e) || e.code != ERR_INVALID_REQUEST)
        abort();
    /* The same bytes as a key, given out and taken back. */
    err_clear(&e);
    if (*text && text_copy(cursor.key, sizeof cursor.key, text)) {
        if (!cursor_write(&cursor, "user_1", &config, &given, &e) ||
            !cursor_read(given.data, "user_1", &config, &back, &e) ||
            strcmp(back.key, cursor.key) != 0 || back.modified_us != cursor.modified_us ||
            cursor_read(given.data, "user_2", &config, &back, &e))
            abort();
    }
    buf_free(&given);
    arena_free(arena);
    return 0;
}
