#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/cursor.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static const char *const ring[] = {
    "new-secret-of-thirty-two-characters", "old-secret-of-thirty-two-characters"};
static const Config config = {.url_secret_key = ring, .url_secret_keys = 2};
static const Config other = {.url_secret_key = ring + 1, .url_secret_keys = 1};

static const Cursor place = {1704110405000000, "exports/user_1/a b_20240101_120000_8f14e45f.csv"};

static void
test_what_was_given_out_comes_back(void **state)
{
    Buf text = buf_new(8 << 10);
    Cursor back;
    Err e = {0};

    (void)state;
    assert_true(cursor_write(&place, "user_1", &config, &text, &e));
    assert_true(cursor_read(text.data, "user_1", &config, &back, &e));
    assert_int_equal(back.modified_us, place.modified_us);
    assert_string_equal(back.key, place.key);
    buf_free(&text);
}

static void
test_nothing_else_does(void **state)
{
    Buf text = buf_new(8 << 10);
    Cursor back;
    Err e = {0};

    (void)state;
    assert_true(cursor_write(&place, "user_1", &config, &text, &e));
    assert_false(cursor_read(text.data, "user_12", &config, &back, &e));
    assert_int_equal(e.code, ERR_INVALID_REQUEST);
    for (size_t i = 0; i < text.bytes; i++) {
        char was = text.data[i];

        text.data[i] = was == 'a' ? 'b' : 'a';
        err_clear(&e);
        if (cursor_read(text.data, "user_1", &config, &back, &e))
            fail_msg("digit %zu was altered", i);
        assert_int_equal(e.code, ERR_INVALID_REQUEST);
        text.data[i] = was;
    }
    for (size_t bytes = 0; bytes < text.bytes; bytes++) {
        char was = text.data[bytes];

        text.data[bytes] = '\0';
        err_clear(&e);
        assert_false(cursor_read(text.data, "user_1", &config, &back, &e));
        text.data[bytes] = was;
    }
    buf_text(&text, "00");
    assert_false(cursor_read(text.data, "user_1", &config, &back, &e));
    buf_free(&text);
}

static void
test_an_old_secret_of_the_ring_still_fits(void **state)
{
    Buf text = buf_new(8 << 10);
    Cursor back;
    Err e = {0};

    (void)state;
    assert_true(cursor_write(&place, "user_1", &other, &text, &e));
    assert_true(cursor_read(text.data, "user_1", &config, &back, &e));
    buf_clear(&text);
    assert_true(cursor_write(&place, "user_1", &config, &text, &e));
    assert_false(cursor_read(text.data, "user_1", &other, &back, &e));
    buf_free(&text);
}

static void
test_the_longest_key_fits(void **state)
{
    Cursor longest = {INT64_MAX, ""}, back;
    Buf text = buf_new(8 << 10);
    Err e = {0};

    (void)state;
    memset(longest.key, 'k', STORAGE_KEY_BYTES);
    assert_true(cursor_write(&longest, "user_1", &config, &text, &e));
    assert_true(cursor_read(text.data, "user_1", &config, &back, &e));
    assert_string_equal(back.key, longest.key);
    buf_free(&text);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_given_out_comes_back),
        cmocka_unit_test(test_nothing_else_does),
        cmocka_unit_test(test_an_old_secret_of_the_ring_still_fits),
        cmocka_unit_test(test_the_longest_key_fits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
