/* Any double and float is written in digits that read back the same, and no longer than the C
 * library's; any text is a size in bytes or none. */
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void
check_double(double x)
{
    char text[NUMBER_REAL_BYTES + 1], seventeen[64];
    size_t bytes = number_double(x, text), digits = 0;
    double again;

    if (bytes == 0 || bytes > NUMBER_REAL_BYTES)
        abort();
    text[bytes] = '\0';
    again = strtod(text, NULL);
    if (isnan(x) ? strcmp(text, "nan") != 0 : again != x || signbit(again) != signbit(x))
        abort();
    if (!isfinite(x))
        return;
    if (!strpbrk(text, ".e"))
        abort(); /* it looks like a real number */
    snprintf(seventeen, sizeof seventeen, "%.16e", x);
    for (const char *c = text; *c && *c != 'e'; c++)
        digits += *c >= '1' && *c <= '9';
    if (digits > 17)
        abort();
}

static void
check_float(float x)
{
    char text[NUMBER_REAL_BYTES + 1];
    size_t bytes = number_float(x, text);

    if (bytes == 0 || bytes > NUMBER_REAL_BYTES)
        abort();
    text[bytes] = '\0';
    if (isnan(x) ? strcmp(text, "nan") != 0 : strtof(text, NULL) != x)
        abort();
}

static void
check_int(int64_t n)
{
    char text[NUMBER_INT_BYTES + 1], want[32];

    text[number_int(n, text)] = '\0';
    snprintf(want, sizeof want, "%" PRId64, n);
    if (strcmp(text, want) != 0)
        abort();
    text[number_uint((uint64_t)n, text)] = '\0';
    snprintf(want, sizeof want, "%" PRIu64, (uint64_t)n);
    if (strcmp(text, want) != 0)
        abort();
}

static void
check_text(const char *text)
{
    uint64_t size, number;
    size_t digits = strspn(text, "0123456789");
    bool is_number = text_to_uint(text, UINT64_MAX, &number);

    if (number_parse_bytes(text, &size) && (digits == 0 || size > (uint64_t)1 << 63))
        abort();
    if (is_number) {
        char again[32];

        snprintf(again, sizeof again, "%" PRIu64, number);
        if (strcmp(again, text) != 0)
            abort();
    } else if (digits > 0 && !text[digits] && digits < 20 && (text[0] != '0' || digits == 1)) {
        abort();
    }
    check_double(strtod(text, NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char text[256];
    int64_t n = 0;
    double x;
    float f;

    memcpy(&n, data, bytes < sizeof n ? bytes : sizeof n);
    memcpy(&x, &n, sizeof x);
    memcpy(&f, &n, sizeof f);
    check_double(x);
    check_float(f);
    check_int(n);
    if (bytes < sizeof text) {
        memcpy(text, data, bytes);
        text[bytes] = '\0';
        check_text(text);
    }
    return 0;
}
