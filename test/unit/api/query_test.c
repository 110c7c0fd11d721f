#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/query.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static void
test_values(void **state)
{
    static const struct {
        const char *query, *value; /* of "limit"; NULL: not there */
        bool ok;
    } cases[] = {
        {NULL, NULL, true},
        {"", NULL, true},
        {"limit=5", "5", true},
        {"a=1&limit=a%20b+c&b", "a b c", true},
        {"limit", "", true},
        {"limit=", "", true},
        {"%6cimit=7", "7", true},
        {"limits=1&xlimit=2", NULL, true},
        {"limit=1=2", "1=2", true},
        {"&&limit=3&", "3", true},
        {"limit=%2B", "+", true},
        {"limit=1&limit=1", NULL, false},
        {"limit&%6Cimit", NULL, false},
        {"limit=%zz", NULL, false},
        {"limit=%0", NULL, false},
        {"limit=%00", NULL, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Arena *arena = arena_new(1 << 16);
        const char *value;
        Err e = {0};
        bool ok = query_value(cases[i].query, "limit", arena, &value, &e);

        if (ok != cases[i].ok ||
            (ok && (!value != !cases[i].value || (value && strcmp(value, cases[i].value) != 0))))
            fail_msg("%s: %d %s", cases[i].query, ok, ok ? value : err_root(&e));
        if (!ok)
            assert_int_equal(e.code, ERR_INVALID_REQUEST);
        arena_free(arena);
    }
}

static void
test_whole_numbers(void **state)
{
    static const struct {
        const char *query;
        int64_t number;
        bool good;
    } cases[] = {
        {"x", 10, true},
        {"limit=1", 1, true},
        {"limit=1000", 1000, true},
        {"limit=0", 10, false},
        {"limit=1001", 10, false},
        {"limit=-1", 10, false},
        {"limit=abc", 10, false},
        {"limit=", 10, false},
        {"limit", 10, false},
        {"limit=1.0", 10, false},
        {"limit=+1", 10, false},
        {"limit=%201", 10, false},
        {"limit=99999999999999999999999", 10, false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Arena *arena = arena_new(1 << 16);
        Problems problems = {.arena = arena};
        int64_t number;
        Err e = {0};

        assert_true(query_whole(cases[i].query, "limit", 1, 1000, 10, &number, &problems, &e));
        if (number != cases[i].number || (problems.count == 0) != cases[i].good)
            fail_msg("%s: %ld, %zu problems", cases[i].query, (long)number, problems.count);
        if (!cases[i].good)
            assert_string_equal(problems.problem[0].pointer, "query:limit");
        arena_free(arena);
    }
}

static void
test_unknown_names(void **state)
{
    static const char *const known[] = {"limit", "cursor", NULL};
    Arena *arena = arena_new(1 << 16);
    Problems problems = {.arena = arena};

    (void)state;
    query_check_names("limit=1&cursor=2", known, &problems);
    query_check_names(NULL, known, &problems);
    assert_int_equal(problems.count, 0);
    query_check_names("limit=1&page=2&%1b=3", known, &problems);
    assert_int_equal(problems.count, 2);
    assert_string_equal(problems.problem[0].pointer, "query:page");
    assert_string_equal(problems.problem[1].pointer, "query:?");
    query_check_names("a", NULL, &problems);
    assert_int_equal(problems.count, 3);
    arena_free(arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_whole_numbers),
        cmocka_unit_test(test_unknown_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
