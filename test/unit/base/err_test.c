#include "base/err.h"
#include "test/test.h"

#define wrap_here(e, ...) err_push((e), ERR_NONE, ERR_HERE, __VA_ARGS__)

static void
test_chain(void **state)
{
    char text[512];
    Err e = {0};

    (void)state;
    assert_string_equal(err_root(&e), "");
    assert_string_equal(err_chain(&e, text, sizeof text), " (none, nowhere)");
    assert_false(err_push(&e, ERR_SOURCE_TIMEOUT, "a.c:1", "no answer from %s", "db"));
    assert_false(err_push(&e, ERR_NONE, "b.c:2", "uploading part %d", 3));
    assert_int_equal(e.code, ERR_SOURCE_TIMEOUT);
    assert_string_equal(err_root(&e), "no answer from db");
    assert_string_equal(err_chain(&e, text, sizeof text),
        "uploading part 3: no answer from db (source-timeout, a.c:1)");
    /* A code given later does not hide the cause. */
    assert_false(err_push(&e, ERR_INTERNAL, "c.c:3", "oh"));
    assert_int_equal(e.code, ERR_SOURCE_TIMEOUT);
    err_clear(&e);
    assert_int_equal(e.code, ERR_NONE);
    assert_string_equal(err_root(&e), "");
}

static void
test_a_full_chain(void **state)
{
    char text[512];
    Err e = {0};

    (void)state;
    err_push(&e, ERR_CANCELLED, "root.c:1", "root");
    for (int i = 0; i < 20; i++)
        wrap_here(&e, "view %d", i);
    assert_int_equal(e.links, ERR_LINKS_MAX);
    assert_string_equal(err_root(&e), "root");
    err_chain(&e, text, sizeof text);
    assert_ptr_equal(strstr(text, "view 19: view 5: "), text);
    assert_non_null(strstr(text, "view 0: root (cancelled, root.c:1)"));
}

/* However little room there is: it ends, and the code stands there as long as it fits. */
static void
test_little_room(void **state)
{
    char text[600], full[600];
    Err e = {0};

    (void)state;
    err_push(&e, ERR_STORAGE_FULL, "disk.c:7", "%0300d", 1);
    wrap_here(&e, "%0200d", 2);
    err_chain(&e, full, sizeof full);
    assert_int_equal(strlen(full), 300 + 2 + 200 + strlen(" (storage-full, disk.c:7)"));
    for (size_t room = 1; room < sizeof text; room++) {
        memset(text, 'x', sizeof text);
        assert_ptr_equal(err_chain(&e, text, room), text);
        assert_true(strlen(text) < room);
        if (room > 40)
            assert_string_equal(text + strlen(text) - 25, " (storage-full, disk.c:7)");
    }
    text[0] = 'x';
    err_chain(&e, text, 0);
    assert_int_equal(text[0], 'x');
}

static void
test_nothing_breaks_a_line(void **state)
{
    char text[512];
    Err e = {0};

    (void)state;
    err_push(&e, ERR_SOURCE_QUERY, "x.c:1",
        "near \"\n\r\t\x1b[31m\x7f\": \xc2\x9b"
        "31m é");
    assert_string_equal(
        err_chain(&e, text, sizeof text), "near \"????[31m?\": ??31m é (source-query, x.c:1)");
}

static void
test_long_text_is_cut(void **state)
{
    Err e = {0};

    (void)state;
    err_push(&e, ERR_INTERNAL, "x.c:1", "%01000d", 1);
    assert_int_equal(strlen(err_root(&e)), ERR_TEXT_BYTES - 1);
}

/* The table: names are unique and of the outside form; each has a sentence, a status, an exit. */
static void
test_codes(void **state)
{
    (void)state;
    for (int code = 1; code < ERR_CODES; code++) {
        const char *name = err_name((ErrCode)code), *sentence = err_sentence((ErrCode)code);
        int http = err_http_status((ErrCode)code), exit = err_exit_status((ErrCode)code);

        trying(name);
        assert_int_equal(err_code_of(name), code);
        assert_int_equal(strspn(name, "abcdefghijklmnopqrstuvwxyz-"), strlen(name));
        assert_true(sentence[0] >= 'A' && sentence[0] <= 'Z');
        assert_int_not_equal(sentence[strlen(sentence) - 1], '.');
        assert_true(http == 0 || (http >= 400 && http < 600));
        assert_true(exit > 0 && exit < 256);
    }
    assert_string_equal(err_name(ERR_SOURCE_TIMEOUT), "source-timeout");
    assert_int_equal(err_http_status(ERR_SOURCE_TIMEOUT), 504);
    assert_int_equal(err_retry(ERR_SOURCE_TIMEOUT), ERR_RETRY_ALWAYS);
    assert_int_equal(err_retry(ERR_MEMORY_LIMIT), ERR_RETRY_ONCE);
    assert_int_equal(err_retry(ERR_CANCELLED), ERR_RETRY_NEVER);
    assert_int_equal(err_exit_status(ERR_NONE), 0);
    assert_int_equal(err_code_of("none"), ERR_NONE);
    assert_int_equal(err_code_of("no-such-code"), ERR_NONE);
    assert_int_equal(err_code_of("SOURCE_TIMEOUT"), ERR_NONE);
    /* A number from outside that is none. */
    assert_string_equal(err_name((ErrCode)9999), "internal");
    assert_int_equal(err_http_status((ErrCode)9999), 500);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_a_full_chain),
        cmocka_unit_test(test_little_room),
        cmocka_unit_test(test_nothing_breaks_a_line),
        cmocka_unit_test(test_long_text_is_cut),
        cmocka_unit_test(test_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
