#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "beat/cron.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

static int64_t
at(const char *text)
{
    int64_t us;

    if (!time_parse(text, strlen(text), &us, NULL))
        fail_msg("not a time: %s", text);
    return us;
}

static void
test_next_and_last(void **state)
{
    static const struct {
        const char *name, *expression, *now, *next, *last;
    } cases[] = {
        {"the seed's sweep", "0 2 * * *", "2026-03-04T01:59:59", "2026-03-04T02:00",
            "2026-03-03T02:00"},
        {"on the minute: next is later, last is now", "0 2 * * *", "2026-03-04T02:00:00",
            "2026-03-05T02:00", "2026-03-04T02:00"},
        {"a second past", "0 2 * * *", "2026-03-04T02:00:01", "2026-03-05T02:00",
            "2026-03-04T02:00"},
        {"every minute", "* * * * *", "2026-12-31T23:59:30", "2027-01-01T00:00",
            "2026-12-31T23:59"},
        {"steps", "*/15 * * * *", "2026-03-04T10:46:00", "2026-03-04T11:00", "2026-03-04T10:45"},
        {"steps from a number", "5/20 * * * *", "2026-03-04T10:46:00", "2026-03-04T11:05",
            "2026-03-04T10:45"},
        {"a range with steps", "0 9-17/4 * * *", "2026-03-04T10:00:00", "2026-03-04T13:00",
            "2026-03-04T09:00"},
        {"a list", "0 1,13,22 * * *", "2026-03-04T14:00:00", "2026-03-04T22:00",
            "2026-03-04T13:00"},
        {"weekdays by name", "30 8 * * mon-fri", "2026-03-06T09:00:00", "2026-03-09T08:30",
            "2026-03-06T08:30"},
        {"Sunday is 0", "0 0 * * 0", "2026-03-04T00:00:00", "2026-03-08T00:00", "2026-03-01T00:00"},
        {"Sunday is 7", "0 0 * * 7", "2026-03-04T00:00:00", "2026-03-08T00:00", "2026-03-01T00:00"},
        {"Saturday to Sunday", "0 0 * * 6-7", "2026-03-07T12:00:00", "2026-03-08T00:00",
            "2026-03-07T00:00"},
        {"months by name", "0 0 1 JAN,Jul *", "2026-03-04T00:00:00", "2026-07-01T00:00",
            "2026-01-01T00:00"},
        {"either kind of day is enough", "0 0 13 * 5", "2026-03-07T00:00:00", "2026-03-13T00:00",
            "2026-03-06T00:00"},
        {"either: the other", "0 0 13 * 5", "2026-04-11T00:00:00", "2026-04-13T00:00",
            "2026-04-10T00:00"},
        {"a star on one side: both", "0 0 */2 * 1", "2026-03-03T00:00:00", "2026-03-09T00:00",
            "2026-02-23T00:00"},
        {"year's end", "59 23 31 12 *", "2026-12-31T23:59:00", "2027-12-31T23:59",
            "2026-12-31T23:59"},
        {"leap day", "0 0 29 2 *", "2026-03-01T00:00:00", "2028-02-29T00:00", "2024-02-29T00:00"},
        {"leap day over 2100", "0 0 29 2 *", "2096-03-01T00:00:00", "2104-02-29T00:00",
            "2096-02-29T00:00"},
        {"a 29 February that is a Sunday", "0 0 29 2 */7", "2088-03-01T00:00:00",
            "2128-02-29T00:00", "2088-02-29T00:00"},
        {"the 31st leaves months out", "0 0 31 * *", "2026-03-31T00:00:00", "2026-05-31T00:00",
            "2026-03-31T00:00"},
        {"@yearly", "@yearly", "2026-03-04T00:00:00", "2027-01-01T00:00", "2026-01-01T00:00"},
        {"@monthly", "@monthly", "2026-03-04T00:00:00", "2026-04-01T00:00", "2026-03-01T00:00"},
        {"@weekly", "@weekly", "2026-03-04T00:00:00", "2026-03-08T00:00", "2026-03-01T00:00"},
        {"@daily", "@Daily", "2026-03-04T12:00:00", "2026-03-05T00:00", "2026-03-04T00:00"},
        {"@hourly", "@hourly", "2026-03-04T12:30:00", "2026-03-04T13:00", "2026-03-04T12:00"},
        {"leading zeros, tabs", "05\t02 * * *", "2026-03-04T12:30:00", "2026-03-05T02:05",
            "2026-03-04T02:05"},
        {"before 1970", "0 2 * * *", "1969-12-31T12:00:30", "1970-01-01T02:00", "1969-12-31T02:00"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char got[TIME_TEXT_BYTES];
        Err e = {0};
        Cron cron;

        if (!cron_parse(cases[i].expression, &cron, &e))
            fail_msg("%s: %s", cases[i].name, err_root(&e));
        if (cron_next(&cron, at(cases[i].now)) != at(cases[i].next))
            fail_msg("%s: next is %s", cases[i].name,
                time_seed(cron_next(&cron, at(cases[i].now)), got));
        if (cron_last(&cron, at(cases[i].now)) != at(cases[i].last))
            fail_msg("%s: last is %s", cases[i].name,
                time_seed(cron_last(&cron, at(cases[i].now)), got));
    }
}

static void
test_refused(void **state)
{
    static const struct {
        const char *expression, *says;
    } cases[] = {
        {"", "minute is missing"},
        {"0 2 * *", "day of week is missing"},
        {"0 2 * * * *", "more than five"},
        {"60 * * * *", "minute"},
        {"-1 * * * *", "minute"},
        {"* 24 * * *", "hour"},
        {"* * 0 * *", "day of month"},
        {"* * 32 * *", "day of month"},
        {"* * * 13 *", "month"},
        {"* * * foo *", "month"},
        {"* * * * 8", "day of week"},
        {"* * * * mon-sun", "day of week"}, /* sun is 0 */
        {"5-1 * * * *", "minute"},
        {"*/0 * * * *", "minute"},
        {"*/ * * * *", "minute"},
        {"*/60 * * * *", "minute"},
        {"1,,2 * * * *", "minute"},
        {"1, * * * *", "minute"},
        {",1 * * * *", "minute"},
        {"1-2-3 * * * *", "minute"},
        {"1/2/3 * * * *", "minute"},
        {"99999999999999999999 * * * *", "minute"},
        {"jan * * * *", "minute"},
        {"0 0 31 2 *", "does not exist"},
        {"0 0 30 feb *", "does not exist"},
        {"0 0 31 4,6,9,11 *", "does not exist"},
        {"@reboot", "not one of @hourly"},
        {"@daily *", "not one of @hourly"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        Err e = {0};
        Cron cron;

        if (cron_parse(cases[i].expression, &cron, &e))
            fail_msg("taken: %s", cases[i].expression);
        assert_int_equal(e.code, ERR_CONFIG_INVALID);
        if (!strstr(err_root(&e), cases[i].says))
            fail_msg("\"%s\" says: %s", cases[i].expression, err_root(&e));
    }
}

/* Day 31 in February is fine as long as a weekday may stand in for it. */
static void
test_impossible_day_with_weekday(void **state)
{
    Err e = {0};
    Cron cron;

    (void)state;
    assert_true(cron_parse("0 0 31 2 1", &cron, &e));
    assert_int_equal(cron_next(&cron, at("2026-01-01T00:00")), at("2026-02-02T00:00"));
}

/* Against the definition itself, minute by minute, over years with and without a leap day. */
static void
test_against_minutes(void **state)
{
    static const char *const expressions[] = {
        "7 3 * * *", "*/17 */5 * * *", "0 0 1,15 * 3", "30 4 29 2 *", "0 12 31 * *", "0 0 * * 7"};

    (void)state;
    for (size_t i = 0; i < sizeof expressions / sizeof expressions[0]; i++) {
        int64_t from = at("2027-12-25T00:00"), to = at("2028-03-03T00:00"), last = -1;
        Err e = {0};
        Cron c;

        assert_true(cron_parse(expressions[i], &c, &e));
        for (int64_t now = from; now < to; now += 60000000) {
            TimeParts p = time_parts(now);
            bool day = c.day >> p.day & 1, weekday = c.weekday >> p.weekday & 1;
            bool due = c.minute >> p.minute & 1 && c.hour >> p.hour & 1 && c.month >> p.month & 1 &&
                       (c.day_is_any || c.weekday_is_any ? day && weekday : day || weekday);

            if (due && cron_next(&c, now - 1) != now)
                fail_msg("%s: next misses a due minute", expressions[i]);
            if (!due && cron_next(&c, now - 1) <= now)
                fail_msg("%s: next is not due", expressions[i]);
            last = due ? now : last;
            if (last >= 0 && p.minute % 13 == 0 && cron_last(&c, now + 59999999) != last)
                fail_msg("%s: last is wrong", expressions[i]);
        }
        assert_true(last >= 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_and_last),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_impossible_day_with_weekday),
        cmocka_unit_test(test_against_minutes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
