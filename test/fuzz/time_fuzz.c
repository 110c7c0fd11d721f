/* Any text is a time, a date, a clock, a duration, or none; a time means what the C library says of
 * the same digits, and all are the same when written and read again. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/time.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static const int64_t us_per_day = 86400000000;

static int
two(const char *at)
{
    return (at[0] - '0') * 10 + at[1] - '0';
}

/* The same by another way; only for what was accepted. */
static int64_t
reckon(const char *text, size_t count)
{
    struct tm tm = {
        .tm_year = two(text) * 100 + two(text + 2) - 1900,
        .tm_mon = two(text + 5) - 1,
        .tm_mday = two(text + 8),
    };
    struct tm normal;
    int64_t us, scale = 100000, zone = 0;
    size_t at = 16;

    if (count > 10) {
        tm.tm_hour = two(text + 11);
        tm.tm_min = two(text + 14);
        if (count > 16 && text[16] == ':')
            tm.tm_sec = two(text + 17), at = 19;
    }
    normal = tm;
    us = (int64_t)timegm(&normal) * 1000000;
    if (normal.tm_mday != tm.tm_mday || normal.tm_mon != tm.tm_mon || normal.tm_hour != tm.tm_hour)
        abort(); /* a day or hour that does not exist */
    if (count > at && text[at] == '.')
        for (at++; at < count && text[at] >= '0' && text[at] <= '9'; at++, scale /= 10)
            us += (text[at] - '0') * scale;
    if (count > at && (text[at] == '+' || text[at] == '-')) {
        zone = two(text + at + 1) * 60;
        if (count > at + 3)
            zone += two(text + count - 2);
        us -= (text[at] == '-' ? -1 : 1) * zone * 60000000;
    }
    return us;
}

static void
check_time(const char *text, size_t count)
{
    char again[64];
    int64_t us, same;
    bool zoned;
    TimeParts p;
    int wrote;

    if (!time_parse(text, count, &us, &zoned))
        return;
    if (us != reckon(text, count))
        abort();
    p = time_parts(us);
    if (p.year < 0 || p.year > 9999)
        return; /* a zone has moved it out of what can be written in four digits */
    wrote = snprintf(again, sizeof again, "%04d-%02d-%02d %02d:%02d:%02d.%06dZ", p.year, p.month,
        p.day, p.hour, p.minute, p.second, p.microsecond);
    if (!time_parse(again, (size_t)wrote, &same, &zoned) || same != us || !zoned)
        abort();
    time_rfc3339_ms(us, again);
    if (!time_parse(again, strlen(again), &same, &zoned) || us - same < 0 || us - same > 999)
        abort();
    if (time_days_from_civil(p.year, p.month, p.day) * us_per_day > us)
        abort();
}

static void
check_date_and_clock(const char *text, size_t count)
{
    int32_t days;
    int64_t us, clock_us;

    if (time_parse_date(text, count, &days) &&
        (!time_parse(text, count, &us, NULL) || us != days * us_per_day))
        abort();
    if (time_parse_clock(text, count, &clock_us)) {
        char whole[64];
        int wrote =
            snprintf(whole, sizeof whole, "1970-01-01T%.*s", count < 40 ? (int)count : 40, text);

        if (clock_us < 0 || clock_us >= us_per_day || count >= 40 ||
            !time_parse(whole, (size_t)wrote, &us, NULL) || us != clock_us)
            abort();
    }
}

static void
check_duration(const char *text, size_t count)
{
    char copy[64], shortest[TIME_TEXT_BYTES];
    int64_t ms, same;

    if (count >= sizeof copy || memchr(text, 0, count))
        return;
    memcpy(copy, text, count);
    copy[count] = '\0';
    if (!time_parse_duration(copy, &ms))
        return;
    if (ms < 0 || !time_parse_duration(time_duration(ms, shortest), &same) || same != ms)
        abort();
}

/* Any point in time can be taken apart and put together. */
static void
check_parts(int64_t us)
{
    TimeParts p = time_parts(us);
    int64_t days = time_days_from_civil(p.year, p.month, p.day);
    int64_t day_us = ((int64_t)p.hour * 3600 + p.minute * 60 + p.second) * 1000000 + p.microsecond;
    int64_t sum;

    if (day_us < 0 || day_us >= us_per_day || time_date(days).weekday != p.weekday)
        abort();
    /* The first day that 64 bits can say anything of began before them. */
    if (!__builtin_mul_overflow(days, us_per_day, &sum) && sum + day_us != us)
        abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *exact = malloc(bytes ? bytes : 1);
    int64_t any = 0;

    if (!exact)
        abort();
    memcpy(exact, data, bytes);
    check_time(exact, bytes);
    check_date_and_clock(exact, bytes);
    check_duration(exact, bytes);
    memcpy(&any, data, bytes < sizeof any ? bytes : sizeof any);
    check_parts(any);
    free(exact);
    return 0;
}
