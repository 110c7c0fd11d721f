#include "export/type.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/shape.h"
#include "base/text.h"
#include "base/time.h"
#include "base/yaml.h"
#include "export/builtin.h"
#include "export/pattern.h"
#include "export/request.h"

enum {
    TYPES_MAX = 1000,
    COLUMNS_MAX = 256,
    PARAMS_MAX = 64,
    TIME_LIMIT_S_MAX = 31536000,
    TABLE_BYTES_MAX = 63
};

/* --- what a definition looks like --- */

static bool
check_name(const json_t *value, const char **detail)
{
    *detail = "must be a name: a small letter, then small letters, digits and _, at most 64";
    return text_is_name(json_string_value(value));
}

static bool
check_column_name(const json_t *value, const char **detail)
{
    const char *text = json_string_value(value);

    *detail = "must have 1 to 128 characters and no control character";
    return *text && strlen(text) <= 512 && !text_has_control(text, strlen(text), true);
}

/* 0: it is none. */
static int64_t
read_time_limit(const json_t *value)
{
    int64_t ms = 0, seconds;

    if (json_whole(value, &seconds))
        return seconds > 0 && seconds <= TIME_LIMIT_S_MAX ? seconds * 1000 : 0;
    return json_is_string(value) && time_parse_duration(json_string_value(value), &ms) ? ms : 0;
}

static bool
check_duration(const json_t *value, const char **detail)
{
    int64_t ms = read_time_limit(value);

    *detail = "must be a time like 90s, 5m or 2h, at most a year";
    return ms > 0 && ms <= TIME_LIMIT_S_MAX * INT64_C(1000);
}

/* "name" or "schema.name", as it stands between double quotes (PostgreSQL keeps 63 bytes). */
static bool
check_table(const json_t *value, const char **detail)
{
    const char *at = json_string_value(value);

    *detail =
        "must be NAME or SCHEMA.NAME as the database keeps it: letters, digits and _, at most "
        "63 each";
    for (unsigned parts = 0; parts < 2; parts++) {
        size_t bytes =
            strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

        if (bytes == 0 || bytes > TABLE_BYTES_MAX)
            return false;
        if (!at[bytes])
            return true;
        if (at[bytes] != '.')
            return false;
        at += bytes + 1;
    }
    return false;
}

static const char *const type_names[] = {
#define X(id, name, as) name,
    COLUMN_TYPES(X)
#undef X
        NULL};

/* clang-format off */
static const Shape param_members[] = {
    {"type",        SHAPE_TEXT, .required = true, .allowed = type_names, .meaning = "Type of the value."},
    {"required",    SHAPE_BOOL, .meaning = "A request must give it."},
    {"default",     SHAPE_ANY,  .meaning = "Value when a request does not give it."},
    {"min",         SHAPE_ANY,  .meaning = "Least number, date or time."},
    {"max",         SHAPE_ANY,  .meaning = "Greatest number, date or time."},
    {"max_length",  SHAPE_INT,  .min = 1, .max = 65536, .meaning = "Most characters of a text."},
    {"pattern",     SHAPE_TEXT, .min = 1, .max = 512, .meaning = "POSIX extended regular expression for the whole text."},
    {"enum",        SHAPE_ARRAY, .min = 1, .max = 1000, .meaning = "The values there are."},
    {"description", SHAPE_TEXT, .meaning = "For people."},
    {0},
};
static const Shape param_shape = {"", SHAPE_OBJECT, .members = param_members};

static const Shape column_members[] = {
    {"name",        SHAPE_TEXT, .required = true, .check = check_column_name, .meaning = "Name in the query's result and in the header."},
    {"type",        SHAPE_TEXT, .allowed = type_names, .meaning = "Left out: what the source says."},
    {"description", SHAPE_TEXT, .meaning = "For people."},
    {0},
};
static const Shape column_shape = {"", SHAPE_OBJECT, .members = column_members};

static const Shape parallel_members[] = {
    {"by",          SHAPE_TEXT, .required = true, .meaning = "What the rows are divided by: `ctid`, their places in the table, or one of the columns."},
    {"table",       SHAPE_TEXT, .required = true, .check = check_table, .meaning = "The table (or hypertable) that the query reads: `NAME` or `SCHEMA.NAME`, as the database keeps it."},
    {"connections", SHAPE_INT,  .required = true, .min = 1, .max = 16, .meaning = "Connections of one export."},
    {0},
};

static const Shape definition[] = {
    {"name",        SHAPE_TEXT,   .required = true, .check = check_name, .meaning = "What requests call it (`export_type`): small letters, digits and _."},
    {"title",       SHAPE_TEXT,   .meaning = "For people."},
    {"description", SHAPE_TEXT,   .meaning = "For people."},
    {"source",      SHAPE_TEXT,   .required = true, .meaning = "Name of a source of the configuration."},
    {"params",      SHAPE_OBJECT, .null_is_missing = true, .element = &param_shape, .max = PARAMS_MAX, .meaning = "Filters, by name; each must be used by the query."},
    {"columns",     SHAPE_ARRAY,  .required = true, .element = &column_shape, .min = 1, .max = COLUMNS_MAX, .meaning = "Columns, in the file's order."},
    {"query",       SHAPE_ANY,    .required = true, .meaning = "A text, or a map with one for each driver (`neo4j`, `postgres`, `sqlite`): one SELECT that yields each column by its name. `$name` is a parameter, always bound; one that a request leaves out is NULL."},
    {"order",       SHAPE_TEXT,   .meaning = "For people; the query orders."},
    {"time_limit",  SHAPE_ANY,    .check = check_duration, .meaning = "Longest attempt, like `90s`, `5m` or `2h`; `task_time_limit` otherwise."},
    {"max_rows",    SHAPE_INT,    .min = 1, .max = 9e15, .meaning = "More rows fail the export."},
    {"concurrency", SHAPE_INT,    .min = 1, .max = 10000, .meaning = "Exports of this type at once, over all workers."},
    {"parallel",    SHAPE_OBJECT, .members = parallel_members, .meaning = "One export over several connections that share a snapshot; for PostgreSQL, others ignore it."},
    {"incremental", SHAPE_ANY,    .not_available = true},
    {0},
};
/* clang-format on */

void
types_reference(Buf *to)
{
    static const char *const in_csv[COLUMN_TYPES_COUNT] = {
        [COLUMN_BOOL] = "`true` or `false`",
        [COLUMN_INT16] = "digits",
        [COLUMN_INT32] = "digits",
        [COLUMN_INT64] = "digits",
        [COLUMN_FLOAT] = "the shortest digits that read back the same",
        [COLUMN_DOUBLE] = "the shortest digits that read back the same",
        [COLUMN_DECIMAL] = "digits, as the database wrote them",
        [COLUMN_TEXT] = "as it is; the empty one is `\"\"`, NULL is nothing",
        [COLUMN_BYTES] = "base64",
        [COLUMN_DATE] = "`2024-01-31`",
        [COLUMN_TIME] = "`10:00:00`",
        [COLUMN_TIMESTAMP] = "`2024-01-31T10:00:00`",
        [COLUMN_TIMESTAMPTZ] = "`2024-01-31T10:00:00Z`",
        [COLUMN_INTERVAL] = "`P1DT2H`",
        [COLUMN_UUID] = "36 characters, small letters",
        [COLUMN_JSON] = "as the database wrote it",
    };

    shape_reference(definition, to);
    buf_text(to, "\nA column:\n\n");
    shape_reference(column_members, to);
    buf_text(to, "\nA parameter:\n\n");
    shape_reference(param_members, to);
    buf_text(to, "\n`parallel`:\n\n");
    shape_reference(parallel_members, to);
    buf_text(to, "\n| type | in a CSV file |\n| --- | --- |\n");
    for (unsigned type = 0; type < COLUMN_TYPES_COUNT; type++)
        buf_printf(to, "| `%s` | %s |\n", column_type_name((ColumnType)type), in_csv[type]);
}

/* --- from JSON --- */

typedef struct {
    Arena *arena;
    Problems *problems;
    Err *e;
} Reading;

/* What a rule of a parameter may be about. */
typedef enum { OF_NUMBERS, OF_TIMES, OF_TEXTS, OF_OTHERS } ParamClass;

static ParamClass
class_of(ColumnType type)
{
    switch (type) {
    case COLUMN_INT16:
    case COLUMN_INT32:
    case COLUMN_INT64:
    case COLUMN_FLOAT:
    case COLUMN_DOUBLE:
    case COLUMN_DECIMAL:
        return OF_NUMBERS;
    case COLUMN_DATE:
    case COLUMN_TIME:
    case COLUMN_TIMESTAMP:
    case COLUMN_TIMESTAMPTZ:
        return OF_TIMES;
    case COLUMN_TEXT:
    case COLUMN_BYTES:
    case COLUMN_INTERVAL:
    case COLUMN_UUID:
        return OF_TEXTS;
    case COLUMN_BOOL:
    case COLUMN_JSON:
    case COLUMN_TYPES_COUNT:
        break;
    }
    return OF_OTHERS;
}

static const char *
param_place(const TypeParam *param, const char *member, char place[SHAPE_POINTER_BYTES])
{
    return shape_below(shape_below("/params", param->name, place), member, place);
}

/* Is this a value of the parameter, whatever else it asks? */
static void
check_value(const Reading *r, const char *place, const TypeParam *param, const json_t *value)
{
    SourceParam ignored;
    const char *word;
    char detail[200];
    bool naive;

    if (json_is_null(value))
        problem_add(r->problems, place, "wrong-type", NULL, "must be a value");
    else if (!request_param(param, value, r->arena, &ignored, &naive, &word, detail))
        problem_add(r->problems, place, word, value, "%s", detail);
}

static void
read_bound(const Reading *r, const TypeParam *param, const char *member, const json_t *value,
    bool *has, double *number, const char **text)
{
    TypeParam plain = {.name = param->name, .type = param->type};
    char place[SHAPE_POINTER_BYTES];

    if (!value)
        return;
    param_place(param, member, place);
    if (class_of(param->type) == OF_NUMBERS && json_is_number(value)) {
        *has = true;
        *number = json_number_value(value);
    } else if (class_of(param->type) == OF_TIMES && json_is_string(value)) {
        check_value(r, place, &plain, value);
        *text = json_string_value(value);
    } else {
        problem_add(r->problems, place, "wrong-type", value,
            class_of(param->type) == OF_NUMBERS ? "must be a number"
            : class_of(param->type) == OF_TIMES ? "must be a text with a %s"
                                                : "is not for a %s: take it out",
            column_type_name(param->type));
    }
}

/* max_length and pattern are about texts alone. */
static void
check_text_rules(const Reading *r, const TypeParam *param)
{
    bool is_text = class_of(param->type) == OF_TEXTS || param->type == COLUMN_DECIMAL;
    char place[SHAPE_POINTER_BYTES];
    const char *why;

    if (param->max_length > 0 && !is_text)
        problem_add(r->problems, param_place(param, "max_length", place), "wrong-type", NULL,
            "is not for a %s: take it out", column_type_name(param->type));
    if (!param->pattern)
        return;
    param_place(param, "pattern", place);
    if (!is_text)
        problem_add(r->problems, place, "wrong-type", NULL, "is not for a %s: take it out",
            column_type_name(param->type));
    else if (!pattern_check(param->pattern, &why))
        problem_add(r->problems, place, "not-valid", NULL, "%s", why);
}

static void
check_presets(const Reading *r, TypeParam *param, const json_t *choices)
{
    char place[SHAPE_POINTER_BYTES];
    const json_t *choice;
    char number[24];
    size_t i;

    json_array_foreach(choices, i, choice)
    {
        snprintf(number, sizeof number, "%zu", i);
        shape_below(param_place(param, "enum", place), number, place);
        check_value(r, place, param, choice);
    }
    param->choices = choices;
    if (param->preset)
        check_value(r, param_place(param, "default", place), param, param->preset);
}

static void
read_param(const Reading *r, const char *name, const json_t *value, TypeParam *param)
{
    char place[SHAPE_POINTER_BYTES];

    *param = (TypeParam){
        .name = name,
        .required = json_bool_or(value, "required", false),
        .preset = json_object_get(value, "default"),
        .max_length = (unsigned)json_int_or(value, "max_length", 0),
        .pattern = json_text_or(value, "pattern", NULL),
        .description = json_text_or(value, "description", ""),
    };
    if (json_is_null(param->preset))
        param->preset = NULL; /* what is missing is null anyway */
    if (!text_is_name(name))
        problem_add(r->problems, shape_below("/params", name, place), "not-valid", NULL,
            "must be a name: a small letter, then small letters, digits and _");
    (void)column_type_of(json_text_or(value, "type", ""), &param->type);
    read_bound(r, param, "min", json_object_get(value, "min"), &param->has_min, &param->min,
        &param->min_text);
    read_bound(r, param, "max", json_object_get(value, "max"), &param->has_max, &param->max,
        &param->max_text);
    if (param->has_min && param->has_max && param->min > param->max)
        problem_add(r->problems, param_place(param, "max", place), "out-of-range", NULL,
            "must not be below min");
    check_text_rules(r, param);
    if (r->problems->count == 0)
        check_presets(r, param, json_object_get(value, "enum"));
}

static bool
read_params(const Reading *r, const json_t *params, ExportType *type)
{
    size_t count = json_object_size(params), i = 0;
    TypeParam *param = arena_alloc_array(r->arena, count + 1, sizeof *param, r->e);
    const char *name;
    json_t *value;

    if (!param)
        return false;
    json_object_foreach((json_t *)(uintptr_t)params, name, value)
        read_param(r, name, value, &param[i++]);
    type->param = param;
    type->params = count;
    return true;
}

static bool
read_columns(const Reading *r, const json_t *columns, ExportType *type)
{
    size_t count = json_array_size(columns), i;
    ColumnSpec *column = arena_alloc_array(r->arena, count + 1, sizeof *column, r->e);
    bool *given = arena_alloc_array(r->arena, count + 1, sizeof *given, r->e);
    json_t *value;

    if (!column || !given)
        return false;
    json_array_foreach(columns, i, value)
    {
        char pointer[64];

        column[i].name = json_text_or(value, "name", "");
        column[i].type = COLUMN_TEXT;
        given[i] = column_type_of(json_text_or(value, "type", ""), &column[i].type);
        for (size_t j = 0; j < i; j++)
            if (strcmp(column[j].name, column[i].name) == 0) {
                snprintf(pointer, sizeof pointer, "/columns/%zu/name", i);
                problem_add(r->problems, pointer, "not-unique", json_object_get(value, "name"),
                    "stands twice");
            }
    }
    type->column = column;
    type->column_type_given = given;
    type->columns = count;
    return true;
}

static bool
check_query(const Reading *r, const char *place, const json_t *query)
{
    const char *text = json_string_value(query);

    if (text[strspn(text, " \t\r\n;")])
        return true;
    problem_add(r->problems, place, "too-short", NULL, "is empty");
    return false;
}

static bool
read_queries(const Reading *r, const json_t *query, ExportType *type)
{
    static const char *const drivers[] = {"neo4j", "postgres", "sqlite", "count", NULL};
    size_t count = json_is_object(query) ? json_object_size(query) : 1, i = 0;
    TypeQuery *queries = arena_alloc_array(r->arena, count + 1, sizeof *queries, r->e);
    const char *driver;
    json_t *text;

    if (!queries)
        return false;
    type->query = queries;
    if (json_is_string(query)) {
        check_query(r, "/query", query);
        queries[0].text = json_string_value(query);
        type->queries = 1;
        return true;
    }
    if (!json_is_object(query) || count == 0) {
        problem_add(
            r->problems, "/query", "wrong-type", NULL, "must be a text, or texts by driver");
        return true;
    }
    json_object_foreach((json_t *)(uintptr_t)query, driver, text)
    {
        char pointer[SHAPE_POINTER_BYTES];
        bool known = false;

        shape_below("/query", driver, pointer);
        for (size_t d = 0; drivers[d]; d++)
            known |= strcmp(drivers[d], driver) == 0;
        if (!known)
            problem_add(r->problems, pointer, "not-allowed", NULL,
                "is not a driver: neo4j, postgres or sqlite");
        else if (!json_is_string(text))
            problem_add(r->problems, pointer, "wrong-type", text, "must be a text");
        else if (check_query(r, pointer, text))
            queries[i++] = (TypeQuery){driver, json_string_value(text)};
    }
    type->queries = i;
    return true;
}

/* Every $name must be declared, and every parameter must be used: a filter that no query knows lets
 * out all rows. */
typedef struct {
    const Reading *r;
    const ExportType *type;
    const TypeQuery *query;
    bool used[PARAMS_MAX];
} NameCheck;

static void
check_one_name(const char *name, size_t count, size_t at, void *with)
{
    NameCheck *check = with;
    char pointer[64];

    (void)at;
    for (size_t i = 0; i < check->type->params; i++)
        if (strlen(check->type->param[i].name) == count &&
            memcmp(check->type->param[i].name, name, count) == 0) {
            check->used[i] = true;
            return;
        }
    snprintf(pointer, sizeof pointer, "/query%s%.40s", check->query->driver ? "/" : "",
        check->query->driver ? check->query->driver : "");
    problem_add(check->r->problems, pointer, "unknown-param", NULL,
        "$%.*s is not among the params: declare it, or take it out", (int)(count > 64 ? 64 : count),
        name);
}

static QueryLanguage
language_of(const char *driver)
{
    return driver && strcmp(driver, "neo4j") == 0 ? QUERY_CYPHER : QUERY_SQL;
}

static void
check_names(const Reading *r, const ExportType *type)
{
    for (size_t q = 0; q < type->queries; q++) {
        NameCheck check = {.r = r, .type = type, .query = &type->query[q]};

        query_names(
            type->query[q].text, language_of(type->query[q].driver), check_one_name, &check);
        for (size_t i = 0; i < type->params; i++)
            if (!check.used[i]) {
                char pointer[256];

                snprintf(pointer, sizeof pointer, "/params/%.100s", type->param[i].name);
                problem_add(r->problems, pointer, "unused", NULL,
                    "is not used by the query%s%s: it would filter nothing",
                    type->query[q].driver ? " for " : "",
                    type->query[q].driver ? type->query[q].driver : "");
            }
    }
}

/* Which of the columns the rows are divided by. */
static void
read_parallel(const Reading *r, const json_t *parallel, ExportType *type)
{
    const char *by = json_text_or(parallel, "by", "");
    size_t at = 0;

    if (!parallel)
        return;
    if (!type_query(type, "postgres"))
        problem_add(r->problems, "/parallel", "not-allowed", NULL,
            "is for PostgreSQL alone, and there is no query for it: take it out");
    type->parallel = (SourceParallel){
        .table = json_text_or(parallel, "table", ""),
        .connections = (unsigned)json_int_or(parallel, "connections", 0),
    };
    if (strcmp(by, "ctid") == 0)
        return;
    while (at < type->columns && strcmp(type->column[at].name, by) != 0)
        at++;
    if (at == type->columns)
        problem_add(r->problems, "/parallel/by", "not-allowed", json_object_get(parallel, "by"),
            "must be ctid, or one of the columns");
    type->parallel.column = by;
}

static bool
make_version(const Reading *r, const json_t *json, ExportType *type)
{
    Buf canonical = buf_new(1 << 20);
    char hex[65];
    bool ok = json_write_canonical(json, &canonical, r->e) &&
              (digest_text(canonical.data, canonical.bytes, hex) ||
                  fail(r->e, INTERNAL, "no digest of a definition")) &&
              (type->version = arena_printf(r->arena, r->e, "sha256:%s", hex)) != NULL;

    buf_free(&canonical);
    return ok;
}

/* NULL: without memory, or with problems. `json` must outlive the type. */
static ExportType *
build(const json_t *json, Arena *arena, Problems *problems, Err *e)
{
    Reading r = {arena, problems, e};
    ExportType *type;

    if (!shape_check(definition, json, "", SHAPE_UNKNOWN_REFUSED, problems, NULL))
        return NULL;
    if (!(type = arena_alloc(arena, sizeof *type, e)))
        return NULL;
    *type = (ExportType){
        .name = json_text_or(json, "name", ""),
        .title = json_text_or(json, "title", json_text_or(json, "name", "")),
        .description = json_text_or(json, "description", ""),
        .source = json_text_or(json, "source", ""),
        .order = json_text_or(json, "order", ""),
        .time_limit_ms = read_time_limit(json_object_get(json, "time_limit")),
        .max_rows = (uint64_t)json_int_or(json, "max_rows", 0),
        .concurrency = (unsigned)json_int_or(json, "concurrency", 0),
        .origin = "",
        .json = json,
    };
    if (!read_params(&r, json_object_get(json, "params"), type) ||
        !read_columns(&r, json_object_get(json, "columns"), type) ||
        !read_queries(&r, json_object_get(json, "query"), type) || !make_version(&r, json, type))
        return NULL;
    check_names(&r, type);
    read_parallel(&r, json_object_get(json, "parallel"), type);
    return problems->count > 0 || e->links ? NULL : type;
}

const ExportType *
type_from_json(const json_t *json, Arena *arena, Err *e)
{
    Problems problems = {.arena = arena};
    const ExportType *type = build(json, arena, &problems, e);

    if (!type && !e->links)
        fail(e, INTERNAL, "a definition that is not valid: %s %s",
            problems.count ? problems.problem[0].pointer : "",
            problems.count ? problems.problem[0].detail : "");
    return type;
}

/* --- files --- */

/* "/params/team/type" becomes "params.team.type". */
static const char *
key_of(const char *pointer, char key[256])
{
    (void)text_copy(key, 256, *pointer ? pointer + 1 : "(the whole file)");
    for (char *at = key; *at; at++)
        if (*at == '/' && *pointer)
            *at = '.';
    return key;
}

static bool
report(const Yaml *yaml, const Problems *problems, Err *e)
{
    size_t count = problems->count < PROBLEMS_MAX ? problems->count : PROBLEMS_MAX;
    char key[256];

    /* The first one last, so that it stands where the chain begins. */
    for (size_t i = count; i-- > 0;) {
        const Problem *p = &problems->problem[i];

        fail(e, CONFIG_INVALID, "%s:%u: %s: %s%s%s", yaml_name(yaml), yaml_line(yaml, p->pointer),
            key_of(p->pointer, key), p->detail, p->allowed ? "; known: " : "",
            p->allowed ? p->allowed : "");
    }
    return false;
}

typedef struct {
    const Config *config;
    const Kinds *kinds;
    Arena *arena;
    ExportType *type;
    size_t types;
} Loading;

static void
check_source(const Loading *l, const ExportType *type, Problems *problems)
{
    const ConfigSource *source = config_find_source(l->config, type->source);
    const SourceKind *kind = source ? kinds_source(l->kinds, source->url) : NULL;

    if (!source) {
        const char *names[64] = {NULL}, *nearest;

        for (size_t i = 0; i < l->config->sources && i < 63; i++)
            names[i] = l->config->source[i].name;
        nearest = text_nearest(type->source, names);
        problem_add(problems, "/source", "unknown-source", NULL,
            "there is no source %.64s: add it under sources in the configuration file%s%s%s",
            type->source, nearest ? ", or did you mean " : "", nearest ? nearest : "",
            nearest ? "?" : "");
    } else if (!kind) {
        problem_add(problems, "/source", "not-available", NULL,
            "the source %s has a URL that this version cannot read", type->source);
    } else if (!type_query(type, kind->name)) {
        problem_add(problems, "/query", "required", NULL,
            "has no text for %s, which the source %s needs", kind->name, type->source);
    }
}

/* Takes over `yaml`. A later definition of a name replaces the earlier one. */
static bool
add(Loading *l, Yaml *yaml, const char *origin, Err *e)
{
    Problems problems = {.arena = l->arena};
    ExportType *type = build(yaml_value(yaml), l->arena, &problems, e);
    size_t at = 0;
    bool ok = false;

    if (type)
        check_source(l, type, &problems);
    if (!e->links && problems.count > 0)
        report(yaml, &problems, e);
    if (!type || e->links)
        goto out;
    while (at < l->types && strcmp(l->type[at].name, type->name) != 0)
        at++;
    if (at < l->types && strcmp(l->type[at].origin, "built-in") != 0) {
        fail(e, CONFIG_INVALID, "%s:%u: name: %s is defined in %s already", yaml_name(yaml),
            yaml_line(yaml, "/name"), type->name, l->type[at].origin);
        goto out;
    }
    if (at == TYPES_MAX) {
        fail(e, CONFIG_INVALID, "%s: more than %d export types", yaml_name(yaml), TYPES_MAX);
        goto out;
    }
    type->origin = origin;
    type->json = json_incref((json_t *)(uintptr_t)yaml_value(yaml));
    if (at < l->types)
        json_decref((json_t *)(uintptr_t)l->type[at].json);
    l->type[at] = *type;
    if (at == l->types)
        l->types++;
    ok = true;
out:
    yaml_close(yaml);
    return ok;
}

/* Who can write a definition can read every source: nobody but its owner may. */
static bool
check_file(const char *path, Err *e)
{
    struct stat is;

    if (stat(path, &is) != 0)
        return fail(e, CONFIG_INVALID, "%s: %m", path);
    if (is.st_uid != 0 && is.st_uid != geteuid())
        return fail(e, CONFIG_INVALID, "%s: belongs to somebody else: chown it", path);
    return !(is.st_mode & (S_IWGRP | S_IWOTH)) ||
           fail(e, CONFIG_INVALID, "%s: others may write to it: chmod go-w", path);
}

static bool
add_file(Loading *l, const char *path, Err *e)
{
    char *kept = arena_text(l->arena, path, e);
    Yaml *yaml = kept && check_file(path, e) ? yaml_read(kept, l->arena, e) : NULL;

    return yaml && add(l, yaml, kept, e);
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The definition files of a folder, by name. */
static bool
list_folder(const Loading *l, const char *path, const char **names, size_t *count, Err *e)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;

    *count = 0;
    if (!folder)
        return fail(e, CONFIG_INVALID, "types: %s: %m", path);
    while (!e->links && (entry = readdir(folder))) {
        if (entry->d_name[0] == '.' ||
            !(text_ends(entry->d_name, ".yaml") || text_ends(entry->d_name, ".yml")))
            continue;
        if (*count == TYPES_MAX)
            fail(e, CONFIG_INVALID, "types: %s: more than %d files", path, TYPES_MAX);
        else
            names[(*count)++] = arena_printf(l->arena, e, "%s/%s", path, entry->d_name);
    }
    closedir(folder);
    if (!e->links)
        qsort(names, *count, sizeof *names, compare_names);
    return e->links == 0;
}

static bool
add_path(Loading *l, const char *path, Err *e)
{
    const char **names;
    struct stat is;
    size_t count;

    if (stat(path, &is) != 0)
        return fail(e, CONFIG_INVALID, "types: %s: %m", path);
    if (!S_ISDIR(is.st_mode))
        return add_file(l, path, e);
    if (!(names = arena_alloc_array(l->arena, TYPES_MAX, sizeof *names, e)) ||
        !list_folder(l, path, names, &count, e))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!add_file(l, names[i], e))
            return false;
    return true;
}

static bool
add_all(Loading *l, Err *e)
{
    for (const BuiltinType *builtin = builtin_types; builtin->name; builtin++) {
        Yaml *yaml = yaml_parse(builtin->text, strlen(builtin->text), builtin->name, l->arena, e);

        if (!yaml || !add(l, yaml, "built-in", e))
            return false;
    }
    for (size_t i = 0; i < l->config->types.items; i++)
        if (!add_path(l, l->config->types.item[i], e))
            return false;
    return true;
}

const TypeSet *
types_load(const Config *config, const Kinds *kinds, Arena *process, Err *e)
{
    TypeSet *set = arena_alloc(process, sizeof *set, e);
    Loading l = {.config = config, .kinds = kinds, .arena = process};
    bool ok;

    if (!set || !(l.type = arena_alloc_array(process, TYPES_MAX, sizeof *l.type, e)))
        return NULL;
    ok = add_all(&l, e);
    *set = (TypeSet){l.type, l.types};
    if (ok)
        return set;
    types_free(set);
    return NULL;
}

void
types_free(const TypeSet *set)
{
    for (size_t i = 0; set && i < set->types; i++)
        json_decref((json_t *)(uintptr_t)set->type[i].json);
}

const ExportType *
types_find(const TypeSet *set, const char *name)
{
    for (size_t i = 0; i < set->types; i++)
        if (strcmp(set->type[i].name, name) == 0)
            return &set->type[i];
    return NULL;
}

const char *
type_query(const ExportType *type, const char *driver)
{
    for (size_t i = 0; i < type->queries; i++)
        if (!type->query[i].driver || strcmp(type->query[i].driver, driver) == 0)
            return type->query[i].text;
    return NULL;
}

SourceParallel
type_parallel(const ExportType *type, const SourceKind *kind, const ConfigSource *source)
{
    SourceParallel parallel = type->parallel;

    if (!kind->splits)
        parallel.connections = 0;
    else if (source->concurrency > 0 && parallel.connections > source->concurrency)
        parallel.connections = source->concurrency;
    return parallel;
}

SourceSpec
type_spec(const ExportType *type, const SourceKind *kind, const ConfigSource *source,
    SourceParallel *parallel)
{
    SourceSpec spec = kinds_source_spec(source);

    spec.query = type_query(type, kind->name);
    spec.column = type->column;
    spec.type_given = type->column_type_given;
    spec.columns = type->columns;
    *parallel = type_parallel(type, kind, source);
    spec.parallel = parallel->connections > 0 ? parallel : NULL;
    return spec;
}

/* --- describing and trying --- */

static json_t *
describe_param(const TypeParam *param)
{
    static const struct {
        ColumnType type;
        const char *json, *format;
    } forms[] = {{COLUMN_BOOL, "boolean", NULL}, {COLUMN_INT16, "integer", NULL},
        {COLUMN_INT32, "integer", NULL}, {COLUMN_INT64, "integer", NULL},
        {COLUMN_FLOAT, "number", NULL}, {COLUMN_DOUBLE, "number", NULL},
        {COLUMN_DATE, "string", "date"}, {COLUMN_TIME, "string", "time"},
        {COLUMN_TIMESTAMP, "string", "date-time"}, {COLUMN_TIMESTAMPTZ, "string", "date-time"},
        {COLUMN_UUID, "string", "uuid"}};
    json_t *schema = json_object();
    const char *json = "string", *format = NULL;

    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        if (forms[i].type == param->type) {
            json = forms[i].json;
            format = forms[i].format;
        }
    json_object_set_new(schema, "type", json_string(json));
    if (format)
        json_object_set_new(schema, "format", json_string(format));
    if (param->has_min)
        json_object_set_new(schema, "minimum", json_real(param->min));
    if (param->has_max)
        json_object_set_new(schema, "maximum", json_real(param->max));
    if (param->max_length)
        json_object_set_new(schema, "maxLength", json_integer(param->max_length));
    if (param->pattern)
        json_object_set_new(schema, "pattern", json_string(param->pattern));
    if (param->choices)
        json_object_set(schema, "enum", (json_t *)(uintptr_t)param->choices);
    if (param->preset)
        json_object_set(schema, "default", (json_t *)(uintptr_t)param->preset);
    if (*param->description)
        json_object_set_new(schema, "description", json_string(param->description));
    return schema;
}

json_t *
type_describe(const ExportType *type, const Kinds *kinds)
{
    json_t *properties = json_object(), *required = json_array(), *columns = json_array();
    json_t *formats = json_array(), *schema, *described;

    for (size_t i = 0; i < type->params; i++) {
        json_object_set_new(properties, type->param[i].name, describe_param(&type->param[i]));
        if (type->param[i].required)
            json_array_append_new(required, json_string(type->param[i].name));
    }
    schema =
        json_pack("{s:s, s:s, s:b, s:o}", "$schema", "https://json-schema.org/draft/2020-12/schema",
            "type", "object", "additionalProperties", 0, "properties", properties);
    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    for (size_t i = 0; i < type->columns; i++) {
        json_t *column = json_pack("{s:s}", "name", type->column[i].name);

        if (type->column_type_given[i])
            json_object_set_new(
                column, "type", json_string(column_type_name(type->column[i].type)));
        json_array_append_new(columns, column);
    }
    for (const EncoderKind *const *kind = kinds->format; *kind; kind++)
        json_array_append_new(formats, json_string((*kind)->name));
    described = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:b}", "name", type->name,
        "title", type->title, "description", type->description, "source", type->source,
        "params_schema", schema, "columns", columns, "formats", formats, "default_format", "csv",
        "version", type->version, "enabled", 1);
    /* Not the table: how a database is made inside is nobody's who asks for exports. */
    if (described && type->parallel.connections > 0)
        json_object_set_new(described, "parallel",
            json_pack("{s:s, s:i}", "by", type->parallel.column ? type->parallel.column : "ctid",
                "connections", (int)type->parallel.connections));
    return described;
}

static bool
always_goes_on(Watch *w, Stage stage, uint64_t rows, uint64_t bytes, Err *e)
{
    (void)w;
    (void)stage;
    (void)rows;
    (void)bytes;
    (void)e;
    return true;
}

static bool
never_asked(Watch *w)
{
    (void)w;
    return false;
}

bool
type_check(const ExportType *type, const Config *config, const Kinds *kinds, Err *e)
{
    enum { CHECK_MS = 10000 };
    const ConfigSource *named = config_find_source(config, type->source);
    const SourceKind *kind = named ? kinds_source(kinds, named->url) : NULL;
    Watch watch = {.go_on = always_goes_on, .asked_to_end = never_asked, .end_fd = -1};
    Arena *arena = arena_new(64 << 20);
    SourceParam *param;
    SourceParallel parallel;
    Source *source = NULL;
    SourceSpec spec;

    if (!arena || !kind) {
        arena_free(arena);
        return fail(e, SOURCE_UNAVAILABLE, "no driver for the source %s", type->source);
    }
    if ((param = arena_alloc_array(arena, type->params + 1, sizeof *param, e))) {
        for (size_t i = 0; i < type->params; i++)
            param[i] = (SourceParam){
                .name = type->param[i].name, .type = type->param[i].type, .is_null = true};
        spec = type_spec(type, kind, named, &parallel);
        spec.param = param;
        spec.params = type->params;
        spec.timeout_ms = CHECK_MS;
        source = kind->open(&spec, &watch, arena, e);
        source_close(source);
    }
    arena_free(arena);
    return source != NULL;
}
