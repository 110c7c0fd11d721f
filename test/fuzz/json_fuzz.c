/* Any bytes become a value, or are refused for a reason; whatever Jansson takes and is not too deep
 * is taken, and means the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { DEPTH_MAX = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static unsigned
depth_of(const json_t *value)
{
    unsigned deepest = 0;
    const char *key;
    json_t *member;
    size_t i;

    if (json_is_object(value)) {
        json_object_foreach((json_t *)(uintptr_t)value, key, member)
        {
            unsigned depth = depth_of(member);

            deepest = depth > deepest ? depth : deepest;
        }
    } else if (json_is_array(value)) {
        json_array_foreach(value, i, member)
        {
            unsigned depth = depth_of(member);

            deepest = depth > deepest ? depth : deepest;
        }
    } else {
        return 0;
    }
    return deepest + 1;
}

/* What we wrote, read again, is the same value. */
static void
check_writing(const json_t *value)
{
    Buf text = buf_new(64 << 20), again = buf_new(64 << 20);
    json_t *copy;
    Err e = {0};

    if (!json_write_canonical(value, &text, &e) ||
        !(copy = json_parse(text.data, text.bytes, DEPTH_MAX, &e)) || !json_equal(value, copy) ||
        !json_write_canonical(copy, &again, &e) || again.bytes != text.bytes ||
        memcmp(again.data, text.data, text.bytes) != 0)
        abort();
    json_decref(copy);
    buf_free(&text);
    buf_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    /* Exactly so many bytes: what is read behind them is seen by the sanitizer. */
    char *exact = malloc(bytes ? bytes : 1);
    json_t *value, *theirs;
    Err e = {0};

    if (!exact)
        abort();
    memcpy(exact, data, bytes);
    theirs = json_loadb(exact, bytes, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
    value = json_parse(exact, bytes, DEPTH_MAX, &e);
    free(exact);
    if (value) {
        if (!theirs || !json_equal(value, theirs) || depth_of(value) > DEPTH_MAX || e.links)
            abort();
        check_writing(value);
    } else {
        if (e.code != ERR_MALFORMED_JSON && e.code != ERR_INVALID_ENCODING &&
            e.code != ERR_VALIDATION_FAILED)
            abort();
        /* Jansson lets a NUL behind the value pass for its end. */
        if (theirs && depth_of(theirs) <= DEPTH_MAX && !memchr(data, 0, bytes))
            abort();
    }
    json_decref(value);
    json_decref(theirs);
    return 0;
}
