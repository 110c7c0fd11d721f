/*
 * Builder: one column of a batch that is being filled, over and over in the same memory (what Arrow
 * calls an array builder). Sources fill builders row by row and show them as columns.
 *
 * The values lie as Column says. Rows are put in order from 0; what is put before builder_begin is
 * gone. One thread at a time.
 */
#ifndef FLOW_BUILDER_H
#define FLOW_BUILDER_H

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/text.h"
#include "flow/batch.h"

typedef struct {
    ColumnSpec spec;
    bool has_nulls; /* in this batch */
    uint8_t *valid;
    void *values;    /* BATCH_ROWS_MAX of the type's width; bool: one bit each; NULL for text */
    int32_t *offset; /* BATCH_ROWS_MAX + 1; NULL for all but text */
    Buf text;
} ColumnBuilder;

/* Bytes of one value in `values`; 1 for bool (its bit and room); 0 for what is kept as text. */
size_t builder_width(ColumnType type);

/* Memory from `task`, that of the text by itself: builder_free. */
bool builder_init(ColumnBuilder *b, const ColumnSpec *spec, Arena *task, Err *e) MUST_CHECK;
void builder_free(ColumnBuilder *b);

void builder_begin(ColumnBuilder *b);                 /* a new batch */
void builder_null(ColumnBuilder *b, size_t row);      /* row `row` is NULL */
void builder_take_back(ColumnBuilder *b, size_t row); /* the last row that was put, as if not */
void builder_show(const ColumnBuilder *b, Column *column); /* good until the next builder_begin */

/* The slow way of builder_text: more room, and the limits. */
bool builder_grow_text(ColumnBuilder *b, const void *bytes, size_t count, size_t row, Err *e);

/*
 * A value of text. Adds what it takes of a batch to `*row_bytes`, which counts the row: SIZE_LIMIT
 * past ROW_BYTES_MAX. There is nearly always room.
 */
static inline bool
builder_text(
    ColumnBuilder *b, const void *bytes, size_t count, size_t row, size_t *row_bytes, Err *e)
{
    Buf *text = &b->text;

    *row_bytes += count + sizeof *b->offset;
    if (*row_bytes > ROW_BYTES_MAX || text->room_bytes - text->bytes <= count)
        return *row_bytes > ROW_BYTES_MAX
                   ? fail(e, SIZE_LIMIT, "a row of more than %d MiB", ROW_BYTES_MAX >> 20)
                   : builder_grow_text(b, bytes, count, row, e);
    text_copy_few(text->data + text->bytes, bytes, count);
    text->bytes += count;
    b->offset[row + 1] = (int32_t)text->bytes;
    return true;
}

#endif
