#include "flow/builder.h"

size_t
builder_width(ColumnType type)
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
