/* What the files of the SQLite source share. */
#ifndef SOURCE_SQLITE_SQLITE_IN_H
#define SOURCE_SQLITE_SQLITE_IN_H

#include <sqlite3.h>

#include "flow/builder.h"
#include "source/source.h"

typedef struct Cells Cells;

/* A column that is being filled from a statement's results. */
struct Cells {
    ColumnBuilder column;
    int at; /* in the statement's result */
    bool (*put)(Cells *cells, sqlite3_value *value, int kind, size_t row, size_t *bytes, Err *e);
    char last_date[10]; /* of the time text that was read last: most rows have the same */
    int64_t last_day_us;
};

/* cells.c: what one value of SQLite is in a column of ours. */
bool cells_init(Cells *cells, const ColumnSpec *spec, int at, Arena *task, Err *e) MUST_CHECK;

/*
 * Adds what the value takes of a batch to `*bytes`, which counts the row; SIZE_LIMIT past
 * ROW_BYTES_MAX. SOURCE_QUERY names column and row (`total` rows came before this batch).
 */
bool cells_put(Cells *cells, sqlite3_stmt *statement, size_t row, uint64_t total, size_t *bytes,
    Err *e) MUST_CHECK;

#endif
