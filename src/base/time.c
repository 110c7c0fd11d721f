#include "base/time.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"

enum { US_PER_SECOND = 1000000 };

static const int64_t us_per_day = 86400LL * US_PER_SECOND;

int64_t
time_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#ifdef ROWFERRY_TESTING
static int64_t test_offset_us;

__attribute__((constructor)) static void
read_test_offset(void)
{
    const char *text = getenv("ROWFERRY_TEST_CLOCK_OFFSET_MS");

    if (text)
        test_offset_us = strtoll(text, NULL, 10) * 1000;
}
#else
enum { test_offset_us = 0 };
#endif

int64_t
time_wall_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * US_PER_SECOND + now.tv_nsec / 1000 + test_offset_us;
}

int64_t
time_wall_ms(void)
{
    return time_wall_us() / 1000;
}

static char boot_id[37];

__attribute__((constructor)) static void
read_boot_id(void)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, boot_id, 36);

    boot_id[got == 36 ? 36 : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

const char *
time_boot_id(void)
{
    return boot_id;
}

/* Days and dates: years begin in March here, so that the leap day is a year's last; 400 years are
 * an era. */
int64_t
time_days_from_civil(int year, int month, int day)
{
    int64_t y = (int64_t)year - (month <= 2);
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static void
civil_from_days(int64_t days, TimeParts *parts)
{
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;

    parts->day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    parts->month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    parts->year = (int)(year_of_era + era * 400 + (parts->month <= 2));
    parts->weekday = (int)(((days + 4) % 7 + 7) % 7);
}

TimeParts
time_date(int64_t days)
{
    TimeParts parts = {0};

    civil_from_days(days, &parts);
    return parts;
}

TimeParts
time_parts(int64_t wall_us)
{
    int64_t days = wall_us / us_per_day, rest = wall_us % us_per_day, seconds;
    TimeParts parts;

    if (rest < 0) {
        rest += us_per_day;
        days--;
    }
    parts = time_date(days);
    seconds = rest / US_PER_SECOND;
    parts.microsecond = (int)(rest % US_PER_SECOND);
    parts.hour = (int)(seconds / 3600);
    parts.minute = (int)(seconds / 60 % 60);
    parts.second = (int)(seconds % 60);
    return parts;
}

/* `count` digits at `at`; false if one is none. */
static inline bool
digits(const char *at, size_t count, int *number)
{
    int sum = 0;

    for (size_t i = 0; i < count; i++) {
        unsigned digit = (unsigned)(at[i] - '0');

        if (digit > 9)
            return false;
        sum = sum * 10 + (int)digit;
    }
    *number = sum;
    return true;
}

static inline bool
is_leap(int year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static inline bool
read_date(const char *at, size_t count, int64_t *days)
{
    static const unsigned char month_days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year, month, day;

    if (count < 10 || at[4] != '-' || at[7] != '-' || !digits(at, 4, &year) ||
        !digits(at + 5, 2, &month) || !digits(at + 8, 2, &day))
        return false;
    if (month < 1 || month > 12 || day < 1 ||
        day > month_days[month - 1] + (month == 2 && is_leap(year)))
        return false;
    *days = time_days_from_civil(year, month, day);
    return true;
}

/* hh:mm[:ss[.f…]] at the front; how many bytes it took, 0 for none. */
static inline size_t
read_clock(const char *at, size_t count, int64_t *us)
{
    int hour, minute, second = 0;
    int64_t fraction = 0;
    size_t took = 5;

    if (count < 5 || at[2] != ':' || !digits(at, 2, &hour) || !digits(at + 3, 2, &minute) ||
        hour > 23 || minute > 59)
        return 0;
    if (count >= 8 && at[5] == ':') {
        if (!digits(at + 6, 2, &second) || second > 59)
            return 0;
        took = 8;
        if (count > 8 && at[8] == '.') {
            size_t from = took + 1, end = from;
            int64_t scale = 100000;

            for (; end < count && (unsigned)(at[end] - '0') <= 9; end++, scale /= 10)
                fraction += (at[end] - '0') * scale;
            if (end == from || end - from > 9)
                return 0;
            took = end;
        }
    }
    *us = ((int64_t)hour * 3600 + minute * 60 + second) * US_PER_SECOND + fraction;
    return took;
}

/* Z, +hh, +hhmm, +hh:mm, and nothing behind. */
static inline bool
read_zone(const char *at, size_t count, int64_t *us)
{
    int hour, minute = 0;

    if (count == 1 && (at[0] == 'Z' || at[0] == 'z')) {
        *us = 0;
        return true;
    }
    if (count < 3 || (at[0] != '+' && at[0] != '-') || !digits(at + 1, 2, &hour) || hour > 23)
        return false;
    if (count == 6   ? at[3] != ':' || !digits(at + 4, 2, &minute)
        : count == 5 ? !digits(at + 3, 2, &minute)
                     : count != 3)
        return false;
    if (minute > 59)
        return false;
    *us = (int64_t)(hour * 60 + minute) * 60 * US_PER_SECOND * (at[0] == '-' ? -1 : 1);
    return true;
}

bool
time_parse(const char *text, size_t count, int64_t *wall_us, bool *zoned)
{
    int64_t days, clock_us = 0, zone_us = 0;
    size_t at = 10;
    bool has_zone = false;

    if (!read_date(text, count, &days))
        return false;
    if (at < count) {
        size_t took;

        if (text[at] != 'T' && text[at] != ' ' && text[at] != 't')
            return false;
        if ((took = read_clock(text + at + 1, count - at - 1, &clock_us)) == 0)
            return false;
        at += 1 + took;
        if (at < count) {
            if (!read_zone(text + at, count - at, &zone_us))
                return false;
            has_zone = true;
        }
    }
    *wall_us = days * us_per_day + clock_us - zone_us;
    if (zoned)
        *zoned = has_zone;
    return true;
}

bool
time_parse_date(const char *text, size_t count, int32_t *days)
{
    int64_t wide;

    if (count != 10 || !read_date(text, count, &wide))
        return false;
    *days = (int32_t)wide;
    return true;
}

bool
time_parse_clock(const char *text, size_t count, int64_t *day_us)
{
    return count > 0 && read_clock(text, count, day_us) == count;
}

char *
time_rfc3339_ms(int64_t wall_us, char to[TIME_TEXT_BYTES])
{
    TimeParts p = time_parts(wall_us);

    snprintf(to, TIME_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", p.year, p.month, p.day,
        p.hour, p.minute, p.second, p.microsecond / 1000);
    return to;
}

char *
time_seed(int64_t wall_us, char to[TIME_TEXT_BYTES])
{
    TimeParts p = time_parts(wall_us);

    snprintf(to, TIME_TEXT_BYTES, "%04d-%02d-%02dT%02d:%02d:%02d", p.year, p.month, p.day, p.hour,
        p.minute, p.second);
    return to;
}

static const char months[12][4] = {
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

char *
time_http(int64_t wall_us, char to[TIME_TEXT_BYTES])
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    TimeParts p = time_parts(wall_us);

    snprintf(to, TIME_TEXT_BYTES, "%s, %02d %s %04d %02d:%02d:%02d GMT", days[p.weekday], p.day,
        months[p.month - 1], p.year, p.hour, p.minute, p.second);
    return to;
}

bool
time_parse_http(const char *text, int64_t *wall_us)
{
    /* "Sun, 06 Nov 1994 08:49:37 GMT" */
    enum { BYTES = 29, DAY = 5, MONTH = 8, YEAR = 12, CLOCK = 17 };
    char iso[TIME_TEXT_BYTES];
    int month = 0;

    if (strlen(text) != BYTES || memcmp(text + 3, ", ", 2) != 0 || text[7] != ' ' ||
        text[11] != ' ' || text[16] != ' ' || strcmp(text + 25, " GMT") != 0)
        return false;
    while (month < 12 && memcmp(months[month], text + MONTH, 3) != 0)
        month++;
    snprintf(
        iso, sizeof iso, "%.4s-%02d-%.2sT%.8sZ", text + YEAR, month + 1, text + DAY, text + CLOCK);
    return time_parse(iso, strlen(iso), wall_us, NULL);
}

char *
time_key(int64_t wall_us, char to[TIME_TEXT_BYTES])
{
    TimeParts p = time_parts(wall_us);

    snprintf(to, TIME_TEXT_BYTES, "%04d%02d%02d_%02d%02d%02d", p.year, p.month, p.day, p.hour,
        p.minute, p.second);
    return to;
}

static const struct {
    const char *name;
    int64_t ms;
} units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1000}};

bool
time_parse_duration(const char *text, int64_t *ms)
{
    uint64_t value;
    const char *unit = text_to_quantity(text, INT64_MAX, &value);

    for (size_t i = 0; unit && i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0)
            return !__builtin_mul_overflow((int64_t)value, units[i].ms, ms);
    return false;
}

char *
time_duration(int64_t ms, char to[TIME_TEXT_BYTES])
{
    /* Days only from a week on: people say 24h. */
    for (size_t i = ms >= 7 * 86400000LL ? 0 : 1; i < 5; i++)
        if (ms % units[i].ms == 0 && ms >= units[i].ms) {
            snprintf(to, TIME_TEXT_BYTES, "%lld%s", (long long)(ms / units[i].ms), units[i].name);
            return to;
        }
    snprintf(to, TIME_TEXT_BYTES, "0s");
    return to;
}
