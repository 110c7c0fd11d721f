/*
 * What a query yields, and what it becomes. The types that most columns have are read from their
 * binary form (their send functions). Of all others the server makes exactly the text that its
 * output function makes, which is what psql shows; and where the definition wants another type than
 * the source has, the server casts. Both happen around the query: SELECT … FROM (query) AS q.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "source/postgres/postgres_in.h"

enum {
    SQL_BYTES_MAX = 8 << 20,
};

/* Object identifiers of built-in types never change (src/include/catalog/pg_type.dat). */
typedef struct {
    Oid oid;
    ColumnType type; /* of ours that it is by nature */
    PgForm form;
} Native;

static const Native natives[] = {
    {16, COLUMN_BOOL, PG_BOOL},
    {17, COLUMN_BYTES, PG_BYTES},
    {19, COLUMN_TEXT, PG_BYTES}, /* name */
    {20, COLUMN_INT64, PG_INT64},
    {21, COLUMN_INT16, PG_INT16},
    {23, COLUMN_INT32, PG_INT32},
    {25, COLUMN_TEXT, PG_BYTES},
    {26, COLUMN_INT64, PG_UINT32_AS_INT64}, /* oid */
    {114, COLUMN_JSON, PG_BYTES},
    {700, COLUMN_FLOAT, PG_FLOAT},
    {701, COLUMN_DOUBLE, PG_DOUBLE},
    {1042, COLUMN_TEXT, PG_BYTES}, /* character(n) */
    {1043, COLUMN_TEXT, PG_BYTES}, /* character varying */
    {1082, COLUMN_DATE, PG_DATE},
    {1083, COLUMN_TIME, PG_TIME},
    {1114, COLUMN_TIMESTAMP, PG_TIMESTAMP},
    {1184, COLUMN_TIMESTAMPTZ, PG_TIMESTAMP},
    {1186, COLUMN_INTERVAL, PG_INTERVAL},
    {1700, COLUMN_DECIMAL, PG_NUMERIC},
    {2950, COLUMN_UUID, PG_UUID},
    {3802, COLUMN_JSON, PG_JSONB},
};

/* Ways to another type that cost nothing and lose nothing. */
static const Native widened[] = {
    {21, COLUMN_INT32, PG_INT16_AS_INT32},
    {21, COLUMN_INT64, PG_INT16_AS_INT64},
    {23, COLUMN_INT64, PG_INT32_AS_INT64},
    {700, COLUMN_DOUBLE, PG_FLOAT_AS_DOUBLE},
    {114, COLUMN_TEXT, PG_BYTES},
    {1186, COLUMN_TEXT, PG_INTERVAL},
    {1700, COLUMN_TEXT, PG_NUMERIC},
    {2950, COLUMN_TEXT, PG_UUID},
    {3802, COLUMN_TEXT, PG_JSONB},
};

/* What a cast to each of ours is called there, and how its values come then. */
static const struct {
    const char *name;
    PgForm form;
} casts[COLUMN_TYPES_COUNT] = {
    [COLUMN_BOOL] = {"bool", PG_BOOL},
    [COLUMN_INT16] = {"int2", PG_INT16},
    [COLUMN_INT32] = {"int4", PG_INT32},
    [COLUMN_INT64] = {"int8", PG_INT64},
    [COLUMN_FLOAT] = {"float4", PG_FLOAT},
    [COLUMN_DOUBLE] = {"float8", PG_DOUBLE},
    [COLUMN_DECIMAL] = {"numeric", PG_NUMERIC},
    [COLUMN_TEXT] = {"text", PG_BYTES},
    [COLUMN_BYTES] = {"bytea", PG_BYTES},
    [COLUMN_DATE] = {"date", PG_DATE},
    [COLUMN_TIME] = {"time", PG_TIME},
    [COLUMN_TIMESTAMP] = {"timestamp", PG_TIMESTAMP},
    [COLUMN_TIMESTAMPTZ] = {"timestamptz", PG_TIMESTAMP},
    [COLUMN_INTERVAL] = {"interval", PG_INTERVAL},
    [COLUMN_UUID] = {"uuid", PG_UUID},
    [COLUMN_JSON] = {"json", PG_BYTES},
};

const char *
pg_cast_name(ColumnType type)
{
    return casts[type].name;
}

static const Native *
find(const Native *in, size_t count, Oid oid, ColumnType type, bool any)
{
    for (size_t i = 0; i < count; i++)
        if (in[i].oid == oid && (any || in[i].type == type))
            return &in[i];
    return NULL;
}

static const Native *
find_native(Oid oid)
{
    return find(natives, sizeof natives / sizeof natives[0], oid, COLUMN_TEXT, true);
}

/* --- what the server knows of a type that we do not read ourselves --- */

typedef struct {
    bool is_enum;       /* its binary form is its text */
    bool is_string;     /* by category, so a cast reads it */
    const char *output; /* schema and name of its output function, quoted; "": another type's, or
                         * none that the role may call by name: a cast does the same */
} Foreign;

/* One result of the query. */
typedef struct {
    const char *name;
    Oid oid;
    const Native *native; /* NULL: see `foreign` */
    Foreign foreign;
    Oid table; /* that it is a column of; 0 */
    int attribute;
    bool never_null;
} Found;

typedef struct {
    Found *found;
    size_t count;
} Result;

/* "{1,2}": an array's text, for one bound parameter. */
static const char *
list_foreign(const Result *result, Arena *task, Err *e)
{
    Buf list = buf_new(64 << 10);
    const char *text = NULL;

    for (size_t i = 0; i < result->count; i++)
        if (!result->found[i].native)
            buf_printf(&list, "%s%u", list.bytes > 0 ? "," : "", result->found[i].oid);
    if (list.bytes == 0)
        text = "";
    else if (buf_is_good(&list, e))
        text = arena_printf(task, e, "{%s}", list.data);
    buf_free(&list);
    return text;
}

static void
note_foreign(Result *result, const PGresult *answer, int row, Arena *task, Err *e)
{
    Oid oid = (Oid)strtoul(PQgetvalue(answer, row, 0), NULL, 10);

    for (size_t i = 0; i < result->count; i++)
        if (result->found[i].oid == oid && !result->found[i].native)
            result->found[i].foreign = (Foreign){
                .is_enum = *PQgetvalue(answer, row, 1) == 'e',
                .is_string = *PQgetvalue(answer, row, 2) == 'S',
                .output = arena_text(task, PQgetvalue(answer, row, 3), e),
            };
}

static bool
look_up_foreign(PgSession *s, Result *result, Arena *task, Err *e)
{
    static const char sql[] =
        "SELECT t.oid, t.typtype, t.typcategory, CASE WHEN (a.oid = t.oid OR a.typtype = 'p')"
        "  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
        "  AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')"
        " THEN pg_catalog.format('%I.%I', n.nspname, p.proname) ELSE '' END"
        " FROM pg_catalog.pg_type t JOIN pg_catalog.pg_proc p ON p.oid = t.typoutput"
        " JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace"
        " JOIN pg_catalog.pg_type a ON a.oid = p.proargtypes[0]"
        " WHERE t.oid = ANY ($1::pg_catalog.oid[])";
    const char *list = list_foreign(result, task, e);
    PGresult *answer;

    if (!list || !*list)
        return list != NULL;
    if (!(answer = pg_session_ask(s, sql, 1, &list, e)))
        return false;
    for (int row = 0; row < PQntuples(answer); row++)
        note_foreign(result, answer, row, task, e);
    PQclear(answer);
    for (size_t i = 0; e->links == 0 && i < result->count; i++)
        if (!result->found[i].native && !result->found[i].foreign.output)
            fail(e, SOURCE_QUERY, "column %s has a type that the server does not know any more",
                result->found[i].name);
    return e->links == 0;
}

/* Which results can never be NULL; wanted where their ranges are. Tables that inherit from one may
 * do without its NOT NULL, and what another server has, nobody checks. */
static bool
look_up_nulls(PgSession *s, const PgPlan *plan, Result *result, Arena *task, Err *e)
{
    static const char sql[] =
        "WITH RECURSIVE family (oid) AS (SELECT $1::pg_catalog.oid UNION"
        "  SELECT inhrelid FROM pg_catalog.pg_inherits JOIN family ON inhparent = family.oid)"
        " SELECT pg_catalog.bool_and(member.attnotnull AND relkind IN ('r', 'p', 'm'))"
        " FROM family JOIN pg_catalog.pg_class ON pg_class.oid = family.oid"
        " JOIN pg_catalog.pg_attribute AS parent ON parent.attrelid = $1::pg_catalog.oid"
        "  AND parent.attnum = $2::pg_catalog.int2"
        " JOIN pg_catalog.pg_attribute AS member ON member.attrelid = family.oid"
        "  AND member.attname = parent.attname";

    for (size_t i = 0; i < result->count; i++) {
        Found *found = &result->found[i];
        const char *column = s->spec->parallel->column, *value[2];
        PGresult *answer;

        if (!column || strcmp(found->name, column) != 0 || !found->table || plan->makes_nulls)
            continue;
        value[0] = arena_printf(task, e, "%u", found->table);
        value[1] = arena_printf(task, e, "%d", found->attribute);
        if (!value[0] || !value[1] || !(answer = pg_session_ask(s, sql, 2, value, e)))
            return false;
        found->never_null = PQntuples(answer) == 1 && *PQgetvalue(answer, 0, 0) == 't';
        PQclear(answer);
    }
    return true;
}

/* --- asking --- */

static bool
read_description(const PGresult *described, Arena *task, Result *result, Err *e)
{
    result->count = (size_t)PQnfields(described);
    if (!(result->found = arena_alloc_array(task, result->count + 1, sizeof(Found), e)))
        return false;
    for (size_t i = 0; i < result->count; i++) {
        Oid oid = PQftype(described, (int)i);

        result->found[i] = (Found){.name = arena_text(task, PQfname(described, (int)i), e),
            .oid = oid,
            .native = find_native(oid),
            .table = PQftable(described, (int)i),
            .attribute = PQftablecol(described, (int)i)};
        if (!result->found[i].name)
            return false;
    }
    return true;
}

/*
 * A plan is read as text: that of a query over thousands of chunks has many megabytes, and its top
 * node, which is all that is wanted, stands in front. Quotes inside of JSON's texts are escaped, so
 * a key is found nowhere else.
 */
static double
first_number(const char *plan, const char *key)
{
    const char *at = strstr(plan, key);

    return at ? strtod(at + strlen(key), NULL) : -1;
}

/* Of columns that have none: outer joins, the totals of ROLLUP and its like, another server. */
static bool
makes_nulls(const char *plan)
{
    static const char key[] = "\"Join Type\": ";

    for (const char *at = plan; (at = strstr(at, key)); at += sizeof key)
        if (!text_starts(at + sizeof key - 1, "\"Inner\"") &&
            !text_starts(at + sizeof key - 1, "\"Semi\"") &&
            !text_starts(at + sizeof key - 1, "\"Anti\""))
            return true;
    return strstr(plan, "\"Grouping Sets\": ") || strstr(plan, "\"Node Type\": \"Foreign Scan\"");
}

PgPlan
pg_read_plan(const PGresult *explained)
{
    const char *text = PQntuples(explained) == 1 ? PQgetvalue(explained, 0, 0) : "";
    double rows = first_number(text, "\"Plan Rows\": "),
           width = first_number(text, "\"Plan Width\": ");

    return (PgPlan){
        .rows = rows >= 0 && rows < 9e18 ? (int64_t)rows : -1,
        .width = width > 0 && width < 1e9 ? (uint64_t)width : 0,
        .cost = first_number(text, "\"Total Cost\": "),
        .makes_nulls = !*text || makes_nulls(text),
    };
}

/* Describes and plans in one round trip. Planning locks what the query reads against being dropped
 * until the transaction ends. */
static bool
ask(PgSession *s, const char *sql, Arena *task, Result *result, PgPlan *plan, Err *e)
{
    const char *explain = arena_printf(task, e, "EXPLAIN (FORMAT JSON) %s", sql);
    PGresult *answer;
    bool ok;

    if (!explain || !pg_session_send_prepare(s, sql, e) || !pg_session_send(s, explain, 0, NULL, e))
        return false;
    if (!(answer = pg_session_result(s, PGRES_COMMAND_OK, "preparing the query", e)))
        return false;
    PQclear(answer);
    if (!(answer = pg_session_result(s, PGRES_COMMAND_OK, "describing the query", e)))
        return false;
    ok = read_description(answer, task, result, e);
    PQclear(answer);
    if (!ok || !(answer = pg_session_result(s, PGRES_TUPLES_OK, "planning the query", e)))
        return false;
    *plan = pg_read_plan(answer);
    PQclear(answer);
    return true;
}

/* --- deciding --- */

static bool
fail_missing(const Result *result, const char *name, Err *e)
{
    Buf has = buf_new(ERR_TEXT_BYTES);

    for (size_t i = 0; i < result->count; i++)
        buf_printf(&has, "%s%s", i > 0 ? ", " : "", result->found[i].name);
    fail(e, SOURCE_QUERY, "the query has no column %s, it has: %s", name, has.data);
    buf_free(&has);
    return false;
}

static size_t
next_of_name(const Result *result, size_t at, const char *name)
{
    while (at < result->count && strcmp(result->found[at].name, name) != 0)
        at++;
    return at;
}

/* Which of two would be meant, nobody knows. */
static bool
find_result(const Result *result, const char *name, size_t *at, Err *e)
{
    *at = next_of_name(result, 0, name);
    if (*at == result->count)
        return fail_missing(result, name, e);
    return next_of_name(result, *at + 1, name) == result->count ||
           fail(e, SOURCE_QUERY, "the query has more than one column %s", name);
}

/* Writes what stands for result `at` of the query in the list of an outer SELECT, and says how its
 * values come. False: it is the result itself. */
static bool
convert(const Found *found, size_t at, bool is_given, ColumnType *type, PgForm *form, Buf *to)
{
    const Native *native = found->native;
    const Native *wide =
        find(widened, sizeof widened / sizeof widened[0], found->oid, *type, false);

    if (!is_given)
        *type = native ? native->type : COLUMN_TEXT;
    if (native && native->type == *type) {
        *form = native->form;
        return false;
    }
    if (is_given && wide) {
        *form = wide->form;
        return false;
    }
    *form = casts[*type].form;
    if (!native && *type == COLUMN_TEXT && found->foreign.is_enum)
        return false;
    if (*type == COLUMN_TEXT && !native && *found->foreign.output)
        buf_printf(to, "pg_catalog.textin(%s(q.c%zu))", found->foreign.output, at);
    else if (*type == COLUMN_JSON && !native && !found->foreign.is_string)
        buf_printf(to, "pg_catalog.to_json(q.c%zu)", at);
    else
        buf_printf(to, "q.c%zu::pg_catalog.%s", at, casts[*type].name);
    return true;
}

static const char *
wrap_query(const char *sql, const Result *result, const char *list, Arena *task, Err *e)
{
    Buf text = buf_new(SQL_BYTES_MAX);
    const char *made = NULL;

    buf_printf(&text, "SELECT %s FROM (\n", list);
    buf_text(&text, sql);
    buf_text(&text, "\n) AS q (");
    for (size_t i = 0; i < result->count; i++)
        buf_printf(&text, "%sc%zu", i > 0 ? ", " : "", i);
    buf_char(&text, ')');
    if (buf_is_good(&text, e))
        made = arena_text(task, text.data, e);
    buf_free(&text);
    return made;
}

/* Text of a database that stores bytes as they come is not converted on the way. */
static bool
knows_no_encoding(const PgSession *s)
{
    const char *name = PQparameterStatus(s->conn, "server_encoding");

    return name && strcmp(name, "SQL_ASCII") == 0;
}

static bool
decide(PgSession *s, const char *sql, const Result *result, Arena *task, PgColumns *columns, Err *e)
{
    const SourceSpec *spec = s->spec;
    ColumnSpec *column = arena_alloc_array(task, spec->columns, sizeof *column, e);
    PgForm *form = arena_alloc_array(task, spec->columns, sizeof *form, e);
    bool *never_null = arena_alloc_array(task, spec->columns, sizeof *never_null, e);
    bool *is_cast = arena_alloc_array(task, spec->columns, sizeof *is_cast, e);
    bool is_checked = knows_no_encoding(s), is_wrapped = result->count != spec->columns;
    bool has_room = column && form && never_null && is_cast;
    Buf list = buf_new(SQL_BYTES_MAX);

    for (size_t i = 0; has_room && i < spec->columns; i++) {
        size_t at;

        if (!find_result(result, spec->column[i].name, &at, e))
            break;
        column[i] = spec->column[i];
        never_null[i] = result->found[at].never_null;
        if (i > 0)
            buf_text(&list, ", ");
        is_cast[i] = convert(&result->found[at], at, !spec->type_given || spec->type_given[i],
            &column[i].type, &form[i], &list);
        if (!is_cast[i])
            buf_printf(&list, "q.c%zu", at);
        is_wrapped = is_wrapped || is_cast[i] || at != i;
        if (is_checked && form[i] == PG_BYTES && column[i].type != COLUMN_BYTES)
            form[i] = PG_TEXT_CHECKED;
    }
    if (has_room && e->links == 0 && buf_is_good(&list, e)) {
        *columns = (PgColumns){
            .sql = is_wrapped ? wrap_query(sql, result, list.data, task, e) : sql,
            .columns = spec->columns,
            .column = column,
            .form = form,
            .is_cast = is_cast,
            .never_null = never_null,
        };
    }
    buf_free(&list);
    return columns->sql != NULL;
}

bool
pg_columns(
    PgSession *s, const PgBound *bound, Arena *task, PgColumns *columns, PgPlan *plan, Err *e)
{
    Result result = {0};

    *columns = (PgColumns){0};
    if (s->spec->columns == 0 || s->spec->columns > PG_COLUMNS_MAX)
        return fail(e, SOURCE_QUERY, "%zu columns are asked for", s->spec->columns);
    return ask(s, bound->sql, task, &result, plan, e) && look_up_foreign(s, &result, task, e) &&
           (!s->spec->parallel || look_up_nulls(s, plan, &result, task, e)) &&
           decide(s, bound->sql, &result, task, columns, e);
}
