#include "base/time.h"
#include "test/test.h"

static void
test_parse(void **state)
{
    static const struct {
        const char *text;
        int64_t us;
        bool zoned;
    } cases[] = {
        {"1970-01-01", 0, false},
        {"1970-01-01T00:00", 0, false},
        {"1970-01-01 00:00:00", 0, false},
        {"1970-01-01T00:00:00Z", 0, true},
        {"1970-01-01t00:00:00z", 0, true},
        {"1970-01-01T00:00Z", 0, true},
        {"1970-01-01T00:00:00.5", 500000, false},
        {"1970-01-01T00:00:00.123456789Z", 123456, true},
        {"1970-01-01T00:00:00.000001+00:00", 1, true},
        {"1970-01-01T01:30:00+01:30", 0, true},
        {"1970-01-01T01:30:00+0130", 0, true},
        {"1970-01-01T01:00+01", 0, true},
        {"1969-12-31T23:00:00-01", 0, true},
        {"1969-12-31T23:59:59.999999", -1, false},
        {"2024-02-29T12:34:56Z", 1709210096000000, true},
        {"2000-02-29", 951782400000000, false},
        {"0000-01-01", -62167219200000000, false},
        {"0001-01-01T00:00:00Z", -62135596800000000, true},
        {"9999-12-31T23:59:59.999999Z", 253402300799999999, true},
        {"9999-12-31T23:59:59-23:59", 253402387139000000, true},
        {"1970-01-01T00:00:00-00:00", 0, true},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        int64_t us = -7;
        bool zoned = !cases[i].zoned;

        trying(cases[i].text);
        assert_true(time_parse(cases[i].text, strlen(cases[i].text), &us, &zoned));
        assert_int_equal(us, cases[i].us);
        assert_int_equal(zoned, cases[i].zoned);
        assert_true(time_parse(cases[i].text, strlen(cases[i].text), &us, NULL));
    }
}

static void
test_refused(void **state)
{
    static const char *const texts[] = {"", "1970", "1970-01", "1970-1-1", "70-01-01", "19700101",
        "1970-00-01", "1970-13-01", "1970-01-00", "1970-01-32", "1970-04-31", "1970-02-29",
        "1900-02-29", "2100-02-29", "1970-01-01T", "1970-01-01T1", "1970-01-01T24:00",
        "1970-01-01T23:60", "1970-01-01T23:59:60", "1970-01-01T23:59:5",
        "1970-01-01T23:59:", "1970-01-01T23:5", "1970-01-01T00:00:00.", "1970-01-01T00:00:00.Z",
        "1970-01-01T00:00:00.1234567890", "1970-01-01T00:00.5", "1970-01-01x00:00",
        "1970-01-01T00:00:00 Z", "1970-01-01T00:00:00+1", "1970-01-01T00:00:00+24:00",
        "1970-01-01T00:00:00+01:60", "1970-01-01T00:00:00+01:0", "1970-01-01T00:00:00+01:000",
        "1970-01-01T00:00:00+0:100", "1970-01-01T00:00:00ZZ", "1970-01-01Z", "1970-01-01+01:00",
        " 1970-01-01", "1970-01-01 ", "-970-01-01", "+1970-01-01", "197a-01-01", "1970/01/01",
        "yesterday", "0", "1767225600", "1970-01-01T-1:00", "1970-01-01T+1:00",
        "1970-01-01T00:00:00,5", "\xd9\xa1\xd9\xa9\xd9\xa7\xd9\xa0-01-01"};

    (void)state;
    for (size_t i = 0; i < count_of(texts); i++) {
        int64_t us;

        trying(texts[i]);
        assert_false(time_parse(texts[i], strlen(texts[i]), &us, NULL));
    }
    /* What lies behind the count does not belong to it. */
    assert_true(time_parse("1970-01-01garbage", 10, &(int64_t){0}, NULL));
    assert_false(time_parse("1970-01-01", 9, &(int64_t){0}, NULL));
}

static void
test_dates_and_clocks(void **state)
{
    int32_t days;
    int64_t us;

    (void)state;
    assert_true(time_parse_date("2024-02-29", 10, &days) && days == 19782);
    assert_true(time_parse_date("0000-01-01", 10, &days) && days == -719528);
    assert_false(time_parse_date("2024-02-29T", 11, &days));
    assert_false(time_parse_date("2024-02-2", 9, &days));
    assert_false(time_parse_date("", 0, &days));
    assert_true(time_parse_clock("00:00", 5, &us) && us == 0);
    assert_true(time_parse_clock("23:59:59.999999", 15, &us) && us == 86399999999);
    assert_true(time_parse_clock("12:30:15", 8, &us) && us == 45015000000);
    assert_false(time_parse_clock("", 0, &us));
    assert_false(time_parse_clock("12", 2, &us));
    assert_false(time_parse_clock("12:30:1", 7, &us));
    assert_false(time_parse_clock("12:30:15Z", 9, &us));
    assert_false(time_parse_clock("24:00", 5, &us));
    assert_false(time_parse_clock("1:30", 4, &us));
}

/* Day by day through the years -10000 to 12000: the two directions agree, the weekday goes on, and
 * months have the days they have. */
static void
test_calendar(void **state)
{
    static const int month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = -10000, month = 1, day = 1, weekday;
    int64_t days = time_days_from_civil(year, month, day);

    (void)state;
    weekday = time_date(days).weekday;
    for (; year < 12000; days++) {
        TimeParts p = time_date(days);
        bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

        if (p.year != year || p.month != month || p.day != day || p.weekday != weekday ||
            time_days_from_civil(year, month, day) != days)
            fail_msg("%d-%d-%d: %d-%d-%d", year, month, day, p.year, p.month, p.day);
        weekday = (weekday + 1) % 7;
        if (++day > month_days[month - 1] + (leap && month == 2)) {
            day = 1;
            if (++month > 12) {
                month = 1;
                year++;
            }
        }
    }
    assert_int_equal(time_date(0).weekday, 4); /* a Thursday */
    assert_int_equal(time_date(0).hour, 0);
    assert_int_equal(time_date(INT32_MAX).year, 5881580);
    assert_int_equal(time_date(INT32_MIN).year, -5877641);
}

static void
test_parts(void **state)
{
    TimeParts p = time_parts(-1);

    (void)state;
    assert_int_equal(p.year, 1969);
    assert_int_equal(p.hour, 23);
    assert_int_equal(p.second, 59);
    assert_int_equal(p.microsecond, 999999);
    p = time_parts(INT64_MAX);
    assert_int_equal(p.year, 294247);
    assert_int_equal(p.microsecond, 775807);
    p = time_parts(INT64_MIN);
    assert_int_equal(p.year, -290308);
    assert_int_equal(p.microsecond, 224192);
}

static void
test_forms(void **state)
{
    static const struct {
        int64_t us;
        const char *rfc3339, *seed, *http, *key;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z", "1970-01-01T00:00:00", "Thu, 01 Jan 1970 00:00:00 GMT",
            "19700101_000000"},
        {1704164645678999, "2024-01-02T03:04:05.678Z", "2024-01-02T03:04:05",
            "Tue, 02 Jan 2024 03:04:05 GMT", "20240102_030405"},
        {-1, "1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59", "Wed, 31 Dec 1969 23:59:59 GMT",
            "19691231_235959"},
        {784111777000000, "1994-11-06T08:49:37.000Z", "1994-11-06T08:49:37",
            "Sun, 06 Nov 1994 08:49:37 GMT", "19941106_084937"}, /* RFC 9110's example */
    };
    static const char *const no_dates[] = {"", "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sunday, 06-Nov-94 08:49:37 GMT", "Sun, 06 Now 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:6x GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT "};
    char to[TIME_TEXT_BYTES];
    int64_t back;

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].rfc3339);
        assert_string_equal(time_rfc3339_ms(cases[i].us, to), cases[i].rfc3339);
        assert_string_equal(time_seed(cases[i].us, to), cases[i].seed);
        assert_string_equal(time_http(cases[i].us, to), cases[i].http);
        assert_string_equal(time_key(cases[i].us, to), cases[i].key);
        assert_true(time_parse_http(cases[i].http, &back));
        assert_int_equal(time_parts(back).microsecond, 0);
        assert_string_equal(time_http(back, to), cases[i].http);
    }
    for (size_t i = 0; i < count_of(no_dates); i++) {
        trying(no_dates[i]);
        assert_false(time_parse_http(no_dates[i], &back));
    }
    /* Whatever the clock says, it fits. */
    (void)time_rfc3339_ms(INT64_MAX, to);
    (void)time_http(INT64_MIN, to);
    assert_true(strlen(time_rfc3339_ms(INT64_MIN, to)) < TIME_TEXT_BYTES);
}

static void
test_durations(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
        const char *shortest;
    } cases[] = {
        {"0", 0, "0s"},
        {"90", 90000, "90s"},
        {"90s", 90000, "90s"},
        {"60s", 60000, "1m"},
        {"5m", 300000, "5m"},
        {"2h", 7200000, "2h"},
        {"24h", 86400000, "24h"},
        {"1d", 86400000, "24h"},
        {"7d", 604800000, "7d"},
        {"250ms", 250, "250ms"},
        {"1500ms", 1500, "1500ms"},
        {"1000ms", 1000, "1s"},
        {"8d", 691200000, "8d"},
        {"170h", 612000000, "170h"},
        {"9223372036854775807ms", INT64_MAX, "9223372036854775807ms"},
    };
    static const char *const bad[] = {"", "s", "m", "-1s", "+1s", "1.5s", " 1s", "1s ", "1 s",
        "01s", "1S", "1min", "1hour", "1h30m", "1us", "1w", "9223372036854775808ms",
        "9223372036854775807s", "106751991168d", "99999999999999999999999999s", "0x10s"};
    char to[TIME_TEXT_BYTES];
    int64_t ms;

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].text);
        assert_true(time_parse_duration(cases[i].text, &ms));
        assert_int_equal(ms, cases[i].ms);
        assert_string_equal(time_duration(ms, to), cases[i].shortest);
        assert_true(time_parse_duration(to, &ms));
        assert_int_equal(ms, cases[i].ms);
    }
    for (size_t i = 0; i < count_of(bad); i++) {
        trying(bad[i]);
        assert_false(time_parse_duration(bad[i], &ms));
    }
}

static void
test_clocks(void **state)
{
    int64_t before_ms = time_now_ms(), wall_us = time_wall_us();

    (void)state;
    assert_true(time_now_ms() >= before_ms);
    assert_true(wall_us > 1700000000000000);
    assert_true(time_wall_ms() - wall_us / 1000 < 10000);
    assert_int_equal(strlen(time_boot_id()), 36);
    assert_string_equal(time_boot_id(), time_boot_id());
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_dates_and_clocks),
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_durations),
        cmocka_unit_test(test_clocks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
