/*
 * Binary values that stay text: numeric, interval, uuid.
 *
 * Forms: numeric_send, interval_send, uuid_send of PostgreSQL 15 (src/backend/utils/adt/numeric.c,
 * timestamp.c, uuid.c); infinite intervals: PostgreSQL 17. All numbers are big-endian.
 */
#include <string.h>

#include "base/number.h"
#include "base/text.h"
#include "source/postgres/postgres_in.h"

static uint16_t
read_16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t
read_32(const uint8_t *at)
{
    return (uint32_t)read_16(at) << 16 | read_16(at + 2);
}

static uint64_t
read_64(const uint8_t *at)
{
    return (uint64_t)read_32(at) << 32 | read_32(at + 4);
}

/* --- numeric --- */

enum {
    NUMERIC_HEAD_BYTES = 8,
    NUMERIC_POSITIVE = 0x0000,
    NUMERIC_NEGATIVE = 0x4000,
    NUMERIC_NAN = 0xc000,
    NUMERIC_INFINITY = 0xd000,
    NUMERIC_MINUS_INFINITY = 0xf000,
    NUMERIC_SCALE_MAX = 0x3fff,
    GROUP_DIGITS = 4, /* a "digit" of numeric is one of base 10,000 */
    GROUP_MAX = 9999,
};

typedef struct {
    const uint8_t *group;
    int groups;
    int weight; /* of the first group: it counts 10000^weight */
    int scale;  /* digits behind the point that show */
    uint16_t sign;
} Numeric;

static bool
read_numeric(const uint8_t *data, size_t bytes, Numeric *n)
{
    if (bytes < NUMERIC_HEAD_BYTES)
        return false;
    n->group = data + NUMERIC_HEAD_BYTES;
    n->groups = read_16(data);
    n->weight = (int16_t)read_16(data + 2);
    n->sign = read_16(data + 4);
    n->scale = read_16(data + 6);
    if ((size_t)n->groups * 2 != bytes - NUMERIC_HEAD_BYTES)
        return false;
    for (int i = 0; i < n->groups; i++)
        if (read_16(n->group + 2 * i) > GROUP_MAX)
            return false;
    return true;
}

/* The group that counts 10000^weight. */
static unsigned
group_of(const Numeric *n, int weight)
{
    int at = n->weight - weight;

    return at >= 0 && at < n->groups ? read_16(n->group + 2 * at) : 0;
}

/* Without leading zeros, but for the last digit. */
static size_t
write_whole(const Numeric *n, char *to)
{
    int weight = n->weight;
    size_t bytes;

    while (weight > 0 && group_of(n, weight) == 0)
        weight--;
    bytes = number_uint(weight < 0 ? 0 : group_of(n, weight), to);
    while (--weight >= 0) {
        number_four(group_of(n, weight), to + bytes);
        bytes += GROUP_DIGITS;
    }
    return bytes;
}

bool
pg_numeric_text(const uint8_t *data, size_t bytes, Buf *to)
{
    size_t whole_max, written;
    char *at;
    Numeric n;

    if (!read_numeric(data, bytes, &n))
        return false;
    if (n.sign == NUMERIC_NAN || n.sign == NUMERIC_INFINITY || n.sign == NUMERIC_MINUS_INFINITY) {
        buf_text(to, n.sign == NUMERIC_NAN        ? "NaN"
                     : n.sign == NUMERIC_INFINITY ? "Infinity"
                                                  : "-Infinity");
        return true;
    }
    if ((n.sign != NUMERIC_POSITIVE && n.sign != NUMERIC_NEGATIVE) || n.scale > NUMERIC_SCALE_MAX)
        return false;
    whole_max = NUMBER_INT_BYTES + (n.weight > 0 ? (size_t)n.weight * GROUP_DIGITS : 0);
    /* The last group behind the point may be written beyond the scale. */
    at = buf_reserve(to, 2 + whole_max + (size_t)n.scale + GROUP_DIGITS);
    if (!at)
        return true; /* `to` has failed: its owner sees to that */
    written = n.sign == NUMERIC_NEGATIVE;
    if (written)
        at[0] = '-';
    written += write_whole(&n, at + written);
    if (n.scale > 0) {
        at[written++] = '.';
        for (int digits = 0, weight = -1; digits < n.scale; digits += GROUP_DIGITS, weight--)
            number_four(group_of(&n, weight), at + written + digits);
        written += (size_t)n.scale;
    }
    buf_wrote(to, written);
    return true;
}

/* --- interval --- */

enum { INTERVAL_BYTES = 16, INTERVAL_TEXT_BYTES = 8 * (NUMBER_INT_BYTES + 2), US_DIGITS = 6 };

static const int64_t us_per_second = 1000000, us_per_minute = 60000000, us_per_hour = 3600000000;

/* "-3D"; nothing for 0. */
static char *
put_field(char *at, int64_t count, char unit)
{
    if (count == 0)
        return at;
    at += number_int(count, at);
    *at++ = unit;
    return at;
}

/* "-1.05S": the sign stands for both. */
static char *
put_seconds(char *at, int64_t us)
{
    uint64_t all = us < 0 ? 0 - (uint64_t)us : (uint64_t)us;
    unsigned fraction = (unsigned)(all % (uint64_t)us_per_second);

    if (all == 0)
        return at;
    if (us < 0)
        *at++ = '-';
    at += number_uint(all / (uint64_t)us_per_second, at);
    if (fraction > 0) {
        *at++ = '.';
        number_two(fraction / 10000, at);
        number_four(fraction % 10000, at + 2);
        for (at += US_DIGITS; at[-1] == '0'; at--)
            ;
    }
    *at++ = 'S';
    return at;
}

bool
pg_interval_text(const uint8_t *data, size_t bytes, Buf *to)
{
    int64_t us;
    int32_t days, months;
    char *start, *at;

    if (bytes != INTERVAL_BYTES)
        return false;
    us = (int64_t)read_64(data);
    days = (int32_t)read_32(data + 8);
    months = (int32_t)read_32(data + 12);
    /* Servers before 17 mean a span of some 179 million years by these; nobody will miss it. */
    if ((us == INT64_MAX && days == INT32_MAX && months == INT32_MAX) ||
        (us == INT64_MIN && days == INT32_MIN && months == INT32_MIN)) {
        buf_text(to, us > 0 ? "infinity" : "-infinity");
        return true;
    }
    if (us == 0 && days == 0 && months == 0) {
        buf_text(to, "PT0S");
        return true;
    }
    if (!(start = buf_reserve(to, INTERVAL_TEXT_BYTES)))
        return true; /* as above */
    at = start;
    *at++ = 'P';
    at = put_field(at, months / 12, 'Y');
    at = put_field(at, months % 12, 'M');
    at = put_field(at, days, 'D');
    if (us != 0)
        *at++ = 'T';
    at = put_field(at, us / us_per_hour, 'H');
    at = put_field(at, us % us_per_hour / us_per_minute, 'M');
    at = put_seconds(at, us % us_per_minute);
    buf_wrote(to, (size_t)(at - start));
    return true;
}

/* --- uuid --- */

enum { UUID_BYTES = 16, UUID_TEXT_BYTES = 36 };

bool
pg_uuid_text(const uint8_t *data, size_t bytes, Buf *to)
{
    static const uint8_t part_bytes[] = {4, 2, 2, 2, 6};
    char *at;

    if (bytes != UUID_BYTES)
        return false;
    if (!(at = buf_reserve(to, UUID_TEXT_BYTES)))
        return true; /* as above */
    for (size_t i = 0; i < sizeof part_bytes; i++) {
        text_hex(data, part_bytes[i], at);
        data += part_bytes[i];
        at += 2 * part_bytes[i];
        *at++ = '-';
    }
    buf_wrote(to, UUID_TEXT_BYTES);
    return true;
}
