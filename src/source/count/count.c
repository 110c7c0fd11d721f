/* The numbers from 1 to N and their squares: the driver that does nothing special. URL: "count:N".
 */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "source/source.h"

extern const SourceKind source_count;

typedef struct {
    Source base;
    Column column[2];
    uint64_t next_number, last_number;
    int64_t number[BATCH_ROWS_MAX];
    double square[BATCH_ROWS_MAX];
} CountSource;

static const ColumnSpec columns[] = {{"number", COLUMN_INT64}, {"square", COLUMN_DOUBLE}};
static const Schema schema = {2, columns};

static Source *
count_open(const SourceSpec *spec, Watch *watch, Arena *task, Err *e)
{
    CountSource *c = arena_alloc(task, sizeof *c, e);

    (void)watch;
    if (!c)
        return NULL;
    if (!text_starts(spec->url, "count:") ||
        !text_to_uint(spec->url + 6, INT64_MAX, &c->last_number)) {
        fail(e, SOURCE_UNAVAILABLE, "%s does not say how far to count", spec->url);
        return NULL;
    }
    c->base = (Source){&source_count, &schema, (int64_t)c->last_number, 0};
    c->next_number = 1;
    c->column[0].as.int64 = c->number;
    c->column[1].as.real = c->square;
    return &c->base;
}

static bool
count_next(Source *s, Batch *batch, Err *e)
{
    CountSource *c = (CountSource *)s;
    size_t rows = 0;

    (void)e;
    for (; rows < BATCH_ROWS_MAX && c->next_number <= c->last_number; rows++) {
        c->number[rows] = (int64_t)c->next_number;
        c->square[rows] = (double)c->next_number * (double)c->next_number;
        c->next_number++;
    }
    *batch = (Batch){rows, &schema, c->column};
    return true;
}

static bool
count_check(const SourceSpec *spec, Watch *watch, Err *e)
{
    (void)spec;
    (void)watch;
    (void)e;
    return true;
}

const SourceKind source_count = {
    .name = "count",
    .schemes = (const char *const[]){"count", NULL},
    .open = count_open,
    .next = count_next,
    .check = count_check,
};
