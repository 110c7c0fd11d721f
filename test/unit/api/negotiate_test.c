#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/negotiate.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static void
test_prefer(void **state)
{
    static const struct {
        const char *value, *applied;
    } cases[] = {
        {"", ""},
        {"respond-async", "respond-async"},
        {"wait=5", "wait=5"},
        {"Wait = 5", "wait=5"},
        {"wait=\"5\"", "wait=5"},
        {"wait=31", "wait=30"},
        {"wait=4, wait=9", "wait=4"},
        {"wait=-1", ""},
        {"wait=5s", ""},
        {"wait", ""},
        {"wait=99999999999999999999", ""},
        {"handling=strict", "handling=strict"},
        {"handling=lenient, handling=strict", ""},
        {"return=minimal; foo=\"a,b\"; bar", "return=minimal"},
        {"return=representation", ""},
        {"x=\"respond-async, wait=3\", y", ""},
        {"respond-async, wait=10, handling=strict, return=minimal",
            "respond-async, wait=10, handling=strict, return=minimal"},
        {"respond-async=1", ""},
        {",,;,=,\"", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Preferences preferences = {0};
        Buf applied = buf_new(200);

        prefer_read(cases[i].value, &preferences);
        prefer_write(&preferences, &applied);
        if (strcmp(applied.data, cases[i].applied) != 0)
            fail_msg("%s: %s", cases[i].value, applied.data);
        buf_free(&applied);
    }
}

static void
test_several_headers_add_up(void **state)
{
    Preferences preferences = {0};

    (void)state;
    prefer_read("handling=strict", &preferences);
    prefer_read("wait=2, handling=lenient", &preferences);
    assert_true(preferences.strict);
    assert_true(preferences.waits);
    assert_int_equal(preferences.wait_s, 2);
    assert_false(preferences.minimal);
}

static void
test_accept(void **state)
{
    static const struct {
        const char *value;
        bool takes;
    } cases[] = {
        {"", true},
        {"*/*", true},
        {"application/json", true},
        {"Application/JSON; charset=utf-8", true},
        {"application/*;q=0.1", true},
        {"text/html, application/xml;q=0.9, */*;q=0.8", true},
        {"text/html", false},
        {"text/csv, text/*", false},
        {"application/json;q=0", false},
        {"application/json;q=0.000, */*", false},
        {"*/*;q=0, application/json", true},
        {"*/*;q=0", false},
        {"application/*;q=0, */*", false},
        {"application/problem+json", false},
        {"application/jsonx", false},
        {"x/y;a=\"application/json\"", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (accept_takes_json(cases[i].value) != cases[i].takes)
            fail_msg("%s", cases[i].value);
}

static void
test_media(void **state)
{
    (void)state;
    assert_true(media_is_json("application/json"));
    assert_true(media_is_json("application/json; charset=utf-8"));
    assert_true(media_is_json(" APPLICATION/Json ;x"));
    assert_true(media_is_json("application/vnd.api+json"));
    assert_false(media_is_json(""));
    assert_false(media_is_json("text/json"));
    assert_false(media_is_json("application/jsonp"));
    assert_false(media_is_json("application/+json"));
    assert_false(media_is_json("application/x-www-form-urlencoded"));
    assert_false(media_is_json("text/plain; application/json"));
}

static void
test_idempotency_key(void **state)
{
    char key[IDEMPOTENCY_KEY_BYTES + 1], longest[300], quoted[310];

    (void)state;
    assert_true(idempotency_key_read("abc-1", key));
    assert_string_equal(key, "abc-1");
    assert_true(idempotency_key_read(" \"8e03978e-40d5\" ", key));
    assert_string_equal(key, "8e03978e-40d5");
    assert_true(idempotency_key_read("\"a\\\"b\\\\\"", key));
    assert_string_equal(key, "a\"b\\");
    assert_false(idempotency_key_read("", key));
    assert_false(idempotency_key_read("\"\"", key));
    assert_false(idempotency_key_read("\"", key));
    assert_false(idempotency_key_read("\"a", key));
    assert_false(idempotency_key_read("\"a\\\"", key));
    assert_false(idempotency_key_read("\"a\"b\"", key));
    assert_false(idempotency_key_read("\"a\\n\"", key));
    assert_false(idempotency_key_read("a b", key));
    assert_false(idempotency_key_read("a\x01", key));
    assert_false(idempotency_key_read("\xc3\xa9", key));
    memset(longest, 'k', 256);
    longest[256] = '\0';
    assert_false(idempotency_key_read(longest, key));
    longest[255] = '\0';
    assert_true(idempotency_key_read(longest, key));
    snprintf(quoted, sizeof quoted, "\"%s\"", longest);
    assert_true(idempotency_key_read(quoted, key));
    assert_int_equal(strlen(key), 255);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefer),
        cmocka_unit_test(test_several_headers_add_up),
        cmocka_unit_test(test_accept),
        cmocka_unit_test(test_media),
        cmocka_unit_test(test_idempotency_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
