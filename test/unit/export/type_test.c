#include "export/type.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "test/unit/export/bench.h"

#undef fail /* cmocka has one of its own */
#include <cmocka.h>

/* A scratch folder with definitions, and what is loaded with them. */
typedef struct {
    char folder[BENCH_PATH_BYTES];
    Arena *arena;
    const Config *config;
    const TypeSet *set;
    Err e;
} Load;

static void
begin(Load *l)
{
    *l = (Load){.arena = arena_new(64 << 20)};
    bench_folder(l->folder);
}

/* `path` below the scratch folder; "" is the folder itself. */
static bool
load(Load *l, const char *path)
{
    char types[BENCH_PATH_BYTES + 128], data[BENCH_PATH_BYTES + 32];
    char *options[] = {types, data, NULL};

    snprintf(types, sizeof types, "--types=%s%s%s", l->folder, *path ? "/" : "", path);
    snprintf(data, sizeof data, "--data-dir=%s", l->folder);
    l->config = bench_config(l->arena, options);
    err_clear(&l->e);
    l->set = types_load(l->config, &bench_kinds, l->arena, &l->e);
    return l->set != NULL;
}

static void
end(Load *l)
{
    char command[BENCH_PATH_BYTES + 8];
    static const char *const names[] = {"a.yaml", "b.yml", "c.txt", ".d.yaml", "bad.yaml"};

    types_free(l->set);
    arena_free(l->arena);
    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(command, sizeof command, "%s/%s", l->folder, names[i]);
        (void)unlink(command);
    }
    (void)rmdir(l->folder);
}

#define HEAD "name: mine\nsource: graph\n"                /* lines 1 and 2 */
#define COLUMNS "columns:\n  - { name: a, type: text }\n" /* two lines */
#define QUERY "query: SELECT $p AS a FROM t\n"
#define PARALLEL(of) HEAD "parallel: " of "\n" COLUMNS "query: SELECT 1 AS a\n"
#define LONG_NAME "a2345678901234567890123456789012345678901234567890123456789_ABC" /* 63 */
#define PARAM(of) HEAD "params:\n  p: " of "\n" COLUMNS QUERY

static void
test_wrong_definitions(void **state)
{
    static const struct {
        const char *name, *text;
        unsigned line;
        const char *key, *says;
    } cases[] = {
        {"empty", "", 1, NULL, NULL},
        {"a list", "- a\n", 1, "(the whole file)", "an object"},
        {"not YAML", "name: [\n", 2, NULL, NULL},
        {"name missing", "source: graph\n" COLUMNS "query: SELECT 1 AS a\n", 1, "name", "missing"},
        {"name ../x", "name: ../x\nsource: graph\n" COLUMNS "query: SELECT 1 AS a\n", 1, "name",
            "small letter"},
        {"name with a capital", "name: Mine\nsource: graph\n" COLUMNS "query: SELECT 1 AS a\n", 1,
            "name", "small letter"},
        {"unknown key", HEAD "colums: []\n" COLUMNS "query: SELECT 1 AS a\n", 3, "colums",
            "did you mean \"columns\""},
        {"a key twice", HEAD "name: other\n" COLUMNS "query: SELECT 1 AS a\n", 3, NULL, "name"},
        {"an alias bomb",
            "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n" HEAD COLUMNS "query: SELECT 1 AS a\n", 1,
            NULL, NULL},
        {"a tag", "name: !!python/object:os.system mine\n", 1, NULL, NULL},
        {"title no text", HEAD "title: 5\n" COLUMNS "query: SELECT 1 AS a\n", 3, "title", "a text"},
        {"source missing", "name: mine\n" COLUMNS "query: SELECT 1 AS a\n", 1, "source", "missing"},
        {"source unknown", "name: mine\nsource: grap\n" COLUMNS "query: SELECT 1 AS a\n", 2,
            "source", "did you mean graph"},
        {"columns missing", HEAD "query: SELECT 1 AS a\n", 1, "columns", "missing"},
        {"columns empty", HEAD "columns: []\nquery: SELECT 1 AS a\n", 3, "columns", "between 1"},
        {"column twice", HEAD "columns:\n  - name: a\n  - name: a\nquery: SELECT 1 AS a\n", 5,
            "columns.1.name", "twice"},
        {"column without a name", HEAD "columns:\n  - type: text\nquery: SELECT 1 AS a\n", 4,
            "columns.0.name", "missing"},
        {"column's name empty", HEAD "columns:\n  - name: \"\"\nquery: SELECT 1 AS a\n", 4,
            "columns.0.name", "1 to 128"},
        {"column's type unknown",
            HEAD "columns:\n  - { name: a, type: txt }\nquery: SELECT 1 AS a\n", 4,
            "columns.0.type", "did you mean \"text\""},
        {"query missing", HEAD COLUMNS, 1, "query", "missing"},
        {"query a number", HEAD COLUMNS "query: 5\n", 5, "query", "a text"},
        {"query empty", HEAD COLUMNS "query: \" ;\"\n", 5, "query", "empty"},
        {"query for no driver", HEAD COLUMNS "query:\n  sqllite: SELECT 1\n", 6, "query.sqllite",
            "not a driver"},
        {"query empty for a driver", HEAD COLUMNS "query:\n  sqlite: \"\"\n", 6, "query.sqlite",
            "empty"},
        {"no query for its source's driver", HEAD COLUMNS "query:\n  postgres: SELECT 1 AS a\n", 5,
            "query", "no text for sqlite"},
        {"undeclared name", HEAD COLUMNS "query: SELECT $q AS a\n", 5, "query",
            "$q is not among the params"},
        {"undeclared name for a driver",
            HEAD COLUMNS "query:\n  sqlite: SELECT 1 AS a\n  postgres: SELECT $q AS a\n", 7,
            "query.postgres", "$q is not"},
        {"unused parameter", HEAD "params:\n  p: { type: text }\n" COLUMNS "query: SELECT 1 AS a\n",
            4, "params.p", "filter nothing"},
        {"unused for one driver",
            HEAD "params:\n  p: { type: text }\n" COLUMNS
                 "query:\n  sqlite: SELECT $p AS a\n  neo4j: RETURN 1 AS a\n",
            4, "params.p", "for neo4j"},
        {"parameter's name",
            HEAD "params:\n  P: { type: text }\n" COLUMNS "query: SELECT $P AS a\n", 4, "params.P",
            "small letter"},
        {"parameter without a type", PARAM("{ required: true }"), 4, "params.p.type", "missing"},
        {"parameter's type unknown", PARAM("{ type: integer }"), 4, "params.p.type", "not one of"},
        {"parameter's unknown key", PARAM("{ type: text, maxlength: 5 }"), 4, "params.p.maxlength",
            "did you mean \"max_length\""},
        {"required no bool", PARAM("{ type: text, required: 1 }"), 4, "params.p.required", "true"},
        {"min of a text", PARAM("{ type: text, min: 1 }"), 4, "params.p.min", "take it out"},
        {"min no number", PARAM("{ type: int32, min: \"1\" }"), 4, "params.p.min", "a number"},
        {"min no time", PARAM("{ type: timestamptz, min: soon }"), 4, "params.p.min", "ISO 8601"},
        {"min a number for a time", PARAM("{ type: date, min: 5 }"), 4, "params.p.min", "a date"},
        {"max below min", PARAM("{ type: double, min: 2, max: 1 }"), 4, "params.p.max",
            "below min"},
        {"max_length of a number", PARAM("{ type: int32, max_length: 5 }"), 4,
            "params.p.max_length", "take it out"},
        {"max_length 0", PARAM("{ type: text, max_length: 0 }"), 4, "params.p.max_length",
            "between 1"},
        {"bad pattern", PARAM("{ type: text, pattern: \"(\" }"), 4, "params.p.pattern",
            "regular expression"},
        {"pattern that breaks out", PARAM("{ type: text, pattern: \"a)|(b\" }"), 4,
            "params.p.pattern", "regular expression"},
        {"pattern of a number", PARAM("{ type: int32, pattern: \"1\" }"), 4, "params.p.pattern",
            "take it out"},
        {"pattern that eats memory", PARAM("{ type: text, pattern: \"((a{1,255}){1,255}){9}\" }"),
            4, "params.p.pattern", "too large"},
        {"default of another type", PARAM("{ type: int32, default: \"5\" }"), 4, "params.p.default",
            "whole number"},
        {"default out of bounds", PARAM("{ type: int32, max: 4, default: 5 }"), 4,
            "params.p.default", "at most 4"},
        {"default not among the values", PARAM("{ type: text, enum: [a], default: b }"), 4,
            "params.p.default", "must be one of [\"a\"]"},
        {"enum no list", PARAM("{ type: text, enum: a }"), 4, "params.p.enum", "a list"},
        {"enum empty", PARAM("{ type: text, enum: [] }"), 4, "params.p.enum", "between 1"},
        {"enum of another type", PARAM("{ type: text, enum: [a, 5] }"), 4, "params.p.enum.1",
            "a text"},
        {"enum with null", PARAM("{ type: text, enum: [null] }"), 4, "params.p.enum.0", "a value"},
        {"time_limit 0", HEAD "time_limit: 0\n" COLUMNS "query: SELECT 1 AS a\n", 3, "time_limit",
            "90s"},
        {"time_limit past all years",
            HEAD "time_limit: 9223372036854775807\n" COLUMNS "query: SELECT 1 AS a\n", 3,
            "time_limit", "a year"},
        {"time_limit no time", HEAD "time_limit: 1 hour\n" COLUMNS "query: SELECT 1 AS a\n", 3,
            "time_limit", "90s"},
        {"max_rows 0", HEAD "max_rows: 0\n" COLUMNS "query: SELECT 1 AS a\n", 3, "max_rows",
            "between 1"},
        {"concurrency 1.5", HEAD "concurrency: 1.5\n" COLUMNS "query: SELECT 1 AS a\n", 3,
            "concurrency", "whole number"},
        {"parallel without a table",
            HEAD "parallel: { by: ctid, connections: 2 }\n" COLUMNS "query: SELECT 1 AS a\n", 3,
            "parallel.table", "missing"},
        {"parallel by nothing", PARALLEL("{ table: t, connections: 2 }"), 3, "parallel.by",
            "missing"},
        {"parallel without connections", PARALLEL("{ by: ctid, table: t }"), 3,
            "parallel.connections", "missing"},
        {"parallel by no column", PARALLEL("{ by: b, table: t, connections: 2 }"), 3, "parallel.by",
            "one of the columns"},
        {"parallel by a number", PARALLEL("{ by: 5, table: t, connections: 2 }"), 3, "parallel.by",
            "a text"},
        {"parallel over 0 connections", PARALLEL("{ by: a, table: t, connections: 0 }"), 3,
            "parallel.connections", "between 1"},
        {"parallel over 17 connections", PARALLEL("{ by: a, table: t, connections: 17 }"), 3,
            "parallel.connections", "and 16"},
        {"parallel's table empty", PARALLEL("{ by: a, table: \"\", connections: 2 }"), 3,
            "parallel.table", "SCHEMA.NAME"},
        {"parallel's table quoted", PARALLEL("{ by: a, table: '\"t\"', connections: 2 }"), 3,
            "parallel.table", "SCHEMA.NAME"},
        {"parallel's table with a blank", PARALLEL("{ by: a, table: 't u', connections: 2 }"), 3,
            "parallel.table", "SCHEMA.NAME"},
        {"parallel's table in three parts", PARALLEL("{ by: a, table: d.s.t, connections: 2 }"), 3,
            "parallel.table", "SCHEMA.NAME"},
        {"parallel's table ends with a point", PARALLEL("{ by: a, table: s., connections: 2 }"), 3,
            "parallel.table", "SCHEMA.NAME"},
        {"parallel's table begins with a point", PARALLEL("{ by: a, table: .t, connections: 2 }"),
            3, "parallel.table", "SCHEMA.NAME"},
        {"parallel's table of 64", PARALLEL("{ by: a, table: s." LONG_NAME "x, connections: 2 }"),
            3, "parallel.table", "at most 63"},
        {"parallel's unknown key", PARALLEL("{ by: a, table: t, connections: 2, connection: 2 }"),
            3, "parallel.connection", "did you mean \"connections\""},
        {"parallel no map", PARALLEL("8"), 3, "parallel", "an object"},
        {"parallel without PostgreSQL",
            HEAD "parallel: { by: a, table: t, connections: 2 }\n" COLUMNS
                 "query:\n  sqlite: SELECT 1 AS a\n",
            3, "parallel", "for PostgreSQL alone"},
        {"incremental", HEAD "incremental: {}\n" COLUMNS "query: SELECT 1 AS a\n", 3, "incremental",
            "does not have it yet"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char chain[8192], place[BENCH_PATH_BYTES + 64];
        Load l;

        begin(&l);
        bench_write(l.folder, "bad.yaml", cases[i].text, 0600);
        if (load(&l, "bad.yaml"))
            fail_msg("%s: loaded", cases[i].name);
        assert_int_equal(l.e.code, ERR_CONFIG_INVALID);
        err_chain(&l.e, chain, sizeof chain);
        snprintf(place, sizeof place, "%s/bad.yaml:%u: %s%s", l.folder, cases[i].line,
            cases[i].key ? cases[i].key : "", cases[i].key ? ":" : "");
        if (!strstr(chain, place) || (cases[i].says && !strstr(chain, cases[i].says)))
            fail_msg("%s: %s", cases[i].name, chain);
        end(&l);
    }
}

/* All that is wrong with a file is told. */
static void
test_all_is_told(void **state)
{
    Load l;
    char chain[8192];

    (void)state;
    begin(&l);
    bench_write(l.folder, "bad.yaml",
        "name: Mine\nsource: graph\ntitel: x\ncolumns: []\nquery: SELECT 1 AS a\n", 0600);
    assert_false(load(&l, "bad.yaml"));
    err_chain(&l.e, chain, sizeof chain);
    assert_non_null(strstr(chain, "bad.yaml:1: name"));
    assert_non_null(strstr(chain, "bad.yaml:3: titel"));
    assert_non_null(strstr(chain, "bad.yaml:4: columns"));
    end(&l);
}

static void
test_built_in(void **state)
{
    static const struct {
        const char *name, *source;
        size_t params, columns;
    } cases[] = {
        {"employee_metrics", "graph", 2, 8},
        {"graph_data", "graph", 0, 6},
        {"interaction_history", "timescale", 5, 5},
    };
    Load l;

    (void)state;
    begin(&l);
    if (!load(&l, ""))
        fail_msg("%s", err_root(&l.e));
    assert_int_equal(l.set->types, COUNT(cases));
    for (size_t i = 0; i < COUNT(cases); i++) {
        const ExportType *type = types_find(l.set, cases[i].name);
        const ExportType *child;
        Err e = {0};

        assert_non_null(type);
        assert_string_equal(type->source, cases[i].source);
        assert_int_equal(type->params, cases[i].params);
        assert_int_equal(type->columns, cases[i].columns);
        assert_string_equal(type->origin, "built-in");
        assert_non_null(type_query(type, "sqlite"));
        assert_non_null(type_query(type, "postgres"));
        assert_non_null(type_query(type, "neo4j"));
        assert_null(type_query(type, "count"));
        assert_int_equal(strlen(type->version), 7 + 64);
        /* What a child gets is the same. */
        child = type_from_json(type->json, l.arena, &e);
        assert_non_null(child);
        assert_string_equal(child->version, type->version);
        assert_int_equal(child->params, type->params);
    }
    assert_null(types_find(l.set, "nothing"));
    end(&l);
}

#define MINE(more) "name: mine\nsource: graph\n" COLUMNS "query: SELECT 1 AS a\n" more

static void
test_folder_and_precedence(void **state)
{
    Load l;
    char chain[4096];

    (void)state;
    begin(&l);
    bench_write(
        l.folder, "a.yaml", MINE("max_rows: 1e6\ntime_limit: 90s\nconcurrency: 2.0\n"), 0644);
    bench_write(l.folder, "b.yml",
        "name: graph_data\nsource: timescale\ntitle: Ours\n" COLUMNS "query: SELECT 1 AS a\n",
        0600);
    bench_write(l.folder, "c.txt", "this is none", 0600);
    bench_write(l.folder, ".d.yaml", "neither is this", 0600);
    if (!load(&l, ""))
        fail_msg("%s", err_root(&l.e));
    assert_int_equal(l.set->types, 4);
    assert_int_equal(types_find(l.set, "mine")->max_rows, 1000000);
    assert_int_equal(types_find(l.set, "mine")->time_limit_ms, 90000);
    assert_int_equal(types_find(l.set, "mine")->concurrency, 2);
    assert_string_equal(types_find(l.set, "mine")->title, "mine");
    /* A file's definition takes the place of the built-in one. */
    assert_string_equal(types_find(l.set, "graph_data")->title, "Ours");
    assert_string_equal(types_find(l.set, "graph_data")->source, "timescale");
    assert_string_equal(strrchr(types_find(l.set, "graph_data")->origin, '/'), "/b.yml");
    types_free(l.set);
    /* Two files may not fight over a name. */
    bench_write(l.folder, "b.yml", MINE(""), 0600);
    assert_false(load(&l, ""));
    assert_int_equal(l.e.code, ERR_CONFIG_INVALID);
    err_chain(&l.e, chain, sizeof chain);
    assert_non_null(strstr(chain, "b.yml:1: name: mine is defined in"));
    assert_non_null(strstr(chain, "a.yaml already"));
    end(&l);
}

static void
test_files_of_others(void **state)
{
    Load l;

    (void)state;
    begin(&l);
    bench_write(l.folder, "a.yaml", MINE(""), 0620);
    assert_false(load(&l, "a.yaml"));
    assert_non_null(strstr(err_root(&l.e), "chmod go-w"));
    assert_false(load(&l, ""));
    bench_write(l.folder, "a.yaml", MINE(""), 0602);
    assert_false(load(&l, "a.yaml"));
    bench_write(l.folder, "a.yaml", MINE(""), 0600);
    assert_true(load(&l, "a.yaml"));
    types_free(l.set);
    assert_false(load(&l, "nothing.yaml"));
    assert_int_equal(l.e.code, ERR_CONFIG_INVALID);
    end(&l);
}

/* The version follows the content, not its form. */
static void
test_version(void **state)
{
    static const char *const same[] = {MINE(""),
        "# a remark\nquery: \"SELECT 1 AS a\"\nsource: graph\nname: mine\n"
        "columns:\n- type: text\n  name: a\n"};
    char version[2][80];
    Load l;

    (void)state;
    begin(&l);
    for (size_t i = 0; i < 2; i++) {
        bench_write(l.folder, "a.yaml", same[i], 0600);
        if (!load(&l, "a.yaml"))
            fail_msg("%s", err_root(&l.e));
        snprintf(version[i], sizeof version[i], "%s", types_find(l.set, "mine")->version);
        types_free(l.set);
    }
    assert_string_equal(version[0], version[1]);
    bench_write(l.folder, "a.yaml", MINE("max_rows: 5\n"), 0600);
    assert_true(load(&l, "a.yaml"));
    assert_string_not_equal(version[0], types_find(l.set, "mine")->version);
    end(&l);
}

static void
test_describe(void **state)
{
    Load l;
    json_t *json, *schema, *p;

    (void)state;
    begin(&l);
    bench_write(l.folder, "a.yaml",
        PARAM("{ type: int32, required: true, min: 1, max: 9, default: 2, enum: [2, 3],"
              " description: Only p }"),
        0600);
    if (!load(&l, "a.yaml"))
        fail_msg("%s", err_root(&l.e));
    json = type_describe(types_find(l.set, "mine"), &bench_kinds);
    assert_string_equal(json_text_or(json, "name", ""), "mine");
    assert_string_equal(json_text_or(json, "source", ""), "graph");
    assert_string_equal(json_text_or(json, "default_format", ""), "csv");
    assert_true(json_bool_or(json, "enabled", false));
    assert_int_equal(json_array_size(json_object_get(json, "formats")), 1);
    assert_int_equal(json_array_size(json_object_get(json, "columns")), 1);
    schema = json_object_get(json, "params_schema");
    assert_false(json_bool_or(schema, "additionalProperties", true));
    assert_int_equal(json_array_size(json_object_get(schema, "required")), 1);
    p = json_object_get(json_object_get(schema, "properties"), "p");
    assert_string_equal(json_text_or(p, "type", ""), "integer");
    assert_true(json_number_value(json_object_get(p, "minimum")) == 1);
    assert_true(json_number_value(json_object_get(p, "maximum")) == 9);
    assert_int_equal(json_int_or(p, "default", 0), 2);
    assert_int_equal(json_array_size(json_object_get(p, "enum")), 2);
    assert_string_equal(json_text_or(p, "description", ""), "Only p");
    json_decref(json);
    end(&l);
}

/* Where its source splits, and nowhere else; what a child gets, and what others are told. */
static void
test_parallel(void **state)
{
    static const struct {
        const char *by, *table, *column;
    } cases[] = {{"ctid", "t", NULL}, {"a", "Metrics." LONG_NAME, "a"}};
    const SourceKind splits = {.name = "postgres", .splits = true};
    const ConfigSource free_source = {.name = "graph"};
    const ConfigSource narrow_source = {.name = "graph", .concurrency = 3};

    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        const ExportType *type, *child;
        char text[512];
        json_t *json;
        Load l;
        Err e = {0};

        begin(&l);
        snprintf(text, sizeof text, MINE("parallel: { by: %s, table: %s, connections: 4 }\n"),
            cases[i].by, cases[i].table);
        bench_write(l.folder, "a.yaml", text, 0600);
        if (!load(&l, "a.yaml"))
            fail_msg("%s", err_root(&l.e));
        type = types_find(l.set, "mine");
        assert_int_equal(type->parallel.connections, 4);
        assert_string_equal(type->parallel.table, cases[i].table);
        if (cases[i].column)
            assert_string_equal(type->parallel.column, cases[i].column);
        else
            assert_null(type->parallel.column);
        assert_int_equal(type_parallel(type, &splits, &free_source).connections, 4);
        assert_int_equal(type_parallel(type, &splits, &narrow_source).connections, 3);
        assert_string_equal(type_parallel(type, &splits, &free_source).table, cases[i].table);
        assert_int_equal(type_parallel(type, &source_sqlite, &free_source).connections, 0);
        assert_int_equal(
            type_parallel(types_find(l.set, "graph_data"), &splits, &free_source).connections, 0);
        child = type_from_json(type->json, l.arena, &e);
        assert_int_equal(child->parallel.connections, 4);
        json = type_describe(type, &bench_kinds);
        assert_string_equal(json_text_or(json_object_get(json, "parallel"), "by", ""), cases[i].by);
        assert_int_equal(json_int_or(json_object_get(json, "parallel"), "connections", 0), 4);
        assert_null(json_object_get(json_object_get(json, "parallel"), "table"));
        json_decref(json);
        end(&l);
    }
}

/* Each allocation fails once: CONFIG_INVALID or MEMORY_LIMIT, and nothing is kept. */
static void
test_without_memory(void **state)
{
    bool ok = false;
    Load l;

    (void)state;
    begin(&l);
    bench_write(l.folder, "a.yaml", PARAM("{ type: text, enum: [a, b], pattern: \"[ab]\" }"), 0600);
    assert_true(load(&l, "a.yaml"));
    types_free(l.set);
    for (unsigned long nth = 1; !ok; nth++) {
        Arena *arena = arena_new(64 << 20);
        const TypeSet *set;
        Err e = {0};

        arena_fail_at(nth);
        set = types_load(l.config, &bench_kinds, arena, &e);
        arena_fail_at(0);
        ok = set != NULL;
        assert_true(ok || e.code == ERR_MEMORY_LIMIT || e.code == ERR_CONFIG_INVALID);
        types_free(set);
        arena_free(arena);
        assert_true(nth < 5000);
    }
    l.set = NULL;
    end(&l);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_definitions),
        cmocka_unit_test(test_all_is_told),
        cmocka_unit_test(test_built_in),
        cmocka_unit_test(test_folder_and_precedence),
        cmocka_unit_test(test_files_of_others),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_without_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
