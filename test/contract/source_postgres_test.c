/*
 * source/postgres: the contract, parameters of every type there and back, what must not get
 * through, and what is left on the server. Values of every type: test/story/test_postgres.py.
 */
#include <inttypes.h>
#include <libpq-fe.h>

#include "base/time.h"
#include "source/postgres/postgres_in.h"
#include "test/contract/source_contract.h"
#include "test/contract/watches.h"
#include "test/test.h"

extern const SourceKind source_postgres;

enum { GONE_MS = 5000 };

static const char *url; /* of the superuser */
static PGconn *admin;

static void
execute(const char *sql)
{
    PGresult *result = PQexec(admin, sql);

    if (PQresultStatus(result) != PGRES_COMMAND_OK && PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(admin));
    PQclear(result);
}

static int
set_up(void **state)
{
    (void)state;
    if (!(url = getenv("ROWFERRY_TEST_POSTGRES"))) {
        fprintf(stderr, "ROWFERRY_TEST_POSTGRES is not set: make unit starts a server for it\n");
        return -1;
    }
    admin = PQconnectdb(url);
    if (PQstatus(admin) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(admin));
        return -1;
    }
    execute("SET client_min_messages = warning;"
            "CREATE TABLE people (name text, team varchar(20), score float8);"
            "INSERT INTO people VALUES ('Ann', 'red', 1.5), ('Bob', 'blue', NULL), (NULL, NULL, 3);"
            "CREATE TABLE many (n int4 PRIMARY KEY, t text NOT NULL);"
            "INSERT INTO many SELECT i, 'row ' || i FROM generate_series(1, 10000) AS i;"
            "CREATE TABLE indexed (team text, day date, doc text);"
            "INSERT INTO indexed SELECT 'team ' || i, date '2024-01-01' + i, '{}'"
            " FROM generate_series(1, 20000) AS i;"
            "CREATE INDEX ON indexed (team); CREATE INDEX ON indexed (day);"
            "CREATE TABLE canary (n int); INSERT INTO canary VALUES (7);"
            "ANALYZE");
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    source_postgres.let_go();
    execute("DROP TABLE people, many, indexed, canary");
    PQfinish(admin);
    return 0;
}

/* What this query says now, as text. */
static const char *
ask_admin(const char *sql)
{
    static char said[256];
    PGresult *result = PQexec(admin, sql);

    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1)
        fail_msg("%s: %s", sql, PQerrorMessage(admin));
    snprintf(said, sizeof said, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return said;
}

/* One column v of this type. */
static SourceSpec
asking(const char *query, ColumnType type)
{
    static ColumnSpec column;

    column = (ColumnSpec){"v", type};
    return (SourceSpec){
        .name = "test", .url = url, .query = query, .column = &column, .columns = 1};
}

static char *
read_all(const SourceSpec *spec)
{
    Err e = {0};
    char *text;

    assert_ok(text = source_read(&source_postgres, spec, &e), &e);
    return text;
}

static const ColumnSpec many_columns[] = {{"t", COLUMN_TEXT}, {"n", COLUMN_INT32}};

static SourceSpec
asking_many(const char *query)
{
    return (SourceSpec){
        .name = "test", .url = url, .query = query, .column = many_columns, .columns = 2};
}

static void
test_yields(void **state)
{
    static const struct {
        const char *name, *query;
        uint64_t rows;
    } cases[] = {
        {"nothing", "SELECT n, t FROM many WHERE n < 0", 0},
        {"one", "SELECT n, t FROM many WHERE n = 1", 1},
        {"a batch", "SELECT n, t FROM many LIMIT 4096", 4096},
        {"a batch and one", "SELECT n, t FROM many LIMIT 4097", 4097},
        {"all", "SELECT t, n FROM many ORDER BY n DESC", 10000},
        {"3 kB a row", "SELECT n, repeat('x', 3000) AS t FROM many", 10000},
        {"just under 1 MiB", "SELECT n, repeat('x', 1048560) AS t FROM many LIMIT 3", 3},
        {"just over 1 MiB", "SELECT n, repeat('x', 1048577) AS t FROM many LIMIT 3", 3},
        {"huge between small",
            "SELECT n, CASE n % 100 WHEN 50 THEN repeat('x', 4000000) ELSE t END AS t FROM many "
            "LIMIT 1000",
            1000},
        {"NULLs", "SELECT nullif(n % 2, 0) AS n, nullif(t, 'row 7') AS t FROM many", 10000},
        {"a comment behind", "SELECT n, t FROM many; -- that is all\n /* it is */ ;", 10000},
        {"VALUES", "VALUES (1, 'a'), (2, 'b')", 0},
        {"WITH", "WITH x AS (SELECT * FROM many) SELECT n, t FROM x WHERE n <= 7", 7},
        {"TABLE", "TABLE many", 10000},
        {"in parentheses", "(SELECT n, t FROM many LIMIT 5) UNION ALL (SELECT 1, 'x')", 6},
        {"quoted names", "SELECT \"n\" AS \"n\", t AS t FROM many LIMIT 2", 2},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = asking_many(cases[i].query);

        trying(cases[i].name);
        if (strcmp(cases[i].name, "VALUES") == 0)
            source_refuses(&source_postgres, &spec, ERR_SOURCE_QUERY, "column", NULL);
        else
            source_yields(&source_postgres, &spec, cases[i].rows);
    }
}

/* 40 MiB of text in one value: it travels, alone and whole. More than 64 MiB do not. */
static void
test_a_huge_row(void **state)
{
    SourceSpec spec = asking("SELECT repeat('x', 41943040) AS v", COLUMN_TEXT);
    char *text = read_all(&spec);

    (void)state;
    assert_int_equal(strlen(text), 41943041);
    free(text);
    spec = asking("SELECT repeat('x', 67108864) AS v", COLUMN_TEXT);
    source_refuses(&source_postgres, &spec, ERR_SIZE_LIMIT, NULL, NULL);
    spec = asking("SELECT repeat('x', 300000000) AS v", COLUMN_TEXT);
    source_refuses(&source_postgres, &spec, ERR_SIZE_LIMIT, NULL, NULL);
}

/* Nothing of ours runs on the server any more. */
static void
is_gone(void)
{
    int64_t until_ms = time_now_ms() + GONE_MS;
    const char *left;

    do {
        left = ask_admin("SELECT coalesce(string_agg(left(query, 100), '; '), '') "
                         "FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                         "AND backend_type = 'client backend' AND state <> 'idle'");
        if (!*left)
            return;
    } while (time_now_ms() < until_ms);
    fail_msg("still there: %s", left);
}

static void
test_ends(void **state)
{
    static const char *const endless[] = {
        "SELECT 1 AS v FROM pg_sleep(600)",
        "SELECT i AS v FROM generate_series(1, 9223372036854775807) AS i",
        "SELECT count(*) AS v FROM generate_series(1, 1000000000) AS i",
        "SELECT i AS v FROM generate_series(1, 1000000000) AS i ORDER BY -i",
        "SELECT i AS v FROM generate_series(1, 10) AS i, pg_sleep(i * 50)",
    };

    (void)state;
    for (size_t i = 0; i < count_of(endless); i++) {
        SourceSpec spec = asking(endless[i], COLUMN_INT64);

        trying(endless[i]);
        source_ends_when_asked(&source_postgres, &spec);
        is_gone();
        source_ends_by_timeout(&source_postgres, &spec);
        is_gone();
    }
}

static void
test_memory(void **state)
{
    static const SourceParam params[] = {
        {.name = "t", .type = COLUMN_TEXT, .as.text = {"row 9", 5}},
        {.name = "n", .type = COLUMN_INT32, .as.int64 = 5},
    };
    SourceSpec spec = asking_many("SELECT n, t FROM many WHERE n > $n OR t = $t");
    SourceParallel parallel = {.table = "many", .connections = 2};

    (void)state;
    spec.param = params;
    spec.params = count_of(params);
    source_survives_no_memory(&source_postgres, &spec);
    spec.parallel = &parallel;
    source_survives_no_memory(&source_postgres, &spec);
    is_gone();
}

/* Rows come out in the order of the ranges, each once. */
static void
test_parallel(void **state)
{
    static const SourceParallel parallel[] = {
        {.table = "many", .connections = 1},
        {.table = "many", .connections = 3},
        {.table = "public.many", .connections = 16},
        {.table = "many", .column = "n", .connections = 4},
    };
    SourceSpec spec = asking_many("SELECT n, t FROM many"), ordered;
    char *want, *got;

    (void)state;
    ordered = asking_many("SELECT n, t FROM many ORDER BY n");
    want = read_all(&ordered);
    for (size_t i = 0; i < count_of(parallel); i++) {
        spec.parallel = &parallel[i];
        source_yields(&source_postgres, &spec, 10000);
        got = read_all(&spec);
        assert_string_equal(got, want);
        free(got);
    }
    free(want);
    is_gone();
}

static void
test_missing_column(void **state)
{
    SourceSpec spec = asking("SELECT n AS v FROM many WHERE n < 4", COLUMN_INT32);

    (void)state;
    source_names_missing_column(&source_postgres, &spec);
}

static void
test_nulls_among_values(void **state)
{
    static const ColumnSpec columns[] = {
        {"name", COLUMN_TEXT}, {"score", COLUMN_DOUBLE}, {"team", COLUMN_TEXT}};
    SourceSpec spec = {.name = "test",
        .url = url,
        .query = "SELECT * FROM people",
        .column = columns,
        .columns = 3};
    char *text = read_all(&spec);

    (void)state;
    assert_string_equal(text, "Ann|1.5|red\nBob|NULL|blue\nNULL|3|NULL\n");
    free(text);
}

/* The server reads each value as the one that was asked. */
static void
test_params(void **state)
{
#define TEXTUAL(type_, text_)                                                                      \
    {                                                                                              \
        .type = (type_), .as.text = {(text_), sizeof(text_) - 1 }                                  \
    }
    static const struct {
        SourceParam param;
        const char *want;
    } cases[] = {
        {{.type = COLUMN_BOOL, .as.yes = true}, "true"},
        {{.type = COLUMN_BOOL, .as.yes = false}, "false"},
        {{.type = COLUMN_INT16, .as.int64 = INT16_MIN}, "-32768"},
        {{.type = COLUMN_INT32, .as.int64 = INT32_MAX}, "2147483647"},
        {{.type = COLUMN_INT64, .as.int64 = INT64_MIN}, "-9223372036854775808"},
        {{.type = COLUMN_FLOAT, .as.real = (double)0.1f}, "0.100000001"},
        {{.type = COLUMN_FLOAT, .as.real = (double)1e-45f}, "1.40129846e-45"},
        {{.type = COLUMN_DOUBLE, .as.real = 0.1}, "0.10000000000000001"},
        {{.type = COLUMN_DOUBLE, .as.real = 5e-324}, "4.9406564584124654e-324"},
        {{.type = COLUMN_DOUBLE, .as.real = -1.7976931348623157e308}, "-1.7976931348623157e+308"},
        {TEXTUAL(COLUMN_DECIMAL, "+00123456789012345678901234567890.1200"),
            "123456789012345678901234567890.1200"},
        {TEXTUAL(COLUMN_DECIMAL, "-.5"), "-0.5"},
        {{.type = COLUMN_DATE, .as.int64 = 19782}, "19782"},
        {{.type = COLUMN_DATE, .as.int64 = -719528}, "-719528"},   /* 0000-01-01: 1 BC */
        {{.type = COLUMN_DATE, .as.int64 = -2440588}, "-2440588"}, /* the first day there is */
        {{.type = COLUMN_DATE, .as.int64 = 2932897}, "2932897"},   /* 10000-01-01 */
        {{.type = COLUMN_TIME, .as.int64 = 86399999999}, "86399999999"},
        {{.type = COLUMN_TIMESTAMP, .as.int64 = -1}, "-1"},
        {{.type = COLUMN_TIMESTAMP, .as.int64 = -62167219200000000}, "-62167219200000000"},
        {{.type = COLUMN_TIMESTAMPTZ, .as.int64 = 1704067200000001}, "1704067200000001"},
        {{.type = COLUMN_TIMESTAMPTZ, .as.int64 = -62167269600000000}, "-62167269600000000"},
        {{.type = COLUMN_TIMESTAMPTZ, .as.int64 = 253402351200000000}, "253402351200000000"},
        {TEXTUAL(COLUMN_INTERVAL, "P1Y2M-3DT-4H5M6.7S"), "P1Y2M-3DT-3H-54M-53.3S"},
        {TEXTUAL(COLUMN_INTERVAL, "1 day -02:03"), "P1DT-2H-3M"},
        {TEXTUAL(COLUMN_UUID, "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"),
            "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"},
        {TEXTUAL(COLUMN_TEXT, ""), ""},
        {TEXTUAL(COLUMN_TEXT, "x' OR '1'='1' -- $$ \\ \xc3\xa9 \xf0\x9f\x98\x80"),
            "x' OR '1'='1' -- $$ \\ \xc3\xa9 \xf0\x9f\x98\x80"},
        {TEXTUAL(COLUMN_BYTES, ""), ""},
        {TEXTUAL(COLUMN_BYTES, "\0\xff'\\"), "00ff275c"},
        {TEXTUAL(COLUMN_JSON, "{\"a\":  [1, null, \"'\"]}"), "{\"a\":  [1, null, \"'\"]}"},
    };
#undef TEXTUAL

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceParam param = cases[i].param;
        SourceSpec spec = asking("SELECT $p AS v", param.type);
        char *text;

        trying(cases[i].want);
        param.name = "p";
        spec.param = &param;
        spec.params = 1;
        text = read_all(&spec);
        assert_int_equal(strlen(text), strlen(cases[i].want) + 1);
        assert_memory_equal(text, cases[i].want, strlen(cases[i].want));
        free(text);
        param.is_null = true;
        text = read_all(&spec);
        assert_string_equal(text, "NULL\n");
        free(text);
    }
}

/* A value that the server cannot hold is the query's failure, and told. */
static void
test_refused_params(void **state)
{
    static const struct {
        SourceParam param;
        const char *says;
    } cases[] = {
        {{.type = COLUMN_INTERVAL, .as.text = {"P1X", 3}}, "interval"},
        {{.type = COLUMN_TIMESTAMP, .as.int64 = INT64_MIN + 1}, "timestamp"},
        {{.type = COLUMN_DATE, .as.int64 = INT32_MIN + 1}, "date"},
        {{.type = COLUMN_JSON, .as.text = {"{", 1}}, "json"},
        {{.type = COLUMN_TEXT, .as.text = {"\xff", 1}}, "UTF8"},
    };
    SourceSpec good = asking("SELECT 1 AS v", COLUMN_INT32);

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceParam param = cases[i].param;
        SourceSpec spec = asking("SELECT $p AS v", param.type);

        trying(cases[i].says);
        param.name = "p";
        spec.param = &param;
        spec.params = 1;
        source_refuses(&source_postgres, &spec, ERR_SOURCE_QUERY, cases[i].says, NULL);
    }
    source_yields(&source_postgres, &good, 1);
}

/* A text of 1 MiB is compared like any other. */
static void
test_a_long_param(void **state)
{
    enum { LONG_BYTES = 1 << 20 };
    char *value = malloc(LONG_BYTES), *text;
    SourceParam param = {.name = "p", .type = COLUMN_TEXT, .as.text = {value, LONG_BYTES}};
    SourceSpec spec =
        asking("SELECT length($p) AS v WHERE $p = repeat('''', 1048576)", COLUMN_INT32);

    (void)state;
    memset(value, '\'', LONG_BYTES);
    spec.param = &param;
    spec.params = 1;
    text = read_all(&spec);
    assert_string_equal(text, "1048576\n");
    free(text);
    free(value);
}

/* What a bound query is planned as: the plan's text. */
static void
explain(const SourceSpec *spec, char *plan, size_t plan_bytes)
{
    Arena *task = arena_new(1 << 20);
    PgBound bound;
    char sql[4096];
    PGresult *result;
    Err e = {0};

    assert_ok(pg_bind(spec, task, &bound, &e), &e);
    execute("BEGIN");
    for (size_t i = 0; i < bound.settings; i++) {
        const char *const values[] = {bound.setting[i].name, bound.setting[i].value};

        result =
            PQexecParams(admin, "SELECT set_config($1, $2, true)", 2, NULL, values, NULL, NULL, 0);
        assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
        PQclear(result);
    }
    snprintf(sql, sizeof sql, "EXPLAIN %s", bound.sql);
    result = PQexec(admin, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(admin));
    *plan = '\0';
    for (int row = 0; row < PQntuples(result); row++)
        snprintf(
            plan + strlen(plan), plan_bytes - strlen(plan), "%s\n", PQgetvalue(result, row, 0));
    PQclear(result);
    execute("COMMIT");
    arena_free(task);
}

/* Filters that a request may leave out are no burden: what is given is found by an index, what is
 * not given is not asked. */
static void
test_plans(void **state)
{
    static const struct {
        const char *query;
        bool team, day;
        const char *has, *lacks;
    } cases[] = {
        {"SELECT * FROM indexed WHERE ($team IS NULL OR team = $team)", true, false, "Index Cond",
            "Seq Scan"},
        {"SELECT * FROM indexed WHERE ($team IS NULL OR team = $team)", false, false, "Seq Scan",
            "Filter"},
        {"SELECT * FROM indexed WHERE ($team IS NULL OR team = $team) AND ($day IS NULL OR day >= "
         "$day)",
            false, true, "Index Cond", "Seq Scan"},
        {"SELECT * FROM indexed WHERE CASE WHEN $team IS NOT NULL THEN team = $team ELSE true END",
            true, false, "Index Cond", "Seq Scan"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceParam params[] = {
            {.name = "team", .type = COLUMN_TEXT, .as.text = {"team 77", 7}},
            {.name = "day", .type = COLUMN_DATE, .as.int64 = 39700},
        };
        SourceSpec spec = {.query = cases[i].query, .param = params, .params = 2};
        char plan[4096];

        params[0].is_null = !cases[i].team;
        params[1].is_null = !cases[i].day;
        explain(&spec, plan, sizeof plan);
        trying(plan);
        assert_non_null(strstr(plan, cases[i].has));
        assert_null(strstr(plan, cases[i].lacks));
    }
}

static void
test_refused_queries(void **state)
{
    static const char *const queries[] = {
        "",
        "-- nothing",
        ";",
        "SELECT 1 AS v; SELECT 2 AS v",
        "SELECT 1 AS v; DROP TABLE canary",
        "SELECT 1 AS v; nonsense",
        "nonsense",
        "SELECT v FROM nowhere",
        "SELECT nowhere AS v",
        "INSERT INTO canary VALUES (1)",
        "INSERT INTO canary VALUES (1) RETURNING n AS v",
        "UPDATE canary SET n = 1",
        "UPDATE canary SET n = 1 RETURNING n AS v",
        "DELETE FROM canary",
        "DELETE FROM canary RETURNING n AS v",
        "WITH x AS (DELETE FROM canary RETURNING n) SELECT n AS v FROM x",
        "SELECT n AS v FROM canary FOR UPDATE",
        "SELECT 1 AS v INTO stolen",
        "TRUNCATE canary",
        "DROP TABLE canary",
        "CREATE TABLE t (a int)",
        "CREATE TEMP TABLE t (a int)",
        "COPY canary TO STDOUT",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "SELECT 1) TO PROGRAM 'id' --",
        "SELECT 1 AS v) TO STDOUT; DROP TABLE canary; --",
        "SELECT 1 AS v) AS q; DROP TABLE canary; --",
        "SELECT 1 AS v /*",
        "SELECT 'v",
        "SET search_path = x",
        "SET TRANSACTION READ WRITE",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT s",
        "LISTEN x",
        "VACUUM",
        "EXPLAIN SELECT 1",
        "SHOW search_path",
        "DO $$ BEGIN END $$",
        "CALL nothing()",
        "SELECT $nobody AS v",
        "SELECT $1 AS v",
        "SELECT 1 AS w",
        "SELECT 1 AS \"V\"",
        "SELECT 1 AS v, 2 AS v",
        "SELECT 1 / 0 AS v",
        "SELECT nextval('nowhere') AS v",
        "SELECT `n` AS v FROM canary",
    };
    SourceSpec good = asking("SELECT n AS v FROM canary", COLUMN_INT64);

    (void)state;
    for (size_t i = 0; i < count_of(queries); i++) {
        SourceSpec spec = asking(queries[i], COLUMN_INT64);

        trying(queries[i]);
        source_refuses(&source_postgres, &spec, ERR_SOURCE_QUERY, NULL, &good);
    }
    source_yields(&source_postgres, &good, 1);
    assert_string_equal(ask_admin("SELECT count(*) || ' ' || sum(n) FROM canary"), "1 7");
}

/* `url` with other ends than its own: "user:password@host:port" and what is behind it. */
static const char *
with(char to[512], const char *user, const char *rest)
{
    const char *at = strchr(url, '@'), *path = strrchr(url, '/');

    snprintf(to, 512, "postgresql://%s%.*s%s", user, (int)(path - at), at, rest);
    return to;
}

static void
test_refused_doors(void **state)
{
    SourceSpec good = asking("SELECT 1 AS v", COLUMN_INT32), spec = good;
    char other[512], closed[] = "postgresql://postgres@127.0.0.1:1/postgres";
    const char *rest = strrchr(url, '/');

    (void)state;
    trying("wrong password");
    spec.url = with(other, "postgres:wrong", rest);
    source_refuses(&source_postgres, &spec, ERR_SOURCE_AUTH, "password", &good);
    trying("no password");
    spec.url = with(other, "postgres", rest);
    source_refuses(&source_postgres, &spec, ERR_SOURCE_AUTH, NULL, &good);
    trying("no such role");
    spec.url = with(other, "nobody:x", rest);
    source_refuses(&source_postgres, &spec, ERR_SOURCE_AUTH, NULL, &good);
    trying("the password of the source, not of the URL");
    spec.url = url;
    spec.password = "wrong";
    source_refuses(&source_postgres, &spec, ERR_SOURCE_AUTH, "password", &good);
    spec.password = NULL;
    trying("no such database");
    snprintf(other, sizeof other, "%.*s/nowhere", (int)(rest - url), url);
    spec.url = other;
    source_refuses(&source_postgres, &spec, ERR_SOURCE_AUTH, "nowhere", &good);
    trying("nobody listens");
    spec.url = closed;
    source_refuses(&source_postgres, &spec, ERR_SOURCE_UNAVAILABLE, NULL, &good);
    trying("no TLS there");
    snprintf(other, sizeof other, "%s?sslmode=require", url);
    spec.url = other;
    source_refuses(&source_postgres, &spec, ERR_SOURCE_UNAVAILABLE, "SSL", &good);
    trying("no such host");
    spec.url = "postgresql://no-such-host.invalid/x?sslmode=disable";
    source_refuses(&source_postgres, &spec, ERR_SOURCE_UNAVAILABLE, NULL, &good);
    trying("not a URL");
    spec.url = "postgresql://127.0.0.1/x?options=-c%20a%3Db";
    source_refuses(&source_postgres, &spec, ERR_CONFIG_INVALID, "options", &good);
}

static int64_t
backend_of(const char *with_url)
{
    SourceSpec spec = asking("SELECT pg_backend_pid() AS v", COLUMN_INT64);
    char *text;
    int64_t pid;

    spec.url = with_url;
    text = read_all(&spec);
    pid = strtoll(text, NULL, 10);
    free(text);
    return pid;
}

/* The next export on the same source finds the connection; one that says anything else does not,
 * neither after a failure, nor when nobody kept it. */
static void
test_kept_connections(void **state)
{
    SourceSpec bad = asking("SELECT 1 / 0 AS v", COLUMN_INT32);
    int64_t first = backend_of(url), next;
    char other[512], sql[128];

    (void)state;
    assert_int_equal(backend_of(url), first);
    snprintf(other, sizeof other, "%s?sslmode=prefer", url);
    next = backend_of(other);
    assert_int_not_equal(next, first);
    assert_int_not_equal(backend_of(url), next); /* which says less */
    first = backend_of(url);
    source_refuses(&source_postgres, &bad, ERR_SOURCE_QUERY, "division", NULL);
    assert_int_not_equal(next = backend_of(url), first);
    source_postgres.let_go();
    assert_int_not_equal(first = backend_of(url), next);
    snprintf(sql, sizeof sql, "SELECT pg_terminate_backend(%" PRId64 ", 5000)", first);
    assert_string_equal(ask_admin(sql), "t");
    assert_int_not_equal(backend_of(url), first);
}

/* What is read is one snapshot, even if somebody writes between two batches. */
static void
test_a_snapshot(void **state)
{
    SourceSpec spec = asking_many("SELECT n, t FROM many");
    Arena *task = arena_new(64 << 20);
    TestWatch watch = watch_new();
    uint64_t rows = 0;
    Source *source;
    Batch batch;
    Err e = {0};

    (void)state;
    assert_ok(source = source_postgres.open(&spec, &watch.base, task, &e), &e);
    assert_true(source->snapshot_wall_us > 1700000000000000);
    assert_int_equal(source->rows_estimated, 10000);
    do {
        assert_ok(source_next(source, &batch, &e), &e);
        if (rows == 0)
            execute("INSERT INTO many SELECT n + 10000, t FROM many; DELETE FROM many WHERE n > "
                    "10000 OR n = 9999; INSERT INTO many VALUES (9999, 'row 9999')");
        rows += batch.rows;
    } while (batch.rows > 0);
    source_close(source);
    assert_int_equal(rows, 10000);
    arena_free(task);
}

static void
test_check(void **state)
{
    SourceSpec spec = asking("SELECT 1 AS v", COLUMN_INT64);
    TestWatch watch = watch_new();
    char other[512];
    Err e = {0};

    (void)state;
    assert_ok(source_postgres.check(&spec, &watch.base, &e), &e);
    spec.url = with(other, "postgres:wrong", strrchr(url, '/'));
    assert_fails(source_postgres.check(&spec, &watch.base, &e), ERR_SOURCE_AUTH, &e);
    err_clear(&e);
    spec.url = "postgresql://127.0.0.1:1/x";
    assert_fails(source_postgres.check(&spec, &watch.base, &e), ERR_SOURCE_UNAVAILABLE, &e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yields),
        cmocka_unit_test(test_a_huge_row),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_missing_column),
        cmocka_unit_test(test_nulls_among_values),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_refused_params),
        cmocka_unit_test(test_a_long_param),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_refused_queries),
        cmocka_unit_test(test_refused_doors),
        cmocka_unit_test(test_kept_connections),
        cmocka_unit_test(test_a_snapshot),
        cmocka_unit_test(test_check),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
