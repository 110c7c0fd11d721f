/*
 * Time: two clocks and the few forms in which a point in time is written.
 *
 * Deadlines are monotonic (time_now_ms); wall time is for people, keys and cron. Points in wall
 * time are microseconds since 1970-01-01T00:00:00Z, proleptic Gregorian calendar, no leap seconds.
 */
#ifndef BASE_TIME_H
#define BASE_TIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* CLOCK_BOOTTIME in milliseconds: the same for all processes of one machine and boot. */
int64_t time_now_ms(void);

/* Wall clock. In test builds ROWFERRY_TEST_CLOCK_OFFSET_MS moves it (never the monotonic one). */
int64_t time_wall_us(void);
int64_t time_wall_ms(void);

/* The machine's boot id (/proc/sys/kernel/random/boot_id), 36 characters; "" if unknown. Static. */
const char *time_boot_id(void);

typedef struct {
    int year; /* may be outside 0-9999 */
    int month, day, hour, minute, second, microsecond;
    int weekday; /* 0 Sunday */
} TimeParts;

int64_t time_days_from_civil(int year, int month, int day); /* days since 1970-01-01 */
TimeParts time_parts(int64_t wall_us);
TimeParts time_date(int64_t days); /* since 1970-01-01, any int32; the clock is 0 */

/*
 * ISO 8601 / RFC 3339: YYYY-MM-DD[(T| )hh:mm[:ss[.f{1,9}]][Z|(+|-)hh[:mm|mm]]]; digits of the
 * fraction past six are cut. Strict: 24:00, second 60 and days that do not exist are refused.
 * `zoned`: a zone was given (else read as UTC); may be NULL.
 */
bool time_parse(const char *text, size_t count, int64_t *wall_us, bool *zoned);
bool time_parse_date(const char *text, size_t count, int32_t *days);    /* YYYY-MM-DD alone */
bool time_parse_clock(const char *text, size_t count, int64_t *day_us); /* hh:mm[:ss[.f]] alone */

enum { TIME_TEXT_BYTES = 40 };

/* "2024-01-02T12:00:00.678Z": three digits always. Returns `to`. */
char *time_rfc3339_ms(int64_t wall_us, char to[TIME_TEXT_BYTES]);

/* "2024-01-02T12:00:00": the seed's form. Returns `to`. */
char *time_seed(int64_t wall_us, char to[TIME_TEXT_BYTES]);

/* "Tue, 02 Jan 2024 12:00:00 GMT": HTTP dates (RFC 9110 5.6.7). Returns `to`. */
char *time_http(int64_t wall_us, char to[TIME_TEXT_BYTES]);

/* And back, in that form alone; the day of the week is not looked at. */
bool time_parse_http(const char *text, int64_t *wall_us);

/* "20240102_120000" for keys. Returns `to`. */
char *time_key(int64_t wall_us, char to[TIME_TEXT_BYTES]);

/* "90s" "5m" "2h" "7d" "250ms", a bare number is seconds; whole numbers only. False if not one. */
bool time_parse_duration(const char *text, int64_t *ms);

/* The shortest such form: 86400000 is "24h", 90000 "90s". Returns `to`. */
char *time_duration(int64_t ms, char to[TIME_TEXT_BYTES]);

#endif
