"""No value of a parameter changes a query of PostgreSQL: it is compared, and nothing else.

The server is the worst there is: backslashes escape, the exporter's role may do everything, its session begins with odd
settings, and a schema of traps stands in its search_path. What arrived is read in the server's own log.
"""

import base64
import json
import re
import threading
import time

import psycopg
import pytest

import csvfile
import processes
import wire
from definitions import Definitions
from maker import Maker
from postgres import Server

pytestmark = pytest.mark.asan

HOSTILE = [
    "", "'", "''", "'''", '"', "`", "\\", "\\\\", "\\'", "\\''", "'\\", "\\\\'", "x' OR 'a'='a", "x' OR 1=1 --",
    "x'; DELETE FROM canary; --",
    "'); DROP TABLE canary; --", "'||(SELECT spend())||'", "x\\'; DELETE FROM canary; --", "\\'; SELECT spend(); --",
    "--", "-- x", "/*", "*/", "/* '*/",
    "#", ";", "';", "$$", "$$; DELETE FROM canary; $$", "$a$ x $a$", "$1", "$2", "$value", "$p1", ":p1", "?", "%s", "%",
    "_", "{}", "E'\\''", "U&'\\0027'",
    "u&\"\\0041\"", "X'27'", "B'1'", "\\x27", "\\047", "\\u0027", "\\U00000027", "\\0", "&#39;", "%27", "\u02bc",
    "\u2019", "\uff07", "\u0301'", "a\u200d'",
    "\ufeff'", "\U0001f600'", "\u00bf'", "\u00bf\\'", "\u00e9'", "表'", "ソ'", "\u8868'; DELETE FROM canary; --", "\x01'",
    "\x7f'", "\t'", "\n'", "\r\n'",
    "\r", "\x1a'", "\x08\x08'", "\ud7ff\ue000'", "\U0010ffff", "NULL", "null", "true", "0", "1", "-1", "1e5", "DEFAULT",
    "current_user",
    "(SELECT 1)", "pg_sleep(60)", "rowferry.p_p1", "current_setting('rowferry.p_p1')", "'rowferry.p_p1",
    "set_config('role','postgres',false)",
    "a) TO PROGRAM 'id' --", "1) TO STDOUT; --", "') TO STDOUT (FORMAT binary); --", " x", "x ", " ", "X", "x", "é",
    "e\u0301", "ﬁ",
    "x' UNION SELECT n, v FROM hostile --", "'::text IS NOT NULL OR '' = '", "$rf$'$rf$", "\\.", "\\N", "\u2028'",
    "A" * 1000 + "'",
]
assert len(set(HOSTILE)) == len(HOSTILE)
PARAMS_MAX = 64

SCHEMA = r"""
CREATE TABLE canary (n int); INSERT INTO canary VALUES (7);
CREATE TABLE hostile (n int PRIMARY KEY, v text);
CREATE TABLE jsons (n int, j jsonb); CREATE TABLE blobs (n int, b bytea);
CREATE TABLE typed (n int, b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, num numeric, d date, t time, ts timestamp, tz timestamptz, i interval, u uuid);
CREATE FUNCTION spend() RETURNS text LANGUAGE plpgsql AS $$ BEGIN DELETE FROM canary; RETURN 'x'; END $$;
-- Traps: what a query of ours calls, under the same names.
CREATE SCHEMA traps;
CREATE FUNCTION traps.current_setting(text) RETURNS text LANGUAGE sql AS $$ SELECT 'trapped'::text $$;
CREATE FUNCTION traps.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'trapped'::text $$;
CREATE FUNCTION traps.decode(text, text) RETURNS bytea LANGUAGE sql AS $$ SELECT 'trapped'::bytea $$;
CREATE FUNCTION traps.same(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR traps.= (LEFTARG = text, RIGHTARG = text, FUNCTION = traps.same);
CREATE DOMAIN traps.int4 AS text; CREATE DOMAIN traps.text AS int; CREATE DOMAIN traps.timestamptz AS text;
"""

# What a role may bring along. All of them are superusers: nothing but the query's text is in the way.
ROLES = {
    "plain": {},
    "backslashes": {"standard_conforming_strings": "off", "backslash_quote": "on", "escape_string_warning": "off"},
    "sjis": {"client_encoding": "SJIS"},
    "big5": {"client_encoding": "BIG5"},
    "gb18030": {"client_encoding": "GB18030"},
    "latin1": {"client_encoding": "LATIN1"},
    "ascii": {"client_encoding": "SQL_ASCII"},
    "styles": {"datestyle": "SQL, DMY", "intervalstyle": "sql_standard", "timezone": "America/St_Johns",
               "bytea_output": "escape",
               "extra_float_digits": "-15", "lc_monetary": "C.UTF-8", "lc_numeric": "C.UTF-8"},
    "traps": {"search_path": "traps, pg_catalog, public"},
    "poisoned": {"rowferry.p_value": "x' OR true --", "rowferry.p_p1": "poison"},
    "writing": {"default_transaction_read_only": "off", "default_transaction_isolation": "read committed"},
    "quoting": {"quote_all_identifiers": "on", "transform_null_equals": "on", "array_nulls": "off",
                "plan_cache_mode": "force_generic_plan"},
}

LITERAL = re.compile(r"'[0-9A-Za-z:+. -]*'::pg_catalog\.[a-z0-9]+")


class Log:
    """Statements as the server logged them, by role."""

    def __init__(self, server):
        self.server, self.path, self.marks, self.place = server, server.data / "log" / "server.json", 0, 0

    def end(self):
        """All that was said before is in the file: a mark of our own came after it."""
        self.marks += 1
        mark = f"mark {self.marks}".encode()
        self.server.psql(b"SELECT '" + mark + b"'")

        def is_there():
            if not self.path.exists():
                return False
            size = self.path.stat().st_size
            with open(self.path, "rb") as file:
                file.seek(self.place)
                if mark not in file.read(size - self.place):
                    return False
            self.place = size
            return True

        processes.until(is_there, 20, "the log's end")
        return self.place

    def since(self, place, user):
        """What this role ran since then, and with which bound values: [(text, detail)]."""
        self.end()
        with open(self.path, "rb") as file:
            file.seek(place)
            lines = [json.loads(line) for line in file.read().splitlines()]
        found = []
        for line in lines:
            if line.get("user") != user or line["error_severity"] != "LOG":
                continue
            how, _, text = line["message"].partition(": ")
            assert how != "statement", f"not by the extended protocol: {text[:300]}"
            if not how.startswith("execute "):
                continue  # a connection that ended, and the like
            found.append((text, line.get("detail", "")))
        return found


@pytest.fixture(scope="module")
def server():
    with Server(standard_conforming_strings="off", backslash_quote="on", escape_string_warning="off",
                log_statement="all", log_destination="jsonlog",
                logging_collector="on", log_directory="log", log_filename="server.log", log_rotation_age="0",
                log_rotation_size="0") as server:
        server.psql(SCHEMA)
        for role, settings in ROLES.items():
            server.passwords[role] = role
            server.psql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{role}'; " + "".join(
                f"ALTER ROLE {role} SET {name} = {value if name == 'search_path' else _sql(value)}; "
                for name, value in settings.items()))
        with psycopg.connect(server.url("postgres")) as connection, connection.cursor() as cursor:
            cursor.executemany("INSERT INTO hostile VALUES (%s, %s)", list(enumerate(HOSTILE, 1)))
        yield server


def _sql(text):
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


@pytest.fixture(scope="module")
def log(server):
    return Log(server)


@pytest.fixture
def untouched(server):
    """Nothing in the database is another after the story than before."""

    def state():
        return server.psql("SELECT * FROM canary; SELECT count(*), sum(hashtext(v)) FROM hostile; SELECT count(*) "
                           "FROM pg_class; SELECT count(*) FROM pg_proc; "
                           "SELECT md5(string_agg(r::text, '' ORDER BY oid)) FROM pg_roles r; SELECT "
                           "md5(string_agg(s::text, '')) FROM pg_db_role_setting s; "
                           "SELECT count(*) FROM pg_largeobject_metadata; SELECT datname FROM pg_database ORDER BY 1")

    before = state()
    yield
    assert state() == before
    assert before.startswith("7\n")


@pytest.fixture(scope="module", params=ROLES)
def role(request):
    return request.param


@pytest.fixture(scope="module")
def definitions(tmp_path_factory, program, server, role):
    return Definitions(tmp_path_factory.mktemp(role), program, main=server.url(role))


@pytest.fixture(scope="module")
def plain(tmp_path_factory, program, server):
    return Definitions(tmp_path_factory.mktemp("alone"), program, main=server.url("plain"))


@pytest.fixture(scope="module")
def python(server):
    with psycopg.connect(server.url("postgres"), options="-c timezone=UTC") as connection:
        yield connection


def groups(values, size):
    return [values[at:at + size] for at in range(0, len(values), size)]


def many(table, column, of, count):
    """A definition's query and parameters: which row equals p1, which p2 …"""
    query = " UNION ALL ".join(f"SELECT {i} AS p, n FROM {table} WHERE {column} = $p{i}"
                               for i in range(1, count + 1)) + " ORDER BY p, n"
    return query, {f"p{i}": {"type": of} for i in range(1, count + 1)}


def test_texts_find_their_own_rows_and_the_statement_never_changes(definitions, role, server, log, python, untouched):
    for values in groups(HOSTILE, PARAMS_MAX):
        query, params = many("hostile", "v", "text", len(values))
        definition = definitions.write("texts", query, ["p", "n"], params=params)
        seen = []
        for given in (values, ["harmless"] * len(values)):
            place = log.end()
            rows = csvfile.rows(definitions.file(definition, {f"p{i}": value for i, value in enumerate(given, 1)}))[1:]
            want = [[str(i), str(n)] for i, value in enumerate(given, 1)
                    for (n,) in python.execute("SELECT n FROM hostile WHERE v = %s ORDER BY n", (value,)).fetchall()]
            assert rows == want
            assert len(rows) == (len(values) if given is values else 0)
            ran = log.since(place, role)
            # The values went by set_config's bound parameters, all of them and nowhere else.
            assert sum("set_config" in text for text, _ in ran) >= 1
            seen.append([text for text, _ in ran])
            assert any("COPY" in text for text in seen[-1])
        hostile, harmless = seen
        assert hostile == harmless


def test_values_beside_every_kind_of_text(plain, log, untouched):
    """Wherever a parameter may stand in a query, and where its name is only text."""
    query = """
        SELECT v, 'it''s $value' AS quoted, $$ $value $$ AS dollars, $a$ '$value $a$ AS tagged, E'\\\\$value' AS escaped /* $value ' */, -- $value '
               'a' || $value || 'b' AS joined, length($value)::int AS length, ARRAY[$value, 'x'] AS list, ($value)::text AS cast, $value IS NULL AS nothing,
               CASE $value WHEN $value THEN 'same' END AS "$value", coalesce($value, 'none') AS first, U&'d\\0061t\\+000061 $value' AS coded
        FROM (SELECT $value AS v) AS inner_query WHERE $value = v AND ($value IS NOT NULL OR v IS NULL) AND v IN ($value, 'z') AND v LIKE $value ESCAPE ''"""
    # U&'' is refused where backslashes escape; the session of an export says that they do not.
    columns = ["v", "quoted", "dollars", "tagged", "escaped", "joined", "length", "list", "cast", "nothing", "$value",
               "first", "coded"]
    definition = plain.write("places", query, columns, params={"value": {"type": "text"}})
    for value in ("x", "'", "\\'", "$$", "*/", "--", "' || spend() || '", "$a$", "\n"):
        row = csvfile.rows(plain.file(definition, {"value": value}))[1]
        want = dict(zip(columns, row))
        assert want["v"] == want["cast"] == want["first"] == value
        assert want["quoted"] == "it's $value" and want["dollars"] == " $value "
        assert want["tagged"] == " '$value " and want["escaped"] == "\\$value"
        assert want["joined"] == f"a{value}b" and want["length"] == str(len(value))
        assert want["nothing"] == "false" and want["$value"] == "same"
        assert want["coded"] == "data $value"
        assert row[7].endswith(",x}")


JSONS = [None, True, 0, -1.5, 10**18, "", "'", "\\", "\\'", "x'; DELETE FROM canary; --",
         {"a'": "b\\'", 'q"': ["$$", None, {"--": "/*"}]}, [], {}, ["'"] * 50,
         {"\u2019": "\U0001f600"}, "\n\t\x01", "}', true) --", {"": ""}]


def test_json(definitions, role, log, python, server, untouched):
    values = [value for value in JSONS if value is not None]
    python.execute("TRUNCATE jsons")
    for n, value in enumerate(values):
        python.execute("INSERT INTO jsons VALUES (%s, %s::jsonb)", (n, json.dumps(value)))
    python.commit()
    query = " UNION ALL ".join(f"SELECT {i} AS p, n FROM jsons WHERE j = $p{i}::jsonb"
                               for i in range(1, len(values) + 1)) + " ORDER BY p, n"
    definition = definitions.write("jsons", query, ["p", "n"],
                                   params={f"p{i}": {"type": "json"} for i in range(1, len(values) + 1)})
    seen = []
    for given in (values, ["harmless"] * len(values)):
        place = log.end()
        rows = csvfile.rows(definitions.file(definition, {f"p{i}": value for i, value in enumerate(given, 1)}))[1:]
        assert rows == ([[str(i), str(i - 1)] for i in range(1, len(values) + 1)] if given is values else [])
        seen.append([text for text, _ in log.since(place, role)])
    assert seen[0] == seen[1]


BLOBS = [b"", b"'", b"\\", b"\\'", b"\0", b"a\0'b", b"\xff\xfe'", b"\xc0\xa7", b"\xe8\x5c'", b"\\x27", b"\\047",
         b"'; DELETE FROM canary; --", bytes(range(256)) * 8]


def test_bytes(definitions, role, log, python, untouched):
    python.execute("TRUNCATE blobs")
    for n, value in enumerate(BLOBS, 1):
        python.execute("INSERT INTO blobs VALUES (%s, %s)", (n, value))
    python.commit()
    query, params = many("blobs", "b", "bytes", len(BLOBS))
    definition = definitions.write("blobs", query, ["p", "n"], params=params)
    seen = []
    for given in (BLOBS, [b"harmless"] * len(BLOBS)):
        place = log.end()
        rows = csvfile.rows(definitions.file(definition, {f"p{i}": base64.b64encode(value).decode() for i,
                                                          value in enumerate(given, 1)}))[1:]
        assert rows == ([[str(i), str(i)] for i in range(1, len(BLOBS) + 1)] if given is BLOBS else [])
        seen.append([text for text, _ in log.since(place, role)])
    assert seen[0] == seen[1]


# Values that we parse: column of `typed`, type, what a request says, the same for Python's bound parameter.
TYPED = [
    ("b", "bool", [True, False]),
    ("i2", "int16", [-32768, 0, 32767]),
    ("i4", "int32", [-2147483648, 0, 2147483647]),
    ("i8", "int64", [-9223372036854775808, -1, 0, 9007199254740993, 9223372036854775807]),
    ("f4", "float", [0.0, 0.1, -1.5, 3.4028235e38, 1e-45]),
    ("f8", "double", [0.0, 0.1, -0.0, 1e300, 5e-324, 1.7976931348623157e308, 9007199254740993]),
    ("num", "decimal", ["0", "-0.10", "+5", "123456789012345678901234567890.123456789", "0." + "0" * 900 + "1",
                        "9" * 1000, ".5", "5."]),
    ("d", "date", ["2024-02-29", "0001-01-01", "9999-12-31", "1969-12-31"]),
    ("t", "time", ["00:00:00", "23:59:59.999999", "12:30"]),
    ("ts", "timestamp", ["2024-02-29T12:00:00", "0001-01-01T00:00:00.000001", "1969-12-31T23:59:59.999999"]),
    ("tz", "timestamptz", ["2024-02-29T12:00:00Z", "2024-02-29T12:00:00+05:45", "9999-12-31T23:59:59.999999Z",
                           "1969-12-31T23:00:00-02:00"]),
    ("i", "interval", ["1 day", "P1Y2M3DT4H5M6.7S", "-1 day 02:00", "1 year -3 days", "PT-1.5S"]),
    ("u", "uuid", ["8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11", "8F14E45F-CEEA-467F-9AB3-2C0E0E2F8A12"]),
]


@pytest.mark.parametrize("role", ["plain", "backslashes", "gb18030", "styles", "traps"], indirect=True, scope="module")
@pytest.mark.parametrize("column,of,values", TYPED, ids=[row[1] for row in TYPED])
def test_values_that_are_parsed_find_their_rows(definitions, role, log, python, untouched, column, of, values):
    sql = python.execute("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = "
                         "'typed'::regclass AND attname = %s", (column,)).fetchone()[0]
    python.execute("TRUNCATE typed")
    for n, value in enumerate(values, 1):
        python.execute(f"INSERT INTO typed (n, {column}) VALUES (%s, %s::{sql})", (n, str(value)))
    python.commit()
    query, params = many("typed", column, of, len(values))
    definition = definitions.write("typed", query, ["p", "n"], params=params)
    place = log.end()
    rows = csvfile.rows(definitions.file(definition, {f"p{i}": value for i, value in enumerate(values, 1)}))[1:]
    want = [[str(i), str(n)] for i, value in enumerate(values, 1)
            for (n,) in python.execute(f"SELECT n FROM typed WHERE {column} = %s::{sql} ORDER BY n",
                                       (str(value),)).fetchall()]
    assert rows == want and {row[0] for row in rows} == {str(i) for i in range(1, len(values) + 1)}
    hostile = log.since(place, role)
    # But for the constants, of letters that cannot end one, it is the same statement for other values.
    place = log.end()
    definitions.file(definition, {f"p{i}": values[0] for i in range(1, len(values) + 1)})
    same = log.since(place, role)
    assert [LITERAL.sub("?", text) for text, _ in hostile] == [LITERAL.sub("?", text) for text, _ in same]
    assert all(detail == other for (_, detail), (_, other) in zip(hostile, same) if "rowferry.p_" in detail)
    # NULL finds nothing and says so.
    assert csvfile.rows(definitions.file(definition, {})) == [["p", "n"]]


REFUSED = {
    "bool": ["true", "'", 1], "int16": [32768, "1", "1;--", 1.5], "int32": [2**31, "'"],
    "int64": [2**63, -2**63 - 1, "9223372036854775807", 1e30],
    "float": ["NaN", "0.1", 1e39], "double": ["1", "Infinity", "0.1'"],
    "decimal": ["", "'", "1;", "1e5", "0x10", "NaN", "Infinity", "١٢", "1 ", "1'--", "1.2.3", "--1", 5],
    "date": ["", "infinity", "2024-02-30", "2024-02-29'", "2024-02-29; --", "now", "epoch", 5],
    "time": ["", "25:00:00", "12:00:00'", "now", "24:00:00"],
    "timestamp": ["", "infinity", "2024-02-29T12:00:00'", "now()", "yesterday"],
    "timestamptz": ["", "-infinity", "2024-02-29T12:00:00Z'--", "2024-02-29 12:00:00 Europe/Berlin"],
    "interval": ["'", "1 day'--", "1 day;", "\\x", "(1)", "$$"],
    "uuid": ["", "8f14e45f", "8f14e45f-ceea-467f-9ab3-2c0e0e2f8a1'", "{8f14e45f-ceea-467f-9ab3-2c0e0e2f8a11}"],
    "bytes": ["'", "AAE", "=", "\\x00", "AAE=\n"], "text": [5, True, ["'"], {"a": 1}],
}


@pytest.mark.parametrize("of", REFUSED)
def test_what_is_no_value_of_its_type_never_reaches_the_server(plain, log, untouched, of):
    definition = plain.write("refused", "SELECT 1 AS n WHERE $value IS NULL OR $value IS NOT NULL", ["n"],
                             params={"value": {"type": of}})
    for value in REFUSED[of]:
        place = log.end()
        done = plain.dump(definition, {"value": value}, expect=None)
        assert done.returncode != 0 and b'"n' not in done.stdout, (value, done.stdout)
        problem = json.loads([line for line in done.stderr.splitlines() if line.startswith(b"{")][0])
        # A number beyond 64 bits is no JSON of ours at all; intervals are judged when the query is made.
        beyond = of == "int64" and isinstance(value, int)
        want = "source-query" if of == "interval" else "usage" if beyond else "validation-failed"
        assert problem["code"] == want, (value, problem)
        assert not [text for text, _ in log.since(place, "plain") if "COPY" in text]


# --- over HTTP ---

@pytest.fixture(scope="module")
def service(tmp_path_factory, program, server):
    folder = tmp_path_factory.mktemp("http")
    definitions = Definitions(folder, program, main=server.url("backslashes"))
    definition = definitions.write("by_text", "SELECT n, v FROM hostile WHERE v = $value", ["n", "v"],
                                   params={"value": {"type": "text"}})
    maker = Maker(folder, program)
    yield maker("--config", str(definitions.config), "--types", str(definition), sources=False)
    maker.finish()


def test_requests_one_after_the_other_on_one_connection(service, log, python, untouched):
    """A value does not stay behind for the next export."""
    place = log.end()
    tasks = [(value, service.request("by_text", params={"value": value})) for value in HOSTILE[:60]]
    for value, task in tasks:
        rows = csvfile.rows(service.fetch(service.wait(task)["download_url"]))[1:]
        assert rows == [[str(n), v] for n, v in python.execute("SELECT n, v FROM hostile WHERE v = %s",
                                                               (value,)).fetchall()] and len(rows) == 1, value
    left_out = csvfile.rows(service.file_of("by_text"))
    assert left_out == [["n", "v"]]
    assert len({text for text, _ in log.since(place, "backslashes")
                if text.startswith("COPY")}) == 2  # with a value, and with NULL


BODIES = [
    ("NUL", b'{"export_type":"by_text","user_id":"u","params":{"value":"a\\u0000b"}}'),
    ("a bare NUL", b'{"export_type":"by_text","user_id":"u","params":{"value":"a\0b"}}'),
    ("overlong quote", b'{"export_type":"by_text","user_id":"u","params":{"value":"a\xc0\xa7b"}}'),
    ("overlong quote of three", b'{"export_type":"by_text","user_id":"u","params":{"value":"a\xe0\x80\xa7b"}}'),
    ("half a character", b'{"export_type":"by_text","user_id":"u","params":{"value":"a\xe8\'"}}'),
    ("a lone lead byte at the end", b'{"export_type":"by_text","user_id":"u","params":{"value":"a\xbf\\\\\'\xc3"}}'),
    ("a surrogate as bytes", b'{"export_type":"by_text","user_id":"u","params":{"value":"\xed\xa0\x80"}}'),
    ("a lone surrogate", b'{"export_type":"by_text","user_id":"u","params":{"value":"\\ud800\'"}}'),
    ("a surrogate the wrong way", b'{"export_type":"by_text","user_id":"u","params":{"value":"\\udc00\\ud800"}}'),
    ("past Unicode's end", b'{"export_type":"by_text","user_id":"u","params":{"value":"\xf4\x90\x80\x80"}}'),
    ("Latin-1", '{"export_type":"by_text","user_id":"u","params":{"value":"é\'"}}'.encode("latin-1")),
    ("1 MB", b'{"export_type":"by_text","user_id":"u","params":{"value":"' + b"\\\\'" * 350000 + b'"}}'),
    ("another parameter", b'{"export_type":"by_text","user_id":"u","params":{"value\' OR 1=1":"x"}}'),
]


@pytest.mark.parametrize("name,body", BODIES, ids=[row[0].replace(" ", "-") for row in BODIES])
def test_bodies_that_are_no_requests(service, log, untouched, name, body):
    place = log.end()
    head = (f"POST /api/exports/request HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nConnection: "
            f"close\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode()
    (answer,), closed = wire.exchange(service.url, head + body)
    assert 400 <= answer.status < 500 and closed, answer
    assert log.since(place, "backslashes") == []


# --- long values ---

@pytest.mark.parametrize("unit", ["'", "\\", "\\'", "$$", "é", "'; DELETE FROM canary; --"])
def test_long_values(plain, service, log, python, untouched, unit):
    """As long as a request may be, by HTTP and by hand."""
    value = (unit * 30000)[:9000 if unit == "é" else 30000]
    assert len(json.dumps(value)) < 64000
    place = log.end()
    python.execute("INSERT INTO hostile VALUES (100000, %s)", (value,))
    python.commit()
    try:
        assert csvfile.rows(service.file_of("by_text", params={"value": value})) == [["n", "v"], ["100000", value]]
        definition = plain.write("long", "SELECT n, v FROM hostile WHERE v = $value", ["n", "v"],
                                 params={"value": {"type": "text"}})
        assert csvfile.rows(plain.file(definition, {"value": value})) == [["n", "v"], ["100000", value]]
        assert csvfile.rows(plain.file(definition, {"value": value[:-1]})) == [["n", "v"]]
        # As text of a request 1 MB is refused, and told.
        done = plain.dump(definition, {"value": unit * (1000000 // len(unit))}, expect=None)
        assert done.returncode == 2 and done.stdout == b"" and b"longer than 65536 bytes" in done.stderr, done.stderr[:500]
    finally:
        python.execute("DELETE FROM hostile WHERE n = 100000")
        python.commit()
    assert {text for text, _ in log.since(place, "plain") if text.startswith("COPY")} == {
        text for text, _ in log.since(place, "backslashes") if text.startswith("COPY")}


@pytest.mark.parametrize("unit", ["'", "\\", "\\'", "$$", "é", "'; DELETE FROM canary; --"])
def test_a_megabyte(plain, log, python, untouched, unit):
    """By the command line, where a word may have 128 KiB."""
    pieces = [(unit * 125000).encode()[:120000].decode(errors="ignore") for _ in range(9)]
    python.execute("INSERT INTO hostile VALUES (100000, %s)", ("".join(pieces),))
    python.commit()
    try:
        definition = plain.write("megabyte", "SELECT n, v FROM hostile WHERE v = " + " || ".join(f"$p{i}"
                                                                                                 for i in range(1, 10)),
                                 ["n", "v"],
                                 params={f"p{i}": {"type": "text"} for i in range(1, 10)})
        seen = []
        for given in (pieces, ["x"] * 9):
            place = log.end()
            words = [word for i, piece in enumerate(given, 1) for word in ("-p", f"p{i}={piece}")]
            done = plain.run("dump", "megabyte", "--types", definition, *words)
            assert done.returncode == 0, done.stderr[:500]
            assert csvfile.rows(done.stdout)[1:] == ([["100000", "".join(pieces)]] if given is pieces else [])
            seen.append([text for text, _ in log.since(place, "plain")])
        assert seen[0] == seen[1]
    finally:
        python.execute("DELETE FROM hostile WHERE n = 100000")
        python.commit()


def test_many_at_once(service, python, untouched):
    """From many clients at the same time each gets its own rows."""
    wrong = []

    def ask(value):
        try:
            got = csvfile.rows(service.file_of("by_text", params={"value": value}))[1:]
            if [row[1] for row in got] != [value]:
                wrong.append((value, got))
        except AssertionError as error:
            wrong.append((value, str(error)))

    threads = [threading.Thread(target=ask, args=(value,)) for value in HOSTILE[1:41] if value]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
        assert not thread.is_alive()
    assert wrong == []
