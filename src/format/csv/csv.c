/*
 * CSV (RFC 4180): quoted where it must be, NULL is nothing at all and empty text is "", numbers as
 * Python's repr writes them, times in ISO 8601. Rows are written into one block that goes to the
 * sink when it is full.
 *
 * A row is first given room for the most that its values of fixed length may take; text asks for
 * its own and leaves that much behind it. So the formatters need no look at the end of the block.
 */
#include <inttypes.h>
#include <string.h>

#include "base/number.h"
#include "base/text.h"
#include "base/time.h"
#include "format/encoder.h"

enum {
    BLOCK_BYTES = 256 << 10,
    FIXED_BYTES_MAX = 40, /* of any value but text, with its comma; of the end of a line */
};

extern const EncoderKind format_csv;

typedef struct Csv Csv;

typedef bool PutCell(Csv *csv, const Column *column, size_t row, size_t at, Err *e);

struct Csv {
    Encoder base;
    const Schema *schema;
    PutCell **put;    /* one for each column */
    bool *plain;      /* texts of this batch, for each column: none needs a look */
    size_t row_bytes; /* of a row but for its texts, at most */
    uint64_t rows;    /* written so far */
    bool bare_empty;
    bool alone; /* one column, bare: a row without anything would be no row to most readers */
    char line_end[2];
    size_t line_end_bytes;
    char *block, *to, *end;
    int32_t last_day; /* the date that was formatted last: most rows have the same */
    char last_date[10];
};

static bool
flush(Csv *csv, Err *e)
{
    size_t bytes = (size_t)(csv->to - csv->block);

    csv->to = csv->block;
    return sink_write(csv->base.sink, csv->block, bytes, e);
}

/* For a row without its texts; there is always so much room in an empty block. */
static inline bool
make_room(Csv *csv, Err *e)
{
    return (size_t)(csv->end - csv->to) >= csv->row_bytes || flush(csv, e);
}

/* --- text --- */

/* Is there a byte among eight that asks for quotes, or one over 0x7f? */
static inline uint64_t
odd_bytes(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101u, highs = 0x8080808080808080u;
    uint64_t quote = w ^ ones * '"', comma = w ^ ones * ',';
    uint64_t low = w - ones * 0x20; /* below a blank: CR and LF are among them */

    /* A byte is zero in x exactly if (x - 1) & ~x has its high bit; all are below 0x80 where it
     * matters. */
    return (w | ((quote - ones) & ~quote) | ((comma - ones) & ~comma) | (low & ~w)) & highs;
}

/* Eight bytes at a time; the last ones with some that were seen already. */
static inline bool
is_plain(const char *bytes, size_t count)
{
    uint64_t w;
    uint32_t first, last;

    if (count < 4) {
        w = 0x6161616161616161u; /* letters, where there is nothing */
        memcpy(&w, bytes, count);
        return !odd_bytes(w);
    }
    if (count < 8) {
        memcpy(&first, bytes, 4);
        memcpy(&last, bytes + count - 4, 4);
        return !odd_bytes((uint64_t)last << 32 | first);
    }
    for (; count > 40; bytes += 32, count -= 32) { /* leaves more than eight */
        uint64_t many[4];

        memcpy(many, bytes, 32);
        if (odd_bytes(many[0]) | odd_bytes(many[1]) | odd_bytes(many[2]) | odd_bytes(many[3]))
            return false;
    }
    for (; count > 8; bytes += 8, count -= 8) {
        memcpy(&w, bytes, 8);
        if (odd_bytes(w))
            return false;
        if (count < 16) {
            bytes -= 16 - count;
            count = 16;
        }
    }
    memcpy(&w, bytes, 8);
    return !odd_bytes(w);
}

/* As many as there are, and room for the rest of the row. */
static bool
put_bytes(Csv *csv, const char *bytes, size_t count, Err *e)
{
    while (count > 0) {
        size_t room = (size_t)(csv->end - csv->to), some = count < room ? count : room;

        memcpy(csv->to, bytes, some);
        csv->to += some;
        bytes += some;
        count -= some;
        if (count > 0 && !flush(csv, e))
            return false;
    }
    return make_room(csv, e);
}

static bool
put_quoted(Csv *csv, const char *bytes, size_t count, Err *e)
{
    const char *end = bytes + count;

    if (!put_bytes(csv, "\"", 1, e))
        return false;
    while (bytes < end) {
        const char *quote = memchr(bytes, '"', (size_t)(end - bytes));
        const char *stop = quote ? quote + 1 : end;

        if (!put_bytes(csv, bytes, (size_t)(stop - bytes), e) ||
            (quote && !put_bytes(csv, "\"", 1, e)))
            return false;
        bytes = stop;
    }
    return put_bytes(csv, "\"", 1, e);
}

/* Text that is not quite plain: UTF-8 is checked, and then it may need quotes or not. */
static bool
put_odd_text(Csv *csv, const char *bytes, size_t count, size_t row, size_t at, Err *e)
{
    if (!text_is_utf8(bytes, count))
        return fail(e, ENCODE_FAILED, "column %s, row %" PRIu64 ": bytes that are not UTF-8",
            csv->schema->column[at].name, csv->rows + row + 1);
    if (memchr(bytes, '"', count) || memchr(bytes, ',', count) || memchr(bytes, '\n', count) ||
        memchr(bytes, '\r', count))
        return put_quoted(csv, bytes, count, e);
    return put_bytes(csv, bytes, count, e);
}

static bool
put_text(Csv *csv, const Column *column, size_t row, size_t at, Err *e)
{
    const char *bytes = column->as.text.bytes + column->as.text.offset[row];
    size_t count = (size_t)(column->as.text.offset[row + 1] - column->as.text.offset[row]);

    if (count == 0)
        return csv->bare_empty || put_bytes(csv, "\"\"", 2, e);
    if (!csv->plain[at] && !is_plain(bytes, count))
        return put_odd_text(csv, bytes, count, row, at, e);
    if ((size_t)(csv->end - csv->to) < count + csv->row_bytes)
        return put_bytes(csv, bytes, count, e);
    text_copy_few(csv->to, bytes, count);
    csv->to += count;
    return true;
}

/* base64 has nothing that needs quotes. Three bytes become four characters, a piece at a time. */
static bool
put_blob(Csv *csv, const Column *column, size_t row, size_t at, Err *e)
{
    const uint8_t *bytes = (const uint8_t *)column->as.text.bytes + column->as.text.offset[row];
    size_t count = (size_t)(column->as.text.offset[row + 1] - column->as.text.offset[row]);
    Buf text = buf_new(8 << 10);
    bool ok = true;

    (void)at;
    if (count == 0)
        return csv->bare_empty || put_bytes(csv, "\"\"", 2, e);
    while (ok && count > 0) {
        size_t some = count < 3072 ? count : 3072;

        buf_clear(&text);
        text_base64(&text, bytes, some);
        ok = buf_is_good(&text, e) && put_bytes(csv, text.data, text.bytes, e);
        bytes += some;
        count -= some;
    }
    buf_free(&text);
    return ok;
}

/* --- values of fixed length: there is room for them --- */

static bool
put_bool(Csv *csv, const Column *column, size_t row, size_t at, Err *e)
{
    bool yes = column->as.bits[row >> 3] >> (row & 7) & 1;

    (void)at;
    (void)e;
    memcpy(csv->to, yes ? "true" : "false", 5);
    csv->to += yes ? 4 : 5;
    return true;
}

#define PUT_NUMBER(name, member, format)                                                           \
    static bool name(Csv *csv, const Column *column, size_t row, size_t at, Err *e)                \
    {                                                                                              \
        (void)at;                                                                                  \
        (void)e;                                                                                   \
        csv->to += format(column->as.member[row], csv->to);                                        \
        return true;                                                                               \
    }
PUT_NUMBER(put_int16, int16, number_int)
PUT_NUMBER(put_int32, int32, number_int)
PUT_NUMBER(put_int64, int64, number_int)
PUT_NUMBER(put_double, real, number_double)
PUT_NUMBER(put_float, real32, number_float)

static void
put_day(Csv *csv, int64_t day)
{
    if (day == csv->last_day && csv->last_date[0]) {
        memcpy(csv->to, csv->last_date, 10);
        csv->to += 10;
        return;
    }
    TimeParts parts = time_date(day);

    if (parts.year < 0 || parts.year > 9999) {
        unsigned year = (unsigned)(parts.year < 0 ? -parts.year : parts.year);

        /* ISO 8601's expanded form: a sign, and as many digits as it takes, but four at least. */
        *csv->to++ = parts.year < 0 ? '-' : '+';
        if (year > 9999) {
            csv->to += number_uint(year, csv->to);
        } else {
            number_four(year, csv->to);
            csv->to += 4;
        }
        *csv->to++ = '-';
        number_two((unsigned)parts.month, csv->to);
        csv->to[2] = '-';
        number_two((unsigned)parts.day, csv->to + 3);
        csv->to += 5;
        return;
    }
    number_four((unsigned)parts.year, csv->to);
    csv->to[4] = '-';
    number_two((unsigned)parts.month, csv->to + 5);
    csv->to[7] = '-';
    number_two((unsigned)parts.day, csv->to + 8);
    csv->last_day = (int32_t)day;
    memcpy(csv->last_date, csv->to, 10);
    csv->to += 10;
}

static void
put_clock(Csv *csv, int64_t day_us)
{
    unsigned seconds = (unsigned)(day_us / 1000000), us = (unsigned)(day_us % 1000000);

    number_two(seconds / 3600, csv->to);
    csv->to[2] = ':';
    number_two(seconds / 60 % 60, csv->to + 3);
    csv->to[5] = ':';
    number_two(seconds % 60, csv->to + 6);
    csv->to += 8;
    if (us > 0) {
        *csv->to++ = '.';
        number_two(us / 10000, csv->to);
        number_four(us % 10000, csv->to + 2);
        csv->to += 6;
    }
}

static bool
put_infinity(Csv *csv, bool less)
{
    memcpy(csv->to, less ? "-infinity" : "infinity", less ? 9 : 8);
    csv->to += less ? 9 : 8;
    return true;
}

static bool
put_date(Csv *csv, const Column *column, size_t row, size_t at, Err *e)
{
    int32_t day = column->as.int32[row];

    (void)at;
    (void)e;
    if (day == INT32_MAX || day == INT32_MIN)
        return put_infinity(csv, day == INT32_MIN);
    put_day(csv, day);
    return true;
}

static bool
put_time(Csv *csv, const Column *column, size_t row, size_t at, Err *e)
{
    (void)at;
    (void)e;
    put_clock(csv, column->as.int64[row]);
    return true;
}

static bool
put_timestamp(Csv *csv, const Column *column, size_t row, size_t at, Err *e)
{
    const int64_t us_per_day = 86400000000;
    int64_t us = column->as.int64[row], day = us / us_per_day, rest = us % us_per_day;

    (void)at;
    (void)e;
    if (us == INT64_MAX || us == INT64_MIN)
        return put_infinity(csv, us == INT64_MIN);
    if (rest < 0) {
        rest += us_per_day;
        day--;
    }
    put_day(csv, day);
    *csv->to++ = 'T';
    put_clock(csv, rest);
    return true;
}

static bool
put_timestamptz(Csv *csv, const Column *column, size_t row, size_t at, Err *e)
{
    int64_t us = column->as.int64[row];

    if (!put_timestamp(csv, column, row, at, e))
        return false;
    if (us != INT64_MAX && us != INT64_MIN)
        *csv->to++ = 'Z';
    return true;
}

static PutCell *const put_cell[COLUMN_TYPES_COUNT] = {
    [COLUMN_BOOL] = put_bool,
    [COLUMN_INT16] = put_int16,
    [COLUMN_INT32] = put_int32,
    [COLUMN_INT64] = put_int64,
    [COLUMN_FLOAT] = put_float,
    [COLUMN_DOUBLE] = put_double,
    [COLUMN_DECIMAL] = put_text,
    [COLUMN_TEXT] = put_text,
    [COLUMN_BYTES] = put_blob,
    [COLUMN_DATE] = put_date,
    [COLUMN_TIME] = put_time,
    [COLUMN_TIMESTAMP] = put_timestamp,
    [COLUMN_TIMESTAMPTZ] = put_timestamptz,
    [COLUMN_INTERVAL] = put_text,
    [COLUMN_UUID] = put_text,
    [COLUMN_JSON] = put_text,
};

static inline uint64_t
bytes_so_far(const Csv *csv)
{
    return csv->base.sink->bytes_in + (uint64_t)(csv->to - csv->block);
}

static inline void
put_line_end(Csv *csv)
{
    memcpy(csv->to, csv->line_end, sizeof csv->line_end);
    csv->to += csv->line_end_bytes;
}

/* One look at all texts of a column, which lie behind each other: mostly none is odd. */
static void
look_at_texts(Csv *csv, const Batch *batch)
{
    for (size_t at = 0; at < csv->schema->columns; at++) {
        const Column *column = &batch->column[at];

        if (batch->rows > 0 && csv->put[at] == put_text) {
            const int32_t *offset = column->as.text.offset;

            csv->plain[at] = is_plain(
                column->as.text.bytes + offset[0], (size_t)(offset[batch->rows] - offset[0]));
        }
    }
}

static bool
csv_rows(Encoder *encoder, const Batch *batch, Err *e)
{
    Csv *csv = (Csv *)encoder;
    size_t columns = csv->schema->columns;

    look_at_texts(csv, batch);
    for (size_t row = 0; row < batch->rows; row++) {
        uint64_t before = csv->alone ? bytes_so_far(csv) : 0;

        if (!make_room(csv, e))
            return false;
        for (size_t at = 0; at < columns; at++) {
            const Column *column = &batch->column[at];

            if (at > 0)
                *csv->to++ = ',';
            if (!column_is_null(column, row) && !csv->put[at](csv, column, row, at, e))
                return false;
        }
        if (csv->alone && bytes_so_far(csv) == before && !put_bytes(csv, "\"\"", 2, e))
            return false;
        put_line_end(csv);
    }
    csv->rows += batch->rows;
    return true;
}

static bool
csv_end(Encoder *encoder, Err *e)
{
    return flush((Csv *)encoder, e);
}

static bool
put_header(Csv *csv, Err *e)
{
    for (size_t at = 0; at < csv->schema->columns; at++) {
        const char *name = csv->schema->column[at].name;
        size_t bytes = strlen(name);

        if (at > 0)
            *csv->to++ = ',';
        if (!(is_plain(name, bytes) ? put_bytes(csv, name, bytes, e)
                                    : put_odd_text(csv, name, bytes, 0, at, e)))
            return false;
    }
    put_line_end(csv);
    return true;
}

static Encoder *
csv_open(const Schema *schema, const EncoderOptions *options, Sink *sink, Arena *task, Err *e)
{
    Csv *csv = arena_alloc(task, sizeof *csv, e);
    size_t row_bytes = (schema->columns + 1) * FIXED_BYTES_MAX;

    if (!csv || !(csv->block = arena_alloc_bare(task, BLOCK_BYTES + row_bytes, e)) ||
        !(csv->put = arena_alloc_array(task, schema->columns, sizeof *csv->put, e)) ||
        !(csv->plain = arena_alloc_array(task, schema->columns, sizeof *csv->plain, e)))
        return NULL;
    csv->base = (Encoder){.kind = &format_csv, .sink = sink};
    csv->schema = schema;
    csv->to = csv->block;
    csv->end = csv->block + BLOCK_BYTES + row_bytes;
    csv->row_bytes = row_bytes;
    csv->bare_empty = options->csv.empty_string_bare;
    csv->alone = csv->bare_empty && schema->columns == 1; /* as Python's csv.writer does */
    csv->line_end_bytes = options->csv.line_ending_lf ? 1 : 2;
    memcpy(csv->line_end, options->csv.line_ending_lf ? "\n" : "\r\n", sizeof csv->line_end);
    for (size_t at = 0; at < schema->columns; at++)
        csv->put[at] = put_cell[schema->column[at].type];
    if (options->csv.header && !put_header(csv, e))
        return NULL;
    return &csv->base;
}

const EncoderKind format_csv = {
    .name = "csv",
    .extension = ".csv",
    .content_type = "text/csv; charset=utf-8",
    .open = csv_open,
    .rows = csv_rows,
    .end = csv_end,
};
