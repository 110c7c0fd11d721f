#include "base/text.h"
#include "test/test.h"

static void
test_utf8(void **state)
{
    static const struct {
        const char *name, *bytes;
        bool good;
    } cases[] = {
        {"nothing", "", true},
        {"plain", "hello, world: sixteen", true},
        {"two bytes", "\xc2\x80 \xdf\xbf", true},
        {"three bytes", "\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf", true},
        {"four bytes", "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", true},
        {"after eight plain ones", "12345678\xc3\xa9", true},
        {"a byte that follows nothing", "\x80", false},
        {"0xbf", "abc\xbf", false},
        {"overlong, two bytes", "\xc0\xaf", false},
        {"overlong, c1", "\xc1\xbf", false},
        {"overlong, three bytes", "\xe0\x9f\xbf", false},
        {"overlong, four bytes", "\xf0\x8f\xbf\xbf", false},
        {"first surrogate", "\xed\xa0\x80", false},
        {"last surrogate", "\xed\xbf\xbf", false},
        {"beyond the last", "\xf4\x90\x80\x80", false},
        {"0xf5", "\xf5\x80\x80\x80", false},
        {"0xff", "\xff", false},
        {"cut after one", "\xe2", false},
        {"cut after two", "12345678\xe2\x82", false},
        {"cut after three", "\xf0\x9f\x98", false},
        {"a letter instead", "\xe2\x82x", false},
        {"latin-1", "caf\xe9", false},
        {"bad behind eight plain ones", "12345678\xff", false},
        {"bad as the eighth",
            "1234567\xff"
            "12345678",
            false},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].name);
        assert_int_equal(text_is_utf8(cases[i].bytes, strlen(cases[i].bytes)), cases[i].good);
    }
    assert_true(text_is_utf8("a\0b", 3));
}

/* Every code point, encoded as RFC 3629 says: good, unless it is a surrogate; its cut forms are
 * bad. */
static void
test_every_character(void **state)
{
    (void)state;
    for (uint32_t c = 0x80; c <= 0x10ffff; c++) {
        char bytes[4];
        size_t count;

        if (c < 0x800) {
            bytes[0] = (char)(0xc0 | c >> 6);
            count = 2;
        } else if (c < 0x10000) {
            bytes[0] = (char)(0xe0 | c >> 12);
            count = 3;
        } else {
            bytes[0] = (char)(0xf0 | c >> 18);
            count = 4;
        }
        for (size_t i = 1; i < count; i++)
            bytes[i] = (char)(0x80 | (c >> 6 * (count - 1 - i) & 0x3f));
        assert_int_equal(text_is_utf8(bytes, count), c < 0xd800 || c > 0xdfff);
        assert_false(text_is_utf8(bytes, count - 1));
    }
}

static void
test_controls(void **state)
{
    static const struct {
        const char *bytes;
        bool plain, bidi;
    } cases[] = {
        {"hello é", false, false},
        {"", false, false},
        {"tab\t", true, true},
        {"\x1f", true, true},
        {" ", false, false},
        {"\x7f", true, true},
        {"\xc2\x80", true, true},
        {"\xc2\x9f", true, true},
        {"\xc2\xa0", false, false},
        {"a\u202eb", false, true},
        {"\u202a", false, true},
        {"\u2029", false, false},
        {"\u2066", false, true},
        {"\u2069", false, true},
        {"\u206a", false, false},
        {"\u200e", false, true},
        {"\u200f", false, true},
        {"\u200d", false, false},
        {"\u061c", false, true},
        {"\xff", true, true},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        size_t bytes = strlen(cases[i].bytes);

        trying(cases[i].bytes);
        assert_int_equal(text_has_control(cases[i].bytes, bytes, false), cases[i].plain);
        assert_int_equal(text_has_control(cases[i].bytes, bytes, true), cases[i].bidi);
    }
    assert_true(text_has_control("a\0", 2, false));
}

static void
test_names_and_ids(void **state)
{
    char longest[200];
    static const struct {
        const char *text;
        bool name, user;
    } cases[] = {
        {"a", true, true},
        {"employee_metrics2", true, true},
        {"", false, false},
        {"2a", false, true},
        {"_a", false, false},
        {"Aa", false, true},
        {"a-b", false, true},
        {"a.b@c-d_e", false, true},
        {".a", false, false},
        {"@a", false, false},
        {"-a", false, false},
        {"a..b", false, false},
        {"a.", false, true},
        {"a..", false, false},
        {"a/b", false, false},
        {"../a", false, false},
        {"a b", false, false},
        {"\xc3\xa9", false, false},
        {"a\r\n", false, false},
        {"a%2e", false, false},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].text);
        assert_int_equal(text_is_name(cases[i].text), cases[i].name);
        assert_int_equal(text_is_user_id(cases[i].text), cases[i].user);
    }
    memset(longest, 'a', sizeof longest);
    longest[128] = '\0';
    assert_true(text_is_user_id(longest));
    longest[128] = 'a', longest[129] = '\0';
    assert_false(text_is_user_id(longest));
    longest[64] = '\0';
    assert_true(text_is_name(longest));
    longest[64] = 'a', longest[65] = '\0';
    assert_false(text_is_name(longest));
}

static void
test_small_things(void **state)
{
    char text[] = "a\n\x7f\xc2\x85\xc2\xa0é\xc2", to[4];
    uint64_t n;

    (void)state;
    text_make_printable(text);
    assert_string_equal(text, "a????\xc2\xa0é\xc2");
    assert_true(text_copy(to, 4, "abc"));
    assert_string_equal(to, "abc");
    assert_false(text_copy(to, 4, "abcd"));
    assert_string_equal(to, "abc");
    assert_false(text_copy(to, 0, ""));
    assert_true(text_copy(to, 1, ""));
    assert_false(text_copy(to, 1, "a"));
    assert_string_equal(to, "");
    assert_true(text_starts("abc", "ab") && text_starts("abc", "") && text_starts("", ""));
    assert_false(text_starts("ab", "abc"));
    assert_true(text_ends("abc", "bc") && text_ends("abc", "") && text_ends("abc", "abc"));
    assert_false(text_ends("bc", "abc") || text_ends("abc", "ab"));
    assert_true(text_same_case_blind("WaRn", "wArN") && text_same_case_blind("", ""));
    assert_false(text_same_case_blind("a", "") || text_same_case_blind("@", "`") ||
                 text_same_case_blind("abc", "abd"));
    assert_true(text_to_uint("0", 10, &n) && n == 0);
    assert_true(text_to_uint("18446744073709551615", UINT64_MAX, &n) && n == UINT64_MAX);
    assert_true(text_to_uint("10", 10, &n) && n == 10);
}

static void
test_numbers_refused(void **state)
{
    static const char *const texts[] = {"", "-1", "+1", " 1", "1 ", "01", "00", "11", "0x1", "1.0",
        "1e1", "18446744073709551616", "99999999999999999999999", "\xd9\xa1", "1a"};

    (void)state;
    for (size_t i = 0; i < count_of(texts); i++) {
        uint64_t n = 7;

        trying(texts[i]);
        assert_false(text_to_uint(texts[i], 10, &n));
        assert_int_equal(n, 7);
    }
    assert_false(text_to_uint("18446744073709551616", UINT64_MAX, &(uint64_t){0}));
}

static void
test_percent(void **state)
{
    static const struct {
        const char *from, *plain, *slash; /* encoded; with slashes kept */
    } cases[] = {
        {"", "", ""},
        {"AZaz09-._~", "AZaz09-._~", "AZaz09-._~"},
        {"a b/c", "a%20b%2Fc", "a%20b/c"},
        {"%41+&=?#", "%2541%2B%26%3D%3F%23", "%2541%2B%26%3D%3F%23"},
        {"é\r\n\"", "%C3%A9%0D%0A%22", "%C3%A9%0D%0A%22"},
        {"!'()*", "%21%27%28%29%2A", "%21%27%28%29%2A"},
    };
    static const char *const bad[] = {"%", "%4", "a%", "%zz", "%4g", "%g4", "%%41", "% 41"};
    char decoded[64];
    size_t bytes;

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf got = buf_new(1000);

        trying(cases[i].from);
        text_percent_encode(&got, cases[i].from, strlen(cases[i].from), false);
        assert_string_equal(got.data, cases[i].plain);
        assert_true(text_percent_decode(got.data, got.bytes, decoded, sizeof decoded, &bytes));
        assert_int_equal(bytes, strlen(cases[i].from));
        assert_memory_equal(decoded, cases[i].from, bytes);
        buf_clear(&got);
        text_percent_encode(&got, cases[i].from, strlen(cases[i].from), true);
        assert_string_equal(got.data, cases[i].slash);
        buf_free(&got);
    }
    for (size_t i = 0; i < count_of(bad); i++) {
        trying(bad[i]);
        assert_false(text_percent_decode(bad[i], strlen(bad[i]), decoded, sizeof decoded, &bytes));
    }
    /* Once only; lower-case hex as well; a NUL comes through; in place; no room is no good. */
    assert_true(text_percent_decode("%2541%c3%00", 11, decoded, 64, &bytes));
    assert_int_equal(bytes, 5);
    assert_memory_equal(decoded, "%41\xc3\0", 5);
    snprintf(decoded, sizeof decoded, "a%%20b");
    assert_true(text_percent_decode(decoded, 5, decoded, 5, &bytes));
    assert_memory_equal(decoded, "a b", 3);
    assert_true(text_percent_decode("%41%42", 6, decoded, 2, &bytes));
    assert_false(text_percent_decode("%41%42", 6, decoded, 1, &bytes));
    assert_true(text_percent_decode("", 0, decoded, 0, &bytes));
}

static void
test_hex(void **state)
{
    static const char *const bad[] = {"", "0", "00f", "00fff", "00FF", "00fg", "0x00", " 0ff"};
    uint8_t bytes[2];
    char hex[5];

    (void)state;
    text_hex((const uint8_t[]){0x00, 0xff}, 2, hex);
    assert_string_equal(hex, "00ff");
    assert_true(text_unhex("a0ff", bytes, 2));
    assert_memory_equal(bytes, "\xa0\xff", 2);
    for (size_t i = 0; i < count_of(bad); i++) {
        trying(bad[i]);
        assert_false(text_unhex(bad[i], bytes, 2));
    }
    assert_true(text_unhex("", bytes, 0));
}

/* The examples of RFC 4648, 10. */
static void
test_base64(void **state)
{
    static const char *const cases[][2] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"},
        {"\xff\xff\xfe", "///+"}};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf got = buf_new(100);

        text_base64(&got, (const uint8_t *)cases[i][0], strlen(cases[i][0]));
        assert_string_equal(got.data, cases[i][1]);
        buf_free(&got);
    }
}

static void
test_json_strings(void **state)
{
    static const struct {
        const char *from;
        size_t max;
        const char *want;
    } cases[] = {
        {"", 0, "\"\""},
        {"hello", 0, "\"hello\""},
        {"a\"b\\c", 0, "\"a\\\"b\\\\c\""},
        {"\n\t\r\b\x1b", 0, "\"\\n\\t\\r\\u0008\\u001b\""},
        {"</script>", 0, "\"\\u003c/script>\""},
        {"\x7f\xc2\x85", 0, "\"\\u007f\\u0085\""},
        {"\u2028\u2029", 0, "\"\\u2028\\u2029\""},
        {"é€😀", 0, "\"é€😀\""},
        {"a\xff"
         "b\xe2\x82",
            0,
            "\"a\xef\xbf\xbd"
            "b\xef\xbf\xbd\xef\xbf\xbd\""},
        {"hello", 5, "\"hello\""},
        {"hello", 4, "\"hell…\""},
        {"hello", 1, "\"h…\""},
        {"é€", 2, "\"é…\""},
        {"é€", 3, "\"é…\""},
        {"é€", 4, "\"é…\""},
        {"é€", 5, "\"é€\""},
        {"é€", 1, "\"…\""},
        {"\xff\xff", 1, "\"\xef\xbf\xbd…\""},
        {"ab\ncd", 3, "\"ab\\n…\""},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf got = buf_new(1000);

        trying(cases[i].want);
        text_json_string(&got, cases[i].from, strlen(cases[i].from), cases[i].max);
        assert_string_equal(got.data, cases[i].want);
        buf_free(&got);
    }
}

static void
test_terminal(void **state)
{
    static const char *const cases[][2] = {
        {"plain é€😀", "plain é€😀"},
        {"\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m"},
        {"a\nb\t\r\x07", "a\\x0ab\\x09\\x0d\\x07"},
        {"\x7f", "\\x7f"},
        {"\xc2\x9b"
         "31m",
            "\\x9b"
            "31m"},
        {"\u202eevil", "\\u202eevil"},
        {"\u2066\u061c", "\\u2066\\u061c"},
        {"\xff\xe2\x82", "\\xff\\xe2\\x82"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf got = buf_new(1000);

        trying(cases[i][1]);
        text_terminal(&got, cases[i][0], strlen(cases[i][0]));
        assert_string_equal(got.data, cases[i][1]);
        buf_free(&got);
    }
}

static void
test_nearest(void **state)
{
    static const char *const names[] = {"employee_metrics", "graph_data", "csv", "json", "jsonl",
        "a_name_that_is_longer_than_any_name_may_be_and_so_is_not_looked_at_at_all", NULL};
    static const char *const cases[][2] = {
        {"employe_metrics", "employee_metrics"},
        {"employee-metrics", "employee_metrics"},
        {"graph_dta", "graph_data"},
        {"cvs", NULL},
        {"cs", "csv"},
        {"csvv", "csv"},
        {"jsn", "json"},
        {"jsonl", "jsonl"},
        {"xlsx", NULL},
        {"", NULL},
        {"a_text_that_is_longer_than_any_name_may_be_and_so_is_not_looked_at_all", NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        const char *got = text_nearest(cases[i][0], names);

        trying(cases[i][0]);
        if (!cases[i][1])
            assert_null(got);
        else
            assert_string_equal(got, cases[i][1]);
    }
    assert_null(text_nearest("x", (const char *const[]){NULL}));
}

static void
test_uuids(void **state)
{
    static const char *const bad[] = {"", "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a1",
        "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a111", "8F14e45f-ceea-467f-9ab3-2c0e0e2f8a11",
        "8f14e45fcceea-467f-9ab3-2c0e0e2f8a11", "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a1g",
        "-f14e45f-ceea-467f-9ab3-2c0e0e2f8a11", "{8f14e45f-ceea-467f-9ab3-2c0e0e2f8a1}"};
    char uuid[100][37];

    (void)state;
    for (size_t i = 0; i < count_of(uuid); i++) {
        text_uuid(uuid[i]);
        assert_true(text_is_uuid(uuid[i]));
        assert_int_equal(uuid[i][14], '4');           /* version */
        assert_non_null(strchr("89ab", uuid[i][19])); /* variant */
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(uuid[i], uuid[j]);
    }
    for (size_t i = 0; i < count_of(bad); i++) {
        trying(bad[i]);
        assert_false(text_is_uuid(bad[i]));
    }
}

static void
test_decimals(void **state)
{
    static const struct {
        const char *text;
        size_t count;
        bool is;
    } cases[] = {
        {"0", 1, true},
        {"+1", 2, true},
        {"-12.50", 6, true},
        {"5.", 2, true},
        {".5", 2, true},
        {"-.5", 3, true},
        {"", 0, false},
        {"-", 1, false},
        {".", 1, false},
        {"+.", 2, false},
        {"1.2.3", 5, false},
        {"1e5", 3, false},
        {" 1", 2, false},
        {"1 ", 2, false},
        {"--1", 3, false},
        {"1,5", 3, false},
        {"NaN", 3, false},
        {"1\0", 2, false},
        {"12x", 2, true},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].text);
        assert_int_equal(text_is_decimal(cases[i].text, cases[i].count), cases[i].is);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_every_character),
        cmocka_unit_test(test_controls),
        cmocka_unit_test(test_names_and_ids),
        cmocka_unit_test(test_small_things),
        cmocka_unit_test(test_numbers_refused),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_json_strings),
        cmocka_unit_test(test_terminal),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_uuids),
        cmocka_unit_test(test_decimals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
