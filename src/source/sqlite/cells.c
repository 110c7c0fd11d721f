/*
 * Values: SQLite types each value, not the column (https://sqlite.org/datatype3.html). The
 * definition says what a column is; what does not fit ends the export, with column and row named.
 * Times are ISO 8601 text or whole Unix seconds.
 */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"
#include "base/text.h"
#include "base/time.h"
#include "source/sqlite/sqlite_in.h"

enum {
    US_PER_SECOND = 1000000,
    SECONDS_PER_DAY = 86400,
    DECIMAL_BYTES_MAX = 360, /* of a double without exponent: 1 and 308 zeros, 0.000…5e-324 */
};

static bool
misfit(const Cells *cells, int kind, size_t row, uint64_t total, Err *e)
{
    static const char *const kinds[] = {
        "nothing", "an integer", "a real number", "text", "a blob", "NULL"};

    return fail(e, SOURCE_QUERY, "column %s, row %" PRIu64 ": %s does not fit the type %s",
        cells->column.spec.name, total + row + 1, kinds[kind > 5 ? 0 : kind],
        column_type_name(cells->column.spec.type));
}

/* A double in digits without exponent; how many bytes, 0 for infinity. Shortest digits first: they
 * are what was meant. */
static size_t
plain_digits(double x, char to[DECIMAL_BYTES_MAX])
{
    char text[NUMBER_REAL_BYTES + 1], digits[NUMBER_REAL_BYTES];
    size_t count = 0, at = 0;
    const char *from = text;
    int exponent, point = 0; /* where the point stands, counted from the first digit */
    bool behind = false;

    text[number_double(x, text)] = '\0';
    if (!strchr(text, 'e')) {
        count = strlen(text);
        memcpy(to, text, count);
        return strpbrk(text, "in") ? 0 : count;
    }
    if (*from == '-')
        to[at++] = *from++;
    for (; *from != 'e'; from++) {
        behind |= *from == '.';
        if (*from != '.') {
            digits[count++] = *from;
            point += !behind;
        }
    }
    exponent = (int)strtol(from + 1, NULL, 10);
    point += exponent;
    if (point <= 0) {
        to[at++] = '0';
        to[at++] = '.';
        for (int zeros = point; zeros < 0; zeros++)
            to[at++] = '0';
        point = -1; /* no point among the digits */
    }
    for (size_t i = 0; i < count; i++) {
        if ((int)i == point)
            to[at++] = '.';
        to[at++] = digits[i];
    }
    for (int i = (int)count; i < point; i++)
        to[at++] = '0';
    return at;
}

/* --- one for each kind of column; false and an empty `e`: the value does not fit --- */

static bool
put_text(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e)
{
    const void *text;

    if (kind != SQLITE_TEXT)
        return false;
    text = sqlite3_value_text(value); /* before its bytes: it may convert */
    return builder_text(&cells->column, text, (size_t)sqlite3_value_bytes(value), row, bytes, e);
}

static bool
put_bytes(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e)
{
    const void *blob;

    if (kind != SQLITE_BLOB)
        return put_text(cells, value, kind, row, bytes, e);
    blob = sqlite3_value_blob(value);
    return builder_text(
        &cells->column, blob ? blob : "", (size_t)sqlite3_value_bytes(value), row, bytes, e);
}

static bool
put_decimal(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e)
{
    char number[DECIMAL_BYTES_MAX];
    size_t count;

    if (kind == SQLITE_INTEGER) {
        count = number_int(sqlite3_value_int64(value), number);
        return builder_text(&cells->column, number, count, row, bytes, e);
    }
    if (kind == SQLITE_FLOAT) {
        count = plain_digits(sqlite3_value_double(value), number);
        return count > 0 && builder_text(&cells->column, number, count, row, bytes, e);
    }
    return kind == SQLITE_TEXT &&
           text_is_decimal(
               (const char *)sqlite3_value_text(value), (size_t)sqlite3_value_bytes(value)) &&
           put_text(cells, value, kind, row, bytes, e);
}

/* 36 characters, hex digits of either case; lower case goes out. */
static bool
put_uuid(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e)
{
    const char *text = kind == SQLITE_TEXT ? (const char *)sqlite3_value_text(value) : NULL;
    char uuid[37] = "";

    if (!text || sqlite3_value_bytes(value) != 36)
        return false;
    for (size_t i = 0; i < 36; i++)
        uuid[i] = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] | 0x20) : text[i];
    return text_is_uuid(uuid) && builder_text(&cells->column, uuid, 36, row, bytes, e);
}

static bool
put_integer(Cells *cells, int64_t n, size_t row)
{
    switch (cells->column.spec.type) {
    case COLUMN_BOOL:
        ((uint8_t *)cells->column.values)[row >> 3] |= (uint8_t)((n != 0) << (row & 7));
        return n == 0 || n == 1;
    case COLUMN_INT16:
        ((int16_t *)cells->column.values)[row] = (int16_t)n;
        return n == (int16_t)n;
    case COLUMN_INT32:
        ((int32_t *)cells->column.values)[row] = (int32_t)n;
        return n == (int32_t)n;
    case COLUMN_INT64:
        ((int64_t *)cells->column.values)[row] = n;
        return true;
    case COLUMN_FLOAT:
        ((float *)cells->column.values)[row] = (float)n;
        return true;
    case COLUMN_DOUBLE:
        ((double *)cells->column.values)[row] = (double)n;
        return true;
    case COLUMN_DATE:
        n = n / SECONDS_PER_DAY - (n % SECONDS_PER_DAY < 0);
        ((int32_t *)cells->column.values)[row] = (int32_t)n;
        return n > INT32_MIN && n < INT32_MAX; /* those two are the infinities */
    case COLUMN_TIME:
        if (n < 0 || n >= SECONDS_PER_DAY)
            return false;
        ((int64_t *)cells->column.values)[row] = n * US_PER_SECOND;
        return true;
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return !__builtin_mul_overflow(n, US_PER_SECOND, &((int64_t *)cells->column.values)[row]);
    case COLUMN_DECIMAL:
    case COLUMN_TEXT:
    case COLUMN_BYTES:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
    case COLUMN_JSON:
    case COLUMN_TYPES_COUNT:
        break;
    }
    return false;
}

static bool
put_real(Cells *cells, double x, size_t row)
{
    if (cells->column.spec.type == COLUMN_DOUBLE) {
        ((double *)cells->column.values)[row] = x;
        return true;
    }
    /* What no float can hold is no infinity. */
    if (cells->column.spec.type != COLUMN_FLOAT || (isfinite(x) && fabs(x) > FLT_MAX))
        return false;
    ((float *)cells->column.values)[row] = (float)x;
    return true;
}

static bool
put_number(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e)
{
    (void)bytes;
    (void)e;
    if (kind == SQLITE_FLOAT)
        return put_real(cells, sqlite3_value_double(value), row);
    return kind == SQLITE_INTEGER && put_integer(cells, sqlite3_value_int64(value), row);
}

static inline bool
two_digits(const char *text, unsigned below, unsigned *number)
{
    unsigned tens = (unsigned char)text[0] - '0', ones = (unsigned char)text[1] - '0';

    *number = tens * 10 + ones;
    return tens < 10 && ones < 10 && *number < below;
}

/* "2025-03-04T14:05:06" of the same day as the one before: only the clock is read. There may be no
 * day yet: then last_date is of NULs, which a text may begin with, too. */
static bool
put_same_day(Cells *cells, const char *text, size_t count, size_t row)
{
    unsigned hour, minute, second;

    if (!(count == 19 || (count == 20 && text[19] == 'Z')) || text[0] == '\0' ||
        memcmp(text, cells->last_date, sizeof cells->last_date) != 0 ||
        (text[10] != 'T' && text[10] != ' ') || text[13] != ':' || text[16] != ':' ||
        !two_digits(text + 11, 24, &hour) || !two_digits(text + 14, 60, &minute) ||
        !two_digits(text + 17, 60, &second))
        return false;
    ((int64_t *)cells->column.values)[row] =
        cells->last_day_us + (int64_t)(hour * 3600 + minute * 60 + second) * US_PER_SECOND;
    return true;
}

static void
remember_day(Cells *cells, const char *text)
{
    int32_t days;

    if (!time_parse_date(text, sizeof cells->last_date, &days))
        return;
    memcpy(cells->last_date, text, sizeof cells->last_date);
    cells->last_day_us = (int64_t)days * SECONDS_PER_DAY * US_PER_SECOND;
}

static bool
put_time_text(Cells *cells, const char *text, size_t count, size_t row)
{
    switch (cells->column.spec.type) {
    case COLUMN_DATE:
        return time_parse_date(text, count, &((int32_t *)cells->column.values)[row]);
    case COLUMN_TIME:
        return time_parse_clock(text, count, &((int64_t *)cells->column.values)[row]);
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        if (put_same_day(cells, text, count, row))
            return true;
        if (count >= sizeof cells->last_date)
            remember_day(cells, text);
        return time_parse(text, count, &((int64_t *)cells->column.values)[row], NULL);
    default:
        return false;
    }
}

static bool
put_time(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e)
{
    const char *text;

    if (kind != SQLITE_TEXT)
        return put_number(cells, value, kind, row, bytes, e);
    text = (const char *)sqlite3_value_text(value);
    return put_time_text(cells, text, (size_t)sqlite3_value_bytes(value), row);
}

bool
cells_init(Cells *cells, const ColumnSpec *spec, int at, Arena *task, Err *e)
{
    *cells = (Cells){.at = at};
    switch (spec->type) {
    case COLUMN_BOOL:
    case COLUMN_INT16:
    case COLUMN_INT32:
    case COLUMN_INT64:
    case COLUMN_FLOAT:
    case COLUMN_DOUBLE:
        cells->put = put_number;
        break;
    case COLUMN_DATE:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        cells->put = put_time;
        break;
    case COLUMN_DECIMAL:
        cells->put = put_decimal;
        break;
    case COLUMN_BYTES:
        cells->put = put_bytes;
        break;
    case COLUMN_UUID:
        cells->put = put_uuid;
        break;
    case COLUMN_TEXT:
    case COLUMN_INTERVAL:
    case COLUMN_JSON:
    case COLUMN_TYPES_COUNT:
        cells->put = put_text;
        break;
    }
    return builder_init(&cells->column, spec, task, e);
}

/*
 * One look at the value, where sqlite3_column_… would take the connection's mutex for each
 * question. It is "unprotected" (https://sqlite.org/c3ref/value.html), which means nothing on a
 * connection that has no mutex and stays on its thread.
 */
bool
cells_put(Cells *cells, sqlite3_stmt *statement, size_t row, uint64_t total, size_t *bytes, Err *e)
{
    sqlite3_value *value = sqlite3_column_value(statement, cells->at);
    int kind = sqlite3_value_type(value);

    if (kind == SQLITE_NULL) {
        builder_null(&cells->column, row);
        return true;
    }
    return cells->put(cells, value, kind, row, bytes, e) ||
           (e->links == 0 && misfit(cells, kind, row, total, e));
}
