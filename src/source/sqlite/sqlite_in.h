/* What the files of the SQLite source share. */
#ifndef SOURCE_SQLITE_SQLITE_IN_H
#define SOURCE_SQLITE_SQLITE_IN_H

#include <sqlite3.h>

#include "base/buf.h"
#include "source/source.h"

/* A column that is being filled, over and over in the same memory. */
typedef struct {
    ColumnSpec spec;
    int at;         /* in the statement's result */
    bool has_nulls; /* in this batch */
    uint8_t *valid;
    void *values;    /* BATCH_ROWS_MAX of the type's width */
    int32_t *offset; /* BATCH_ROWS_MAX + 1, for text */
    Buf text;
} Cells;

/* cells.c: what one value of SQLite is in a column of ours. */
bool cells_new(Cells *cells, Arena *task, Err *e) MUST_CHECK;
void cells_free(Cells *cells);
void cells_begin(Cells *cells); /* a new batch */

/* Bytes that the value would add to the batch. */
size_t cells_bytes(const Cells *cells, sqlite3_stmt *statement);

/* SOURCE_QUERY names column and row (`total` rows came before this batch). */
bool
cells_put(Cells *cells, sqlite3_stmt *statement, size_t row, uint64_t total, Err *e) MUST_CHECK;
void cells_show(const Cells *cells, Column *column);

#endif
