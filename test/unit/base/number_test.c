#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/number.h"

static const char *
text_of(double x)
{
    static char text[NUMBER_REAL_BYTES + 1];

    text[number_double(x, text)] = '\0';
    return text;
}

static void
test_forms(void **state)
{
    static const struct {
        double x;
        const char *want;
    } cases[] = {
        {0, "0.0"},
        {-0.0, "-0.0"},
        {1, "1.0"},
        {-1, "-1.0"},
        {0.1, "0.1"},
        {0.5, "0.5"},
        {12.25, "12.25"},
        {100, "100.0"},
        {1e15, "1000000000000000.0"},
        {1e16, "1e+16"},
        {9999999999999998, "9999999999999998.0"},
        {1e-4, "0.0001"},
        {1e-5, "1e-05"},
        {1.5e-7, "1.5e-07"},
        {123456.789, "123456.789"},
        {1.0 / 3, "0.3333333333333333"},
        {2.0 / 3, "0.6666666666666666"},
        {1e100, "1e+100"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1e22, "1e+22"},
        {1e23, "1e+23"},
        {9007199254740992, "9007199254740992.0"},
        {0.3, "0.3"},
        {0.1 + 0.2, "0.30000000000000004"},
        {4.35, "4.35"},
        {2e-44, "2e-44"},
        {9.5367431640625e-07, "9.5367431640625e-07"},
        {INFINITY, "inf"},
        {-INFINITY, "-inf"},
        {NAN, "nan"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(text_of(cases[i].x), cases[i].want);
}

/* The fewest digits that %.*e needs for the same double. */
static int
digits_needed(double x)
{
    char text[64];

    for (int digits = 1; digits < 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, x);
        if (strtod(text, NULL) == x)
            return digits;
    }
    return 17;
}

static int
digits_in(const char *text)
{
    char digits[64];
    size_t count = 0, first = 0;

    for (; *text && *text != 'e'; text++)
        if (*text >= '0' && *text <= '9')
            digits[count++] = *text;
    while (first < count && digits[first] == '0')
        first++;
    while (count > first && digits[count - 1] == '0')
        count--;
    return (int)(count - first);
}

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void
test_random_doubles(void **state)
{
    uint64_t seed = 88172645463325252u;

    (void)state;
    for (int i = 0; i < 400000; i++) {
        uint64_t bits = next_random(&seed);
        double x;

        if (i % 4 == 1) /* powers of two: the irregular ones */
            bits &= 0x7ff0000000000000u;
        memcpy(&x, &bits, sizeof x);
        if (i % 4 == 2) /* few decimals */
            x = (double)(int64_t)(bits % 100000000) / 1000.0;
        if (!isfinite(x) || x == 0)
            continue;
        if (strtod(text_of(x), NULL) != x)
            fail_msg("%.17g became %s", x, text_of(x));
        if (i % 8 == 0 && digits_in(text_of(x)) != digits_needed(x))
            fail_msg("%.17g became %s, which is not the shortest", x, text_of(x));
    }
}

static void
test_random_floats(void **state)
{
    uint64_t seed = 1234567;

    (void)state;
    for (int i = 0; i < 300000; i++) {
        uint32_t bits = (uint32_t)next_random(&seed);
        char text[NUMBER_REAL_BYTES + 1];
        float x;

        memcpy(&x, &bits, sizeof x);
        if (!isfinite(x))
            continue;
        text[number_float(x, text)] = '\0';
        if (strtof(text, NULL) != x)
            fail_msg("%.9g became %s", (double)x, text);
        assert_true(digits_in(text) <= 9);
    }
}

static void
test_integers(void **state)
{
    static const int64_t cases[] = {0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 9999, 10000, 99999,
        100000, 999999999, 1000000000, 4294967295, 4294967296, 999999999999999999,
        1000000000000000000, INT64_MAX, INT64_MIN, -1, -10, -99, -100};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[NUMBER_INT_BYTES + 1], want[32];

        text[number_int(cases[i], text)] = '\0';
        snprintf(want, sizeof want, "%lld", (long long)cases[i]);
        assert_string_equal(text, want);
    }
    for (uint64_t n = 1; n < UINT64_MAX / 7; n = n * 7 + 3) {
        char text[NUMBER_INT_BYTES + 1], want[32];

        text[number_uint(n, text)] = '\0';
        snprintf(want, sizeof want, "%llu", (unsigned long long)n);
        assert_string_equal(text, want);
    }
}

static void
test_sizes(void **state)
{
    static const struct {
        const char *text;
        bool good;
        uint64_t bytes;
    } cases[] = {{"10MB", true, 10000000}, {"5MiB", true, 5 << 20}, {"0", true, 0},
        {"64", true, 64}, {"1GiB", true, 1 << 30}, {"", false, 0}, {"MiB", false, 0},
        {"-1", false, 0}, {"1.5MB", false, 0}, {"9223372036854775808", false, 0},
        {"9TB ", false, 0}, {"99999999999TiB", false, 0}, {"010", false, 0}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t bytes = 0;

        assert_int_equal(number_parse_bytes(cases[i].text, &bytes), cases[i].good);
        if (cases[i].good)
            assert_int_equal(bytes, cases[i].bytes);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_random_doubles),
        cmocka_unit_test(test_random_floats),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
