/*
 * source/postgres/text.c beside a server: what we write of a value's binary form is what the server
 * shows of it.
 */
#include "source/postgres/postgres_in.h"
#include "test/test.h"

typedef bool WriteText(const uint8_t *data, size_t bytes, Buf *to);

static PGconn *server;

static int
set_up(void **state)
{
    static const char pinned[] =
        "SET IntervalStyle = iso_8601; SET client_encoding = UTF8; SET search_path = pg_catalog; "
        "SELECT setseed(0.25)";
    const char *url = getenv("ROWFERRY_TEST_POSTGRES");
    PGresult *result;

    (void)state;
    if (!url) {
        fprintf(stderr, "ROWFERRY_TEST_POSTGRES is not set: make unit starts a server for it\n");
        return -1;
    }
    server = PQconnectdb(url);
    result = PQexec(server, pinned);
    if (PQresultStatus(result) != PGRES_TUPLES_OK) {
        fprintf(stderr, "%s", PQerrorMessage(server));
        return -1;
    }
    PQclear(result);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    PQfinish(server);
    return 0;
}

/* A query of two columns: values, and their texts. */
static void
compare(WriteText *write, const char *query, int rows)
{
    PGresult *result = PQexecParams(server, query, 0, NULL, NULL, NULL, NULL, 1);
    Buf text = buf_new(256 << 10);

    if (PQresultStatus(result) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", query, PQerrorMessage(server));
    assert_int_equal(PQntuples(result), rows);
    for (int row = 0; row < rows; row++) {
        buf_clear(&text);
        assert_true(write((const uint8_t *)PQgetvalue(result, row, 0),
            (size_t)PQgetlength(result, row, 0), &text));
        assert_false(text.failed);
        assert_string_equal(text.data, PQgetvalue(result, row, 1));
    }
    buf_free(&text);
    PQclear(result);
}

static void
test_numeric(void **state)
{
    (void)state;
    compare(pg_numeric_text,
        "SELECT x, x::text FROM (SELECT (CASE WHEN random() < 0.5 THEN '-' ELSE '' END"
        " || left(d, (random() * 50)::int) || '0.' || right(d, (random() * 50)::int))::numeric AS x"
        " FROM (SELECT translate(sha512(i::text::bytea)::text, '\\xabcdef', '00000999') AS d"
        " FROM generate_series(1, 20000) AS i) AS digits) AS x",
        20000);
    compare(pg_numeric_text,
        "SELECT x, x::text FROM (SELECT 10::numeric ^ (random() * 2000 - 1000)::int"
        " * (random() * 10000)::int AS x FROM generate_series(1, 2000)) AS x",
        2000);
    compare(pg_numeric_text,
        "SELECT x, x::text FROM unnest(ARRAY['NaN', 'Infinity', '-Infinity', '0', '-0', "
        "'0.0000000',"
        " '1e131071', '-1e-16383', repeat('9', 131072) || '.' || repeat('9', 16383),"
        " '1' || repeat('0', 40000) || '.' || repeat('0', 5000)]::numeric[]) AS x",
        10);
}

static void
test_interval(void **state)
{
    (void)state;
    compare(pg_interval_text,
        "SELECT x, x::text FROM (SELECT make_interval(months => (random() * 60 - 30)::int,"
        " days => (random() * 60 - 30)::int)"
        " + (((random() * 2e12 - 1e12) / 10 ^ (random() * 12)::int)::bigint || ' us')::interval AS "
        "x"
        " FROM generate_series(1, 20000)) AS x",
        20000);
    compare(pg_interval_text,
        "SELECT x, x::text FROM unnest(ARRAY['0', '1 us', '-1 us', '-0.1 s', '1 day -1 us',"
        " '-1 month 1 day', '178956970 years 7 mons 2147483646 days 2562047788:00:54.775807',"
        " '-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807']::interval[]) AS x",
        8);
    if (PQserverVersion(server) >= 170000)
        compare(pg_interval_text,
            "SELECT x, x::text FROM unnest(ARRAY['infinity', '-infinity']::interval[]) AS x", 2);
}

static void
test_uuid(void **state)
{
    (void)state;
    compare(pg_uuid_text,
        "SELECT x, x::text FROM (SELECT gen_random_uuid() AS x FROM generate_series(1, 1000)) AS x",
        1000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_uuid),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
