/*
 * Which statements an export consists of.
 */
#include "source/postgres/postgres_in.h"

/* A newline behind the query: a comment in its last line must not swallow what follows. */
static const char tail[] = "\n) TO STDOUT (FORMAT binary)";

bool
pg_ranges_whole(const char *sql, Arena *task, PgRanges *ranges, Err *e)
{
    static const char *const everything[] = {""};

    *ranges = (PgRanges){
        .before = arena_printf(task, e, "COPY (\n%s", sql),
        .after = tail,
        .predicate = everything,
        .count = 1,
    };
    return ranges->before != NULL;
}
