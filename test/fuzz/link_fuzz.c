/* Any target is refused unless it is the link that was signed; any key and name that can be signed
 * come back from their link. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "storage/file/file_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const char secret[] = "a-secret-of-at-least-thirty-two-characters";
static const char known_key[] = "exports/user_1/a b.csv", known_name[] = "r\xc3\xa9port.csv";

static FileStorage store = {.base.kind = &storage_file, .link_keys = 1};

/* What is refused says why in one of these ways, and never reaches the disk. */
static void
check_refusal(const Err *e)
{
    if (e->code != ERR_INVALID_REQUEST && e->code != ERR_FORBIDDEN && e->code != ERR_LINK_EXPIRED &&
        e->code != ERR_NOT_FOUND)
        abort();
}

/* With what follows the path, and as the whole target. */
static void
check_target(const char *target)
{
    char key[STORAGE_KEY_BYTES + 1], name[256];
    Err e = {0};

    if (!link_check(&store, target, 1000, key, name, &e)) {
        check_refusal(&e);
        return;
    }
    if (strcmp(key, known_key) != 0 || strcmp(name, known_name) != 0)
        abort();
}

static void
check_name(const char *text)
{
    const SignSpec spec = {.base_url = "", .name = text, .expires_wall_s = 2000};
    char url[STORAGE_URL_BYTES], key[STORAGE_KEY_BYTES + 1], name[256];
    int64_t ends;
    Err e = {0};

    if (!link_sign(&store.base, known_key, &spec, url, sizeof url, &ends, &e))
        return;
    if (!link_check(&store, url, 1999, key, name, &e) || strcmp(key, known_key) != 0 ||
        strcmp(name, text) != 0)
        abort();
    if (link_check(&store, url, 2000, key, name, &e) || e.code != ERR_LINK_EXPIRED)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    Arena *arena = arena_new(1 << 20);
    Err e = {0};
    char *text = arena_bytes(arena, data, bytes < 8192 ? bytes : 8192, &e);

    if (!text || !link_key_make(secret, store.link_key[0], &e))
        abort();
    check_target(text);
    check_name(text);
    arena_free(arena);
    return 0;
}
