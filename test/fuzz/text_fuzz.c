/* Any bytes: UTF-8 or not is what a plain reading of RFC 3629 says; what is written elsewhere
 * (JSON, URL, terminal, base64, log) reads back the same or is harmless. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* One character at a time, by its number. */
static bool
is_utf8(const uint8_t *at, size_t left)
{
    while (left > 0) {
        uint32_t c = at[0], least = 0;
        size_t length = 1;

        if (c >= 0xf0 && c < 0xf8)
            length = 4, c &= 0x07, least = 0x10000;
        else if (c >= 0xe0 && c < 0xf0)
            length = 3, c &= 0x0f, least = 0x800;
        else if (c >= 0xc0 && c < 0xe0)
            length = 2, c &= 0x1f, least = 0x80;
        else if (c >= 0x80)
            return false;
        if (length > left)
            return false;
        for (size_t i = 1; i < length; i++) {
            if ((at[i] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (at[i] & 0x3fu);
        }
        if (c < least || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return false;
        at += length;
        left -= length;
    }
    return true;
}

static void
check_json(const char *text, size_t bytes, bool good)
{
    Buf json = buf_new(16 << 20);
    json_t *value;

    text_json_string(&json, text, bytes, 0);
    if (json.failed || memchr(json.data, '\n', json.bytes) || memchr(json.data, '<', json.bytes) ||
        text_has_control(json.data, json.bytes, false) ||
        !(value = json_loadb(json.data, json.bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)))
        abort();
    if (good &&
        (json_string_length(value) != bytes || memcmp(json_string_value(value), text, bytes) != 0))
        abort();
    json_decref(value);
    for (size_t max = 1; max < 20; max += 6) { /* cut: still a string, and no longer */
        buf_clear(&json);
        text_json_string(&json, text, bytes, max);
        if (!(value = json_loadb(json.data, json.bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL)) ||
            json_string_length(value) > 3 * max + 3)
            abort();
        json_decref(value);
    }
    buf_free(&json);
}

static void
check_percent(const char *text, size_t bytes)
{
    Buf url = buf_new(16 << 20);
    char *again = malloc(bytes + 1);
    size_t count;

    if (!again)
        abort();
    for (int slash = 0; slash < 2; slash++) {
        buf_clear(&url);
        text_percent_encode(&url, text, bytes, slash);
        if (url.failed || !text_percent_decode(url.data, url.bytes, again, bytes, &count) ||
            count != bytes || memcmp(again, text, bytes) != 0)
            abort();
        if (strspn(
                url.data, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%/") !=
            url.bytes)
            abort();
    }
    /* Decoded as it stands: no longer than it was, and every '%' was an escape. */
    if (text_percent_decode(text, bytes, again, bytes, &count)) {
        size_t escapes = 0;

        for (size_t i = 0; i < bytes; i++)
            escapes += text[i] == '%';
        if (count != bytes - 2 * escapes)
            abort();
    }
    free(again);
    buf_free(&url);
}

static void
check_base64(const uint8_t *data, size_t bytes)
{
    Buf text = buf_new(16 << 20);
    uint8_t *again = malloc(bytes + 3);
    size_t count;

    text_base64(&text, data, bytes);
    if (!again || text.failed || text.bytes != (bytes + 2) / 3 * 4 ||
        !text_unbase64(text.data, again, bytes, &count) || count != bytes ||
        memcmp(again, data, bytes) != 0)
        abort();
    free(again);
    buf_free(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *exact = malloc(bytes + 1);
    Buf shown = buf_new(16 << 20);
    bool good;

    if (!exact)
        abort();
    memcpy(exact, data, bytes);
    exact[bytes] = '\0';
    good = text_is_utf8(exact, bytes);
    if (good != is_utf8(data, bytes))
        abort();
    if (!good && !text_has_control(exact, bytes, false))
        abort();
    check_json(exact, bytes, good);
    check_percent(exact, bytes);
    check_base64(data, bytes);
    text_terminal(&shown, exact, bytes);
    if (shown.failed || text_has_control(shown.data, shown.bytes, true))
        abort();
    buf_free(&shown);
    if (text_is_name(exact) && !text_is_user_id(exact))
        abort(); /* every name could be a user's */
    if (text_is_user_id(exact) && (strpbrk(exact, "/\\%?#\"' ") || strstr(exact, "..")))
        abort();
    text_make_printable(exact);
    if (good && text_has_control(exact, strlen(exact), false))
        abort();
    free(exact);
    return 0;
}
