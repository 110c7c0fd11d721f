#include "flow/builder.h"

/* By the member of Column's union that holds the values. */
enum {
    WIDTH_bits = 1, /* more than its bit, but simple */
    WIDTH_int16 = sizeof(int16_t),
    WIDTH_int32 = sizeof(int32_t),
    WIDTH_int64 = sizeof(int64_t),
    WIDTH_real32 = sizeof(float),
    WIDTH_real = sizeof(double),
    WIDTH_text = 0,
};

static const uint8_t widths[COLUMN_TYPES_COUNT] = {
#define X(id, name, as) [COLUMN_##id] = WIDTH_##as,
    COLUMN_TYPES(X)
#undef X
};

size_t
builder_width(ColumnType type)
{
    return type < COLUMN_TYPES_COUNT ? widths[type] : 0;
}

bool
builder_init(ColumnBuilder *b, const ColumnSpec *spec, Arena *task, Err *e)
{
    size_t width = builder_width(spec->type);

    /* A batch, and on top of it a row that turns out to be too large for it. */
    *b = (ColumnBuilder){.spec = *spec, .text = buf_new(BATCH_BYTES_MAX + ROW_BYTES_MAX)};
    if (!(b->valid = arena_alloc(task, BATCH_ROWS_MAX / 8, e)))
        return false;
    if (width > 0)
        return (b->values = arena_alloc_array(task, BATCH_ROWS_MAX, width, e)) != NULL;
    return (b->offset = arena_alloc_array(task, BATCH_ROWS_MAX + 1, sizeof *b->offset, e)) != NULL;
}

void
builder_free(ColumnBuilder *b)
{
    buf_free(&b->text);
}

void
builder_begin(ColumnBuilder *b)
{
    b->has_nulls = false;
    memset(b->valid, 0xff, BATCH_ROWS_MAX / 8);
    if (b->spec.type == COLUMN_BOOL)
        memset(b->values, 0, BATCH_ROWS_MAX / 8);
    /* One giant value is no reason to keep its memory. */
    buf_reset(&b->text, 4 * BATCH_BYTES_MAX);
}

void
builder_null(ColumnBuilder *b, size_t row)
{
    size_t width = builder_width(b->spec.type);

    b->has_nulls = true;
    b->valid[row >> 3] &= (uint8_t) ~(1u << (row & 7));
    if (b->offset)
        b->offset[row + 1] = (int32_t)b->text.bytes;
    else if (b->spec.type != COLUMN_BOOL)
        memset((char *)b->values + row * width, 0, width);
}

void
builder_take_back(ColumnBuilder *b, size_t row)
{
    b->valid[row >> 3] |= (uint8_t)(1u << (row & 7));
    if (b->offset)
        b->text.bytes = (size_t)b->offset[row];
    else if (b->spec.type == COLUMN_BOOL)
        ((uint8_t *)b->values)[row >> 3] &= (uint8_t) ~(1u << (row & 7));
}

bool
builder_grow_text(ColumnBuilder *b, const void *bytes, size_t count, size_t row, Err *e)
{
    buf_put(&b->text, bytes, count);
    b->offset[row + 1] = (int32_t)b->text.bytes;
    return buf_is_good(&b->text, e);
}

void
builder_show(const ColumnBuilder *b, Column *column)
{
    column->valid = b->has_nulls ? b->valid : NULL;
    if (b->offset) {
        column->as.text.offset = b->offset;
        column->as.text.bytes = b->text.data;
    } else {
        column->as.bits = b->values; /* whichever member: all are where the values lie */
    }
}
