/* The text: 16 bytes of the seal, then "MICROSECONDS/KEY"; all of it in hex. */
#include "api/cursor.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "api/seal.h"
#include "base/text.h"

enum { MARK_BYTES = 16, PLACE_BYTES = STORAGE_KEY_BYTES + 24 };

static const char label[] = "rowferry/cursor/v1";

static bool
make_mark(
    const char *secret, const char *user_id, const char *place, uint8_t mark[SEAL_BYTES], Err *e)
{
    char text[PLACE_BYTES + 160];
    int bytes = snprintf(
        text, sizeof text, "%zu:%s\n%zu:%s\n", strlen(user_id), user_id, strlen(place), place);

    if (bytes < 0 || (size_t)bytes >= sizeof text)
        return fail(e, INVALID_REQUEST, "the cursor is too long");
    return seal_make(secret, label, text, (size_t)bytes, mark, e);
}

bool
cursor_write(const Cursor *cursor, const char *user_id, const Config *config, Buf *to, Err *e)
{
    char place[PLACE_BYTES], hex[2 * (MARK_BYTES + PLACE_BYTES) + 1];
    uint8_t mark[SEAL_BYTES];
    int bytes = snprintf(place, sizeof place, "%" PRId64 "/%s", cursor->modified_us, cursor->key);

    if (config->url_secret_keys == 0 || bytes < 0 || (size_t)bytes >= sizeof place)
        return fail(e, INTERNAL, "no secret for a cursor");
    if (!make_mark(config->url_secret_key[0], user_id, place, mark, e))
        return false;
    text_hex(mark, MARK_BYTES, hex);
    text_hex((const uint8_t *)place, (size_t)bytes, hex + 2 * MARK_BYTES);
    buf_text(to, hex);
    return true;
}

static bool
is_sealed(const char *user_id, const char *place, const uint8_t *mark, const Config *config)
{
    bool fits = false;

    for (unsigned i = 0; i < config->url_secret_keys; i++) {
        uint8_t want[SEAL_BYTES];
        Err ignored = {0};

        if (make_mark(config->url_secret_key[i], user_id, place, want, &ignored))
            fits |= seal_equals(want, mark, MARK_BYTES);
    }
    return fits;
}

bool
cursor_read(const char *text, const char *user_id, const Config *config, Cursor *cursor, Err *e)
{
    size_t digits = strlen(text), slash, bytes = digits / 2;
    uint8_t raw[MARK_BYTES + PLACE_BYTES + 1];
    char *place = (char *)raw + MARK_BYTES;
    uint64_t modified_us;

    if (digits % 2 != 0 || bytes <= MARK_BYTES || bytes >= sizeof raw ||
        !text_unhex(text, raw, bytes) || memchr(place, '\0', bytes - MARK_BYTES))
        return fail(e, INVALID_REQUEST, "the cursor is none that was given out");
    raw[bytes] = '\0';
    if (!is_sealed(user_id, place, raw, config))
        return fail(e, INVALID_REQUEST, "the cursor is none that was given out for this list");
    slash = strcspn(place, "/");
    place[slash] = '\0';
    if (!text_to_uint(place, INT64_MAX, &modified_us) || slash + 1 >= bytes - MARK_BYTES ||
        !text_copy(cursor->key, sizeof cursor->key, place + slash + 1))
        return fail(e, INVALID_REQUEST, "the cursor cannot be read");
    cursor->modified_us = (int64_t)modified_us;
    return true;
}
