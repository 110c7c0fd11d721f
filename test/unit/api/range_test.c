#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "api/range.h"
#include "base/err.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

enum { FILE_BYTES = 1000 };

static void
test_ranges(void **state)
{
    static const struct {
        const char *value;
        RangeAnswer answer;
        int64_t from, count;
    } cases[] = {
        {NULL, RANGE_WHOLE, 0, 1000},
        {"", RANGE_WHOLE, 0, 1000},
        {"bytes=0-0", RANGE_PART, 0, 1},
        {"bytes=0-999", RANGE_PART, 0, 1000},
        {"bytes=10-", RANGE_PART, 10, 990},
        {"bytes=-10", RANGE_PART, 990, 10},
        {"bytes=-5000", RANGE_PART, 0, 1000},
        {"Bytes= 5-9 ", RANGE_PART, 5, 5},
        {"bytes=999-5000", RANGE_PART, 999, 1},
        {"bytes=5-99999999999999999999999999", RANGE_PART, 5, 995},
        {"bytes=1000-", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=99999999999999999999999999-", RANGE_UNSATISFIABLE, 0, 0},
        {"bytes=-0", RANGE_UNSATISFIABLE, 0, 0},
        /* Not well-formed, or several: the whole file. */
        {"bytes=", RANGE_WHOLE, 0, 1000},
        {"bytes=-", RANGE_WHOLE, 0, 1000},
        {"bytes=5", RANGE_WHOLE, 0, 1000},
        {"bytes=9-5", RANGE_WHOLE, 0, 1000},
        {"bytes=a-b", RANGE_WHOLE, 0, 1000},
        {"bytes=+1-2", RANGE_WHOLE, 0, 1000},
        {"bytes=0-1,3-4", RANGE_WHOLE, 0, 1000},
        {"bytes=0-1,", RANGE_WHOLE, 0, 1000},
        {"rows=0-1", RANGE_WHOLE, 0, 1000},
        {"bytes 0-1", RANGE_WHOLE, 0, 1000},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t from, count;
        RangeAnswer answer = range_read(cases[i].value, FILE_BYTES, &from, &count);

        if (answer != cases[i].answer)
            fail_msg("%s: %d", cases[i].value, (int)answer);
        if (answer == RANGE_UNSATISFIABLE)
            continue;
        if (from != cases[i].from || count != cases[i].count)
            fail_msg("%s: %ld+%ld", cases[i].value, (long)from, (long)count);
    }
}

static void
test_an_empty_file_has_no_range(void **state)
{
    int64_t from, count;

    (void)state;
    assert_int_equal(range_read("bytes=0-", 0, &from, &count), RANGE_UNSATISFIABLE);
    assert_int_equal(range_read("bytes=-5", 0, &from, &count), RANGE_UNSATISFIABLE);
    assert_int_equal(range_read(NULL, 0, &from, &count), RANGE_WHOLE);
    assert_int_equal(count, 0);
}

static void
test_tags(void **state)
{
    (void)state;
    assert_true(etag_is_in("\"a\"", "\"a\""));
    assert_true(etag_is_in("*", "\"a\""));
    assert_true(etag_is_in("\"b\", W/\"a\"", "\"a\""));
    assert_true(etag_is_in("\"b\" ,,\t\"a\"", "\"a\""));
    assert_false(etag_is_in("", "\"a\""));
    assert_false(etag_is_in("\"ab\"", "\"a\""));
    assert_false(etag_is_in("a", "\"a\""));
    assert_false(etag_is_in("\"b", "\"a\""));
    assert_false(etag_is_in("\"b\" junk, \"a\"", "\"a\""));
    assert_true(if_range_fits("\"a\"", "\"a\"", "Tue, 02 Jan 2024 12:00:00 GMT"));
    assert_true(
        if_range_fits("Tue, 02 Jan 2024 12:00:00 GMT", "\"a\"", "Tue, 02 Jan 2024 12:00:00 GMT"));
    assert_false(if_range_fits("W/\"a\"", "\"a\"", "Tue, 02 Jan 2024 12:00:00 GMT"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_an_empty_file_has_no_range),
        cmocka_unit_test(test_tags),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
