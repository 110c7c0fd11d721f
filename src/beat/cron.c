#include "beat/cron.h"

#include <string.h>

#include "base/text.h"
#include "base/time.h"

enum { FIELDS = 5, FIELD_BYTES_MAX = 128, EXPRESSION_BYTES_MAX = 512, YEARS_MAX = 41 };

static const int64_t us_per_minute = 60000000LL;

static const char *const month_names[] = {
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec", NULL};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat", NULL};

typedef struct {
    const char *title;
    unsigned min, max;
    const char *const *names; /* the first is `first` */
    unsigned first;
} Field;

static const Field fields[FIELDS] = {
    {"minute", 0, 59, NULL, 0}, {"hour", 0, 23, NULL, 0}, {"day of month", 1, 31, NULL, 0},
    {"month", 1, 12, month_names, 1},
    {"day of week", 0, 7, weekday_names, 0}, /* 7 is Sunday, too */
};

/* A number or a name; false if it is neither, or out of range. */
static bool
parse_value(const Field *f, const char *text, unsigned *value)
{
    uint64_t number;

    for (unsigned i = 0; f->names && f->names[i]; i++)
        if (text_same_case_blind(text, f->names[i])) {
            *value = f->first + i;
            return true;
        }
    /* "02" is written often enough. */
    while (text[0] == '0' && text[1])
        text++;
    if (!text_to_uint(text, f->max, &number) || number < f->min)
        return false;
    *value = (unsigned)number;
    return true;
}

/* `*`, `5`, `1-5`, each with `/2` behind; `5/2` is from 5 to the end. */
static bool
parse_part(const Field *f, char *part, uint64_t *bits)
{
    char *slash = strchr(part, '/'), *dash;
    unsigned from = f->min, to = f->max;
    uint64_t step = 1;

    if (slash) {
        *slash = '\0';
        if (!text_to_uint(slash + 1, f->max, &step) || step == 0)
            return false;
    }
    if (strcmp(part, "*") != 0) {
        if ((dash = strchr(part, '-')))
            *dash = '\0';
        if (!parse_value(f, part, &from) || (dash && !parse_value(f, dash + 1, &to)))
            return false;
        if (!dash && !slash)
            to = from;
        if (to < from)
            return false;
    }
    for (uint64_t i = from; i <= to; i += step)
        *bits |= 1ULL << i;
    return true;
}

/* `is_any`: it begins with '*', which is what the OR of the two kinds of days asks for. */
static bool
parse_field(const Field *f, const char *text, size_t bytes, uint64_t *bits, bool *is_any, Err *e)
{
    char own[FIELD_BYTES_MAX];

    *is_any = text[0] == '*';
    for (size_t at = 0; at <= bytes;) {
        size_t part = 0;

        while (at + part < bytes && text[at + part] != ',')
            part++;
        if (part == 0 || part >= sizeof own)
            break;
        memcpy(own, text + at, part);
        own[part] = '\0';
        if (!parse_part(f, own, bits))
            break;
        at += part + 1;
        if (at > bytes)
            return true;
    }
    return fail(e, CONFIG_INVALID,
        "the %s \"%.*s\" is not one of %u-%u, with lists, ranges, steps%s", f->title,
        bytes > 40 ? 40 : (int)bytes, text, f->min, f->max, f->names ? ", names" : "");
}

static const char *
expand_word(const char *text)
{
    static const struct {
        const char *word, *fields;
    } words[] = {{"@hourly", "0 * * * *"}, {"@daily", "0 0 * * *"}, {"@midnight", "0 0 * * *"},
        {"@weekly", "0 0 * * 0"}, {"@monthly", "0 0 1 * *"}, {"@yearly", "0 0 1 1 *"},
        {"@annually", "0 0 1 1 *"}};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (text_same_case_blind(text, words[i].word))
            return words[i].fields;
    return text;
}

/* The longest that each month may be. */
static bool
ever_fires(const Cron *c)
{
    static const unsigned char days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    if (c->day_is_any || !c->weekday_is_any)
        return true;
    for (unsigned month = 1; month <= 12; month++)
        if (c->month >> month & 1 && c->day & ((2ULL << days[month - 1]) - 1))
            return true;
    return false;
}

bool
cron_parse(const char *text, Cron *cron, Err *e)
{
    uint64_t bits[FIELDS] = {0};
    bool is_any[FIELDS];
    size_t bytes;

    text += strspn(text, " \t");
    if (strnlen(text, EXPRESSION_BYTES_MAX + 1) > EXPRESSION_BYTES_MAX)
        return fail(e, CONFIG_INVALID, "longer than %d characters", EXPRESSION_BYTES_MAX);
    text = expand_word(text);
    if (text[0] == '@')
        return fail(e, CONFIG_INVALID,
            "\"%.40s\" is not one of @hourly, @daily, @weekly, @monthly, @yearly", text);
    for (unsigned i = 0; i < FIELDS; i++) {
        bytes = strcspn(text, " \t");
        if (bytes == 0)
            return fail(e, CONFIG_INVALID,
                "the %s is missing; expected five fields: minute hour day month weekday",
                fields[i].title);
        if (!parse_field(&fields[i], text, bytes, &bits[i], &is_any[i], e))
            return false;
        text += bytes;
        text += strspn(text, " \t");
    }
    if (*text)
        return fail(e, CONFIG_INVALID, "more than five fields: \"%.40s\"", text);
    *cron = (Cron){
        .minute = bits[0],
        .hour = (uint32_t)bits[1],
        .day = (uint32_t)bits[2],
        .month = (uint32_t)bits[3],
        .weekday = (uint8_t)((bits[4] | bits[4] >> 7) & 0x7f),
        .day_is_any = is_any[2],
        .weekday_is_any = is_any[4],
    };
    return ever_fires(cron) ||
           fail(e, CONFIG_INVALID, "this day does not exist, so it never fires");
}

/* Both restricted: either is enough (POSIX crontab). One with a '*' in front: both must hold. */
static bool
is_day(const Cron *c, const TimeParts *at)
{
    bool day = c->day >> at->day & 1, weekday = c->weekday >> at->weekday & 1;

    if (!(c->month >> at->month & 1))
        return false;
    return c->day_is_any || c->weekday_is_any ? day && weekday : day || weekday;
}

static int64_t
minute_of(const TimeParts *at)
{
    return at->hour * 60 + at->minute;
}

/* The first due minute of a day that is not before `from`; -1: none. */
static int
first_minute(const Cron *c, int64_t from)
{
    for (int minute = (int)from; minute < 24 * 60; minute++)
        if (c->hour >> (minute / 60) & 1 && c->minute >> (minute % 60) & 1)
            return minute;
    return -1;
}

static int
last_minute(const Cron *c, int64_t from)
{
    for (int minute = (int)from; minute >= 0; minute--)
        if (c->hour >> (minute / 60) & 1 && c->minute >> (minute % 60) & 1)
            return minute;
    return -1;
}

/* Floor, also before 1970. */
static int64_t
whole_minutes(int64_t us)
{
    int64_t minutes = us / us_per_minute;

    return minutes - (us % us_per_minute < 0);
}

/*
 * From the minute of `us` on, forwards or backwards, day by day. The rarest is a 29 February that
 * must also be a certain weekday: every 28 years, 40 where a century has no leap day.
 */
static int64_t
search(const Cron *c, int64_t us, bool forwards)
{
    int64_t minutes = whole_minutes(us);
    TimeParts at = time_parts(minutes * us_per_minute);
    int64_t midnight = minutes - minute_of(&at);
    int64_t from = minute_of(&at);

    for (int day = 0; day <= YEARS_MAX * 366 + 1; day++) {
        if (is_day(c, &at)) {
            int minute = forwards ? first_minute(c, from) : last_minute(c, from);

            if (minute >= 0)
                return (midnight + minute) * us_per_minute;
        }
        midnight += forwards ? 24 * 60 : -24 * 60;
        from = forwards ? 0 : 24 * 60 - 1;
        at = time_parts(midnight * us_per_minute);
    }
    return forwards ? INT64_MAX : 0;
}

int64_t
cron_next(const Cron *cron, int64_t after_us)
{
    return search(cron, (whole_minutes(after_us) + 1) * us_per_minute, true);
}

int64_t
cron_last(const Cron *cron, int64_t at_us)
{
    return search(cron, at_us, false);
}
