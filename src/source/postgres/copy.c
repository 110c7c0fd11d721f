/*
 * Rows as COPY … (FORMAT binary) sends them: a header, then for each row the number of fields and
 * for each field its length (-1: NULL) and its bytes, then -1 instead of a number of fields. All in
 * network byte order.
 */
#include <endian.h>
#include <inttypes.h>

#include "source/postgres/postgres_in.h"

enum {
    HEADER_BYTES = 19,
    SIGNATURE_BYTES = 11,
    FIXED_VALUE_BYTES = 8, /* of a value that is no text, at most */
    DAYS_1970_TO_2000 = 10957,
};

static const int64_t US_1970_TO_2000 = 946684800000000;
static const uint64_t US_PER_DAY = 86400000000;

typedef enum { TAKEN, MISFIT, TOO_FAR, BROKEN } CopyVerdict;

static inline uint16_t
read16(const uint8_t *at)
{
    uint16_t n;

    memcpy(&n, at, sizeof n);
    return be16toh(n);
}

static inline uint32_t
read32(const uint8_t *at)
{
    uint32_t n;

    memcpy(&n, at, sizeof n);
    return be32toh(n);
}

static inline uint64_t
read64(const uint8_t *at)
{
    uint64_t n;

    memcpy(&n, at, sizeof n);
    return be64toh(n);
}

PgCopy
pg_copy_new(const PgColumns *columns)
{
    PgCopy copy = {.columns = columns};

    for (size_t i = 0; i < columns->columns; i++)
        if (builder_width(columns->column[i].type) > 0)
            copy.fixed_bytes += FIXED_VALUE_BYTES;
    return copy;
}

/* --- values --- */

static inline CopyVerdict
put_date(ColumnBuilder *b, const uint8_t *data, size_t row)
{
    int32_t day = (int32_t)read32(data);

    if (day != INT32_MAX && day != INT32_MIN) { /* infinity is the same for both */
        if (day > INT32_MAX - 1 - DAYS_1970_TO_2000)
            return TOO_FAR;
        day += DAYS_1970_TO_2000;
    }
    ((int32_t *)b->values)[row] = day;
    return TAKEN;
}

static inline CopyVerdict
put_time(ColumnBuilder *b, const uint8_t *data, size_t row)
{
    uint64_t us = read64(data);

    if (us > US_PER_DAY) /* 24:00:00 is one */
        return MISFIT;
    ((int64_t *)b->values)[row] = (int64_t)us;
    return TAKEN;
}

static inline CopyVerdict
put_timestamp(ColumnBuilder *b, const uint8_t *data, size_t row)
{
    int64_t us = (int64_t)read64(data);

    if (us != INT64_MAX && us != INT64_MIN) {
        if (us > INT64_MAX - 1 - US_1970_TO_2000)
            return TOO_FAR;
        us += US_1970_TO_2000;
    }
    ((int64_t *)b->values)[row] = us;
    return TAKEN;
}

/* What is written by a function of text.c behind the column's text. */
static CopyVerdict
put_made_text(ColumnBuilder *b, const uint8_t *data, size_t count, size_t row, size_t *row_bytes,
    bool (*make)(const uint8_t *data, size_t bytes, Buf *to))
{
    size_t before = b->text.bytes;

    if (!make(data, count, &b->text) || b->text.failed)
        return BROKEN;
    b->offset[row + 1] = (int32_t)b->text.bytes;
    *row_bytes += b->text.bytes - before + sizeof *b->offset;
    return TAKEN;
}

static const uint8_t form_bytes[] = {
    [PG_BOOL] = 1,
    [PG_INT16] = 2,
    [PG_INT16_AS_INT32] = 2,
    [PG_INT16_AS_INT64] = 2,
    [PG_INT32] = 4,
    [PG_INT32_AS_INT64] = 4,
    [PG_UINT32_AS_INT64] = 4,
    [PG_INT64] = 8,
    [PG_FLOAT] = 4,
    [PG_FLOAT_AS_DOUBLE] = 4,
    [PG_DOUBLE] = 8,
    [PG_DATE] = 4,
    [PG_TIME] = 8,
    [PG_TIMESTAMP] = 8,
    [PG_UUID] = 16,
};

/* Values of one length: it is the right one. */
static inline CopyVerdict
put_fixed(ColumnBuilder *b, PgForm form, const uint8_t *data, size_t row)
{
    switch (form) {
    case PG_BOOL:
        if (*data)
            ((uint8_t *)b->values)[row >> 3] |= (uint8_t)(1u << (row & 7));
        return TAKEN;
    case PG_INT16:
        ((int16_t *)b->values)[row] = (int16_t)read16(data);
        return TAKEN;
    case PG_INT16_AS_INT32:
        ((int32_t *)b->values)[row] = (int16_t)read16(data);
        return TAKEN;
    case PG_INT16_AS_INT64:
        ((int64_t *)b->values)[row] = (int16_t)read16(data);
        return TAKEN;
    case PG_INT32:
    case PG_FLOAT:
        ((uint32_t *)b->values)[row] = read32(data);
        return TAKEN;
    case PG_INT32_AS_INT64:
        ((int64_t *)b->values)[row] = (int32_t)read32(data);
        return TAKEN;
    case PG_UINT32_AS_INT64:
        ((int64_t *)b->values)[row] = read32(data);
        return TAKEN;
    case PG_FLOAT_AS_DOUBLE: {
        uint32_t bits = read32(data);
        float x;

        memcpy(&x, &bits, sizeof x);
        ((double *)b->values)[row] = (double)x;
        return TAKEN;
    }
    case PG_TIME:
        return put_time(b, data, row);
    case PG_INT64:
    case PG_DOUBLE:
        ((uint64_t *)b->values)[row] = read64(data);
        return TAKEN;
    case PG_DATE:
        return put_date(b, data, row);
    case PG_TIMESTAMP:
        return put_timestamp(b, data, row);
    default:
        return MISFIT;
    }
}

static inline CopyVerdict
put_value(ColumnBuilder *b, PgForm form, const uint8_t *data, size_t count, size_t row,
    size_t *row_bytes, Err *e)
{
    switch (form) {
    case PG_BYTES:
        break;
    case PG_TEXT_CHECKED:
        if (!text_is_utf8((const char *)data, count))
            return MISFIT;
        break;
    case PG_JSONB: /* a version in front of its text */
        if (count == 0 || *data != 1)
            return MISFIT;
        data++;
        count--;
        break;
    case PG_NUMERIC:
        return put_made_text(b, data, count, row, row_bytes, pg_numeric_text);
    case PG_INTERVAL:
        return put_made_text(b, data, count, row, row_bytes, pg_interval_text);
    case PG_UUID:
        return put_made_text(b, data, count, row, row_bytes, pg_uuid_text);
    default:
        return count == form_bytes[form] ? put_fixed(b, form, data, row) : MISFIT;
    }
    return builder_text(b, data, count, row, row_bytes, e) ? TAKEN : BROKEN;
}

static bool
fail_value(
    const PgCopy *copy, size_t column, uint64_t row, size_t count, CopyVerdict verdict, Err *e)
{
    const ColumnSpec *spec = &copy->columns->column[column];

    if (e->links > 0)
        return false;
    if (verdict == TOO_FAR)
        return fail(e, SOURCE_QUERY, "column %s, row %" PRIu64 ": a time past the year 294246",
            spec->name, row);
    if (copy->columns->form[column] == PG_TEXT_CHECKED)
        return fail(e, SOURCE_QUERY,
            "column %s, row %" PRIu64 ": bytes that are not UTF-8, from a database without an "
            "encoding (SQL_ASCII)",
            spec->name, row);
    return fail(e, SOURCE_QUERY, "column %s, row %" PRIu64 ": %zu bytes that are no value of %s",
        spec->name, row, count, column_type_name(spec->type));
}

/* --- rows --- */

static void
take_back(const PgBatch *batch, size_t columns)
{
    for (size_t i = 0; i < columns; i++)
        builder_take_back(&batch->builder[i], batch->rows);
}

/* The row at `at`, whose number of fields was read; `*next` behind it, or NULL if it is not all
 * there. */
static inline bool
take_row(const PgCopy *copy, const uint8_t *at, const uint8_t *end, PgBatch *batch,
    const uint8_t **next, Err *e)
{
    const PgColumns *columns = copy->columns;
    size_t row = batch->rows, row_bytes = copy->fixed_bytes;

    *next = NULL;
    for (size_t i = 0; i < columns->columns; i++) {
        size_t left = (size_t)(end - at);
        uint32_t count = left < 4 ? 0 : read32(at);
        CopyVerdict verdict;

        if (left < 4 || count > left - 4 || count > ROW_BYTES_MAX) { /* NULL among them */
            if (left >= 4 && count == UINT32_MAX) {
                at += 4;
                builder_null(&batch->builder[i], row);
                continue;
            }
            if (count > ROW_BYTES_MAX)
                return fail(e, SIZE_LIMIT,
                    "column %s, row %" PRIu64 ": a value of more than %d MiB",
                    columns->column[i].name, batch->rows_before + row + 1, ROW_BYTES_MAX >> 20);
            take_back(batch, i);
            return true;
        }
        at += 4;
        verdict = put_value(&batch->builder[i], columns->form[i], at, count, row, &row_bytes, e);
        if (verdict != TAKEN)
            return fail_value(copy, i, batch->rows_before + row + 1, count, verdict, e);
        at += count;
    }
    if (row_bytes > ROW_BYTES_MAX)
        return fail(e, SIZE_LIMIT, "a row of more than %d MiB", ROW_BYTES_MAX >> 20);
    if (row > 0 && batch->bytes + row_bytes > BATCH_BYTES_MAX) {
        take_back(batch, columns->columns);
        batch->full = true;
        return true;
    }
    batch->bytes += row_bytes;
    batch->rows++;
    batch->full = batch->rows == BATCH_ROWS_MAX || batch->bytes >= BATCH_BYTES_MAX;
    *next = at;
    return true;
}

static bool
take_header(PgCopy *copy, const uint8_t *data, size_t bytes, size_t *used, Err *e)
{
    static const char signature[SIGNATURE_BYTES + 1] = "PGCOPY\n\377\r\n";
    uint32_t extension;

    if (bytes < HEADER_BYTES)
        return true;
    extension = read32(data + SIGNATURE_BYTES + 4);
    if (memcmp(data, signature, SIGNATURE_BYTES) != 0 ||
        (read32(data + SIGNATURE_BYTES) & ~0xffffU) != 0 || extension > BATCH_BYTES_MAX)
        return fail(e, SOURCE_QUERY, "the server's rows do not begin as binary COPY does");
    if (bytes - HEADER_BYTES < extension)
        return true;
    *used = HEADER_BYTES + extension;
    copy->has_begun = true;
    return true;
}

bool
pg_copy_take(PgCopy *copy, const uint8_t *data, size_t bytes, PgBatch *batch, size_t *used, Err *e)
{
    const uint8_t *at = data, *const end = data + bytes, *next;

    *used = 0;
    if (!copy->has_begun) {
        if (!take_header(copy, data, bytes, used, e))
            return false;
        at += *used;
    }
    while (copy->has_begun && !copy->has_ended && !batch->full && end - at >= 2) {
        int fields = (int16_t)read16(at);

        if (fields == -1) {
            copy->has_ended = true;
            at += 2;
            break;
        }
        if (fields < 0 || (size_t)fields != copy->columns->columns)
            return fail(e, SOURCE_QUERY, "row %" PRIu64 " has %d columns instead of %zu",
                batch->rows_before + batch->rows + 1, fields, copy->columns->columns);
        if (!take_row(copy, at + 2, end, batch, &next, e))
            return false;
        if (!next)
            break;
        at = next;
    }
    *used = (size_t)(at - data);
    return true;
}
