/* What the files of the SQLite source share. */
#ifndef SOURCE_SQLITE_SQLITE_IN_H
#define SOURCE_SQLITE_SQLITE_IN_H

#include <sqlite3.h>

#include "base/buf.h"
#include "source/source.h"

typedef struct Cells Cells;

/* A column that is being filled, over and over in the same memory. */
struct Cells {
    ColumnSpec spec;
    int at;         /* in the statement's result */
    bool has_nulls; /* in this batch */
    uint8_t *valid;
    void *values;    /* BATCH_ROWS_MAX of the type's width */
    int32_t *offset; /* BATCH_ROWS_MAX + 1, for text */
    Buf text;
    bool (*put)(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e);
    char last_date[10]; /* of the time text that was read last: most rows have the same */
    int64_t last_day_us;
};

/* cells.c: what one value of SQLite is in a column of ours. */
bool cells_new(Cells *cells, Arena *task, Err *e) MUST_CHECK;
void cells_free(Cells *cells);
void cells_begin(Cells *cells); /* a new batch */

/*
 * Adds what the value takes of a batch to `*bytes`, which counts the row; SIZE_LIMIT past
 * ROW_BYTES_MAX. SOURCE_QUERY names column and row (`total` rows came before this batch).
 */
bool cells_put(Cells *cells, sqlite3_stmt *statement, size_t row, uint64_t total, size_t *bytes,
    Err *e) MUST_CHECK;

/* Takes back what was put into this row, the last one. */
void cells_take_back(Cells *cells, size_t row);
void cells_show(const Cells *cells, Column *column);

#endif
