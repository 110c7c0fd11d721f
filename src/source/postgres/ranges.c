/*
 * Which statements an export consists of: one, or one for each range of a big table's rows, so that
 * several connections can share the work and one snapshot.
 *
 * Ranges of places (ctid) suit an ordinary table: the table's name is given, by a WITH around the
 * query, to the part of it that lies in a range. Whether the query then yields every row once is
 * read off its plan. Ranges of a column suit all others, hypertables by time above all: any query
 * whose result has the column falls into such ranges. Their bounds are a matter of speed alone; the
 * first and the last are open, and NULL has a range of its own.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <strings.h>

#include "base/log.h"
#include "source/postgres/postgres_in.h"
#include "source/query.h"

enum {
    BOUNDS_MAX = 16384,
    STATISTICS_MAX = 10001, /* bounds of a histogram, or starts of chunks, that are looked at */
    RANGES_MIN = 4,         /* fewer are not worth the connections */
    ROWS_MIN = 1024,        /* of a range */
    NAME_BYTES = 64,
    STATEMENT_BYTES_MAX = 16 << 20,
    SCANS_TID_RANGES = 140000, /* server version */
    COSTS_MORE_MAX = 2,        /* times: all ranges together against the whole */
};

/* --- statements --- */

void
pg_ranges_whole(const PgColumns *columns, PgRanges *ranges)
{
    *ranges = (PgRanges){.before = columns->sql, .after = "", .count = 1};
}

static void
put_bound(const PgRanges *ranges, size_t at, Buf *to)
{
    SourceParam value = {.name = "bound", .type = ranges->type, .as.int64 = ranges->bound[at]};
    Err never = {0};

    if (!pg_literal(&value, to, &never))
        to->failed = true;
}

static void
put_place(uint64_t block, Buf *to)
{
    buf_printf(to, "'(%" PRIu64 ",0)'::pg_catalog.tid", block);
}

static void
put_predicate(const PgRanges *ranges, size_t range, Buf *to)
{
    size_t bounds = ranges->bounds;

    if (ranges->blocks > 0) {
        buf_text(to, "ctid >= ");
        put_place(range * ranges->blocks, to);
        if (range + 1 < ranges->count) {
            buf_text(to, " AND ctid < ");
            put_place((range + 1) * ranges->blocks, to);
        }
    } else if (range > bounds) {
        buf_printf(to, "q.k%zu IS NULL", ranges->column);
    } else {
        if (range > 0) {
            buf_printf(to, "q.k%zu >= ", ranges->column);
            put_bound(ranges, range - 1, to);
        }
        if (range < bounds) {
            buf_printf(to, "%sq.k%zu < ", range > 0 ? " AND " : "", ranges->column);
            put_bound(ranges, range, to);
        }
    }
}

void
pg_ranges_statement(const PgRanges *ranges, size_t range, Buf *to)
{
    buf_text(to, ranges->before);
    if (ranges->count > 1)
        put_predicate(ranges, range, to);
    buf_text(to, ranges->after);
}

/* It is asked as a whole after all; whoever declared it may want to know why. */
static bool
tell_whole(const PgSession *s, const char *why)
{
    log_event(LOG_INFO, "source.not_parallel", log_text("source", s->spec->name),
        log_text("table", s->spec->parallel->table), log_text("why", why));
    return true;
}

/* --- the table --- */

typedef struct {
    char schema[NAME_BYTES], name[NAME_BYTES];
    char kind; /* pg_class.relkind */
    bool has_children;
    uint64_t blocks;
    bool has_chunks; /* TimescaleDB is there */
} Table;

/* "name" or "schema.name", whose letters the definition's rules have checked. */
static const char *
quote_table(const char *table, Arena *task, Err *e)
{
    const char *dot = strchr(table, '.');

    return dot ? arena_printf(task, e, "\"%.*s\".\"%s\"", (int)(dot - table), table, dot + 1)
               : arena_printf(task, e, "\"%s\"", table);
}

static bool
find_table(PgSession *s, Arena *task, Table *table, Err *e)
{
    static const char sql[] =
        "SELECT n.nspname, c.relname, c.relkind, c.relhassubclass,"
        " pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')"
        "::pg_catalog.int8, pg_catalog.to_regclass('timescaledb_information.chunks') IS NOT NULL"
        " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.oid = pg_catalog.to_regclass($1)";
    const char *name = quote_table(s->spec->parallel->table, task, e);
    PGresult *answer = name ? pg_session_ask(s, sql, 1, &name, e) : NULL;

    if (!answer)
        return false;
    if (PQntuples(answer) == 1) {
        (void)text_copy(table->schema, sizeof table->schema, PQgetvalue(answer, 0, 0));
        (void)text_copy(table->name, sizeof table->name, PQgetvalue(answer, 0, 1));
        table->kind = *PQgetvalue(answer, 0, 2);
        table->has_children = *PQgetvalue(answer, 0, 3) == 't';
        table->blocks = strtoull(PQgetvalue(answer, 0, 4), NULL, 10);
        table->has_chunks = *PQgetvalue(answer, 0, 5) == 't';
    } else {
        fail(e, SOURCE_QUERY, "parallel: there is no table %s", s->spec->parallel->table);
    }
    PQclear(answer);
    return e->links == 0;
}

/* --- plans --- */

/* The plan of one range; the caller clears it. */
static PGresult *
explain(PgSession *s, const char *how, const PgRanges *ranges, size_t range, Err *e)
{
    Buf sql = buf_new(STATEMENT_BYTES_MAX);
    PGresult *answer = NULL;

    buf_printf(&sql, "EXPLAIN (%s) ", how);
    pg_ranges_statement(ranges, range, &sql);
    if (buf_is_good(&sql, e))
        answer = pg_session_ask(s, sql.data, 0, NULL, e);
    buf_free(&sql);
    return answer;
}

static const char *
member(const json_t *node, const char *name)
{
    const char *text = json_string_value(json_object_get(node, name));

    return text ? text : "";
}

static bool
is_table(const json_t *node, const Table *table)
{
    return strcmp(member(node, "Relation Name"), table->name) == 0 &&
           strcmp(member(node, "Schema"), table->schema) == 0;
}

static bool
reads_table(const json_t *node, const Table *table)
{
    const json_t *child;
    size_t i;

    if (is_table(node, table))
        return true;
    json_array_foreach(
        json_object_get(node, "Plans"), i, child) if (reads_table(child, table)) return true;
    return false;
}

/* The plans below a node that make its rows; those of its expressions must leave the table alone.
 */
static const json_t *
only_child(const json_t *node, const Table *table, bool *strays)
{
    const json_t *child, *only = NULL;
    size_t i;

    json_array_foreach(json_object_get(node, "Plans"), i, child)
    {
        const char *is = member(child, "Parent Relationship");

        if (strcmp(is, "InitPlan") == 0 || strcmp(is, "SubPlan") == 0)
            *strays = *strays || reads_table(child, table);
        else
            only = child;
    }
    return only;
}

static bool
works_by_row(const json_t *node)
{
    static const char *const types[] = {"Subquery Scan", "ProjectSet", "Result", "Gather"};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(member(node, "Node Type"), types[i]) == 0)
            return true;
    return false;
}

/*
 * Does a range yield the rows of its places and nothing else? Then its plan is a scan of them, with
 * at most what works row by row above it. A grouping, sorting, limiting or joining query over each
 * part would not be the one over the whole. `*slow`: why it is better asked as a whole, which the
 * values of parameters may decide.
 */
static bool
judge_places(const json_t *plan, const Table *table, const char **slow, Err *e)
{
    const json_t *node = json_object_get(json_array_get(plan, 0), "Plan"), *last = node;
    bool strays = false, scans;

    *slow = NULL;
    for (; node && works_by_row(node); node = only_child(node, table, &strays))
        last = node;
    scans = node && strcmp(member(node, "Node Type"), "Tid Range Scan") == 0;
    if (!node && *member(last, "One-Time Filter"))
        *slow = "it has no rows";
    else if (node && !scans && strstr(member(node, "Filter"), "ctid"))
        *slow = "the rows are found quicker than by their places";
    if (node) /* below a bitmap's scan are its indexes */
        (void)only_child(node, table, &strays);
    if ((*slow || scans) && !strays && (!node || is_table(node, table)))
        return true;
    return fail(e, SOURCE_QUERY,
        "parallel by ctid wants a query of the rows of %s alone, which it names once and without "
        "its schema; this one's plan has %s%s",
        table->name, strays ? "a second look at it" : "a ",
        strays ? ""
        : node ? member(node, "Node Type")
               : "Result");
}

/* --- ranges of places --- */

static size_t
bytes_of_range(const SourceParallel *parallel)
{
    return PG_AHEAD_BYTES / parallel->connections * 2 / 3;
}

static bool
split_places(PgSession *s, const PgColumns *columns, const Table *table, Arena *task,
    PgRanges *ranges, Err *e)
{
    enum { BLOCK_BYTES = 8192 };
    uint64_t blocks = bytes_of_range(s->spec->parallel) / BLOCK_BYTES;
    PgRanges made = {.blocks = blocks, .count = (table->blocks + blocks - 1) / blocks};
    const char *slow = NULL;
    PGresult *answer;
    json_t *plan;
    bool ok;

    if ((table->kind != 'r' && table->kind != 'm') || table->has_children)
        return fail(e, SOURCE_QUERY,
            "parallel by ctid wants an ordinary table, and %s is %s: let it be by a column",
            table->name,
            table->has_children ? "a hypertable, partitioned or inherited"
                                : "a view or no table at all");
    if (PQserverVersion(s->conn) < SCANS_TID_RANGES)
        return tell_whole(s, "the server is older than PostgreSQL 14");
    if (made.count < RANGES_MIN)
        return true;
    made.before =
        arena_printf(task, e, "WITH \"%s\" AS NOT MATERIALIZED (SELECT * FROM \"%s\".\"%s\" WHERE ",
            table->name, table->schema, table->name);
    made.after = arena_printf(task, e, ")\nSELECT * FROM (\n%s\n) AS q", columns->sql);
    if (!made.before || !made.after ||
        !(answer = explain(s, "FORMAT JSON, VERBOSE", &made, made.count / 2, e)))
        return false;
    plan = json_loads(PQntuples(answer) == 1 ? PQgetvalue(answer, 0, 0) : "", 0, NULL);
    ok = plan ? judge_places(plan, table, &slow, e)
              : fail(e, SOURCE_QUERY, "the plan of a range cannot be read");
    json_decref(plan);
    PQclear(answer);
    if (ok && slow)
        return tell_whole(s, slow);
    if (ok)
        *ranges = made;
    return ok;
}

/* --- ranges of a column --- */

/* Bounds in rising order, as our columns keep their values. */
typedef struct {
    int64_t *at;
    size_t count;
} Bounds;

/* A server's expression for x as we keep it. */
static const char *
as_number(ColumnType type)
{
    switch (type) {
    case COLUMN_DATE:
        return "(x::pg_catalog.date - '1970-01-01'::pg_catalog.date)";
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return "(pg_catalog.date_part('epoch', x) * 1000000)";
    default:
        return "x";
    }
}

/* The chunks of small numbers may end far beyond them. */
static bool
can_be(ColumnType type, int64_t value)
{
    return type == COLUMN_INT16   ? value >= INT16_MIN && value <= INT16_MAX
           : type == COLUMN_INT32 ? value >= INT32_MIN && value <= INT32_MAX
                                  : true;
}

static bool
read_bounds(PgSession *s, const char *sql, int values, const char *const *value, ColumnType type,
    Arena *task, Bounds *bounds, Err *e)
{
    PGresult *answer = pg_session_ask(s, sql, values, value, e);
    size_t rows = answer ? (size_t)PQntuples(answer) : 0;

    bounds->count = 0;
    bounds->at = answer ? arena_alloc_array(task, rows + 1, sizeof *bounds->at, e) : NULL;
    for (size_t i = 0; bounds->at && i < rows; i++) {
        int64_t at = strtoll(PQgetvalue(answer, (int)i, 0), NULL, 10);

        if (can_be(type, at) && (bounds->count == 0 || at > bounds->at[bounds->count - 1]))
            bounds->at[bounds->count++] = at;
    }
    PQclear(answer);
    return bounds->at != NULL;
}

/* Where a hypertable's chunks begin and end. */
static bool
ask_chunks(PgSession *s, const Table *table, ColumnType type, Arena *task, Bounds *bounds, Err *e)
{
    bool is_number = type == COLUMN_INT16 || type == COLUMN_INT32 || type == COLUMN_INT64;
    const char *value[3] = {table->schema, table->name, s->spec->parallel->column};
    const char *sql = arena_printf(task, e,
        "SELECT DISTINCT %s::pg_catalog.int8 AS bound FROM timescaledb_information.chunks,"
        " LATERAL (VALUES (range_start%s), (range_end%s)) AS ends (x)"
        " WHERE hypertable_schema = $1 AND hypertable_name = $2 AND primary_dimension = $3"
        " AND x IS NOT NULL AND x::pg_catalog.text NOT IN ('infinity', '-infinity')"
        " ORDER BY bound LIMIT %d",
        as_number(type), is_number ? "_integer" : "", is_number ? "_integer" : "", STATISTICS_MAX);

    return sql && read_bounds(s, sql, 3, value, type, task, bounds, e);
}

/* ANALYZE's histogram: about as many rows between each two of its bounds. */
static bool
ask_histogram(
    PgSession *s, const Table *table, ColumnType type, Arena *task, Bounds *bounds, Err *e)
{
    const char *value[3] = {table->schema, table->name, s->spec->parallel->column};
    const char *sql = arena_printf(task, e,
        "SELECT DISTINCT %s::pg_catalog.int8 AS bound FROM (SELECT histogram_bounds"
        " FROM pg_catalog.pg_stats WHERE schemaname = $1 AND tablename = $2 AND attname = $3"
        " AND histogram_bounds IS NOT NULL ORDER BY inherited DESC LIMIT 1) AS h,"
        " LATERAL pg_catalog.unnest(h.histogram_bounds::pg_catalog.text::pg_catalog.%s[]) AS x"
        " WHERE x::pg_catalog.text NOT IN ('infinity', '-infinity') ORDER BY bound LIMIT %d",
        as_number(type), pg_cast_name(type), STATISTICS_MAX);

    return sql && read_bounds(s, sql, 3, value, type, task, bounds, e);
}

/* Each gap in `parts` equal ones. */
static bool
refine(Bounds *bounds, uint64_t parts, Arena *task, Err *e)
{
    size_t most = bounds->count + (bounds->count - 1) * (size_t)(parts - 1);
    int64_t *finer = arena_alloc_array(task, most, sizeof *finer, e);
    size_t count = 0;

    if (!finer)
        return false;
    for (size_t i = 0; i < bounds->count; i++) {
        int64_t from = bounds->at[i], to = i + 1 < bounds->count ? bounds->at[i + 1] : from;
        uint64_t gap = (uint64_t)to - (uint64_t)from; /* may be more than an int64_t holds */

        finer[count++] = from;
        for (uint64_t part = 1; i + 1 < bounds->count && part < parts; part++) {
            int64_t between =
                (int64_t)((uint64_t)from + gap / parts * part + gap % parts * part / parts);

            if (between > finer[count - 1] && between < to)
                finer[count++] = between;
        }
    }
    *bounds = (Bounds){finer, count};
    return true;
}

/* A name without quotes is one of small letters to the server. */
static bool
is_name(const QueryToken *token, const char *name, size_t bytes)
{
    if (token->kind == QUERY_QUOTED)
        return token->bytes == bytes + 2 && strncmp(token->at + 1, name, bytes) == 0;
    if (token->kind != QUERY_WORD || token->bytes != bytes)
        return false;
    for (size_t i = 0; i < bytes; i++) {
        char c = token->at[i];

        if ((c >= 'A' && c <= 'Z' ? (char)(c + 'a' - 'A') : c) != name[i])
            return false;
    }
    return true;
}

static bool
is_column(const QueryToken *token, const char *column)
{
    return is_name(token, column, strlen(column));
}

static bool
is_same(const QueryToken *a, const QueryToken *b)
{
    return a->kind == b->kind && a->bytes == b->bytes && strncasecmp(a->at, b->at, a->bytes) == 0;
}

static bool
step(QueryToken *token)
{
    return query_token(token->at + token->bytes, QUERY_SQL, token);
}

static bool
ends_item(QueryToken token)
{
    return !step(&token) || query_is_sign(&token, ',') || query_is_word(&token, "from");
}

/* At an item of a SELECT: is it *, the column, or `of`'s column or all of its? */
static bool
is_item(QueryToken item, const QueryToken *of, const char *column)
{
    QueryToken dot = item, what;

    if (ends_item(item))
        return query_is_sign(&item, '*') || is_column(&item, column);
    if (!is_same(&item, of) || !step(&dot) || !query_is_sign(&dot, '.'))
        return false;
    what = dot;
    return step(&what) && (query_is_sign(&what, '*') || is_column(&what, column)) &&
           ends_item(what);
}

/* ORDER BY of.column: is that the column of the result, and not another one whose name it has? */
static bool
is_of_result(const char *query, const QueryToken *of, const char *column)
{
    QueryToken token = {.at = query};
    bool selects = false, begins = false;
    int depth = 0;

    while (step(&token) && !(selects && depth == 0 && query_is_word(&token, "from"))) {
        if (query_is_sign(&token, '(') || query_is_sign(&token, ')'))
            depth += *token.at == '(' ? 1 : -1;
        if (depth > 0)
            continue;
        if (begins && is_item(token, of, column))
            return true;
        begins = query_is_word(&token, "select") || query_is_word(&token, "distinct") ||
                 query_is_word(&token, "all") || (selects && query_is_sign(&token, ','));
        selects = selects || begins;
    }
    return false;
}

/* Behind ORDER BY: is it [of.]column [ASC] and then anything but NULLS FIRST or another operand? */
static bool
is_order_by(const char *query, QueryToken token, const char *column)
{
    QueryToken of, next = token;
    bool more = step(&next);

    if (more && query_is_sign(&next, '.')) {
        of = token;
        token = next;
        if (!step(&token) || !is_of_result(query, &of, column))
            return false;
        next = token;
        more = step(&next);
    }
    if (!is_column(&token, column))
        return false;
    if (more && query_is_word(&next, "asc"))
        more = step(&next);
    return !more || query_is_sign(&next, ',') || query_is_sign(&next, ';') ||
           query_is_sign(&next, ')');
}

/* A range of the first hundred rows is not what a hundred rows of the ranges are. */
static bool
judge_limit(const char *query, const char *column, Err *e)
{
    QueryToken token = {.at = query}, before;
    int depth = 0;

    for (;;) {
        before = token;
        if (!step(&token))
            return true;
        if (query_is_sign(&token, '(') || query_is_sign(&token, ')'))
            depth += *token.at == '(' ? 1 : -1;
        if (depth == 0 && !query_is_word(&before, "as") && !query_is_sign(&before, '.') &&
            (query_is_word(&token, "limit") || query_is_word(&token, "offset") ||
                query_is_word(&token, "fetch")))
            return fail(e, SOURCE_QUERY,
                "parallel by %s cannot split a query with LIMIT, OFFSET or FETCH", column);
    }
}

/* Is the whole query's order, if it has one, that of the ranges? It may stand in parentheses. */
static bool
judge_order(const char *query, const char *column, Err *e)
{
    QueryToken token = {.at = query}, before;
    int depth = 0, outermost = 0;
    bool opens = true;

    for (;;) {
        before = token;
        if (!step(&token))
            return true;
        opens = opens && query_is_sign(&token, '(');
        outermost += opens;
        if (query_is_sign(&token, '(') || query_is_sign(&token, ')'))
            depth += *token.at == '(' ? 1 : -1;
        if (depth <= outermost && query_is_word(&before, "order") && query_is_word(&token, "by"))
            break;
    }
    if (step(&token) && is_order_by(query, token, column))
        return true;
    return fail(e, SOURCE_QUERY,
        "parallel by %s cannot keep the query's order, which is by something else first", column);
}

/* Without an index or chunks to go by, each range would read the whole table. */
static bool
is_cheap(PgSession *s, const PgPlan *whole, const PgRanges *ranges, bool *cheap, Err *e)
{
    PGresult *answer = explain(s, "FORMAT JSON", ranges, ranges->bounds / 2, e);

    *cheap =
        answer && pg_read_plan(answer).cost * (double)ranges->count <= COSTS_MORE_MAX * whole->cost;
    PQclear(answer);
    return answer != NULL;
}

static bool
name_columns(const PgColumns *columns, Arena *task, PgRanges *ranges, Err *e)
{
    Buf text = buf_new(STATEMENT_BYTES_MAX);

    buf_text(&text, "SELECT * FROM (\n");
    buf_text(&text, columns->sql);
    buf_text(&text, "\n) AS q (");
    for (size_t i = 0; i < columns->columns; i++)
        buf_printf(&text, "%sk%zu", i > 0 ? ", " : "", i);
    buf_text(&text, ") WHERE ");
    if (buf_is_good(&text, e))
        ranges->before = arena_text(task, text.data, e);
    buf_free(&text);
    return ranges->before != NULL;
}

static bool
find_column(const PgColumns *columns, const char *name, PgRanges *ranges, Err *e)
{
    for (size_t i = 0; i < columns->columns; i++) {
        if (strcmp(columns->column[i].name, name) != 0)
            continue;
        ranges->column = i;
        ranges->type = columns->column[i].type;
        /* The query orders what it has, not what becomes of it. */
        if (columns->is_cast[i])
            return fail(e, SOURCE_QUERY,
                "parallel by %s: the query yields another type than the definition's: let it cast",
                name);
        switch (ranges->type) {
        case COLUMN_INT16:
        case COLUMN_INT32:
        case COLUMN_INT64:
        case COLUMN_DATE:
        case COLUMN_TIMESTAMP:
        case COLUMN_TIMESTAMPTZ:
            return true;
        default:
            return fail(e, SOURCE_QUERY,
                "parallel by %s: a whole number, a date or a timestamp is wanted, this is %s", name,
                column_type_name(ranges->type));
        }
    }
    return fail(e, SOURCE_QUERY, "parallel by %s: there is no such column", name);
}

static bool
split_column(PgSession *s, const PgColumns *columns, const PgPlan *plan, const Table *table,
    Arena *task, PgRanges *ranges, Err *e)
{
    const SourceParallel *parallel = s->spec->parallel;
    PgRanges made = {.after = ""};
    Bounds bounds = {0};
    uint64_t row_bytes = 2 + 4 * columns->columns + plan->width, rows, wanted;
    bool cheap = false;

    if (!find_column(columns, parallel->column, &made, e) ||
        !judge_limit(s->spec->query, parallel->column, e) ||
        !judge_order(s->spec->query, parallel->column, e))
        return false;
    rows = bytes_of_range(parallel) / row_bytes;
    wanted = (uint64_t)(plan->rows < 0 ? 0 : plan->rows) / (rows < ROWS_MIN ? ROWS_MIN : rows);
    if (wanted < RANGES_MIN)
        return true;
    if ((table->has_chunks && !ask_chunks(s, table, made.type, task, &bounds, e)) ||
        (bounds.count < 2 && !ask_histogram(s, table, made.type, task, &bounds, e)))
        return false;
    if (bounds.count < 2)
        return tell_whole(s, "nothing is known of the column's values: ANALYZE tells");
    wanted = wanted > BOUNDS_MAX ? BOUNDS_MAX : wanted;
    if (wanted > bounds.count - 1 &&
        !refine(&bounds, (wanted + bounds.count - 2) / (bounds.count - 1), task, e))
        return false;
    made.bound = bounds.at;
    made.bounds = bounds.count;
    made.count = bounds.count + 1 + (columns->never_null[made.column] ? 0 : 1);
    if (!name_columns(columns, task, &made, e) || !is_cheap(s, plan, &made, &cheap, e))
        return false;
    if (!cheap)
        return tell_whole(s, "each range would read too much: the column wants an index");
    *ranges = made;
    return true;
}

bool
pg_ranges_split(PgSession *s, const PgColumns *columns, const PgPlan *plan, Arena *task,
    PgRanges *ranges, Err *e)
{
    Table table = {0};

    if (!find_table(s, task, &table, e))
        return false;
    return s->spec->parallel->column ? split_column(s, columns, plan, &table, task, ranges, e)
                                     : split_places(s, columns, &table, task, ranges, e);
}
