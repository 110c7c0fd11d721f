/*
 * Any bytes as a numeric, an interval, a uuid: nothing is read beyond them, and what is written has
 * the form of such a text and its bounds.
 */
#include <stdlib.h>
#include <string.h>

#include "source/postgres/postgres_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { NUMERIC_TEXT_MAX = 1 + 131072 + 1 + 16383 };

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static void
check_numeric(const uint8_t *data, const Buf *text)
{
    const char *at = text->data;
    size_t scale = (size_t)(data[6] << 8 | data[7]), whole;

    must(text->bytes <= NUMERIC_TEXT_MAX);
    if (strcmp(at, "NaN") == 0 || strcmp(at, "Infinity") == 0 || strcmp(at, "-Infinity") == 0)
        return;
    at += *at == '-';
    whole = strspn(at, "0123456789");
    must(whole == 1 || (whole > 1 && *at != '0'));
    at += whole;
    if (scale > 0)
        must(*at++ == '.' && strspn(at, "0123456789") == scale);
    must(strlen(at) == scale);
}

/* Each unit once and in order, none empty. */
static void
check_interval(const char *at)
{
    static const char units[] = "YMDTHMS";
    const char *unit = units;
    size_t fields = 0;

    if (strcmp(at, "infinity") == 0 || strcmp(at, "-infinity") == 0)
        return;
    must(*at++ == 'P');
    for (; *at; at++, fields++) {
        size_t digits;

        if (*at == 'T') {
            at++;
            must(unit < units + 4);
            unit = units + 4;
        }
        at += *at == '-';
        must(*at >= '0' && *at <= '9');
        digits = strspn(at, "0123456789");
        must(digits <= 13 && (*at != '0' || digits == 1));
        at += digits;
        if (*at == '.') {
            digits = strspn(++at, "0123456789");
            must(digits >= 1 && digits <= 6 && at[digits - 1] != '0' && at[digits] == 'S');
            at += digits;
        }
        while (*unit && *unit != *at)
            unit++;
        must(*unit++ == *at && *at != 'T');
    }
    must(fields > 0);
}

static void
check_uuid(const char *at)
{
    must(strlen(at) == 36 && strspn(at, "0123456789abcdef-") == 36);
    must(at[8] == '-' && at[13] == '-' && at[18] == '-' && at[23] == '-');
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    /* Of exactly their size, so that a look behind them is seen. */
    uint8_t *exact = malloc(bytes ? bytes : 1);
    Buf text = buf_new(256 << 10);

    memcpy(exact, data, bytes);
    if (pg_numeric_text(exact, bytes, &text))
        check_numeric(exact, &text);
    must(!text.failed);
    buf_clear(&text);
    if (pg_interval_text(exact, bytes, &text))
        check_interval(text.data);
    must(pg_interval_text(exact, bytes, &text) == (bytes == 16));
    buf_clear(&text);
    if (pg_uuid_text(exact, bytes, &text))
        check_uuid(text.data);
    must(!text.failed);
    buf_free(&text);
    free(exact);
    return 0;
}
