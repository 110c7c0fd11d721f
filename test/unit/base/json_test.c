/* JSON from outside: the rows 12 to 15 of the table of bad input, and what may come in. */
#include "base/arena.h"
#include "base/json.h"
#include "test/test.h"

/* Exactly so many bytes, with nothing readable behind (the sanitizer looks). */
static json_t *
parse(const char *text, size_t bytes, unsigned depth, Err *e)
{
    char *exact = malloc(bytes ? bytes : 1);
    json_t *value;

    assert_non_null(exact);
    memcpy(exact, text, bytes);
    value = json_parse(exact, bytes, depth, e);
    free(exact);
    return value;
}

static void
test_taken(void **state)
{
    static const struct {
        const char *text, *want; /* compact */
    } cases[] = {
        {"{}", "{}"},
        {"[]", "[]"},
        {"null", "null"},
        {"true", "true"},
        {"\"x\"", "\"x\""},
        {" \t\r\n1 \n", "1"},
        {"{\"b\": 1, \"a\": [1, 2.5, \"x\", null, false]}",
            "{\"b\":1,\"a\":[1,2.5,\"x\",null,false]}"},
        {"10.0", "10.0"},
        {"-0", "0"},
        {"-0.0", "-0.0"},
        {"1e2", "100.0"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"1e308", "1e+308"},
        {"1e-400", "0.0"},
        {"\"\\u00e9\\ud83d\\ude00\"", "\"é😀\""},
        {"\"é€😀\"", "\"é€😀\""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\t\""},
        {"{\"a\":{\"a\":1}}", "{\"a\":{\"a\":1}}"},
        {"\"[[[[[[[[[[{{{{{{{{\"", "\"[[[[[[[[[[{{{{{{{{\""},
        {"\"\x7f\"", "\"\\u007f\""},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        Buf got = buf_new(4096);
        json_t *value;
        Err e = {0};

        trying(cases[i].text);
        assert_ok(value = parse(cases[i].text, strlen(cases[i].text), 8, &e), &e);
        assert_ok(json_write(value, &got, &e), &e);
        assert_string_equal(got.data, cases[i].want);
        json_decref(value);
        buf_free(&got);
    }
}

static void
test_refused(void **state)
{
    static const struct {
        const char *name, *text;
        size_t bytes; /* 0: all */
        ErrCode want;
        const char *says; /* NULL: whatever */
    } cases[] = {
        {"empty", "", 0, ERR_MALFORMED_JSON, "nothing there"},
        {"blanks", " \n\t\r ", 0, ERR_MALFORMED_JSON, "nothing there"},
        {"BOM", "\xef\xbb\xbf{}", 0, ERR_MALFORMED_JSON, "byte order mark"},
        {"trailing bytes", "{} x", 0, ERR_MALFORMED_JSON, NULL},
        {"two values", "{}{}", 0, ERR_MALFORMED_JSON, NULL},
        {"depth 9 of 8", "[[[[[[[[[]]]]]]]]]", 0, ERR_MALFORMED_JSON, "column 9: too deep"},
        {"depth by objects", "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}",
            0, ERR_MALFORMED_JSON, "too deep"},
        {"a member twice", "{\"a\":1,\n\"a\":2}", 0, ERR_MALFORMED_JSON, "line 2"},
        {"twice by escape", "{\"a\":1,\"\\u0061\":2}", 0, ERR_MALFORMED_JSON, NULL},
        {"twice below", "[{\"a\":1,\"a\":2}]", 0, ERR_MALFORMED_JSON, NULL},
        {"NaN", "NaN", 0, ERR_MALFORMED_JSON, NULL},
        {"Infinity", "[-Infinity]", 0, ERR_MALFORMED_JSON, NULL},
        {"single quotes", "{'a':1}", 0, ERR_MALFORMED_JSON, NULL},
        {"a comma at the end", "[1,]", 0, ERR_MALFORMED_JSON, NULL},
        {"a comment", "{} // x", 0, ERR_MALFORMED_JSON, NULL},
        {"cut off", "{\"a\":", 0, ERR_MALFORMED_JSON, NULL},
        {"a text without end", "[\"abc", 0, ERR_MALFORMED_JSON, "column 2: a string without end"},
        {"it ends in an escape", "\"abc\\", 0, ERR_MALFORMED_JSON, "without end"},
        {"a raw newline in a text", "\"a\nb\"", 0, ERR_MALFORMED_JSON, "line 1, column 3"},
        {"a raw control in a text", "\"\x01\"", 0, ERR_MALFORMED_JSON, "control character"},
        {"a bad escape", "\"\\x\"", 0, ERR_MALFORMED_JSON, NULL},
        {"a cut \\u", "\"\\u12\"", 0, ERR_MALFORMED_JSON, "an escape that is none"},
        {"a \\u that is no hex", "\"\\u12g4\"", 0, ERR_MALFORMED_JSON, "an escape that is none"},
        {"leading zero", "01", 0, ERR_MALFORMED_JSON, NULL},
        {"plus", "+1", 0, ERR_MALFORMED_JSON, NULL},
        {"a bare point", ".5", 0, ERR_MALFORMED_JSON, NULL},
        {"a point behind", "1.", 0, ERR_MALFORMED_JSON, NULL},
        {"hex", "0x10", 0, ERR_MALFORMED_JSON, NULL},
        {"a NUL between", "[1,\0 2]", 7, ERR_MALFORMED_JSON, "a NUL"},
        {"a NUL behind", "{}\0", 3, ERR_MALFORMED_JSON, "a NUL"},
        {"a raw NUL in a text", "\"a\0b\"", 5, ERR_MALFORMED_JSON, "control character"},
        {"0xff", "\"\xff\"", 0, ERR_INVALID_ENCODING, NULL},
        {"overlong slash", "\"\xc0\xaf\"", 0, ERR_INVALID_ENCODING, NULL},
        {"a raw surrogate", "\"\xed\xa0\x80\"", 0, ERR_INVALID_ENCODING, NULL},
        {"beyond U+10FFFF", "\"\xf4\x90\x80\x80\"", 0, ERR_INVALID_ENCODING, NULL},
        {"cut character", "\"\xe2\x82\"", 0, ERR_INVALID_ENCODING, NULL},
        {"outside of texts as well", "{}\xff", 0, ERR_INVALID_ENCODING, NULL},
        {"a high surrogate alone", "\"\\ud83d\"", 0, ERR_INVALID_ENCODING, "half a surrogate"},
        {"and a letter", "\"\\ud83dx\\ude00\"", 0, ERR_INVALID_ENCODING, NULL},
        {"and another high one", "\"\\ud83d\\ud83d\"", 0, ERR_INVALID_ENCODING, NULL},
        {"a low surrogate alone", "[\"x\\udE00\"]", 0, ERR_INVALID_ENCODING, "column 4"},
        {"in a name", "{\"\\uD83D\":1}", 0, ERR_INVALID_ENCODING, NULL},
        {"U+0000 in a value", "{\"a\":\"x\\u0000y\"}", 0, ERR_VALIDATION_FAILED, "U+0000"},
        {"U+0000 in a name", "{\"a\\u0000\":1}", 0, ERR_VALIDATION_FAILED, "U+0000"},
        {"U+0000 and a syntax error", "{\"a\":\"\\u0000\"", 0, ERR_MALFORMED_JSON, NULL},
        {"1e400", "[1e400]", 0, ERR_VALIDATION_FAILED, "column 2"},
        {"-1e400", "-1e400", 0, ERR_VALIDATION_FAILED, NULL},
        {"20 digits", "{\"a\":\n12345678901234567890}", 0, ERR_VALIDATION_FAILED,
            "line 2, column 1"},
        {"one over", "9223372036854775808", 0, ERR_VALIDATION_FAILED, "64 bits"},
        {"one under", "-9223372036854775809", 0, ERR_VALIDATION_FAILED, NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        size_t bytes = cases[i].bytes ? cases[i].bytes : strlen(cases[i].text);
        Err e = {0};

        trying(cases[i].name);
        assert_fails(parse(cases[i].text, bytes, 8, &e), cases[i].want, &e);
        if (cases[i].says)
            assert_says(&e, cases[i].says);
    }
}

static void
test_depth(void **state)
{
    char text[201];

    (void)state;
    for (unsigned depth = 1; depth <= 100; depth += 33) {
        json_t *value;
        Err e = {0};

        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        assert_ok(value = parse(text, 2 * (size_t)depth, depth, &e), &e);
        json_decref(value);
        assert_fails(parse(text, 2 * (size_t)depth, depth - 1, &e), ERR_MALFORMED_JSON, &e);
    }
}

/* A number of a thousand digits is one like another, if it fits. */
static void
test_long_numbers(void **state)
{
    char text[1200];
    json_t *value;
    Err e = {0};

    (void)state;
    memset(text, '3', sizeof text);
    text[1] = '.';
    assert_ok(value = parse(text, sizeof text, 1, &e), &e);
    assert_true(json_real_value(value) == 10.0 / 3);
    json_decref(value);
    text[1] = '3';
    assert_fails(parse(text, sizeof text, 1, &e), ERR_VALIDATION_FAILED, &e);
}

static void
test_canonical(void **state)
{
    static const char *const same[] = {"{\"b\":{\"z\":1,\"y\":[1,2]},\"a\":\"x\"}",
        " { \"a\" : \"\\u0078\", \"b\" : { \"y\":[1,2], \"z\":1 } } "};
    Buf got[2] = {buf_new(1000), buf_new(1000)};
    Err e = {0};

    (void)state;
    for (int i = 0; i < 2; i++) {
        json_t *value;

        assert_ok(value = parse(same[i], strlen(same[i]), 8, &e), &e);
        assert_ok(json_write_canonical(value, &got[i], &e), &e);
        json_decref(value);
    }
    assert_string_equal(got[0].data, "{\"a\":\"x\",\"b\":{\"y\":[1,2],\"z\":1}}");
    assert_string_equal(got[1].data, got[0].data);
    buf_free(&got[0]);
    buf_free(&got[1]);
}

static void
test_writing(void **state)
{
    json_t *value = json_pack("{s:s, s:[i, f, f]}", "text", "a\"b", "list", 1, 0.5, 0.054);
    Buf small = buf_new(10), got = buf_new(100);
    Err e = {0};

    (void)state;
    buf_text(&got, "> ");
    assert_ok(json_write(value, &got, &e), &e);
    assert_string_equal(got.data, "> {\"text\":\"a\\\"b\",\"list\":[1,0.5,0.054]}");
    assert_fails(json_write(value, &small, &e), ERR_MEMORY_LIMIT, &e);
    json_decref(value);
    buf_free(&got);
    buf_free(&small);
}

static void
test_members(void **state)
{
    json_t *value = json_pack("{s:s, s:i, s:b, s:n}", "t", "x", "n", 7, "b", 1, "z");

    (void)state;
    assert_string_equal(json_text_or(value, "t", "-"), "x");
    assert_string_equal(json_text_or(value, "n", "-"), "-");
    assert_string_equal(json_text_or(value, "none", "-"), "-");
    assert_null(json_text_or(value, "z", NULL));
    assert_int_equal(json_int_or(value, "n", -1), 7);
    assert_int_equal(json_int_or(value, "t", -1), -1);
    assert_true(json_bool_or(value, "b", false));
    assert_true(json_bool_or(value, "n", true));
    assert_int_equal(json_int_or(NULL, "n", -1), -1);
    assert_string_equal(json_text_or(json_null(), "n", "-"), "-");
    json_decref(value);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_taken),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_long_numbers),
        cmocka_unit_test(test_canonical),
        cmocka_unit_test(test_writing),
        cmocka_unit_test(test_members),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
