/* source/postgres/bind.c: how parameters stand in a query. */
#include <float.h>
#include <math.h>

#include "source/postgres/postgres_in.h"
#include "test/test.h"

#define TEXT(name_, text_)                                                                         \
    {                                                                                              \
        .name = (name_), .type = COLUMN_TEXT, .as.text = {(text_), sizeof(text_) - 1 }             \
    }

static Arena *task;

static int
set_up(void **state)
{
    (void)state;
    task = arena_new(64 << 20);
    return task ? 0 : -1;
}

static int
tear_down(void **state)
{
    (void)state;
    arena_free(task);
    return 0;
}

static PgBound
bind_one(const char *query, const SourceParam *param)
{
    SourceSpec spec = {.query = query, .param = param, .params = 1};
    PgBound bound;
    Err e = {0};

    assert_ok(pg_bind(&spec, task, &bound, &e), &e);
    return bound;
}

static void
test_literals(void **state)
{
    static const int64_t us_per_day = 86400000000, us_per_hour = 3600000000;
    const struct {
        SourceParam param;
        const char *want;
    } cases[] = {
        {{.type = COLUMN_BOOL, .as.yes = true}, "('true'::pg_catalog.bool)"},
        {{.type = COLUMN_BOOL, .as.yes = false}, "('false'::pg_catalog.bool)"},
        {{.type = COLUMN_INT16, .as.int64 = -32768}, "('-32768'::pg_catalog.int2)"},
        {{.type = COLUMN_INT32, .as.int64 = 7}, "('7'::pg_catalog.int4)"},
        {{.type = COLUMN_INT64, .as.int64 = INT64_MIN},
            "('-9223372036854775808'::pg_catalog.int8)"},
        {{.type = COLUMN_FLOAT, .as.real = 0.1}, "('0.1'::pg_catalog.float4)"},
        {{.type = COLUMN_FLOAT, .as.real = -INFINITY}, "('-inf'::pg_catalog.float4)"},
        {{.type = COLUMN_DOUBLE, .as.real = 0.1}, "('0.1'::pg_catalog.float8)"},
        {{.type = COLUMN_DOUBLE, .as.real = -0.0}, "('-0.0'::pg_catalog.float8)"},
        {{.type = COLUMN_DOUBLE, .as.real = 1e300}, "('1e+300'::pg_catalog.float8)"},
        {{.type = COLUMN_DOUBLE, .as.real = DBL_TRUE_MIN}, "('5e-324'::pg_catalog.float8)"},
        {{.type = COLUMN_DOUBLE, .as.real = NAN}, "('nan'::pg_catalog.float8)"},
        {{.type = COLUMN_DOUBLE, .as.real = INFINITY}, "('inf'::pg_catalog.float8)"},
        {{.type = COLUMN_DECIMAL, .as.text = {"-12.50", 6}}, "('-12.50'::pg_catalog.numeric)"},
        {{.type = COLUMN_DECIMAL, .as.text = {"+.5xx", 3}}, "('+.5'::pg_catalog.numeric)"},
        {{.type = COLUMN_DATE, .as.int64 = 0}, "('1970-01-01'::pg_catalog.date)"},
        {{.type = COLUMN_DATE, .as.int64 = 2932896}, "('9999-12-31'::pg_catalog.date)"},
        {{.type = COLUMN_DATE, .as.int64 = 2932897}, "('10000-01-01'::pg_catalog.date)"},
        {{.type = COLUMN_DATE, .as.int64 = -719162}, "('0001-01-01'::pg_catalog.date)"},
        {{.type = COLUMN_DATE, .as.int64 = -719163}, "('0001-12-31 BC'::pg_catalog.date)"},
        {{.type = COLUMN_TIME, .as.int64 = 0}, "('00:00:00.000000'::pg_catalog.time)"},
        {{.type = COLUMN_TIME, .as.int64 = us_per_day - 1}, "('23:59:59.999999'::pg_catalog.time)"},
        {{.type = COLUMN_TIMESTAMP, .as.int64 = -1},
            "('1969-12-31 23:59:59.999999'::pg_catalog.timestamp)"},
        {{.type = COLUMN_TIMESTAMPTZ, .as.int64 = 1704067200000001},
            "('2024-01-01 00:00:00.000001+00'::pg_catalog.timestamptz)"},
        {{.type = COLUMN_TIMESTAMPTZ, .as.int64 = -719528 * us_per_day - 14 * us_per_hour},
            "('0002-12-31 10:00:00.000000+00 BC'::pg_catalog.timestamptz)"},
        {{.type = COLUMN_TIMESTAMP, .as.int64 = -719528 * us_per_day},
            "('0001-01-01 00:00:00.000000 BC'::pg_catalog.timestamp)"},
        {{.type = COLUMN_INTERVAL, .as.text = {"P1Y2M-3DT-4H5M6.7S", 18}},
            "('P1Y2M-3DT-4H5M6.7S'::pg_catalog.interval)"},
        {{.type = COLUMN_INTERVAL, .as.text = {"1 day -02:03", 12}},
            "('1 day -02:03'::pg_catalog.interval)"},
        {{.type = COLUMN_UUID, .as.text = {"8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11", 36}},
            "('8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11'::pg_catalog.uuid)"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceParam param = cases[i].param;
        char want[160];
        PgBound bound;

        trying(cases[i].want);
        param.name = "p";
        bound = bind_one("SELECT $p", &param);
        snprintf(want, sizeof want, "SELECT %s", cases[i].want);
        assert_string_equal(bound.sql, want);
        assert_int_equal(bound.settings, 0);
    }
}

static void
test_nulls(void **state)
{
    static const char *const want[COLUMN_TYPES_COUNT] = {"bool", "int2", "int4", "int8", "float4",
        "float8", "numeric", "text", "bytea", "date", "time", "timestamp", "timestamptz",
        "interval", "uuid", "json"};

    (void)state;
    for (ColumnType type = 0; type < COLUMN_TYPES_COUNT; type++) {
        SourceParam param = {.name = "p", .type = type, .is_null = true};
        char sql[160];
        PgBound bound;

        trying(want[type]);
        bound = bind_one("SELECT $p WHERE ($p IS NULL)", &param);
        snprintf(sql, sizeof sql,
            "SELECT (NULL::pg_catalog.%s) WHERE ((NULL::pg_catalog.%s) IS NULL)", want[type],
            want[type]);
        assert_string_equal(bound.sql, sql);
        assert_int_equal(bound.settings, 0);
    }
}

/* What a client chose freely is bound, never written. */
static void
test_settings(void **state)
{
    static const char evil[] = "x' OR '1'='1' -- $$ \\ \n \xc3\xa9 $p";
    const SourceParam params[] = {
        TEXT("text", evil),
        {.name = "blob", .type = COLUMN_BYTES, .as.text = {"\0\xff'", 3}},
        {.name = "doc", .type = COLUMN_JSON, .as.text = {"{\"a\": \"'\"}", 10}},
        TEXT("unused", "nobody reads this"),
        TEXT("empty", ""),
        {.name = "nothing", .type = COLUMN_BYTES, .as.text = {NULL, 0}},
        {.name = "n", .type = COLUMN_INT32, .as.int64 = 5},
    };
    SourceSpec spec = {.query = "SELECT $text, $blob, $n, $doc, $text, $empty, $nothing",
        .param = params,
        .params = count_of(params)};
    static const PgSetting want[] = {
        {"rowferry.p_text", evil},
        {"rowferry.p_blob", "00ff27"},
        {"rowferry.p_doc", "{\"a\": \"'\"}"},
        {"rowferry.p_empty", ""},
        {"rowferry.p_nothing", ""},
    };
    PgBound bound;
    Err e = {0};

    (void)state;
    assert_ok(pg_bind(&spec, task, &bound, &e), &e);
    assert_string_equal(bound.sql,
        "SELECT (pg_catalog.current_setting('rowferry.p_text')), "
        "(pg_catalog.decode(pg_catalog.current_setting('rowferry.p_blob'), 'hex')), "
        "('5'::pg_catalog.int4), "
        "(pg_catalog.current_setting('rowferry.p_doc')::pg_catalog.json), "
        "(pg_catalog.current_setting('rowferry.p_text')), "
        "(pg_catalog.current_setting('rowferry.p_empty')), "
        "(pg_catalog.decode(pg_catalog.current_setting('rowferry.p_nothing'), 'hex'))");
    assert_int_equal(bound.settings, count_of(want));
    for (size_t i = 0; i < count_of(want); i++) {
        assert_string_equal(bound.setting[i].name, want[i].name);
        assert_string_equal(bound.setting[i].value, want[i].value);
    }
}

/* Where only the nullness of a value is asked, the planner is told it; elsewhere nothing changes.
 */
static void
test_asked_for_null(void **state)
{
#define IS "(''::pg_catalog.text)"
#define VALUE "(pg_catalog.current_setting('rowferry.p_x'))"
    static const struct {
        const char *query, *want;
    } cases[] = {
        {"WHERE ($x IS NULL OR c = $x)", "WHERE (" IS " IS NULL OR c = " VALUE ")"},
        {"where $x is not null", "where " IS " is not null"},
        {"WHERE a OR $x IS NULL", "WHERE a OR " IS " IS NULL"},
        {"WHERE NOT $x IS NULL", "WHERE NOT " IS " IS NULL"},
        {"JOIN t ON $x IS NULL", "JOIN t ON " IS " IS NULL"},
        {"CASE WHEN $x IS NULL THEN 1 END", "CASE WHEN " IS " IS NULL THEN 1 END"},
        {"(/* a */ $x -- b\n IS\tNOT /* c */ NULL)",
            "(/* a */ " IS " -- b\n IS\tNOT /* c */ NULL)"},
        {"f($x IS NULL = b)", "f(" IS " IS NULL = b)"},
        {"a BETWEEN b AND $x IS NULL", "a BETWEEN b AND " VALUE " IS NULL"},
        {"WHERE a AND $x IS NULL", "WHERE a AND " VALUE " IS NULL"},
        {"(a -> $x IS NULL)", "(a -> " VALUE " IS NULL)"},
        {"(a || $x IS NULL)", "(a || " VALUE " IS NULL)"},
        {"(- $x IS NULL)", "(- " VALUE " IS NULL)"},
        {"(a IS DISTINCT FROM $x IS NULL)", "(a IS DISTINCT FROM " VALUE " IS NULL)"},
        {"(a NOT LIKE $x IS NULL)", "(a NOT LIKE " VALUE " IS NULL)"},
        {"(a OPERATOR(pg_catalog.||) $x IS NULL)", "(a OPERATOR(pg_catalog.||) " VALUE " IS NULL)"},
        {"SELECT f(a, $x IS NULL)", "SELECT f(a, " VALUE " IS NULL)"},
        {"SELECT t.\"or\" $x IS NULL", "SELECT t.\"or\" " VALUE " IS NULL"},
        {"SELECT t.or $x IS NULL", "SELECT t.or " VALUE " IS NULL"},
        {"SELECT t . when $x IS NULL", "SELECT t . when " VALUE " IS NULL"},
        {"WHERE nowhere $x IS NULL", "WHERE nowhere " VALUE " IS NULL"},
        {"($x::text IS NULL)", "(" VALUE "::text IS NULL)"},
        {"($x IS NOT DISTINCT FROM NULL)", "(" VALUE " IS NOT DISTINCT FROM NULL)"},
        {"($x IS TRUE)", "(" VALUE " IS TRUE)"},
        {"($x IS", "(" VALUE " IS"},
        {"($x IS NOT", "(" VALUE " IS NOT"},
        {"($x IS NULLS)", "(" VALUE " IS NULLS)"},
        {"($x IS \"null\")", "(" VALUE " IS \"null\")"},
        {"$x IS NULL", VALUE " IS NULL"},
    };
#undef IS
#undef VALUE
    const SourceParam param = TEXT("x", "v");

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        PgBound bound;

        trying(cases[i].query);
        bound = bind_one(cases[i].query, &param);
        assert_string_equal(bound.sql, cases[i].want);
        assert_int_equal(bound.settings, 1);
    }
}

static void
test_where_a_query_ends(void **state)
{
    static const struct {
        const char *query, *want;
    } cases[] = {
        {"SELECT 1;", "SELECT 1"},
        {" SELECT 1 ; -- that is all\n /* it is */ ; ", " SELECT 1"},
        {"SELECT 1 -- not )", "SELECT 1"},
        {"SELECT 1 /* not ) */", "SELECT 1"},
        {"SELECT ';' -- ;\n, 1;;", "SELECT ';' -- ;\n, 1"},
        {"SELECT 1; SELECT $n;", "SELECT 1; SELECT ('5'::pg_catalog.int4)"},
        {"SELECT $n;", "SELECT ('5'::pg_catalog.int4)"},
        {"SELECT 'open;", "SELECT 'open;"},
        {"SELECT 1; /* open;", "SELECT 1; /* open;"},
        {"SELECT 'a'$n, 'b'\n$n", "SELECT 'a'('5'::pg_catalog.int4), 'b'\n('5'::pg_catalog.int4)"},
        {"SELECT '$n', \"$n\", $$ $n $$, a$n, E'\\'$n', $n::text",
            "SELECT '$n', \"$n\", $$ $n $$, a$n, E'\\'$n', ('5'::pg_catalog.int4)::text"},
    };
    const SourceParam param = {.name = "n", .type = COLUMN_INT32, .as.int64 = 5};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        trying(cases[i].query);
        assert_string_equal(bind_one(cases[i].query, &param).sql, cases[i].want);
    }
}

static void
test_refused(void **state)
{
    static const struct {
        const char *query;
        SourceParam param;
        const char *says;
    } cases[] = {
        {"", TEXT("x", "v"), "empty"},
        {" -- nothing\n;", TEXT("x", "v"), "empty"},
        {"SELECT $y", TEXT("x", "v"), "$y is not among"},
        {"SELECT $x1", TEXT("x", "v"), "$x1 is not among"},
        {"SELECT $X", TEXT("x", "v"), "$X is not among"},
        {"SELECT $1, $x", TEXT("x", "v"), "begins no parameter"},
        {"SELECT $ x, $x", TEXT("x", "v"), "begins no parameter"},
        {"SELECT `a`, $x", TEXT("x", "v"), "quotes names"},
        {"SELECT $x", TEXT("x", "a\0b"), "U+0000"},
        {"SELECT $x", {.name = "x", .type = COLUMN_JSON, .as.text = {"\0", 1}}, "U+0000"},
        {"SELECT $X", TEXT("X", "v"), "name"},
        {"SELECT $\xc3\xa9", TEXT("\xc3\xa9", "v"), "name"},
        {"SELECT $x", {.name = "x", .type = COLUMN_DECIMAL, .as.text = {"1e5", 3}}, "no decimal"},
        {"SELECT $x", {.name = "x", .type = COLUMN_DECIMAL, .as.text = {"1.2.3", 5}}, "no decimal"},
        {"SELECT $x", {.name = "x", .type = COLUMN_DECIMAL, .as.text = {"-", 1}}, "no decimal"},
        {"SELECT $x", {.name = "x", .type = COLUMN_DECIMAL, .as.text = {"", 0}}, "no decimal"},
        {"SELECT $x", {.name = "x", .type = COLUMN_DECIMAL, .as.text = {"1'", 2}}, "no decimal"},
        {"SELECT $x", {.name = "x", .type = COLUMN_INTERVAL, .as.text = {"", 0}}, "no interval"},
        {"SELECT $x", {.name = "x", .type = COLUMN_INTERVAL, .as.text = {"1 day'", 6}},
            "no interval"},
        {"SELECT $x", {.name = "x", .type = COLUMN_INTERVAL, .as.text = {"P1D\\", 4}},
            "no interval"},
        {"SELECT $x", {.name = "x", .type = COLUMN_INTERVAL, .as.text = {"P1D\0", 4}},
            "no interval"},
        {"SELECT $x", {.name = "x", .type = COLUMN_UUID, .as.text = {"8f14", 4}}, "no uuid"},
        {"SELECT $x",
            {.name = "x",
                .type = COLUMN_UUID,
                .as.text = {"8f14e45f-ceea-467f-9ab3-2c0e0e2f8a1'", 36}},
            "no uuid"},
        {"SELECT $x", {.name = "x", .type = COLUMN_DATE, .as.int64 = INT64_MAX}, "no date"},
        {"SELECT $x", {.name = "x", .type = COLUMN_DATE, .as.int64 = INT64_MIN}, "no date"},
        {"SELECT $x", {.name = "x", .type = COLUMN_TIME, .as.int64 = -1}, "no time"},
        {"SELECT $x", {.name = "x", .type = COLUMN_TIME, .as.int64 = 86400000000}, "no time"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = {.query = cases[i].query, .param = &cases[i].param, .params = 1};
        PgBound bound;
        Err e = {0};

        trying(cases[i].says);
        assert_fails(pg_bind(&spec, task, &bound, &e), ERR_SOURCE_QUERY, &e);
        assert_says(&e, cases[i].says);
    }
}

static void
test_no_memory(void **state)
{
    const SourceParam params[] = {
        TEXT("a", "v"), {.name = "b", .type = COLUMN_BYTES, .as.text = {"v", 1}}};
    SourceSpec spec = {.query = "SELECT $a, $b", .param = params, .params = 2};
    bool ok = false;

    (void)state;
    for (unsigned long nth = 1; !ok; nth++) {
        Arena *own = arena_new(1 << 20);
        PgBound bound;
        Err e = {0};

        arena_fail_at(nth);
        ok = pg_bind(&spec, own, &bound, &e);
        arena_fail_at(0);
        assert_true(ok || e.code == ERR_MEMORY_LIMIT);
        arena_free(own);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_literals),
        cmocka_unit_test(test_nulls),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_asked_for_null),
        cmocka_unit_test(test_where_a_query_ends),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
