"""One export over several connections: every row once, in order, of one snapshot; and refused where it would not be so."""

import re
import threading
import time

import pytest

from definitions import Definitions
from postgres import Server
from processes import until

ROWS = 400_000

SCHEMA = f"""
CREATE TABLE big (n int NOT NULL, at timestamptz, name text, weight double precision);
INSERT INTO big SELECT n, CASE WHEN n % 1000 <> 7 THEN timestamptz '2024-01-01 00:00Z' + n * interval '13 seconds' END,
    'name ' || n, n / 8.0 FROM generate_series(1, {ROWS}) n;
CREATE INDEX ON big (at);
CREATE INDEX ON big (n);
CREATE TABLE "BigOne" AS SELECT * FROM big WHERE n <= 250000;
CREATE SCHEMA app;
CREATE TABLE app.apart AS SELECT * FROM big;
CREATE TABLE small AS SELECT * FROM big WHERE n <= 100;
CREATE TABLE emptied (LIKE big);
CREATE TABLE other AS SELECT n AS key, 'other ' || n AS label FROM generate_series(1, {ROWS}, 3) n;
CREATE VIEW seen AS SELECT * FROM big;
CREATE TABLE parted (LIKE big) PARTITION BY RANGE (n);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (1) TO (200000);
CREATE TABLE parted_2 PARTITION OF parted DEFAULT;
CREATE INDEX ON parted (n);
INSERT INTO parted SELECT * FROM big;
CREATE TABLE plain (n int, at date, name text);
INSERT INTO plain SELECT n, date '2020-01-01' + n / 100, 'a' || n FROM generate_series(1, {ROWS}) n;
CREATE TABLE unknown (n int); INSERT INTO unknown SELECT generate_series(1, {ROWS}); CREATE INDEX ON unknown (n);
GRANT USAGE ON SCHEMA app TO exporter;
GRANT SELECT ON ALL TABLES IN SCHEMA app TO exporter;
CREATE TABLE named AS SELECT n AS "At", {ROWS} - n AS at, n AS key, repeat('x', 40) AS pad FROM big; CREATE INDEX ON named ("At"); CREATE INDEX ON named (key);
CREATE TABLE parent (n int NOT NULL, pad text); INSERT INTO parent SELECT n, repeat('x', 40) FROM big; CREATE INDEX ON parent (n);
CREATE TABLE child () INHERITS (parent); ALTER TABLE child ALTER n DROP NOT NULL; INSERT INTO child VALUES (NULL, 'of the child');
GRANT SELECT ON ALL TABLES IN SCHEMA public TO exporter;
ALTER TABLE unknown SET (autovacuum_enabled = off);
VACUUM (ANALYZE) big, app.apart, small, other, parted, plain, "BigOne", named, parent, child;
"""

COLUMNS = {"n": "int32", "at": "timestamptz", "name": "text", "weight": "double"}
QUERY = "SELECT n, at, name, weight FROM big"


@pytest.fixture(scope="module")
def server():
    with Server(log_statement="all", max_connections="40", shared_buffers="128MB") as server:
        server.psql(SCHEMA)
        yield server


@pytest.fixture(scope="module")
def definitions(server, tmp_path_factory, program):
    return Definitions(tmp_path_factory.mktemp("parallel"), program, main=server.url())


class Asked:
    """What the server was asked since the start of this."""

    def __init__(self, server):
        self.log = server.log_path
        self.begins = self.log.stat().st_size

    def copies(self):
        with open(self.log, "rb") as log:
            log.seek(self.begins)
            return len(re.findall(rb"execute <unnamed>: COPY \(", log.read()))


def parallel(by, table="big", connections=2):
    return {"parallel": {"by": by, "table": table, "connections": connections}}


def same(definitions, server, query, columns, **more):
    """The export over several connections is the one over one; gives back its ranges."""
    whole = definitions.query(query, columns).split(b"\r\n")
    asked = Asked(server)
    parts = definitions.query(query, columns, **more).split(b"\r\n")
    copies = asked.copies()
    if "ORDER BY" not in query:  # the server may use processes of its own for the whole, which come as they come
        whole, parts = sorted(whole), sorted(parts)
    assert len(whole) > 2 and parts == whole
    return copies


def test_places_are_in_their_order(definitions):
    rows = definitions.query("SELECT n FROM big", ["n"], **parallel("ctid", connections=4)).split(b"\r\n")[1:-1]
    assert list(map(int, rows)) == list(range(1, ROWS + 1))


@pytest.mark.asan
@pytest.mark.parametrize("connections", [1, 2, 3, 16])
def test_places_of_a_table(definitions, server, connections):
    assert same(definitions, server, QUERY, COLUMNS, **parallel("ctid", connections=connections)) >= 4


@pytest.mark.parametrize("query, table, columns", [
    ('SELECT n, at, name, weight FROM "BigOne"', "BigOne", COLUMNS),
    ("SELECT b.weight, b.name FROM big AS b", "big", {"name": None, "weight": None}),
    ("SELECT upper(name) AS name, n + 1 AS n FROM big", "public.big", {"n": None, "name": None}),
    ("SELECT n, name FROM big WHERE n % 3 = 0 -- a comment", "big", {"n": "int64", "name": None}),
    ("WITH few AS (SELECT n, name FROM big WHERE n > 10) SELECT * FROM few;", "big", {"n": None, "name": None}),
    ("SELECT n, ARRAY[n, NULL] AS list FROM big", "big", {"n": None, "list": None}),
    ("SELECT n, (SELECT max(key) FROM other) AS most FROM big", "big", {"n": None, "most": None}),
    ("SELECT n, generate_series(1, 2) AS twice FROM big", "big", {"n": None, "twice": None}),
], ids=["a name in capitals", "an alias", "a schema in the declaration", "a filter", "a WITH of its own", "a column that is converted",
        "another table in an expression", "more rows of each"])
def test_queries_over_places(definitions, server, query, table, columns):
    assert same(definitions, server, query, columns, **parallel("ctid", table)) >= 4


@pytest.mark.parametrize("query, table, columns, says", [
    ("SELECT n FROM big ORDER BY n", "big", ["n"], "Sort"),
    ("SELECT n FROM big LIMIT 100000", "big", ["n"], "Limit"),
    ("SELECT count(*) AS n FROM big", "big", ["n"], "Aggregate"),
    ("SELECT DISTINCT weight AS n FROM big", "big", ["n"], "plan has"),
    ("SELECT row_number() OVER () AS n FROM big", "big", ["n"], "WindowAgg"),
    ("SELECT big.n FROM big JOIN other ON key = n", "big", ["n"], "Join"),
    ("SELECT n FROM big UNION ALL SELECT key FROM other", "big", ["n"], "Append"),
    ("SELECT a.n FROM big a WHERE EXISTS (SELECT FROM big b WHERE b.n = a.n + 1)", "big", ["n"], "plan has"),
    ("SELECT n, (SELECT max(n) FROM big) AS most FROM big", "big", ["n", "most"], "second look"),
    ("SELECT key AS n FROM other", "big", ["n"], "plan has"),
    ("SELECT n FROM public.big", "big", ["n"], "without its schema"),
    ("SELECT n FROM big", "no_such_table", ["n"], "no table"),
    ("SELECT n FROM seen", "seen", ["n"], "ordinary table"),
    ("SELECT n FROM parted", "parted", ["n"], "ordinary table"),
])
def test_places_are_refused(definitions, query, table, columns, says):
    problem = definitions.problem(query, columns, **parallel("ctid", table))
    assert problem["code"] == "source-query"
    assert says in str(problem)


@pytest.mark.asan
@pytest.mark.parametrize("query, column, table, connections", [
    (QUERY + " ORDER BY at", "at", "big", 2),
    (QUERY + " ORDER BY n", "n", "big", 4),
    (QUERY + " ORDER BY big.n ASC, name DESC", "n", "big", 3),
    ("SELECT n, at, name, weight FROM seen ORDER BY n", "n", "big", 2),
    ("SELECT n, at, name, weight FROM parted ORDER BY n", "n", "parted", 2),
    ("SELECT * FROM app.apart ORDER BY n", "n", "app.apart", 2),
], ids=["times with NULL", "numbers", "three connections", "a view", "partitions", "no index"])
def test_ranges_of_a_column(definitions, server, query, column, table, connections):
    ranges = same(definitions, server, query, COLUMNS, **parallel(column, table, connections))
    assert ranges == 1 if table == "app.apart" else ranges > 4


@pytest.mark.parametrize("query", [
    QUERY + " ORDER BY n;",
    "(" + QUERY + " ORDER BY n ) ;",
    "SELECT ALL big.N, BIG.at, name, weight FROM big ORDER BY big.n",
    "SELECT big.*, 1 AS one FROM big ORDER BY big.n",
    "SELECT 1 AS one, * FROM big ORDER BY big.n",
], ids=["a semicolon", "parentheses", "capitals", "all of a table", "all"])
def test_order_is_told(definitions, server, query):
    assert same(definitions, server, query, COLUMNS, **parallel("n", connections=4)) > 4


def test_a_table_that_inherits_may_have_null(definitions, server):
    """The column is NOT NULL in the table that is named, and NULL in one that inherits from it."""
    assert same(definitions, server, "SELECT n, pad FROM parent ORDER BY n", ["n", "pad"], **parallel("n", "parent", 8)) > 4


def test_groups_by_ranges_of_a_column(definitions, server):
    query = "SELECT n, count(*) AS count FROM big GROUP BY n HAVING count(*) > 0 ORDER BY n"
    assert same(definitions, server, query, ["n", "count"], **parallel("n")) >= 1


def test_outer_join_has_null_of_its_own(definitions, server):
    """The column is NOT NULL where it comes from, and NULL in the result."""
    query = "SELECT big.n, key, label FROM other LEFT JOIN big ON n = key + 1 AND n > 300000 ORDER BY big.n, key"
    definition = definitions.write("joined", query, ["n", "key", "label"], **parallel("n"))
    rows = definitions.file(definition)
    assert rows == definitions.query(query, ["n", "key", "label"])


@pytest.mark.parametrize("query, by, columns, says", [
    (QUERY + " ORDER BY name", "n", COLUMNS, "order"),
    (QUERY + " ORDER BY n DESC", "n", COLUMNS, "order"),
    (QUERY + " ORDER BY n LIMIT 300000", "n", COLUMNS, "LIMIT"),
    (QUERY + " OFFSET 5", "n", COLUMNS, "LIMIT"),
    (QUERY + " ORDER BY n NULLS FIRST", "n", COLUMNS, "order"),
    (QUERY + " ORDER BY n + 1", "n", COLUMNS, "order"),
    (QUERY + " ORDER BY -n", "n", COLUMNS, "order"),
    (QUERY + " ORDER BY 1", "n", COLUMNS, "order"),
    ("(" + QUERY + " ORDER BY n DESC)", "n", COLUMNS, "order"),
    ('SELECT "At", at AS other, pad FROM named ORDER BY at', "At", ["At", "other", "pad"], "order"),
    ("SELECT key AS at, pad FROM named ORDER BY named.at", "at", ["at", "pad"], "order"),
    ("SELECT key at, pad FROM named ORDER BY named.at", "at", ["at", "pad"], "order"),
    ("SELECT n.key, f.pad FROM named n JOIN named f USING (key) ORDER BY f.key", "key", ["key", "pad"], "order"),
    (QUERY, "name", COLUMNS, "whole number"),
    ("SELECT n::text AS n FROM big ORDER BY n", "n", {"n": "int64"}, "another type"),
    (QUERY, "weight", COLUMNS, "whole number"),
])
def test_columns_are_refused(definitions, query, by, columns, says):
    problem = definitions.problem(query, columns, **parallel(by))
    assert problem["code"] == "source-query"
    assert says in str(problem)


@pytest.mark.parametrize("query, by, table, columns", [
    ("SELECT n FROM small", "ctid", "small", ["n"]),
    ("SELECT n FROM small", "n", "small", ["n"]),
    ("SELECT n, at FROM plain", "at", "plain", ["n", "at"]),
    ("SELECT n FROM unknown", "n", "unknown", ["n"]),
], ids=["few blocks", "few rows", "no index", "never analysed"])
def test_one_connection_is_enough(definitions, server, query, by, table, columns):
    assert same(definitions, server, query, columns, **parallel(by, table)) == 1


@pytest.mark.parametrize("query", [
    "SELECT n, name FROM big WHERE n BETWEEN 5 AND 50",
    "SELECT n, name FROM big WHERE n = 7",
    "SELECT n, name FROM big WHERE n = 7 OR n = 300000",
], ids=["a few", "one", "two"])
def test_an_index_is_quicker_than_places(definitions, server, query):
    """What a parameter asks for decides how the server finds it, not whether there is a file."""
    assert same(definitions, server, query, ["n", "name"], **parallel("ctid", connections=8)) == 1


def test_processes_of_the_server_read_places(definitions, server):
    server.psql("ALTER ROLE exporter SET force_parallel_mode = on")
    try:
        assert same(definitions, server, QUERY, COLUMNS, **parallel("ctid")) >= 4
    finally:
        server.psql("ALTER ROLE exporter RESET force_parallel_mode")


@pytest.mark.parametrize("column, bounds", [
    ("at", [("-infinity", "2024-01-01"), ("2024-01-01", "2024-02-01"), ("2024-02-01", "infinity")]),
    ("small", [(-2**63, 0), (0, 20000), (20000, 2**63 - 1)]),
])
def test_chunks_without_an_end(definitions, server, column, bounds):
    """A hypertable's first and last chunk may begin and end where no value of the column is."""
    kind = "" if column == "at" else "_integer"
    rows = ", ".join(f"('public', 'chunked', '{column}', '{begin}', '{end}')" for begin, end in bounds)
    server.psql(f"""
        CREATE SCHEMA timescaledb_information; GRANT USAGE ON SCHEMA timescaledb_information TO exporter;
        CREATE TABLE timescaledb_information.chunks (hypertable_schema name, hypertable_name name, primary_dimension name,
            range_start timestamptz, range_end timestamptz, range_start_integer int8, range_end_integer int8);
        INSERT INTO timescaledb_information.chunks
            (hypertable_schema, hypertable_name, primary_dimension, range_start{kind}, range_end{kind}) VALUES {rows};
        CREATE TABLE chunked AS SELECT (n / 20)::int2 AS small, at, name FROM big;
        CREATE INDEX ON chunked (at); CREATE INDEX ON chunked (small);
        GRANT SELECT ON chunked, timescaledb_information.chunks TO exporter""")
    server.psql("VACUUM (ANALYZE) chunked")
    try:
        query = f"SELECT {column}, name FROM chunked ORDER BY {column}, name"
        assert same(definitions, server, query, [column, "name"], **parallel(column, "chunked", 8)) > 4
    finally:
        server.psql("DROP TABLE chunked; DROP SCHEMA timescaledb_information CASCADE")


def test_nothing_in_it(definitions):
    query = "SELECT n FROM emptied"
    assert definitions.query(query, ["n"], **parallel("ctid", "emptied")) == b"n\r\n"
    assert definitions.query(query, ["n"], **parallel("n", "emptied")) == b"n\r\n"


def test_filters_leave_ranges_empty(definitions, server):
    query = "SELECT n, at, name, weight FROM big WHERE n BETWEEN 10000 AND 395000 ORDER BY n"
    assert same(definitions, server, query, COLUMNS, **parallel("n")) > 1
    query = "SELECT n, at, name, weight FROM big WHERE name LIKE 'name 12%'"
    assert same(definitions, server, query, COLUMNS, **parallel("ctid")) >= 4


@pytest.mark.parametrize("by", ["ctid", "n"])
def test_one_snapshot(definitions, server, by):
    """Rows that come and go meanwhile: the file has those of one moment."""
    server.psql("CREATE TABLE moving AS SELECT n, 0 AS generation, repeat('x', 100) AS filler FROM "
                "generate_series(1, 200000) n; CREATE INDEX ON moving (n); ANALYZE moving; GRANT SELECT ON moving TO exporter")
    over = threading.Event()

    def move():
        generation = 1
        while not over.is_set():
            server.psql(f"UPDATE moving SET generation = {generation}; INSERT INTO moving VALUES (200000 + {generation}, {generation}, '')")
            generation += 1

    mover = threading.Thread(target=move)
    mover.start()
    try:
        for _ in range(3):
            rows = definitions.query("SELECT n, generation FROM moving", ["n", "generation"],
                                     **parallel(by, "moving", 3)).split(b"\r\n")[1:-1]
            pairs = [tuple(map(int, row.split(b","))) for row in rows]
            newest = max(generation for _, generation in pairs)
            assert sorted(n for n, _ in pairs) == list(range(1, 200001 + newest))
            assert {generation for n, generation in pairs if n <= 200000} == {newest}
    finally:
        over.set()
        mover.join()
        server.psql("DROP TABLE moving")


def test_nothing_can_be_dropped_between(definitions, server):
    """Before the first range is read, all that the query reads is locked against DROP."""
    done = []
    thread = threading.Thread(target=lambda: done.append(definitions.query(
        "SELECT n, pg_sleep(0.2 * (n % 10000 = 0)::int)::text AS s FROM parted ORDER BY n", ["n", "s"], **parallel("n", "parted"))))
    thread.start()
    until(lambda: "1" == server.psql("SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'rowferry:%' OR "
                                     "(application_name = 'rowferry' AND query LIKE 'COPY%') LIMIT 1").strip(), 20, "it did not begin")
    with pytest.raises(Exception, match="lock timeout"):
        server.psql("SET lock_timeout = '300ms'; DROP TABLE parted_2")
    thread.join(60)
    assert done and done[0].count(b"\n") == ROWS + 1
