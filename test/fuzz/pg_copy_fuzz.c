/*
 * Any bytes as the rows of a binary COPY, with a column for every form a value can have. The first
 * byte of the input says where the stream is cut: in two parts it gives what it gives in one, and
 * nothing is read beyond what is there.
 */
#include <stdlib.h>
#include <string.h>

#include "source/postgres/postgres_in.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { FORMS = PG_UUID + 1, BATCHES_MAX = 64 };

static const ColumnType type_of_form[FORMS] = {
    [PG_BOOL] = COLUMN_BOOL,
    [PG_INT16] = COLUMN_INT16,
    [PG_INT16_AS_INT32] = COLUMN_INT32,
    [PG_INT16_AS_INT64] = COLUMN_INT64,
    [PG_INT32] = COLUMN_INT32,
    [PG_INT32_AS_INT64] = COLUMN_INT64,
    [PG_UINT32_AS_INT64] = COLUMN_INT64,
    [PG_INT64] = COLUMN_INT64,
    [PG_FLOAT] = COLUMN_FLOAT,
    [PG_FLOAT_AS_DOUBLE] = COLUMN_DOUBLE,
    [PG_DOUBLE] = COLUMN_DOUBLE,
    [PG_DATE] = COLUMN_DATE,
    [PG_TIME] = COLUMN_TIME,
    [PG_TIMESTAMP] = COLUMN_TIMESTAMPTZ,
    [PG_BYTES] = COLUMN_BYTES,
    [PG_TEXT_CHECKED] = COLUMN_TEXT,
    [PG_JSONB] = COLUMN_JSON,
    [PG_NUMERIC] = COLUMN_DECIMAL,
    [PG_INTERVAL] = COLUMN_INTERVAL,
    [PG_UUID] = COLUMN_UUID,
};

static void
must(bool holds)
{
    if (!holds)
        abort();
}

/* What a stream came to. */
typedef struct {
    uint64_t rows, hash;
    bool failed, ended;
} Outcome;

static void
mix(Outcome *o, const void *bytes, size_t count)
{
    const uint8_t *at = bytes;

    for (size_t i = 0; i < count; i++)
        o->hash = (o->hash ^ at[i]) * 0x100000001b3u;
}

static void
look_at(const PgColumns *columns, const PgBatch *batch, Outcome *o)
{
    Column column;

    must(batch->rows <= BATCH_ROWS_MAX);
    must(batch->bytes <= BATCH_BYTES_MAX || batch->rows == 1);
    for (size_t i = 0; i < columns->columns; i++) {
        size_t width = builder_width(columns->column[i].type);

        builder_show(&batch->builder[i], &column);
        for (size_t row = 0; row < batch->rows; row++) {
            bool is_null = column_is_null(&column, row);

            mix(o, &is_null, 1);
            if (is_null)
                continue;
            if (columns->column[i].type == COLUMN_BOOL) {
                uint8_t bit = column.as.bits[row >> 3] >> (row & 7) & 1;

                mix(o, &bit, 1);
            } else if (width > 0) {
                mix(o, (const char *)column.as.bits + row * width, width);
            } else {
                int32_t from = column.as.text.offset[row], to = column.as.text.offset[row + 1];

                must(from >= 0 && to >= from);
                mix(o, column.as.text.bytes + from, (size_t)(to - from));
            }
        }
    }
    o->rows += batch->rows;
}

/* As source.c does it: what is left of one piece stands in front of the next. */
static Outcome
read_all(
    const PgColumns *columns, ColumnBuilder *builder, const uint8_t *data, size_t bytes, size_t cut)
{
    Outcome o = {.hash = 0xcbf29ce484222325u};
    PgCopy copy = pg_copy_new(columns);
    size_t at = 0, end = cut < bytes ? cut : bytes;

    for (unsigned batches = 0; batches < BATCHES_MAX; batches++) {
        PgBatch batch = {.builder = builder, .rows_before = o.rows};
        size_t used = 1;
        Err e = {0};

        for (size_t i = 0; i < columns->columns; i++)
            builder_begin(&builder[i]);
        while (!batch.full && !copy.has_ended) {
            if (!pg_copy_take(&copy, data + at, end - at, &batch, &used, &e)) {
                must(e.links > 0);
                o.failed = true;
                return o;
            }
            must(used <= end - at);
            at += used;
            if (used == 0 && end == bytes)
                break;
            if (used == 0)
                end = bytes;
        }
        look_at(columns, &batch, &o);
        o.ended = copy.has_ended;
        if (!batch.full)
            break;
    }
    return o;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    ColumnSpec column[FORMS];
    PgForm form[FORMS];
    bool never_null[FORMS] = {false};
    ColumnBuilder builder[FORMS];
    PgColumns columns = {"", 0, column, form, never_null};
    Arena *arena = arena_new(16 << 20);
    Outcome whole, parts;
    size_t cut, count;
    Err e = {0};

    if (bytes < 2 || !arena) {
        arena_free(arena);
        return 0;
    }
    /* From one column of any form to all of them. */
    count = 1 + data[0] % FORMS;
    cut = (size_t)data[1] * (bytes - 2) / 255;
    for (size_t i = 0; i < count; i++) {
        form[i] = (PgForm)((data[0] / FORMS + i) % FORMS);
        column[i] = (ColumnSpec){"c", type_of_form[form[i]]};
        must(builder_init(&builder[i], &column[i], arena, &e));
    }
    columns.columns = count;
    whole = read_all(&columns, builder, data + 2, bytes - 2, bytes);
    parts = read_all(&columns, builder, data + 2, bytes - 2, cut);
    must(whole.failed == parts.failed && whole.ended == parts.ended);
    must(whole.failed || (whole.rows == parts.rows && whole.hash == parts.hash));
    for (size_t i = 0; i < count; i++)
        builder_free(&builder[i]);
    arena_free(arena);
    return 0;
}
