#include "export/key.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "test/unit/export/bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

/* 2024-01-01T12:00:00Z */
static const int64_t noon_us = 1704110400000000;

static void
test_make(void **state)
{
    static const struct {
        const char *user, *type, *id, *extension, *key;
    } cases[] = {
        {"user_123", "employee_metrics", "8f14e45f-ceea-4e7a-9b1c-2d1f0c1a7f10", ".csv",
            "exports/user_123/employee_metrics_20240101_120000_8f14e45f.csv"},
        {"a@b.example", "t", "8f14e45f-ceea-4e7a-9b1c-2d1f0c1a7f10", ".csv.gz",
            "exports/a@b.example/t_20240101_120000_8f14e45f.csv.gz"},
        /* of other ids the SHA-256's: printf %s my-own-id | sha256sum */
        {"u", "t", "my-own-id", "", "exports/u/t_20240101_120000_50b66517"},
        {"u", "t", "8F14E45F-CEEA-4E7A-9B1C-2D1F0C1A7F10", "",
            "exports/u/t_20240101_120000_de7c5338"},
        {"../u", "t", "x", "", NULL},
        {"u/v", "t", "x", "", NULL},
        {"", "t", "x", "", NULL},
        {"u", "T", "x", "", NULL},
        {"u", "", "x", "", NULL},
        {"u", "t/../../x", "x", "", NULL},
        {"u", "t", "x", "/../y", NULL},
        {"u", "t", "x", ".a/b", NULL},
        {"u", "t", "x", "\n", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char key[STORAGE_KEY_BYTES + 1];
        Err e = {0};
        bool ok = key_make(
            cases[i].user, cases[i].type, noon_us, cases[i].id, cases[i].extension, key, &e);

        if (ok != (cases[i].key != NULL))
            fail_msg("%s %s: %s", cases[i].user, cases[i].type, ok ? key : err_root(&e));
        if (ok && strcmp(key, cases[i].key) != 0)
            fail_msg("%s, not %s", key, cases[i].key);
        if (ok) /* and again */
            assert_true(key_make(cases[i].user, cases[i].type, noon_us + 999999, cases[i].id,
                            cases[i].extension, key, &e) &&
                        strcmp(key, cases[i].key) == 0);
    }
}

static void
test_longest(void **state)
{
    char user[129], type[65], key[STORAGE_KEY_BYTES + 1];
    Err e = {0};

    (void)state;
    memset(user, 'u', 128);
    memset(type, 't', 64);
    user[128] = type[64] = '\0';
    assert_true(key_make(user, type, noon_us, "x", ".parquet.zst", key, &e));
    assert_true(storage_key_check(key, &e));
}

static void
test_user_and_file(void **state)
{
    static const struct {
        const char *key, *user, *file;
    } cases[] = {
        {"exports/user_123/a.csv", "user_123", "a.csv"},
        {"exports/u/b/c.csv", "u", "c.csv"},
        {"exports/u/", "u", ""},
        {"exports/u", NULL, "u"},
        {"exports//a.csv", NULL, "a.csv"},
        {"imports/u/a.csv", NULL, "a.csv"},
        {"a.csv", NULL, "a.csv"},
        {"", NULL, ""},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *user = NULL;
        size_t count = 0;

        assert_int_equal(key_user(cases[i].key, &user, &count), cases[i].user != NULL);
        if (cases[i].user) {
            assert_int_equal(count, strlen(cases[i].user));
            assert_memory_equal(user, cases[i].user, count);
        }
        assert_string_equal(key_file(cases[i].key), cases[i].file);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_user_and_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
