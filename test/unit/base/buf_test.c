#include "base/buf.h"
#include "test/test.h"

static void
test_growing(void **state)
{
    Buf b = buf_new(1000);
    Err e = {0};

    (void)state;
    assert_string_equal(b.data, ""); /* nothing yet, and readable */
    buf_put(&b, NULL, 0);
    assert_int_equal(b.room_bytes, 0);
    buf_text(&b, "one ");
    buf_char(&b, '2');
    buf_printf(&b, " %s %d", "three", 4);
    buf_put(&b, "\0five", 5);
    assert_memory_equal(b.data, "one 2 three 4\0five", 19);
    assert_int_equal(b.bytes, 18);
    assert_ok(buf_is_good(&b, &e), &e);
    buf_printf(&b, "%s", "");
    assert_int_equal(b.bytes, 18);
    buf_free(&b);
    assert_string_equal(b.data, "");
    buf_text(&b, "again");
    assert_string_equal(b.data, "again");
    buf_free(&b);
}

static void
test_limit(void **state)
{
    static const size_t limits[] = {0, 1, 255, 256, 257, 1000, 4096};

    (void)state;
    for (size_t i = 0; i < count_of(limits); i++) {
        Buf b = buf_new(limits[i]);
        Err e = {0};

        for (size_t n = 0; n < limits[i]; n++)
            buf_char(&b, 'x');
        assert_ok(buf_is_good(&b, &e), &e);
        assert_int_equal(b.bytes, limits[i]);
        assert_int_equal(strlen(b.data), limits[i]);
        buf_char(&b, 'y');
        assert_fails(buf_is_good(&b, &e), ERR_MEMORY_LIMIT, &e);
        assert_int_equal(strlen(b.data), limits[i]); /* what was there stays */
        buf_printf(&b, "%d", 5);
        buf_clear(&b);
        err_clear(&e);
        assert_ok(buf_is_good(&b, &e), &e);
        assert_string_equal(b.data, "");
        buf_put(&b, NULL, 0);
        assert_null(buf_reserve(&b, limits[i] + 1));
        assert_null(buf_reserve(&b, SIZE_MAX));
        assert_true(b.failed);
        buf_free(&b);
        assert_false(b.failed);
    }
}

static void
test_reserving(void **state)
{
    Buf b = buf_new(10000);
    char *to;

    (void)state;
    for (int i = 0; i < 50; i++) {
        to = buf_reserve(&b, 100);
        assert_non_null(to);
        memset(to, 'a' + i % 26, 100);
        buf_wrote(&b, 60);
    }
    assert_int_equal(b.bytes, 3000);
    assert_int_equal(strlen(b.data), 3000);
    assert_int_equal(b.data[60], 'b');
    buf_free(&b);
}

static void
test_dropping(void **state)
{
    Buf b = buf_new(100);

    (void)state;
    buf_drop(&b, 0);
    buf_text(&b, "hello world");
    buf_drop(&b, 6);
    assert_string_equal(b.data, "world");
    buf_drop(&b, 0);
    assert_string_equal(b.data, "world");
    buf_drop(&b, 5);
    assert_string_equal(b.data, "");
    buf_text(&b, "more");
    assert_string_equal(b.data, "more");
    buf_free(&b);
}

static void
test_wiping(void **state)
{
    Buf b = buf_new(100);

    (void)state;
    buf_wipe(&b);
    assert_non_null(buf_reserve(&b, 100));
    buf_text(&b, "secret");
    buf_wipe(&b);
    assert_int_equal(b.bytes, 0);
    assert_int_equal(b.room_bytes, 0);
    assert_string_equal(b.data, "");
    buf_text(&b, "used again");
    assert_string_equal(b.data, "used again");
    buf_free(&b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_reserving),
        cmocka_unit_test(test_dropping),
        cmocka_unit_test(test_wiping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
