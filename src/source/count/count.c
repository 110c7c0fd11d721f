/* The numbers from 1 to N and their squares: the driver that does nothing special. URL: "count:N".
 */
#include <string.h>

#include "base/text.h"
#include "source/source.h"

extern const SourceKind source_count;

enum { NUMBER, SQUARE, COLUMNS };

static const ColumnSpec known[COLUMNS] = {{"number", COLUMN_INT64}, {"square", COLUMN_DOUBLE}};

typedef struct {
    Source base;
    Schema schema;
    uint64_t next_number, last_number;
    /* Filled in turn: one is still read while the next is made. */
    struct {
        Column *column; /* in the order of the spec */
        int64_t number[BATCH_ROWS_MAX];
        double square[BATCH_ROWS_MAX];
    } set[2];
    unsigned turn;
} CountSource;

static bool
read_url(const char *url, uint64_t *last_number, Err *e)
{
    return (text_starts(url, "count:") && text_to_uint(url + 6, INT64_MAX, last_number)) ||
           fail(e, SOURCE_UNAVAILABLE, "%s does not say how far to count", url);
}

static bool
make_columns(CountSource *c, const SourceSpec *spec, Arena *task, Err *e)
{
    ColumnSpec *column;

    if (spec->columns == 0)
        return fail(e, SOURCE_QUERY, "no column is asked for");
    if (!(column = arena_alloc_array(task, spec->columns, sizeof *column, e)))
        return false;
    for (unsigned k = 0; k < 2; k++)
        if (!(c->set[k].column = arena_alloc_array(task, spec->columns, sizeof(Column), e)))
            return false;
    for (size_t i = 0; i < spec->columns; i++) {
        bool given = !spec->type_given || spec->type_given[i];
        size_t which = 0;

        while (which < COLUMNS && strcmp(known[which].name, spec->column[i].name) != 0)
            which++;
        if (which == COLUMNS || (given && spec->column[i].type != known[which].type))
            return fail(e, SOURCE_QUERY, "there is no column %s of type %s", spec->column[i].name,
                column_type_name(spec->column[i].type));
        column[i] = known[which];
        for (unsigned k = 0; k < 2; k++) {
            if (which == NUMBER)
                c->set[k].column[i].as.int64 = c->set[k].number;
            else
                c->set[k].column[i].as.real = c->set[k].square;
        }
    }
    c->schema = (Schema){spec->columns, column};
    return true;
}

static Source *
count_open(const SourceSpec *spec, Watch *watch, Arena *task, Err *e)
{
    CountSource *c = arena_alloc(task, sizeof *c, e);

    if (!c || !read_url(spec->url, &c->last_number, e) ||
        !watch->go_on(watch, STAGE_QUERYING, 0, 0, e) || !make_columns(c, spec, task, e))
        return NULL;
    c->base = (Source){&source_count, &c->schema, (int64_t)c->last_number, 0};
    c->next_number = 1;
    return &c->base;
}

static bool
count_next(Source *s, Batch *batch, Err *e)
{
    CountSource *c = (CountSource *)s;
    size_t rows = 0;

    (void)e;
    c->turn ^= 1;
    for (; rows < BATCH_ROWS_MAX && c->next_number <= c->last_number; rows++) {
        c->set[c->turn].number[rows] = (int64_t)c->next_number;
        c->set[c->turn].square[rows] = (double)c->next_number * (double)c->next_number;
        c->next_number++;
    }
    *batch = (Batch){rows, &c->schema, c->set[c->turn].column};
    return true;
}

static bool
count_check(const SourceSpec *spec, Watch *watch, Err *e)
{
    uint64_t last_number;

    (void)watch;
    return read_url(spec->url, &last_number, e);
}

const SourceKind source_count = {
    .name = "count",
    .schemes = (const char *const[]){"count", NULL},
    .open = count_open,
    .next = count_next,
    .check = count_check,
};
