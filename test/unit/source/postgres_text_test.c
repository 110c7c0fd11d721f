/*
 * source/postgres/text.c. The bytes and texts are what PostgreSQL 15 sent and showed for the value
 * in the comment; test/contract/postgres_text_test.c compares many more with a server.
 */
#include "source/postgres/postgres_in.h"
#include "test/test.h"

typedef bool WriteText(const uint8_t *data, size_t bytes, Buf *to);

/* "0001 0000 …"; NULL: it is refused. In memory of exactly its size, for the sanitizer. */
static void
check(WriteText *write, const char *hex, const char *want)
{
    size_t bytes = 0;
    uint8_t *data = malloc(strlen(hex) / 2 + 1), *exact;
    Buf to = buf_new(256 << 10);
    bool ok;

    for (const char *at = hex; *at; at++)
        if (*at != ' ') {
            char two[3] = {at[0], at[1], '\0'};

            data[bytes++] = (uint8_t)strtoul(two, NULL, 16);
            at++;
        }
    exact = malloc(bytes ? bytes : 1);
    memcpy(exact, data, bytes);
    trying(hex);
    buf_text(&to, "|");
    ok = write(exact, bytes, &to);
    assert_int_equal(ok, want != NULL);
    if (want)
        assert_string_equal(to.data + 1, want);
    assert_false(to.failed);
    assert_int_equal(strlen(to.data), to.bytes);
    buf_free(&to);
    free(exact);
    free(data);
}

static void
test_numeric(void **state)
{
    static const char *const cases[][2] = {
        {"0000 0000 0000 0000", "0"},
        {"0000 0000 0000 0003", "0.000"},
        {"0001 0000 0000 0000 0001", "1"},
        {"0001 0000 4000 0000 0001", "-1"},
        {"0001 0001 0000 0000 0001", "10000"},
        {"0002 0001 0000 0000 000c 0022", "120034"},
        {"0001 0003 0000 0001 000a", "10000000000000.0"},
        {"0001 ffff 0000 0001 1388", "0.5"},
        {"0001 ffff 4000 0002 1388", "-0.50"},
        {"0001 fffe 0000 0008 0001", "0.00000001"},
        {"0001 fffe 0000 0005 03e8", "0.00001"},
        {"0003 0000 0000 0006 0001 04d2 157c", "1.123455"},
        {"0004 0001 0000 0007 04d2 162e 04d2 1612", "12345678.1234565"},
        {"0003 0001 4000 0004 270f 270f 270f", "-99999999.9999"},
        {"0000 0000 c000 0000", "NaN"},
        {"0000 0000 d000 0020", "Infinity"},
        {"0000 0000 f000 0020", "-Infinity"},
        /* not what a server sends, but of its form */
        {"0002 0001 0000 0000 0000 0007", "7"},
        {"0001 0000 0000 0002 0007", "7.00"},
        {"0002 0000 0000 0000 0007 1388", "7"},
        /* not its form */
        {"", NULL},
        {"0000 0000 0000 00", NULL},
        {"0001 0000 0000 0000", NULL},
        {"0001 0000 0000 0000 00", NULL},
        {"0000 0000 0000 0000 0001", NULL},
        {"0001 0000 0000 0000 2710", NULL},
        {"ffff 0000 0000 0000", NULL},
        {"8000 0000 0000 0000", NULL},
        {"0000 0000 1234 0000", NULL},
        {"0000 0000 0000 4000", NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++)
        check(pg_numeric_text, cases[i][0], cases[i][1]);
}

/* 131,072 digits before the point and 16,383 behind it. */
static void
test_the_largest_numeric(void **state)
{
    enum { GROUPS = 32768 + 4096, BYTES = 8 + 2 * GROUPS };
    static const uint8_t head[] = {GROUPS >> 8, GROUPS & 0xff, 0x7f, 0xff, 0x40, 0, 0x3f, 0xff};
    uint8_t *data = malloc(BYTES), sparse[] = {0, 1, 0x7f, 0xff, 0, 0, 0, 0, 0, 1},
            small[] = {0, 0, 0x7f, 0xff, 0, 0, 0, 0};
    Buf to = buf_new(256 << 10), narrow = buf_new(1000);
    Err e = {0};

    (void)state;
    memcpy(data, head, sizeof head);
    for (int i = 0; i < GROUPS; i++) {
        data[8 + 2 * i] = 9999 >> 8;
        data[9 + 2 * i] = 9999 & 0xff;
    }
    assert_true(pg_numeric_text(data, BYTES, &to));
    assert_true(buf_is_good(&to, &e));
    assert_int_equal(to.bytes, 1 + 131072 + 1 + 16383);
    assert_int_equal(to.data[0], '-');
    assert_int_equal(strspn(to.data + 1, "9"), 131072);
    assert_int_equal(to.data[1 + 131072], '.');
    assert_int_equal(strspn(to.data + 1 + 131072 + 1, "9"), 16383);
    assert_true(pg_numeric_text(data, BYTES, &narrow));
    assert_false(buf_is_good(&narrow, &e));
    assert_false(pg_numeric_text(data, BYTES - 1, &to));
    buf_clear(&to);
    assert_true(pg_numeric_text(sparse, sizeof sparse, &to));
    assert_int_equal(to.bytes, 131069);
    assert_int_equal(strspn(to.data + 1, "0"), 131068);
    buf_clear(&to);
    assert_true(pg_numeric_text(small, sizeof small, &to));
    assert_string_equal(to.data, "0");
    free(data);
    buf_free(&to);
    buf_free(&narrow);
}

static void
test_interval(void **state)
{
    static const char *const cases[][2] = {
        {"0000000000000000 00000000 00000000", "PT0S"},
        {"0000000000000001 00000000 00000000", "PT0.000001S"},
        {"ffffffffffffffff 00000000 00000000", "PT-0.000001S"},
        {"0000000000100590 00000000 00000000", "PT1.05S"},
        {"fffffffffff0004c 00000000 00000000", "PT-1.0485S"},
        {"00000000d693a400 00000000 00000000", "PT1H"},
        {"0000000003938700 00000000 00000000", "PT1M"},
        {"ffffffff296c5c00 00000000 00000000", "PT-1H"},
        {"0000000000000000 00000001 00000000", "P1D"},
        {"0000000000000000 fffffffd 0000000e", "P1Y2M-3D"},
        {"0000000000000000 00000000 fffffff2", "P-1Y-2M"},
        {"00000000d7a5d750 ffffffff 00000001", "P1M-1DT1H17.97S"},
        {"7fffffffffffffff 7ffffffe 7fffffff", "P178956970Y7M2147483646DT2562047788H54.775807S"},
        {"8000000000000000 80000000 80000001",
            "P-178956970Y-7M-2147483648DT-2562047788H-54.775808S"},
        {"7fffffffffffffff 7fffffff 7fffffff", "infinity"},
        {"8000000000000000 80000000 80000000", "-infinity"},
        {"", NULL},
        {"0000000000000000 00000000 000000", NULL},
        {"0000000000000000 00000000 00000000 00", NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++)
        check(pg_interval_text, cases[i][0], cases[i][1]);
}

static void
test_uuid(void **state)
{
    static const char *const cases[][2] = {
        {"8f14e45fceea467f9ab32c0e0e2f8a11", "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"},
        {"00000000000000000000000000000000", "00000000-0000-0000-0000-000000000000"},
        {"ffffffffffffffffffffffffffffffff", "ffffffff-ffff-ffff-ffff-ffffffffffff"},
        {"", NULL},
        {"8f14e45fceea467f9ab32c0e0e2f8a", NULL},
        {"8f14e45fceea467f9ab32c0e0e2f8a1100", NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++)
        check(pg_uuid_text, cases[i][0], cases[i][1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_the_largest_numeric),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_uuid),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
