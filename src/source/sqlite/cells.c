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

static size_t
width(ColumnType type)
{
    switch (type) {
    case COLUMN_BOOL:
        return 1; /* more than its bit, but simple */
    case COLUMN_INT16:
        return 2;
    case COLUMN_INT32:
    case COLUMN_DATE:
    case COLUMN_FLOAT:
        return 4;
    case COLUMN_INT64:
    case COLUMN_DOUBLE:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return 8;
    case COLUMN_DECIMAL:
    case COLUMN_TEXT:
    case COLUMN_BYTES:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
    case COLUMN_JSON:
    case COLUMN_TYPES_COUNT:
        break;
    }
    return 0;
}

bool
cells_new(Cells *cells, Arena *task, Err *e)
{
    size_t bytes = width(cells->spec.type);

    cells->text = buf_new(ROW_BYTES_MAX);
    if (!(cells->valid = arena_alloc(task, BATCH_ROWS_MAX / 8, e)))
        return false;
    if (bytes > 0)
        return (cells->values = arena_alloc_array(task, BATCH_ROWS_MAX, bytes, e)) != NULL;
    return (cells->offset =
                   arena_alloc_array(task, BATCH_ROWS_MAX + 1, sizeof *cells->offset, e)) != NULL;
}

void
cells_free(Cells *cells)
{
    buf_free(&cells->text);
}

void
cells_begin(Cells *cells)
{
    cells->has_nulls = false;
    memset(cells->valid, 0xff, BATCH_ROWS_MAX / 8);
    if (cells->spec.type == COLUMN_BOOL)
        memset(cells->values, 0, BATCH_ROWS_MAX / 8);
    /* One giant value is no reason to keep its memory. */
    if (cells->text.room_bytes > 4 * BATCH_BYTES_MAX)
        buf_free(&cells->text);
    buf_clear(&cells->text);
}

size_t
cells_bytes(const Cells *cells, sqlite3_stmt *statement)
{
    int kind;

    if (!cells->offset)
        return 8;
    /* sqlite3_column_bytes turns a number into text, after which its type is no longer known. */
    kind = sqlite3_column_type(statement, cells->at);
    if (kind != SQLITE_TEXT && kind != SQLITE_BLOB)
        return DECIMAL_BYTES_MAX + sizeof *cells->offset;
    return (size_t)sqlite3_column_bytes(statement, cells->at) + sizeof *cells->offset;
}

static bool
misfit(const Cells *cells, sqlite3_stmt *statement, size_t row, uint64_t total, Err *e)
{
    static const char *const kinds[] = {
        "nothing", "an integer", "a real number", "text", "a blob", "NULL"};
    int kind = sqlite3_column_type(statement, cells->at);

    return fail(e, SOURCE_QUERY, "column %s, row %" PRIu64 ": %s does not fit the type %s",
        cells->spec.name, total + row + 1, kinds[kind > 5 ? 0 : kind],
        column_type_name(cells->spec.type));
}

static bool
add_text(Cells *cells, const void *bytes, size_t count, size_t row, Err *e)
{
    buf_put(&cells->text, bytes, count);
    cells->offset[row + 1] = (int32_t)cells->text.bytes;
    return !cells->text.failed ||
           fail(e, SIZE_LIMIT, "column %s: a value of %zu bytes", cells->spec.name, count);
}

static bool
is_decimal(const char *text, size_t count)
{
    size_t at = count > 0 && (text[0] == '-' || text[0] == '+'), digits = 0;

    for (; at < count && text[at] >= '0' && text[at] <= '9'; at++)
        digits++;
    if (at < count && text[at] == '.')
        for (at++; at < count && text[at] >= '0' && text[at] <= '9'; at++)
            digits++;
    return digits > 0 && at == count;
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

/* 36 characters, hex digits of either case; lower case goes out. */
static bool
put_uuid(Cells *cells, const char *bytes, size_t count, size_t row, bool *fits, Err *e)
{
    char uuid[37] = "";

    for (size_t i = 0; i < count && i < 36; i++)
        uuid[i] = bytes[i] >= 'A' && bytes[i] <= 'F' ? (char)(bytes[i] | 0x20) : bytes[i];
    *fits = count == 36 && text_is_uuid(uuid);
    return !*fits || add_text(cells, uuid, 36, row, e);
}

static bool
put_text(Cells *cells, sqlite3_stmt *statement, int kind, size_t row, bool *fits, Err *e)
{
    ColumnType type = cells->spec.type;
    char number[DECIMAL_BYTES_MAX];
    const void *bytes;
    size_t count;

    *fits = true;
    if (type == COLUMN_DECIMAL && kind == SQLITE_INTEGER)
        return add_text(
            cells, number, number_int(sqlite3_column_int64(statement, cells->at), number), row, e);
    if (type == COLUMN_DECIMAL && kind == SQLITE_FLOAT) {
        count = plain_digits(sqlite3_column_double(statement, cells->at), number);
        *fits = count > 0;
        return !*fits || add_text(cells, number, count, row, e);
    }
    if (kind != SQLITE_TEXT && !(kind == SQLITE_BLOB && type == COLUMN_BYTES)) {
        *fits = false;
        return true;
    }
    bytes = kind == SQLITE_BLOB ? sqlite3_column_blob(statement, cells->at)
                                : sqlite3_column_text(statement, cells->at);
    count = (size_t)sqlite3_column_bytes(statement, cells->at);
    if (type == COLUMN_UUID)
        return put_uuid(cells, bytes, count, row, fits, e);
    if (type == COLUMN_DECIMAL && !is_decimal(bytes, count)) {
        *fits = false;
        return true;
    }
    return add_text(cells, bytes, count, row, e);
}

static bool
put_integer(Cells *cells, int64_t n, size_t row)
{
    switch (cells->spec.type) {
    case COLUMN_BOOL:
        ((uint8_t *)cells->values)[row >> 3] |= (uint8_t)((n != 0) << (row & 7));
        return n == 0 || n == 1;
    case COLUMN_INT16:
        ((int16_t *)cells->values)[row] = (int16_t)n;
        return n == (int16_t)n;
    case COLUMN_INT32:
        ((int32_t *)cells->values)[row] = (int32_t)n;
        return n == (int32_t)n;
    case COLUMN_INT64:
        ((int64_t *)cells->values)[row] = n;
        return true;
    case COLUMN_FLOAT:
        ((float *)cells->values)[row] = (float)n;
        return true;
    case COLUMN_DOUBLE:
        ((double *)cells->values)[row] = (double)n;
        return true;
    case COLUMN_DATE:
        n = n / SECONDS_PER_DAY - (n % SECONDS_PER_DAY < 0);
        ((int32_t *)cells->values)[row] = (int32_t)n;
        return n > INT32_MIN && n < INT32_MAX; /* those two are the infinities */
    case COLUMN_TIME:
        if (n < 0 || n >= SECONDS_PER_DAY)
            return false;
        ((int64_t *)cells->values)[row] = n * US_PER_SECOND;
        return true;
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return !__builtin_mul_overflow(n, US_PER_SECOND, &((int64_t *)cells->values)[row]);
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
    if (cells->spec.type == COLUMN_DOUBLE) {
        ((double *)cells->values)[row] = x;
        return true;
    }
    /* What no float can hold is no infinity. */
    if (cells->spec.type != COLUMN_FLOAT || (isfinite(x) && fabs(x) > FLT_MAX))
        return false;
    ((float *)cells->values)[row] = (float)x;
    return true;
}

static bool
put_time_text(Cells *cells, const char *text, size_t count, size_t row)
{
    switch (cells->spec.type) {
    case COLUMN_DATE:
        return time_parse_date(text, count, &((int32_t *)cells->values)[row]);
    case COLUMN_TIME:
        return time_parse_clock(text, count, &((int64_t *)cells->values)[row]);
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return time_parse(text, count, &((int64_t *)cells->values)[row], NULL);
    default:
        return false;
    }
}

static void
put_null(Cells *cells, size_t row)
{
    size_t bytes = width(cells->spec.type);

    cells->has_nulls = true;
    cells->valid[row >> 3] &= (uint8_t) ~(1u << (row & 7));
    if (cells->offset)
        cells->offset[row + 1] = (int32_t)cells->text.bytes;
    else if (cells->spec.type != COLUMN_BOOL)
        memset((char *)cells->values + row * bytes, 0, bytes);
}

bool
cells_put(Cells *cells, sqlite3_stmt *statement, size_t row, uint64_t total, Err *e)
{
    int kind = sqlite3_column_type(statement, cells->at);
    bool fits = false;

    if (kind == SQLITE_NULL) {
        put_null(cells, row);
        return true;
    }
    if (cells->offset) {
        if (!put_text(cells, statement, kind, row, &fits, e))
            return false;
    } else if (kind == SQLITE_INTEGER) {
        fits = put_integer(cells, sqlite3_column_int64(statement, cells->at), row);
    } else if (kind == SQLITE_FLOAT) {
        fits = put_real(cells, sqlite3_column_double(statement, cells->at), row);
    } else if (kind == SQLITE_TEXT) {
        const char *text = (const char *)sqlite3_column_text(statement, cells->at);

        fits = put_time_text(cells, text, (size_t)sqlite3_column_bytes(statement, cells->at), row);
    }
    return fits || misfit(cells, statement, row, total, e);
}

void
cells_show(const Cells *cells, Column *column)
{
    column->valid = cells->has_nulls ? cells->valid : NULL;
    if (cells->offset) {
        column->as.text.offset = cells->offset;
        column->as.text.bytes = cells->text.data;
    } else {
        column->as.bits = cells->values; /* whichever member: all are where the values lie */
    }
}
