/* Any Prefer, Accept, Content-Type or Idempotency-Key is read within its bounds; what is honoured
 * reads back as itself. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/negotiate.h"
#include "base/arena.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
check_prefer(const char *text)
{
    Preferences preferences = {0}, again = {0};
    Buf applied = buf_new(256), twice = buf_new(256);

    prefer_read(text, &preferences);
    if (preferences.wait_s < 0 || preferences.wait_s > PREFER_WAIT_S_MAX)
        abort();
    prefer_write(&preferences, &applied);
    prefer_read(applied.data, &again);
    prefer_write(&again, &twice);
    if (applied.failed || strcmp(applied.data, twice.data) != 0)
        abort();
    buf_free(&applied);
    buf_free(&twice);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(1 << 20);
    char key[IDEMPOTENCY_KEY_BYTES + 1];
    Err e = {0};
    char *text = arena_bytes(arena, data, bytes < 4096 ? bytes : 4096, &e);

    if (!text)
        abort();
    check_prefer(text);
    (void)accept_takes_json(text);
    (void)media_is_json(text);
    if (idempotency_key_read(text, key)) {
        size_t count = strlen(key);

        if (count == 0 || count > IDEMPOTENCY_KEY_BYTES)
            abort();
        for (size_t i = 0; i < count; i++)
            if (key[i] <= ' ' || key[i] > '~')
                abort();
    }
    arena_free(arena);
    return 0;
}
