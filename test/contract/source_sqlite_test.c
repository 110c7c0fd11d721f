/* source/sqlite: the contract, the conversions of every type, and all that must not get through. */
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "test/contract/source_contract.h"
#include "test/contract/watches.h"
#include "test/test.h"

extern const SourceKind source_sqlite;

static char dir[] = "/tmp/rowferry_test_XXXXXX", url[144], path[128];

static void
execute(const char *file, const char *sql)
{
    sqlite3 *db;
    char *said = NULL;

    assert_int_equal(sqlite3_open(file, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &said) != SQLITE_OK)
        fail_msg("%s: %s", sql, said);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static int
set_up(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/data.db", dir);
    snprintf(url, sizeof url, "sqlite:%s", path);
    execute(path,
        "CREATE TABLE people (name TEXT, team TEXT, score REAL);"
        "INSERT INTO people VALUES ('Ann', 'red', 1.5), ('Bob', 'blue', NULL), (NULL, NULL, 3);"
        "CREATE TABLE many (n INTEGER PRIMARY KEY, t TEXT);"
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10000)"
        " INSERT INTO many SELECT n, 'row ' || n FROM c;"
        "CREATE TABLE declared (a BOOLEAN, b DATETIME, c DATE, d TIME, e BIGINT, f VARCHAR(9),"
        " g BLOB, h DOUBLE PRECISION, i DECIMAL(9,2), j JSON, k TIMESTAMPTZ, l INTERVAL, m UUID,"
        " n);"
        "INSERT INTO declared VALUES (1, '2024-01-02 03:04:05', '2024-01-02', '03:04', 7, 'x',"
        " x'00ff', 2, 1.25, '{}', '2024-01-02T03:04:05+01:00', 'P1D',"
        " '8F14E45F-CEEA-467F-9AB3-2C0E0E2F8A11', 5);");
    return 0;
}

static int
remove_entry(const char *name, const struct stat *is, int type, struct FTW *walk)
{
    (void)is;
    (void)type;
    (void)walk;
    return remove(name);
}

static int
tear_down(void **state)
{
    (void)state;
    return nftw(dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
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

static const ColumnSpec many_columns[] = {{"t", COLUMN_TEXT}, {"n", COLUMN_INT32}};
static const char endless[] = "WITH RECURSIVE c(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM c) "
                              "SELECT v FROM c WHERE v < 0";

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
        {"3 kB a row", "SELECT n, hex(zeroblob(1500)) AS t FROM many", 10000},
        {"just under 1 MiB", "SELECT n, hex(zeroblob(524270)) AS t FROM many LIMIT 3", 3},
        {"just over 1 MiB", "SELECT n, hex(zeroblob(524289)) AS t FROM many LIMIT 3", 3},
        {"huge between small",
            "SELECT n, CASE n % 100 WHEN 50 THEN hex(zeroblob(2000000)) ELSE t END AS t FROM many "
            "LIMIT 1000",
            1000},
        {"NULLs", "SELECT nullif(n % 2, 0) AS n, nullif(t, 'row 7') AS t FROM many", 10000},
        {"a comment behind", "SELECT n, t FROM many; -- that is all\n /* it is */ ;", 10000},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = {.name = "test",
            .url = url,
            .query = cases[i].query,
            .column = many_columns,
            .columns = 2};

        trying(cases[i].name);
        source_yields(&source_sqlite, &spec, cases[i].rows);
    }
}

/* 40 MiB of text in one value: it travels, alone and whole. */
static void
test_a_huge_row(void **state)
{
    SourceSpec spec = asking("SELECT hex(zeroblob(20971520)) AS v", COLUMN_TEXT);
    Err e = {0};
    char *text;

    (void)state;
    assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
    assert_int_equal(strlen(text), 41943041);
    free(text);
    spec = asking("SELECT zeroblob(67108864) AS v", COLUMN_BYTES);
    source_refuses(&source_sqlite, &spec, ERR_SIZE_LIMIT, NULL, NULL);
    spec = asking("SELECT zeroblob(67108865) AS v", COLUMN_BYTES);
    source_refuses(&source_sqlite, &spec, ERR_SIZE_LIMIT, NULL, NULL);
    spec = asking("SELECT hex(zeroblob(33554432)) AS v", COLUMN_TEXT);
    source_refuses(&source_sqlite, &spec, ERR_SIZE_LIMIT, NULL, NULL);
}

static void
test_ends(void **state)
{
    SourceSpec spec = asking(endless, COLUMN_INT64);
    SourceSpec sorting = asking("WITH RECURSIVE c(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM c "
                                "WHERE v < 1000000000) SELECT v FROM c ORDER BY -v",
        COLUMN_INT64);

    (void)state;
    source_ends_when_asked(&source_sqlite, &spec);
    source_ends_by_timeout(&source_sqlite, &spec);
    source_ends_by_timeout(&source_sqlite, &sorting);
}

static void
test_memory(void **state)
{
    SourceSpec spec = {.name = "test",
        .url = url,
        .query = "SELECT n, t FROM many",
        .column = many_columns,
        .columns = 2};

    (void)state;
    source_survives_no_memory(&source_sqlite, &spec);
    source_names_missing_column(&source_sqlite, &spec);
    spec.columns = 0;
    source_refuses(&source_sqlite, &spec, ERR_SOURCE_QUERY, NULL, NULL);
}

static void
test_conversions(void **state)
{
    static const struct {
        const char *value;
        ColumnType type;
        const char *want; /* NULL: a misfit */
    } cases[] = {
        {"NULL", COLUMN_BOOL, "NULL"},
        {"0", COLUMN_BOOL, "false"},
        {"1", COLUMN_BOOL, "true"},
        {"2", COLUMN_BOOL, NULL},
        {"-1", COLUMN_BOOL, NULL},
        {"'true'", COLUMN_BOOL, NULL},
        {"1.0", COLUMN_BOOL, NULL},
        {"32767", COLUMN_INT16, "32767"},
        {"-32768", COLUMN_INT16, "-32768"},
        {"32768", COLUMN_INT16, NULL},
        {"-32769", COLUMN_INT16, NULL},
        {"2147483647", COLUMN_INT32, "2147483647"},
        {"-2147483648", COLUMN_INT32, "-2147483648"},
        {"2147483648", COLUMN_INT32, NULL},
        {"9223372036854775807", COLUMN_INT64, "9223372036854775807"},
        {"-9223372036854775808", COLUMN_INT64, "-9223372036854775808"},
        {"'7'", COLUMN_INT64, NULL},
        {"7.0", COLUMN_INT64, NULL},
        {"x'07'", COLUMN_INT64, NULL},
        {"NULL", COLUMN_INT64, "NULL"},
        {"0.1", COLUMN_DOUBLE, "0.10000000000000001"},
        {"7", COLUMN_DOUBLE, "7"},
        {"9e999", COLUMN_DOUBLE, "inf"},
        {"-9e999", COLUMN_DOUBLE, "-inf"},
        {"'0.1'", COLUMN_DOUBLE, NULL},
        {"0.1", COLUMN_FLOAT, "0.100000001"},
        {"3", COLUMN_FLOAT, "3"},
        {"9e999", COLUMN_FLOAT, "inf"},
        {"1e300", COLUMN_FLOAT, NULL},
        {"12", COLUMN_DECIMAL, "12"},
        {"-9223372036854775808", COLUMN_DECIMAL, "-9223372036854775808"},
        {"0.1", COLUMN_DECIMAL, "0.1"},
        {"1.5e20", COLUMN_DECIMAL, "150000000000000000000"},
        {"-1.25e16", COLUMN_DECIMAL, "-12500000000000000"},
        {"1e300 / 1e299", COLUMN_DECIMAL, "10.0"},
        {"2.5e-7", COLUMN_DECIMAL, "0.00000025"},
        {"-1e-5", COLUMN_DECIMAL, "-0.00001"},
        {"9e999", COLUMN_DECIMAL, NULL},
        {"'123456789012345678901234567890.12'", COLUMN_DECIMAL,
            "123456789012345678901234567890.12"},
        {"'-.5'", COLUMN_DECIMAL, "-.5"},
        {"'1e5'", COLUMN_DECIMAL, NULL},
        {"'.'", COLUMN_DECIMAL, NULL},
        {"''", COLUMN_DECIMAL, NULL},
        {"'1.2.3'", COLUMN_DECIMAL, NULL},
        {"' 1'", COLUMN_DECIMAL, NULL},
        {"x'31'", COLUMN_DECIMAL, NULL},
        {"'text'", COLUMN_TEXT, "text"},
        {"''", COLUMN_TEXT, ""},
        {"NULL", COLUMN_TEXT, "NULL"},
        {"char(233, 8364, 128512)", COLUMN_TEXT, "é€😀"},
        {"1", COLUMN_TEXT, NULL},
        {"1.5", COLUMN_TEXT, NULL},
        {"x'41'", COLUMN_TEXT, NULL},
        {"x'00ff'", COLUMN_BYTES, "00ff"},
        {"x''", COLUMN_BYTES, ""},
        {"'AZ'", COLUMN_BYTES, "415a"},
        {"1", COLUMN_BYTES, NULL},
        {"'1970-01-02'", COLUMN_DATE, "1"},
        {"'1969-12-31'", COLUMN_DATE, "-1"},
        {"'2024-02-29'", COLUMN_DATE, "19782"},
        {"'2023-02-29'", COLUMN_DATE, NULL},
        {"'2024-02-29 00:00:00'", COLUMN_DATE, NULL},
        {"86399", COLUMN_DATE, "0"},
        {"86400", COLUMN_DATE, "1"},
        {"-1", COLUMN_DATE, "-1"},
        {"-86400", COLUMN_DATE, "-1"},
        {"-86401", COLUMN_DATE, "-2"},
        {"9223372036854775807", COLUMN_DATE, NULL},
        {"-9223372036854775808", COLUMN_DATE, NULL},
        {"2147483647 * 86400", COLUMN_DATE, NULL}, /* would read as infinity */
        {"-2147483648 * 86400", COLUMN_DATE, NULL},
        {"2147483646 * 86400", COLUMN_DATE, "2147483646"},
        {"1.5", COLUMN_DATE, NULL},
        {"'03:04'", COLUMN_TIME, "11040000000"},
        {"'23:59:59.999999'", COLUMN_TIME, "86399999999"},
        {"'24:00'", COLUMN_TIME, NULL},
        {"0", COLUMN_TIME, "0"},
        {"86399", COLUMN_TIME, "86399000000"},
        {"86400", COLUMN_TIME, NULL},
        {"-1", COLUMN_TIME, NULL},
        {"-9223372036854775808", COLUMN_TIME, NULL},
        {"9223372036854775807", COLUMN_TIME, NULL},
        {"'1970-01-01T00:00:01'", COLUMN_TIMESTAMP, "1000000"},
        {"'1970-01-01 00:00:01.5'", COLUMN_TIMESTAMP, "1500000"},
        {"'1970-01-01T01:00:00+01:00'", COLUMN_TIMESTAMPTZ, "0"},
        {"'1970-01-01'", COLUMN_TIMESTAMPTZ, "0"},
        {"1767225600", COLUMN_TIMESTAMPTZ, "1767225600000000"},
        {"-1", COLUMN_TIMESTAMP, "-1000000"},
        {"9223372036854", COLUMN_TIMESTAMP, "9223372036854000000"},
        {"9223372036855", COLUMN_TIMESTAMP, NULL},
        {"-9223372036855", COLUMN_TIMESTAMP, NULL},
        {"1.5", COLUMN_TIMESTAMP, NULL},
        {"'yesterday'", COLUMN_TIMESTAMP, NULL},
        {"'P1DT2H'", COLUMN_INTERVAL, "P1DT2H"},
        {"'8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11'", COLUMN_UUID,
            "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"},
        {"'8F14E45F-CEEA-467F-9AB3-2C0E0E2F8A11'", COLUMN_UUID,
            "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"},
        {"'8f14e45fceea467f9ab32c0e0e2f8a11'", COLUMN_UUID, NULL},
        {"'8f14e45f-ceea-467f-9ab3-2c0e0e2f8a1g'", COLUMN_UUID, NULL},
        {"'{\"a\": [1, null]}'", COLUMN_JSON, "{\"a\": [1, null]}"},
        {"5", COLUMN_JSON, NULL},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        char query[512], want[256];
        SourceSpec spec;
        Err e = {0};
        char *text;

        snprintf(query, sizeof query, "%s as %s", cases[i].value, column_type_name(cases[i].type));
        trying(query);
        snprintf(query, sizeof query, "SELECT %s AS v", cases[i].value);
        spec = asking(query, cases[i].type);
        if (!cases[i].want) {
            source_refuses(&source_sqlite, &spec, ERR_SOURCE_QUERY, "column v, row 1", NULL);
            continue;
        }
        assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
        snprintf(want, sizeof want, "%s\n", cases[i].want);
        assert_string_equal(text, want);
        free(text);
    }
}

/* One row after the other, as most tables have them: each is judged for itself. */
static void
test_times_in_a_row(void **state)
{
    static const struct {
        const char *value;
        const char *want; /* NULL: a misfit */
    } cases[] = {
        {"'1970-01-02T00:00:01'", "86401000000"},
        {"'1970-01-02T23:59:59'", "172799000000"},
        {"'1970-01-02 00:00:00Z'", "86400000000"},
        {"'1970-01-02'", "86400000000"},
        {"'1970-01-02T00:00'", "86400000000"},
        {"'1970-01-02T00:00:00.5'", "86400500000"},
        {"'1970-01-02T01:00:00+01:00'", "86400000000"},
        {"'1970-01-03T00:00:00'", "172800000000"},
        {"NULL", "NULL"},
        {"86400", "86400000000"},
        {"'1970-01-02T24:00:00'", NULL},
        {"'1970-01-02T23:60:00'", NULL},
        {"'1970-01-02T23:59:60'", NULL},
        {"'1970-01-02x00:00:00'", NULL},
        {"'1970-01-02T00-00-00'", NULL},
        {"'1970-01-02T0a:00:00'", NULL},
        {"'1970-01-02T00:00:00z '", NULL},
        {"'1970-02-30T00:00:00'", NULL},
        {"'1970-02-30T00:00:01'", NULL},
        {"CAST(x'000000000000000000005430303a30303a3030' AS TEXT)", NULL},
    };

    (void)state;
    for (int before = 0; before < 2; before++) /* with a good day before it, and as the first */
        for (size_t i = 0; i < count_of(cases); i++) {
            char query[512], want[64];
            SourceSpec spec;
            Err e = {0};
            char *text;

            snprintf(query, sizeof query, "%sSELECT %s AS v",
                before ? "SELECT '1970-01-02T03:04:05' AS v UNION ALL " : "", cases[i].value);
            trying(query);
            spec = asking(query, COLUMN_TIMESTAMP);
            if (!cases[i].want) {
                source_refuses(&source_sqlite, &spec, ERR_SOURCE_QUERY, NULL, NULL);
                continue;
            }
            assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
            snprintf(want, sizeof want, "%s%s\n", before ? "97445000000\n" : "", cases[i].want);
            assert_string_equal(text, want);
            free(text);
        }
}

/* The row is counted over the whole export, not within its batch. */
static void
test_where_a_misfit_is(void **state)
{
    SourceSpec spec =
        asking("SELECT CASE n WHEN 9000 THEN 'no' ELSE n END AS v FROM many", COLUMN_INT64);

    (void)state;
    source_refuses(&source_sqlite, &spec, ERR_SOURCE_QUERY, "column v, row 9000: text", NULL);
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
    Err e = {0};
    char *text;

    (void)state;
    assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
    assert_string_equal(text, "Ann|1.5|red\nBob|NULL|blue\nNULL|3|NULL\n");
    free(text);
}

static void
test_types_left_open(void **state)
{
    static const struct {
        const char *name;
        ColumnType want;
        const char *value;
    } cases[] = {
        {"a", COLUMN_BOOL, "true"},
        {"b", COLUMN_TIMESTAMP, "1704164645000000"},
        {"c", COLUMN_DATE, "19724"},
        {"d", COLUMN_TIME, "11040000000"},
        {"e", COLUMN_INT64, "7"},
        {"f", COLUMN_TEXT, "x"},
        {"g", COLUMN_BYTES, "00ff"},
        {"h", COLUMN_DOUBLE, "2"},
        {"i", COLUMN_DECIMAL, "1.25"},
        {"j", COLUMN_JSON, "{}"},
        {"k", COLUMN_TIMESTAMPTZ, "1704161045000000"},
        {"l", COLUMN_INTERVAL, "P1D"},
        {"m", COLUMN_UUID, "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"},
        {"n", COLUMN_INT64, "5"},
        {"e / 2.0", COLUMN_DOUBLE, "3.5"},
        {"f || 'y'", COLUMN_TEXT, "xy"},
        {"x'01'", COLUMN_BYTES, "01"},
        {"NULL", COLUMN_TEXT, "NULL"},
    };
    static const bool given[] = {false};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        char query[128], want[128];
        SourceSpec spec;
        Err e = {0};
        char *text;

        trying(cases[i].name);
        snprintf(query, sizeof query, "SELECT %s AS v FROM declared", cases[i].name);
        /* What stands in the spec must not matter. */
        spec = asking(query, cases[i].want == COLUMN_BYTES ? COLUMN_INT64 : COLUMN_BYTES);
        spec.type_given = given;
        assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
        snprintf(want, sizeof want, "%s\n", cases[i].value);
        assert_string_equal(text, want);
        free(text);
    }
}

static void
test_params(void **state)
{
    static const char evil[] = "x' OR '1'='1";
    SourceParam params[] = {
        {.name = "team", .type = COLUMN_TEXT, .as.text = {"red", 3}},
        {.name = "min", .type = COLUMN_DOUBLE, .as.real = 1.0},
    };
    SourceSpec spec =
        asking("SELECT name AS v FROM people WHERE team = $team AND score >= $min", COLUMN_TEXT);
    static const char *const nasty[] = {evil, "$team", "\\", "$$", "{{7*7}}",
        "'; DROP TABLE people", "red\0", "%", "_", "red' --", ""};
    Err e = {0};
    char *text;

    (void)state;
    spec.param = params;
    spec.params = 2;
    assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
    assert_string_equal(text, "Ann\n");
    free(text);
    for (size_t i = 0; i < count_of(nasty); i++) {
        bool with_nul = i == 6;
        char equals[256], *sql;
        SourceSpec same;

        /* It matches nobody … */
        trying(nasty[i]);
        spec = asking("SELECT name AS v FROM people WHERE team = $team", COLUMN_TEXT);
        spec.param = params;
        spec.params = 2;
        params[0].as.text.bytes = nasty[i];
        params[0].as.text.count = strlen(nasty[i]) + with_nul;
        assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
        assert_string_equal(text, "");
        free(text);
        if (with_nul)
            continue;
        /* … but the very same text. */
        sql = sqlite3_mprintf("SELECT %Q = $team AS v", nasty[i]);
        snprintf(equals, sizeof equals, "%s", sql);
        sqlite3_free(sql);
        same = asking(equals, COLUMN_BOOL);
        same.param = params;
        same.params = 2;
        assert_ok(text = source_read(&source_sqlite, &same, &e), &e);
        assert_string_equal(text, "true\n");
        free(text);
    }
}

static void
test_param_types(void **state)
{
    static const struct {
        SourceParam param;
        const char *want; /* of typeof(v) || v */
    } cases[] = {
        {{.name = "p", .type = COLUMN_TEXT, .is_null = true}, "null-NULL"},
        {{.name = "p", .type = COLUMN_BOOL, .as.yes = true}, "integer-1"},
        {{.name = "p", .type = COLUMN_INT64, .as.int64 = INT64_MIN},
            "integer--9223372036854775808"},
        {{.name = "p", .type = COLUMN_INT16, .as.int64 = -3}, "integer--3"},
        {{.name = "p", .type = COLUMN_DOUBLE, .as.real = 0.5}, "real-0.5"},
        {{.name = "p", .type = COLUMN_TEXT, .as.text = {"a'b", 3}}, "text-a'b"},
        {{.name = "p", .type = COLUMN_DECIMAL, .as.text = {"1.10", 4}}, "text-1.10"},
        {{.name = "p", .type = COLUMN_BYTES, .as.text = {"AB", 2}}, "blob-AB"},
        {{.name = "p", .type = COLUMN_DATE, .as.int64 = 19782}, "text-2024-02-29"},
        {{.name = "p", .type = COLUMN_DATE, .as.int64 = -1}, "text-1969-12-31"},
        {{.name = "p", .type = COLUMN_TIME, .as.int64 = 11045000000}, "text-03:04:05"},
        {{.name = "p", .type = COLUMN_TIME, .as.int64 = 11045000001}, "text-03:04:05.000001"},
        {{.name = "p", .type = COLUMN_TIMESTAMP, .as.int64 = 1704164645000000},
            "text-2024-01-02T03:04:05"},
        {{.name = "p", .type = COLUMN_TIMESTAMPTZ, .as.int64 = 1704164645500000},
            "text-2024-01-02T03:04:05.500000"},
        {{.name = "p", .type = COLUMN_TIMESTAMPTZ, .as.int64 = -1},
            "text-1969-12-31T23:59:59.999999"},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = asking(
            "SELECT typeof($p) || '-' || coalesce(CAST($p AS TEXT), 'NULL') AS v", COLUMN_TEXT);
        char want[128];
        Err e = {0};
        char *text;

        trying(cases[i].want);
        spec.param = &cases[i].param;
        spec.params = 1;
        assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
        snprintf(want, sizeof want, "%s\n", cases[i].want);
        assert_string_equal(text, want);
        free(text);
    }
}

static void
test_refused_queries(void **state)
{
    static const struct {
        const char *query, *says;
    } cases[] = {
        {"", "not exactly one statement"},
        {"-- nothing", "not exactly one statement"},
        {"SELECT 1 AS v; SELECT 2 AS v", "not exactly one statement"},
        {"SELECT 1 AS v; DROP TABLE people", "not exactly one statement"},
        {"SELECT 1 AS v; nonsense", "not exactly one statement"},
        {"nonsense", "syntax error"},
        {"SELECT v FROM nowhere", "no such table"},
        {"INSERT INTO people VALUES ('x', 'y', 1)", NULL},
        {"INSERT INTO people VALUES ('x', 'y', 1) RETURNING name AS v", NULL},
        {"UPDATE people SET name = 'x'", NULL},
        {"DELETE FROM people", NULL},
        {"WITH x AS (SELECT 1) DELETE FROM people", NULL},
        {"DROP TABLE people", NULL},
        {"CREATE TABLE t (a)", NULL},
        {"CREATE TEMP TABLE t (a)", NULL},
        {"CREATE VIRTUAL TABLE t USING fts5(a)", NULL},
        {"CREATE TEMP VIEW v AS SELECT 1", NULL},
        {"ATTACH ':memory:' AS v", "authorized"},
        {"ATTACH '/tmp/other.db' AS v", "authorized"},
        {"DETACH main", "authorized"},
        {"PRAGMA user_version", "a query may only read"},
        {"PRAGMA query_only = 0", "authorized"},
        {"SELECT file AS v FROM pragma_database_list", "authorized"},
        {"VACUUM", NULL},
        {"VACUUM INTO '/tmp/x.db'", NULL},
        {"ANALYZE", NULL},
        {"REINDEX", NULL},
        {"SELECT load_extension('/tmp/x.so') AS v", "authorized"},
        {"SELECT LOAD_EXTENSION('/tmp/x.so') AS v", NULL},
        {"SAVEPOINT v", NULL},
        {"COMMIT", NULL},
        {"SELECT $nobody AS v", "$nobody"},
        {"SELECT ? AS v", "parameter"},
        {"SELECT ?1 AS v", "parameter"},
        {"SELECT 1 AS w", "no column v"},
        {"SELECT 1 AS V", "no column v"},
    };
    SourceSpec good = {.name = "test",
        .url = url,
        .query = "SELECT count(*) AS v FROM people",
        .column = &(ColumnSpec){"v", COLUMN_INT64},
        .columns = 1};

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = asking(cases[i].query, COLUMN_INT64);

        trying(cases[i].query);
        source_refuses(&source_sqlite, &spec, ERR_SOURCE_QUERY, cases[i].says, &good);
    }
    source_yields(&source_sqlite, &good, 1);
}

static void
write_file(const char *name, const char *text, size_t bytes)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, bytes), bytes);
    close(fd);
}

static void
test_refused_files(void **state)
{
    char name[8][256];
    SourceSpec spec = asking("SELECT 1 AS v FROM sqlite_schema", COLUMN_INT64), good = spec;
    char garbage[8192];

    (void)state;
    memset(garbage, 'x', sizeof garbage);
    for (int i = 0; i < 8; i++)
        snprintf(name[i], sizeof name[i], "sqlite:%s/file%d", dir, i);
    write_file(name[1] + 7, garbage, sizeof garbage);
    assert_int_equal(symlink(path, name[2] + 7), 0);
    assert_int_equal(mkdir(name[3] + 7, 0700), 0);
    assert_int_equal(mkfifo(name[4] + 7, 0600), 0);
    assert_int_equal(symlink("nowhere", name[5] + 7), 0);
    snprintf(name[6], sizeof name[6], "sqlite:%s/no/such/folder.db", dir);
    memset(name[7], 'y', sizeof name[7] - 1);
    memcpy(name[7], "sqlite:", 7);
    name[7][255] = '\0';
    for (int i = 0; i < 8; i++) {
        trying(name[i]);
        spec.url = name[i];
        source_refuses(&source_sqlite, &spec, ERR_SOURCE_UNAVAILABLE, NULL, &good);
    }
    /* Half a database. */
    execute(name[0] + 7, "CREATE TABLE t (a); INSERT INTO t VALUES (hex(zeroblob(100000)))");
    assert_int_equal(truncate(name[0] + 7, 8192), 0);
    trying("cut off");
    spec.url = name[0];
    spec.query = "SELECT a AS v FROM t";
    source_refuses(&source_sqlite, &spec, ERR_SOURCE_UNAVAILABLE, NULL, &good);
}

static void
test_a_link_in_the_folder(void **state)
{
    char real[160], link[160], through[256];
    SourceSpec spec = asking("SELECT 5 AS v", COLUMN_INT64);

    (void)state;
    snprintf(real, sizeof real, "%s/real", dir);
    snprintf(link, sizeof link, "%s/link", dir);
    assert_int_equal(mkdir(real, 0700), 0);
    assert_int_equal(symlink(real, link), 0);
    snprintf(through, sizeof through, "%s/db", real);
    execute(through, "CREATE TABLE t (a)");
    snprintf(through, sizeof through, "sqlite:%s/db", link);
    spec.url = through;
    source_yields(&source_sqlite, &spec, 1); /* folders are resolved, files are not */
}

/* The file is replaced under its name: the next export reads the new one. */
static void
test_a_new_file(void **state)
{
    char name[160], other[160], with_scheme[170];
    SourceSpec spec = asking("SELECT a AS v FROM t", COLUMN_INT64);
    Err e = {0};
    char *text;

    (void)state;
    snprintf(name, sizeof name, "%s/swap.db", dir);
    snprintf(other, sizeof other, "%s/swap2.db", dir);
    snprintf(with_scheme, sizeof with_scheme, "sqlite:%s", name);
    spec.url = with_scheme;
    execute(name, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
    assert_string_equal(text, "1\n");
    free(text);
    execute(name, "UPDATE t SET a = 2");
    assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
    assert_string_equal(text, "2\n");
    free(text);
    execute(other, "CREATE TABLE t (a); INSERT INTO t VALUES (3)");
    assert_int_equal(rename(other, name), 0);
    assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
    assert_string_equal(text, "3\n");
    free(text);
}

/* What is read is one snapshot, even if somebody writes between two batches. */
static void
test_a_snapshot(void **state)
{
    char name[160], with_scheme[170];
    SourceSpec spec = asking("SELECT n AS v FROM t", COLUMN_INT64);
    Arena *task = arena_new(64 << 20);
    TestWatch watch = watch_new();
    uint64_t rows = 0;
    Source *source;
    Batch batch;
    Err e = {0};

    (void)state;
    snprintf(name, sizeof name, "%s/wal.db", dir);
    snprintf(with_scheme, sizeof with_scheme, "sqlite:%s", name);
    execute(name, "PRAGMA journal_mode = WAL; CREATE TABLE t (n);"
                  "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 10000)"
                  " INSERT INTO t SELECT n FROM c;");
    spec.url = with_scheme;
    assert_ok(source = source_sqlite.open(&spec, &watch.base, task, &e), &e);
    assert_true(source->snapshot_wall_us > 1700000000000000);
    assert_int_equal(source->rows_estimated, 10000);
    do {
        assert_ok(source_next(source, &batch, &e), &e);
        if (rows == 0)
            execute(name, "INSERT INTO t SELECT n + 10000 FROM t; DELETE FROM t WHERE n = 9999");
        rows += batch.rows;
    } while (batch.rows > 0);
    source_close(source);
    assert_int_equal(rows, 10000);
    arena_free(task);
}

static void
test_locked(void **state)
{
    char name[160], with_scheme[170];
    SourceSpec spec = asking("SELECT a AS v FROM t", COLUMN_INT64), good;
    int64_t began_ms;
    sqlite3 *db;

    (void)state;
    snprintf(name, sizeof name, "%s/locked.db", dir);
    snprintf(with_scheme, sizeof with_scheme, "sqlite:%s", name);
    execute(name, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    spec.url = with_scheme;
    good = spec;
    assert_int_equal(sqlite3_open(name, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    began_ms = time_now_ms();
    source_refuses(&source_sqlite, &spec, ERR_SOURCE_UNAVAILABLE, "locked", NULL);
    assert_true(time_now_ms() - began_ms < 10000);
    trying("cancelled while it waits for the lock");
    source_ends_when_asked(&source_sqlite, &spec);
    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    sqlite3_close(db);
    source_yields(&source_sqlite, &good, 1);
}

static void *
release_soon(void *with)
{
    usleep(300000);
    sqlite3_exec(with, "COMMIT", NULL, NULL, NULL);
    return NULL;
}

/* A lock that goes away in time is only waited for. */
static void
test_locked_for_a_moment(void **state)
{
    char name[160], with_scheme[170];
    SourceSpec spec = asking("SELECT a AS v FROM t", COLUMN_INT64);
    pthread_t thread;
    sqlite3 *db;

    (void)state;
    snprintf(name, sizeof name, "%s/moment.db", dir);
    snprintf(with_scheme, sizeof with_scheme, "sqlite:%s", name);
    execute(name, "CREATE TABLE t (a); INSERT INTO t VALUES (1)");
    spec.url = with_scheme;
    assert_int_equal(sqlite3_open(name, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN EXCLUSIVE", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(pthread_create(&thread, NULL, release_soon, db), 0);
    source_yields(&source_sqlite, &spec, 1);
    pthread_join(thread, NULL);
    sqlite3_close(db);
}

static void
test_utf16(void **state)
{
    char name[160], with_scheme[170];
    SourceSpec spec = asking("SELECT a AS v FROM t", COLUMN_TEXT);
    Err e = {0};
    char *text;

    (void)state;
    snprintf(name, sizeof name, "%s/utf16.db", dir);
    snprintf(with_scheme, sizeof with_scheme, "sqlite:%s", name);
    execute(name, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t (a);"
                  "INSERT INTO t VALUES ('é€😀'), (''), ('abc')");
    spec.url = with_scheme;
    assert_ok(text = source_read(&source_sqlite, &spec, &e), &e);
    assert_string_equal(text, "é€😀\n\nabc\n");
    free(text);
}

static void
test_estimates(void **state)
{
    static const struct {
        const char *query;
        int64_t want;
    } cases[] = {
        {"SELECT n AS v FROM many", 10000},
        {"SELECT n AS v FROM many ORDER BY t", 10000},
        {"SELECT n AS v FROM many WHERE n = 5", -1},
        {"SELECT a.n AS v FROM many a, many b WHERE a.n = b.n", -1},
        {"SELECT 1 AS v", -1},
        {"SELECT v FROM (SELECT 1 AS v UNION SELECT 2)", -1},
    };

    (void)state;
    for (size_t i = 0; i < count_of(cases); i++) {
        SourceSpec spec = asking(cases[i].query, COLUMN_INT64);
        TestWatch watch = watch_new();
        Arena *task = arena_new(4 << 20);
        Source *source;
        Err e = {0};

        trying(cases[i].query);
        assert_ok(source = source_sqlite.open(&spec, &watch.base, task, &e), &e);
        assert_int_equal(source->rows_estimated, cases[i].want);
        source_close(source);
        arena_free(task);
    }
}

static void
test_check(void **state)
{
    SourceSpec spec = asking("SELECT 1 AS v", COLUMN_INT64);
    TestWatch watch = watch_new();
    char name[160];
    Err e = {0};

    (void)state;
    assert_ok(source_sqlite.check(&spec, &watch.base, &e), &e);
    spec.url = "sqlite:/no/such/file.db";
    assert_fails(source_sqlite.check(&spec, &watch.base, &e), ERR_SOURCE_UNAVAILABLE, &e);
    err_clear(&e);
    snprintf(name, sizeof name, "sqlite:%s/garbage", dir);
    write_file(name + 7,
        "this is no database, but it is long enough to be looked at as if it were "
        "one, which needs a hundred bytes",
        105);
    spec.url = name;
    assert_fails(source_sqlite.check(&spec, &watch.base, &e), ERR_SOURCE_UNAVAILABLE, &e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yields),
        cmocka_unit_test(test_a_huge_row),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_times_in_a_row),
        cmocka_unit_test(test_where_a_misfit_is),
        cmocka_unit_test(test_nulls_among_values),
        cmocka_unit_test(test_types_left_open),
        cmocka_unit_test(test_params),
        cmocka_unit_test(test_param_types),
        cmocka_unit_test(test_refused_queries),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_a_link_in_the_folder),
        cmocka_unit_test(test_a_new_file),
        cmocka_unit_test(test_a_snapshot),
        cmocka_unit_test(test_locked),
        cmocka_unit_test(test_locked_for_a_moment),
        cmocka_unit_test(test_utf16),
        cmocka_unit_test(test_estimates),
        cmocka_unit_test(test_check),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
