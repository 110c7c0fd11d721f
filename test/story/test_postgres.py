"""What is exported of PostgreSQL is what is there: every type, against `\\copy … csv` and Python's reading of it."""

import base64
import csv
import hashlib
import io
import random

import psycopg
import pytest

import csvfile
import pgtypes
from definitions import Definitions
from maker import Maker

pytestmark = pytest.mark.asan

# How both sides of a comparison show their values; the session of an export is the same by contract.
SESSION = "-c timezone=UTC -c intervalstyle=iso_8601 -c datestyle=ISO -c bytea_output=hex -c extra_float_digits=1"

SCHEMA = r'''
CREATE TABLE numbered (n int PRIMARY KEY, label text, amount numeric(10,2), at timestamptz);
INSERT INTO numbered SELECT n, 'number ' || n, n / 4.0, timestamptz '2024-01-01 00:00Z' + n * interval '1 hour' FROM generate_series(1, 9000) n;
CREATE VIEW seen AS SELECT n, label FROM numbered WHERE n <= 100;
CREATE MATERIALIZED VIEW kept AS SELECT n, label FROM numbered WHERE n > 8900;
CREATE TABLE parted (n int, k text) PARTITION BY RANGE (n);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (1001);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1001) TO (2001) PARTITION BY LIST (k);
CREATE TABLE parted_2a PARTITION OF parted_2 FOR VALUES IN ('a');
CREATE TABLE parted_2b PARTITION OF parted_2 DEFAULT;
CREATE TABLE parted_3 PARTITION OF parted DEFAULT;
INSERT INTO parted SELECT n, chr(97 + n % 3) FROM generate_series(1, 2500) n;
CREATE TABLE parent (n int); CREATE TABLE child_of (more text) INHERITS (parent);
INSERT INTO parent VALUES (1); INSERT INTO child_of VALUES (2, 'x');
CREATE TABLE "Odd ""Name""" ("Select" int, "a b" text, "ü,""q""" int); INSERT INTO "Odd ""Name""" VALUES (1, 'x', 2);
CREATE TABLE nothing (n int, t text);
CREATE TABLE guarded (n int, owner text); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON guarded USING (owner = current_user); INSERT INTO guarded VALUES (1, 'exporter'), (2, 'else');
GRANT SELECT ON guarded TO exporter;
CREATE FUNCTION twice(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2';
CREATE FUNCTION some_rows() RETURNS TABLE (n int, t text) LANGUAGE sql AS $$ VALUES (1, 'a'), (2, NULL) $$;
CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS $$ INSERT INTO nothing VALUES (1, 'x'); SELECT 1 $$;
'''


@pytest.fixture(scope="module")
def database(postgres):
    """A database with every type and some tables; gives back its name."""
    postgres.psql("CREATE DATABASE types")
    postgres.psql(pgtypes.SCHEMA + pgtypes.fill() + SCHEMA, database="types")
    yield "types"
    postgres.psql("DROP DATABASE types WITH (FORCE)")


@pytest.fixture(scope="module")
def sources(postgres, database):
    """More databases, whose encodings are not UTF-8."""
    postgres.psql("CREATE DATABASE latin1 ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    postgres.psql("CREATE DATABASE sqlascii ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    postgres.psql("CREATE TABLE t (n int, t text); INSERT INTO t VALUES (1, 'é÷ÿ'), (2, 'plain'); "
                  "CREATE TYPE mood AS ENUM ('glücklich'); CREATE TABLE moods (m mood, ms mood[]); "
                  "INSERT INTO moods VALUES ('glücklich', '{glücklich}')", database="latin1")
    # Bytes as they are: LATIN1's é is no UTF-8; the bytes of € are, and so are they exported.
    postgres.psql(b"SET client_encoding = 'SQL_ASCII'; CREATE TABLE t (n int, t text, c varchar(9)); "
                  b"INSERT INTO t VALUES (1, 'plain', 'x'), (2, 'caf\xe9', 'y'), (3, '\xe2\x82\xac', '\xe9')",
                  database="sqlascii")
    yield {"main": postgres.url(database=database), "latin1": postgres.url(database="latin1"),
           "sqlascii": postgres.url(database="sqlascii")}
    for name in ("latin1", "sqlascii"):
        postgres.psql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def definitions(tmp_path_factory, program, sources):
    return Definitions(tmp_path_factory.mktemp("postgres"), program, **sources)


@pytest.fixture(scope="module")
def python(postgres, database):
    with psycopg.connect(postgres.url(database=database), options=SESSION, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def copied(postgres, database):
    """Rows as `\\copy … csv` writes them; its first one is the header."""

    def copied(query):
        return csvfile.rows(postgres.psql(f"\\copy ({query}) TO STDOUT WITH (FORMAT csv, HEADER)", database=database,
                                          user="exporter", binary=True, PGOPTIONS=SESSION,
                                          PGPASSWORD=postgres.passwords["exporter"]))

    return copied


EVERY = "SELECT * FROM every ORDER BY n"
COLUMNS = ["n"] + [kind.name for kind in pgtypes.KINDS]
TYPED = {"n": "int32", **{kind.name: kind.ours for kind in pgtypes.KINDS}}


@pytest.fixture(scope="module")
def every(definitions):
    """The two definitions of the table with every type."""
    return {"without types": definitions.write("every_found", EVERY, COLUMNS),
            "with types": definitions.write("every_given", EVERY, TYPED)}


@pytest.fixture(scope="module")
def files(every, definitions, tmp_path_factory, program):
    """The same table exported in four ways."""
    maker = Maker(tmp_path_factory.mktemp("service"), program)
    service = maker("--config", str(definitions.config), "--types", str(every["without types"]),
                    "--types", str(every["with types"]), sources=False)
    found = {}
    for name, definition in every.items():
        found[f"dump {name}"] = definitions.file(definition)
        done = service.export(definition.stem)
        assert done["row_count"] == pgtypes.ROWS
        found[f"service {name}"] = service.fetch(done["download_url"])
    maker.finish()
    return found


def test_the_same_bytes_with_and_without_types_by_service_and_by_dump(files):
    assert len(files) == 4 and len(set(files.values())) == 1, {name: len(content) for name, content in files.items()}


@pytest.fixture(scope="module")
def exported(files):
    header, *rows = csvfile.rows(files["dump without types"])
    assert header == COLUMNS
    assert [row[0] for row in rows] == [str(n) for n in range(1, pgtypes.ROWS + 1)]
    return {name: [row[at] for row in rows] for at, name in enumerate(header)}


@pytest.fixture(scope="module")
def every_copied(copied):
    header, *rows = copied(EVERY)
    return {name: [row[at] for row in rows] for at, name in enumerate(header)}


# What no table has a column of, and some queries yield.
ODD = ["pg_sleep(0)", "ROW(1, 'a b', NULL)", "ARRAY[ROW(1, 'a')]", "'x'::cstring", "NULL", "current_schemas(true)",
       "(SELECT histogram_bounds FROM pg_stats WHERE tablename = 'pg_attribute' AND attname = 'attrelid')",
       "1::oid::regproc", "(1, 2)::pair", "(SELECT proargtypes FROM pg_proc WHERE proname = 'pg_sleep')", "pg_typeof(1)",
       "xmlelement(name a, 'é')", "jsonb_path_query('[1,2]', '$[*]')", "generate_series(1, 3)", "'abc'", "1", "1.5"]


@pytest.mark.parametrize("expression", ODD)
def test_results_that_are_no_columns(definitions, copied, expression):
    query = f"SELECT {expression} AS x"
    assert csvfile.rows(definitions.query(query, ["x"])) == copied(query)


@pytest.mark.parametrize("kind", pgtypes.KINDS, ids=lambda kind: kind.sql.replace(" ", "-"))
def test_type_equals_copy(kind, exported, every_copied):
    want = [pgtypes.of_copy(kind.ours, text) for text in every_copied[kind.name]]
    assert sum(cell is not None for cell in want) == len(kind.values) + len(kind.unread)
    assert exported[kind.name] == want


@pytest.mark.parametrize("kind", pgtypes.KINDS, ids=lambda kind: kind.sql.replace(" ", "-"))
def test_type_equals_what_python_reads(kind, exported, python):
    """Python's own types where they can hold the value; the rest, and what is text here, as the server reads it back from the file."""
    native = kind.ours not in ("text", "interval") or "char" in kind.name
    if native:
        read = python.execute(f"SELECT CASE WHEN n <= %s THEN {kind.name} END FROM every ORDER BY n",
                              (len(kind.values),)).fetchall()
        for n, (value,) in enumerate(read[:len(kind.values)]):
            want = value if kind.ours == "json" else pgtypes.of_python(kind.ours, value)
            assert pgtypes.parsed(kind.ours, exported[kind.name][n]) == want, n + 1
    assert exported[kind.name][-1] is None
    if kind.ours in ("bytes", "json"):
        return
    cells = exported[kind.name]
    # xml::text keeps the encoding that a declaration names, its output function does not.
    shown = "textin(xml_out({}))" if kind.sql == "xml" else "{}::text"
    if kind.ours in ("date", "timestamp", "timestamptz"):
        # A year before 1 has another form in SQL.
        cells = [cell if cell is None or cell[0] not in "+-0" or "inf" in cell else None for cell in cells]
    read = python.execute(
        f"SELECT count(got), count(got) FILTER (WHERE {shown.format(f'(got::{kind.sql})')} IS DISTINCT FROM "
        f"{shown.format(kind.name)}) "
        f"FROM unnest(%s::text[]) WITH ORDINALITY AS file (got, n) JOIN every USING (n)", (cells,)).fetchone()
    assert read == (sum(cell is not None for cell in cells), 0)
    assert read[0] >= len(kind.values) - 2


def test_any_numbers_and_times(definitions, postgres, database, copied):
    """20,000 rows of any bits: real numbers, decimals, times and intervals of every size."""
    chance = random.Random(20240229)
    rows = []
    for n in range(20000):
        digits = "".join(chance.choices("0123456789", k=chance.randint(1, 60)))
        point = chance.randint(0, len(digits))
        rows.append((n, repr(pgtypes.random_double(chance)), chance.choice("-+") + digits[:point] + "." + digits[point:] + "0" * chance.randint(0, 6),
                     chance.randint(-211810000000000000, 9214646400000000000), chance.randint(-2451545, 2145031948),
                     chance.randint(-30000, 30000), chance.randint(-100000, 100000),
                     chance.randint(-2**62, 2**62) // 10**chance.randint(0, 18)))
    postgres.psql("CREATE TABLE chance (n int, f8 float8, num numeric, t timestamptz, d date, i interval, f4 real);"
                  "CREATE TABLE draft (n int, f8 float8, num numeric, us bigint, day bigint, months int, days int, "
                  "span bigint);"
                  "COPY draft FROM STDIN WITH (FORMAT csv);\n" +
                  "".join(",".join(map(str, row)) + "\n" for row in rows) + "\\.\n" +
                  "INSERT INTO chance SELECT n, f8, num, timestamptz '2000-01-01 00:00Z' + make_interval(secs => 0) + "
                  "us * interval '1 us', "
                  "date '2000-01-01' + day::int, make_interval(months => months, days => days) + span * interval '1 "
                  "us', "
                  "CASE WHEN abs(f8) < 3e38 AND (f8 = 0 OR abs(f8) > 1e-44) THEN f8::real ELSE n END FROM draft",
                  database=database)
    kinds = {"n": "int32", "f8": "double", "num": "decimal", "t": "timestamptz", "d": "date", "i": "interval",
             "f4": "float"}
    query = "SELECT * FROM chance ORDER BY n"
    header, *want = copied(query)
    got_header, *got = csvfile.rows(definitions.query(query, list(kinds)))
    assert got_header == header == list(kinds) and len(got) == len(want) == 20000
    for mine, its in zip(got, want):
        for at, ours in enumerate(kinds.values()):
            assert pgtypes.same(ours, mine[at], its[at]), (mine[0], header[at], mine[at], its[at])


# --- a definition's type that is not the source's ---

CASTS = [
    ("int4 as int64", "2147483647::int4", "int64", "2147483647"),
    ("int4 as int16", "7::int4", "int16", "7"),
    ("int8 as double", "9007199254740993::int8", "double", "9007199254740992.0"),
    ("int4 as decimal", "5::int4", "decimal", "5"),
    ("int4 as text", "5::int4", "text", "5"),
    ("int4 as bool", "5::int4", "bool", "true"),
    ("numeric as double", "0.1::numeric", "double", "0.1"),
    ("numeric as int32", "2.5::numeric", "int32", "3"),
    ("numeric as text", "1.50::numeric", "text", "1.50"),
    ("numeric NaN as double", "'NaN'::numeric", "double", "nan"),
    ("double as float", "0.1::float8", "float", "0.1"),
    ("double as decimal", "0.1::float8", "decimal", "0.1"),
    ("double as text", "1e22::float8", "text", "1e+22"),
    ("bool as text", "true", "text", "true"),
    ("text as int32", "'42'::text", "int32", "42"),
    ("text as date", "'2024-02-29'::text", "date", "2024-02-29"),
    ("text as timestamptz", "'2024-02-29 12:00+02'::text", "timestamptz", "2024-02-29T10:00:00Z"),
    ("text as json", "'{\"a\": [1]}'::text", "json", '{"a": [1]}'),
    ("text as uuid", "'8F14E45FCEEA467F9AB32C0E0E2F8A11'::text", "uuid", "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"),
    ("text as bool", "'yes'::text", "bool", "true"),
    ("text as interval", "'1 day'::text", "interval", "P1D"),
    ("varchar as text", "'abc'::varchar(5)", "text", "abc"),
    ("timestamptz as date", "'2024-02-29 23:30:00-02'::timestamptz", "date", "2024-03-01"),
    ("timestamptz as timestamp", "'2024-02-29 23:30:00-02'::timestamptz", "timestamp", "2024-03-01T01:30:00"),
    ("timestamp as timestamptz", "'2024-02-29 23:30:00'::timestamp", "timestamptz", "2024-02-29T23:30:00Z"),
    ("date as timestamptz", "'2024-02-29'::date", "timestamptz", "2024-02-29T00:00:00Z"),
    ("timestamp as time", "'2024-02-29 23:30:00.5'::timestamp", "time", "23:30:00.500000"),
    ("timestamptz as text", "'2024-02-29 23:30:00-02'::timestamptz", "text", "2024-03-01 01:30:00+00"),
    ("interval as text", "'1 day 2 hours'::interval", "text", "P1DT2H"),
    ("uuid as text", "'8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11'::uuid", "text", "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11"),
    ("bytea as text", "'\\x00ff'::bytea", "text", "\\x00ff"),
    ("json as text", "'{\"a\":  1}'::json", "text", '{"a":  1}'),
    ("jsonb as text", "'{\"a\":  1}'::jsonb", "text", '{"a": 1}'),
    ("enum as text", "'sad'::mood", "text", "sad"),
    ("array as json", "ARRAY[1,NULL,3]", "json", "[1,null,3]"),
    ("array of text as json", "ARRAY['a\"b','c,d']", "json", '["a\\"b","c,d"]'),
    ("composite as json", "ROW(1, 'x')::pair", "json", '{"a":1,"b":"x"}'),
    ("range as json", "int4range(1,5)", "json", '"[1,5)"'),
    ("hstore as json", "'a=>1'::hstore", "json", '{"a": "1"}'),
    ("inet as text", "'10.0.0.1'::inet", "text", "10.0.0.1"),
    ("money as decimal", "'12.34'::money", "decimal", "12.34"),
    ("bit as int32", "B'101'::bit(3)", "int32", "5"),
    ("oid as int32", "5::oid", "int32", "5"),
    ("domain as decimal", "1.5::amount", "decimal", "1.500"),
    ("unknown as text", "'x'", "text", "x"),
    ("NULL as int32", "NULL", "int32", None),
]


@pytest.mark.parametrize("name,expression,ours,want", CASTS, ids=[row[0].replace(" ", "-") for row in CASTS])
def test_the_definition_may_say_another_type(definitions, name, expression, ours, want):
    content = definitions.query(f"SELECT {expression} AS x, 1 AS y", {"x": ours, "y": "int32"})
    assert csvfile.rows(content) == [["x", "y"], [want, "1"]]


MISFITS = [
    ("text as int32", "SELECT 'one'::text AS x", "int32", "one"),
    ("text as int32, later", "SELECT CASE WHEN n < 9000 THEN n::text ELSE 'last' END AS x FROM numbered ORDER BY n",
     "int32", "last"),
    ("int8 as int16", "SELECT 40000::int8 AS x", "int16", "out of range"),
    ("numeric as int64", "SELECT 1e30::numeric AS x", "int64", "out of range"),
    ("NaN as int32", "SELECT 'NaN'::float8 AS x", "int32", "out of range"),
    ("bool as date", "SELECT true AS x", "date", "bool"),
    ("timestamptz as int64", "SELECT now() AS x", "int64", "bigint"),
    ("bytea as uuid", "SELECT 'a'::bytea AS x", "uuid", "uuid"),
    ("text as json", "SELECT '{a'::text AS x", "json", "json"),
    ("inet as double", "SELECT '10.0.0.1'::inet AS x", "double", "double"),
]


@pytest.mark.parametrize("name,query,ours,says", MISFITS, ids=[row[0].replace(" ", "-") for row in MISFITS])
def test_a_value_or_type_that_does_not_fit_fails_with_the_servers_reason(definitions, name, query, ours, says):
    problem = definitions.problem(query, {"x": ours})
    assert problem["code"] == "source-query", problem
    assert says in problem["detail"], problem


# --- columns, and how queries may be written ---

def test_columns_come_out_in_the_definitions_order(definitions):
    content = definitions.query("SELECT label, n, amount, at FROM numbered WHERE n = 7", ["at", "amount", "n", "label"])
    assert content == b"at,amount,n,label\r\n2024-01-01T07:00:00Z,1.75,7,number 7\r\n"


def test_a_column_more_in_the_query_is_left_out(definitions):
    assert definitions.query("SELECT label, n, amount FROM numbered WHERE n = 7", ["n"]) == b"n\r\n7\r\n"


def test_a_missing_column_is_named(definitions):
    problem = definitions.problem("SELECT n, label FROM numbered", ["n", "salary"])
    assert problem["code"] == "source-query"
    assert "salary" in problem["detail"] and "label" in problem["detail"], problem


def test_a_columns_name_is_compared_by_letter(definitions):
    assert definitions.problem('SELECT 1 AS "N"', ["n"])["code"] == "source-query"
    assert definitions.query('SELECT 1 AS "N"', ["N"]) == b"N\r\n1\r\n"


def test_names_that_need_quotes(definitions):
    content = definitions.query('SELECT * FROM "Odd ""Name"""', ["a b", 'ü,"q"', "Select"])
    assert content.decode() == 'a b,"ü,""q""",Select\r\nx,2,1\r\n'


def test_two_columns_of_one_name(definitions):
    """Harmless where nobody asks for it; not decided by chance where somebody does."""
    assert definitions.query("SELECT 1 AS n, 2 AS x, 3 AS x", ["n"]) == b"n\r\n1\r\n"
    problem = definitions.problem("SELECT 1 AS n, 2 AS x, 3 AS x", ["n", "x"])
    assert problem["code"] == "source-query" and "x" in problem["detail"], problem


@pytest.mark.parametrize("query", [
    "SELECT n, label FROM numbered WHERE n <= 3 ORDER BY n DESC;",
    "SELECT n, label FROM numbered WHERE n <= 3 ORDER BY n DESC ; \n ",
    "SELECT n, label FROM numbered WHERE n <= 3 ORDER BY n DESC -- the end",
    "SELECT n, label FROM numbered WHERE n <= 3 ORDER BY n DESC; -- the end",
    "SELECT n, label FROM numbered WHERE n <= 3 ORDER BY n DESC /* the /* nested */ end */",
    "/* first */ -- and\n SELECT n, label /* ; */ FROM numbered -- )\n WHERE n <= 3 AND label <> ';' ORDER BY n DESC",
    "WITH few AS (SELECT * FROM numbered WHERE n <= 3) SELECT n, label FROM few ORDER BY n DESC",
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 3) SELECT n, label FROM c JOIN numbered "
    "USING (n) ORDER BY n DESC",
    "SELECT n, label FROM numbered WHERE n <= 2 UNION ALL SELECT 3, 'number 3' ORDER BY n DESC",
    "SELECT * FROM (VALUES (3, 'number 3'), (2, 'number 2'), (1, 'number 1')) v (n, label)",
    "(SELECT n, label FROM numbered WHERE n <= 3 ORDER BY n DESC)",
    "SELECT n, label FROM numbered ORDER BY n DESC OFFSET 8997 LIMIT 3",
    "SELECT DISTINCT ON (n) n, label FROM numbered WHERE n <= 3 ORDER BY n DESC, label",
    "SELECT max(n) AS n, label FROM numbered WHERE n <= 3 GROUP BY label ORDER BY 1 DESC",
    "SELECT n, 'number ' || n AS label FROM unnest(ARRAY[3,2,1]) AS n",
    "SELECT n, label FROM numbered WHERE label ~ '^number [1-3]$' AND 'a$b' = $$a$b$$ AND '{}'::jsonb = '{}' AND "
    "$t$x'y$t$ = 'x''y' ORDER BY n DESC",
])
def test_a_query_may_be_written_in_many_ways(definitions, query):
    assert definitions.query(query, ["n", "label"]) == b"n,label\r\n3,number 3\r\n2,number 2\r\n1,number 1\r\n"


@pytest.mark.parametrize("query", [
    "SELECT 1 AS n; SELECT 2 AS n", "SELECT 1 AS n; DELETE FROM nothing", "", "-- nothing", ";",
    "INSERT INTO nothing VALUES (1, 'x') RETURNING n", "UPDATE nothing SET n = 1 RETURNING n",
    "DELETE FROM nothing RETURNING n",
    "WITH gone AS (DELETE FROM nothing RETURNING n) SELECT n FROM gone", "SELECT writes() AS n", "TRUNCATE nothing",
    "DROP TABLE nothing",
    "CREATE TABLE more AS SELECT 1 AS n", "SELECT 1 AS n INTO more", "COPY numbered TO STDOUT", "VACUUM",
    "SET work_mem = '1GB'",
    "SELECT 1 AS n) TO STDOUT; --", "SELECT 1 AS n FROM nowhere", "SELECT 1 AS n FROM numbered WHERE",
    "SELECT 1/0 AS n",
    "SELECT n FROM numbered FOR UPDATE", "COMMIT", "LISTEN x", "EXPLAIN SELECT 1", "SHOW work_mem", "BEGIN",
    "CALL nobody()", "LOCK numbered",
    "SELECT pg_catalog.set_config('transaction_read_only', 'off', true)::int AS n",
    "SELECT nextval('pg_class')::int8 AS n", "SELECT FROM numbered",
])
def test_what_is_no_query_or_writes_is_refused(definitions, query, postgres, database):
    before = postgres.psql("SELECT count(*) FROM nothing; SELECT count(*) FROM pg_class; SELECT count(*) FROM "
                           "pg_largeobject_metadata", database=database)
    problem = definitions.problem(query, ["n"])
    assert problem["code"] in ("source-query", "config-invalid"), problem
    assert problem["detail"]
    assert before == postgres.psql("SELECT count(*) FROM nothing; SELECT count(*) FROM pg_class; SELECT count(*) FROM "
                                   "pg_largeobject_metadata",
                                   database=database)


KINDS_OF_TABLES = [
    ("view", "SELECT n, label FROM seen ORDER BY n", 100),
    ("materialized view", "SELECT n, label FROM kept ORDER BY n", 100),
    ("partitioned", "SELECT n, k FROM parted ORDER BY n", 2500),
    ("partition of a partition", "SELECT n, k FROM parted_2 ORDER BY n", 1000),
    ("inheritance", "SELECT n, n AS m FROM parent ORDER BY n", 2),
    ("only", "SELECT n, n AS m FROM ONLY parent ORDER BY n", 1),
    ("function", "SELECT n, t FROM some_rows() ORDER BY n", 2),
    ("catalog", "SELECT attnum::int AS n, attname FROM pg_attribute WHERE attrelid = 'numbered'::regclass ORDER BY "
                "attnum", 10),
    ("sample", "SELECT n, label FROM numbered TABLESAMPLE BERNOULLI (10) REPEATABLE (7) ORDER BY n", None),
    ("row security", "SELECT n, owner FROM guarded", 1),
    ("more than a batch", "SELECT n, label FROM numbered ORDER BY n", 9000),
]


@pytest.mark.parametrize("name,query,count", KINDS_OF_TABLES, ids=[row[0].replace(" ", "-") for row in KINDS_OF_TABLES])
def test_kinds_of_tables(definitions, copied, name, query, count):
    header, *want = copied(query)
    got = csvfile.rows(definitions.query(query, header))
    assert got == [header, *want]
    assert len(want) == count or (count is None and 500 < len(want) < 1500)


def test_nothing_is_a_header(definitions):
    assert definitions.query("SELECT n, t FROM nothing", {"t": "text", "n": "int32"}) == b"t,n\r\n"
    assert definitions.query("SELECT n, t FROM nothing", ["t", "n"]) == b"t,n\r\n"


def test_one_empty_cell_in_one_column_is_a_row(definitions):
    content = definitions.query("SELECT * FROM (VALUES (''), (NULL), ('x')) v (t)", ["t"])
    assert content == b't\r\n""\r\n\r\nx\r\n'


# --- sizes ---

def test_large_cells(definitions):
    """Cells of 20 MiB, and rows of 5 MiB among small ones; each arrives whole."""
    content = definitions.query("SELECT n, repeat(chr(96 + n), 20 << 20) AS t, decode(repeat('00ff27', 100), 'hex') "
                                "AS b FROM generate_series(1, 2) n",
                                ["n", "t", "b"])
    blob = base64.b64encode(b"\0\xff'" * 100)
    assert content == b"n,t,b\r\n" + b"".join(b"%d,%s,%s\r\n" % (n, b"%c" % (96 + n) * (20 << 20), blob)
                                              for n in (1, 2))

    content = definitions.query("SELECT n, CASE WHEN n % 3 = 0 THEN repeat(md5(n::text), 160 << 10) ELSE repeat('é', "
                                "n) END AS t, "
                                "CASE WHEN n % 4 = 0 THEN NULL ELSE repeat('\"', 1 << 20) END AS q FROM "
                                "generate_series(1, 20) n", ["n", "t", "q"])
    rows = csvfile.rows(content)[1:]
    for n, row in enumerate(rows, 1):
        assert row[0] == str(n)
        assert row[1] == (hashlib.md5(str(n).encode()).hexdigest() * (160 << 10) if n % 3 == 0 else "é" * n)
        assert row[2] == (None if n % 4 == 0 else '"' * (1 << 20))
    assert len(rows) == 20


def test_a_row_that_is_too_large_fails_by_name(definitions):
    for query in ("SELECT repeat('x', 70 << 20) AS t", "SELECT repeat('x', 40 << 20) AS t, repeat('y', 40 << 20) AS u"):
        problem = definitions.problem(query, ["t", "u"] if " u" in query else ["t"])
        assert problem["code"] == "size-limit", problem


def test_wide_tables(definitions, postgres, database):
    """A table of PostgreSQL's widest kind; 256 columns of it are the most."""
    postgres.psql("CREATE TABLE wide (" + ", ".join(f"c{i} int" for i in range(1600)) + "); "
                  "INSERT INTO wide VALUES (" + ", ".join(str(i) for i in range(1600)) + ")", database=database)
    picked = [f"c{i}" for i in range(1599, 1343, -1)]
    content = definitions.query("SELECT " + ", ".join(reversed(picked)) + " FROM wide", picked)
    assert content.decode() == ",".join(picked) + "\r\n" + ",".join(name[1:] for name in picked) + "\r\n"

    # All of them in the query, few in the definition.
    assert definitions.query("SELECT * FROM wide", ["c0", "c1599"]) == b"c0,c1599\r\n0,1599\r\n"


def test_every_batch_border(definitions):
    """Row counts around a batch's 4,096, and a batch that is full by bytes."""
    for count in (1, 4095, 4096, 4097, 8192, 8193):
        content = definitions.query(f"SELECT n, n * 2 AS m FROM generate_series(1, {count}) n", ["n", "m"])
        assert content.decode() == "n,m\r\n" + "".join(f"{n},{n * 2}\r\n" for n in range(1, count + 1))
    content = definitions.query("SELECT n, repeat('a', 1000) || n AS t FROM generate_series(1, 5000) n", ["n", "t"])
    assert content.decode() == "n,t\r\n" + "".join(f"{n},{'a' * 1000}{n}\r\n" for n in range(1, 5001))


def test_nulls_wherever_they_are(definitions):
    columns = {"i": "int32", "b": "bool", "d": "double", "t": "text", "at": "timestamptz", "u": "uuid"}
    content = definitions.query("""
        SELECT CASE WHEN n % 2 = 0 THEN n END AS i, CASE WHEN n % 3 = 0 THEN n % 2 = 1 END AS b, CASE WHEN n % 5 = 0 THEN n / 4.0 END::float8 AS d,
               CASE WHEN n % 7 = 0 THEN n::text END AS t, CASE WHEN n > 5000 THEN timestamptz '2024-01-01 00:00Z' END AS at, NULL::uuid AS u
        FROM generate_series(1, 9000) n ORDER BY n""", columns)
    want = "".join(",".join([str(n) if n % 2 == 0 else "", ("true" if n % 2 else "false") if n % 3 == 0 else "",
                             repr(n / 4) if n % 5 == 0 else "",
                             str(n) if n % 7 == 0 else "", "2024-01-01T00:00:00Z" if n > 5000 else "", ""]) + "\r\n"
                   for n in range(1, 9001))
    assert content.decode() == ",".join(columns) + "\r\n" + want


# --- other encodings ---

def test_latin1_arrives_as_utf8(definitions):
    assert definitions.query("SELECT n, t FROM t ORDER BY n", ["n", "t"],
                             source="latin1").decode() == "n,t\r\n1,é÷ÿ\r\n2,plain\r\n"
    assert definitions.query("SELECT m, ms FROM moods", ["m", "ms"],
                             source="latin1").decode() == "m,ms\r\nglücklich,{glücklich}\r\n"


def test_latin1_takes_parameters_that_it_can_hold(definitions):
    definition = definitions.write("latin", "SELECT n FROM t WHERE t = $t", ["n"], source="latin1",
                                   params={"t": {"type": "text"}})
    assert definitions.file(definition, {"t": "é÷ÿ"}) == b"n\r\n1\r\n"
    assert definitions.file(definition, {"t": "e"}) == b"n\r\n"
    done = definitions.dump(definition, {"t": "€"}, expect=None)
    assert done.returncode != 0 and b'"source-query"' in done.stderr, done.stderr


def test_sql_ascii_never_makes_a_broken_file(definitions, tmp_path):
    """Nobody knows what its bytes mean: what is UTF-8 goes through, all else ends the export, and no file is left."""
    assert definitions.query("SELECT n, t FROM t WHERE n <> 2 ORDER BY n", ["n", "t"],
                             source="sqlascii").decode() == "n,t\r\n1,plain\r\n3,€\r\n"
    for query, columns in (("SELECT n, t FROM t ORDER BY n", ["n", "t"]), ("SELECT n, c FROM t ORDER BY n", ["n", "c"]),
                           ("SELECT ARRAY[t] AS ts FROM t", ["ts"]), ("SELECT ROW(t) AS r FROM t", ["r"])):
        problem = definitions.problem(query, columns, source="sqlascii")
        assert problem["code"] in ("source-query", "encode-failed"), problem
        path = tmp_path / "file.csv"
        done = definitions.run("dump", "--types", definitions.types / "once.yaml", "once", "-o", path)
        assert done.returncode != 0 and not path.exists() and not list(tmp_path.iterdir())


def test_a_byte_that_is_no_character(definitions, copied):
    """The type "char" is a byte: from 128 on it is shown in octal digits."""
    query = "SELECT '\\351'::\"char\" AS c, ARRAY['\\351'::\"char\"] AS cs"
    assert csvfile.rows(definitions.query(query, ["c", "cs"])) == copied(query)


# --- what else a file depends on ---

def test_the_roles_own_settings_change_no_byte(definitions, postgres, database, files):
    """A role whose defaults are odd gets the same file."""
    settings = {"timezone": "Asia/Kathmandu", "datestyle": "SQL, DMY", "intervalstyle": "postgres_verbose",
                "bytea_output": "escape",
                "extra_float_digits": "-15", "client_encoding": "LATIN1", "standard_conforming_strings": "off",
                "xmlbinary": "hex",
                "xmloption": "document", "lc_numeric": "C", "array_nulls": "off", "quote_all_identifiers": "on",
                "search_path": "pg_temp, public",
                "row_security": "on", "default_transaction_read_only": "off",
                "default_transaction_isolation": "serializable"}
    postgres.passwords["odd"] = "odd"
    postgres.psql("CREATE ROLE odd LOGIN PASSWORD 'odd'; GRANT pg_read_all_data TO odd; " +
                  "".join(f"ALTER ROLE odd SET {name} = {value if name == 'search_path' else pgtypes.literal(value)}; "
                          for name, value in settings.items()),
                  database=database)
    folder = definitions.folder / "odd"
    folder.mkdir()
    odd = Definitions(folder, definitions.program, main=postgres.url("odd", database))
    try:
        assert odd.file(odd.write("every_found", EVERY, COLUMNS)) == files["dump without types"]
    finally:
        postgres.psql("DROP ROLE odd")


def test_readings_of_pythons_csv_module(files, exported):
    """What a reader gets that does not tell NULL and empty apart."""
    rows = list(csv.reader(io.StringIO(files["dump without types"].decode(), newline="")))
    assert len(rows) == pgtypes.ROWS + 1
    assert rows[1:] == [[exported[name][n] or "" for name in COLUMNS] for n in range(pgtypes.ROWS)]


def test_definitions_are_checked_against_the_source(definitions):
    good = definitions.write("good", "SELECT n, label FROM numbered WHERE $n IS NULL OR n = $n",
                             {"n": "int32", "label": None}, params={"n": {"type": "int32"}})
    done = definitions.run("types", "--check", "--types", good)
    assert done.returncode == 0 and "✓ good" in done.stdout.decode(), done.stdout
    for query, says in (("SELECT n FROM numbered", "label"), ("SELECT n, label FROM gone", "gone"),
                        ("SELECT n, label FROM numbered WHERE", "syntax")):
        bad = definitions.write("good", query, ["n", "label"])
        done = definitions.run("types", "--check", "--types", bad)
        assert done.returncode == 1 and says in done.stdout.decode(), done.stdout


def test_a_type_whose_schema_the_role_may_not_use(server, tmp_path, program):
    """Values of such a type can be read all the same, as psql does."""
    server.passwords["narrow"] = "of a test"
    server.psql("""
        CREATE SCHEMA closed; CREATE TYPE closed.shell;
        CREATE FUNCTION closed.read(cstring) RETURNS closed.shell LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
        CREATE FUNCTION closed.show(closed.shell) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
        CREATE TYPE closed.shell (INPUT = closed.read, OUTPUT = closed.show, LIKE = int4);
        CREATE TABLE of_closed AS SELECT '17'::closed.shell AS s UNION ALL SELECT NULL;
        CREATE ROLE narrow LOGIN PASSWORD 'of a test'; GRANT SELECT ON of_closed TO narrow""")
    try:
        file = Definitions(tmp_path, program, main=server.url("narrow")).query("SELECT s FROM of_closed", ["s"])
        assert file.split(b"\r\n")[1:-1] == [b"17", b""]
    finally:
        server.psql("DROP TABLE of_closed; DROP ROLE narrow; DROP SCHEMA closed CASCADE")
        del server.passwords["narrow"]
