"""The rows in the file are the rows in the database: data that others made, and values that are hard to write."""

import base64
import csv
import io
import math
import sqlite3
import subprocess
from datetime import datetime, timedelta, timezone

import networkx
import pytest

import database
import packages
from maker import Maker

BARE = {"csv": {"empty_string": "bare"}}  # as Python's csv.writer has it


# --- real data (docs/decisions tells how their columns map) ---

def write_miserables(path):
    data = packages.miserables()
    names = [node["name"] for node in data["nodes"]]
    graph = networkx.Graph()
    graph.add_nodes_from(range(len(names)))
    graph.add_weighted_edges_from((link["source"], link["target"], link["value"]) for link in data["links"])
    degree = networkx.degree_centrality(graph)
    between = networkx.betweenness_centrality(graph)
    clustering = networkx.clustering(graph)
    strength = dict(graph.degree(weight="weight"))
    most = max(strength.values())
    with database.create(path) as db:
        db.executemany("INSERT INTO employees VALUES (?,?,?,?,?,?,?,?)", [
            (f"m-{i:02}", names[i], f"group {data['nodes'][i]['group']}", "character", degree[i], between[i],
             float(clustering[i]), 100 * strength[i] / most) for i in range(len(names))])
        db.executemany("INSERT INTO edges VALUES (?,?,?,?,?,?)", [
            (f"m-{link['source']:02}", names[link["source"]], f"m-{link['target']:02}", names[link["target"]],
             float(link["value"]), "1862-04-03T00:00:00") for link in data["links"]])
    db.close()


def write_flights(path):
    with database.create(path) as db:
        db.executemany("INSERT INTO interactions VALUES (?,?,?,?,?)", [
            (flight["date"].replace("/", "-").replace(" ", "T") + ":00", flight["origin"], flight["destination"],
             "late" if flight["delay"] > 0 else "early" if flight["delay"] < 0 else "on time",
             float(flight["distance"])) for flight in packages.flights()])
    db.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory, program):
    folder = tmp_path_factory.mktemp("real")
    write_miserables(folder / "miserables.db")
    write_flights(folder / "flights.db")
    maker = Maker(folder, program)
    service = maker(sources=False, environment={"GRAPH_DB_URL": f"sqlite:{folder}/miserables.db",
                                                "TIMESCALE_URL": f"sqlite:{folder}/flights.db"})
    service.databases = {"employee_metrics": folder / "miserables.db", "graph_data": folder / "miserables.db",
                         "interaction_history": folder / "flights.db"}
    yield service
    maker.finish()


REAL = {
    "employee_metrics": (database.EMPLOYEE_COLUMNS, "employees ORDER BY employee_id", 77),
    "graph_data": (database.EDGE_COLUMNS, "edges ORDER BY source_id, target_id", 254),
    "interaction_history": (database.INTERACTION_COLUMNS, "interactions ORDER BY rowid", 20000),
}
TIMES = {"timestamp", "last_updated"}
REALS = {"degree_centrality", "betweenness_centrality", "clustering_coeff", "burnout_score", "weight"}


@pytest.mark.parametrize("export_type", REAL)
def test_real_data_equals_what_the_sqlite3_shell_reads(real, export_type):
    columns, table, count = REAL[export_type]
    # All digits of a number (the shell shows 15), and times with the zone that they mean.
    selected = ", ".join(f"printf('%!.17g', {name}) AS {name}" if name in REALS
                         else f"{name} || 'Z' AS {name}" if name in TIMES else f'"{name}"' for name in columns)
    shell = subprocess.run(["sqlite3", "-readonly", "-csv", "-header", str(real.databases[export_type]),
                            f"SELECT {selected} FROM {table}"], capture_output=True, check=True, timeout=60).stdout
    want = list(csv.DictReader(io.StringIO(shell.decode(), newline="")))

    done = real.export(export_type)
    got = list(csv.DictReader(io.StringIO(real.fetch(done["download_url"]).decode(), newline="")))

    assert done["row_count"] == len(got) == len(want) == count
    for number, (mine, its) in enumerate(zip(got, want), 1):
        for name in columns:
            if name in REALS:
                assert float(mine[name]) == float(its[name]), (number, name)
            else:
                assert mine[name] == its[name], (number, name)


@pytest.mark.parametrize("export_type", REAL)
def test_real_data_equals_what_python_writes(real, export_type):
    """Byte for byte."""
    columns, table, _ = REAL[export_type]
    with sqlite3.connect(real.databases[export_type]) as db:
        rows = db.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall()
    db.close()
    times = [i for i, name in enumerate(columns) if name in TIMES]
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([value + "Z" if i in times else value for i, value in enumerate(row)])

    assert real.file_of(export_type, options=BARE) == out.getvalue().encode()


def test_real_data_by_its_filters(real):
    flights = packages.flights()

    def exported(**params):
        return list(csv.DictReader(io.StringIO(real.file_of("interaction_history", params=params).decode(),
                                               newline="")))

    want = [flight for flight in flights if flight["origin"] == "LAX" and "2001/02/01" <= flight["date"] < "2001/02/15"]
    got = exported(source="LAX", start="2001-02-01T00:00:00Z", end="2001-02-15T00:00:00Z")
    assert [(row["timestamp"], row["target"], float(row["weight"])) for row in got] == [
        (flight["date"].replace("/", "-").replace(" ", "T") + ":00Z", flight["destination"], float(flight["distance"]))
        for flight in want]
    assert len(exported(type="on time")) == sum(flight["delay"] == 0 for flight in flights)


# --- filters ---

def rows_of(service, export_type, **params):
    return list(csv.DictReader(io.StringIO(service.file_of(export_type, params=params).decode(), newline="")))


@pytest.mark.asan
def test_filters_of_employee_metrics(shared):
    everybody = rows_of(shared, "employee_metrics")
    assert len(everybody) == 12
    assert rows_of(shared, "employee_metrics", team="Sales") == [one for one in everybody if one["team"] == "Sales"]
    high = rows_of(shared, "employee_metrics", min_burnout_score=60)
    assert high == [one for one in everybody if float(one["burnout_score"]) >= 60] and 0 < len(high) < 12
    assert rows_of(shared, "employee_metrics", min_burnout_score=60.0) == high
    both = rows_of(shared, "employee_metrics", team="Sales", min_burnout_score=60)
    assert both == [one for one in high if one["team"] == "Sales"]
    assert rows_of(shared, "employee_metrics", team=None) == everybody
    assert rows_of(shared, "employee_metrics", team="") == []
    assert rows_of(shared, "employee_metrics", min_burnout_score=-0.0) == everybody


@pytest.mark.asan
def test_filters_of_interaction_history(shared):
    everything = rows_of(shared, "interaction_history")
    assert len(everything) == 200
    start, end = "2024-03-05T04:04:04Z", "2024-03-20T00:00:00Z"
    span = rows_of(shared, "interaction_history", start=start, end=end)
    assert span == [one for one in everything if start <= one["timestamp"] < end] and 0 < len(span) < 200
    # The start belongs to the span, the end does not.
    exact = everything[3]["timestamp"]
    assert everything[3] in rows_of(shared, "interaction_history", start=exact)
    assert everything[3] not in rows_of(shared, "interaction_history", end=exact)
    # Another zone, the same moment.
    assert rows_of(shared, "interaction_history", start="2024-03-05T05:04:04+01:00", end="2024-03-19T19:00:00-05:00") == span
    for name, value in (("source", "e-0003"), ("target", "e-0003"), ("type", "chat")):
        some = rows_of(shared, "interaction_history", **{name: value})
        assert some == [one for one in everything if one[name] == value] and some


@pytest.mark.asan
def test_a_time_without_zone_is_taken_as_utc_and_noted(shared):
    answer = shared.ask({"export_type": "interaction_history", "user_id": "u",
                         "params": {"start": "2024-03-10T00:00:00"}})
    assert [(one["code"], one["pointer"]) for one in answer.json()["warnings"]] == [
        ("naive-timestamp", "/params/start")]
    naive = shared.fetch(shared.wait(answer.json()["task_id"])["download_url"])
    assert naive == shared.file_of("interaction_history", params={"start": "2024-03-10T00:00:00Z"})


# --- injection: a parameter is only ever a value ---

STRINGS = ["x' OR '1'='1", "'; DROP TABLE employees; --", "$$", "$team", "$1", "\\", "\\'", "{{7*7}}", "${7*7}", "%s",
           "?1", ":team", "@team", "\"", "`", "NULL", "1=1", "--", "/*", "' UNION SELECT * FROM sqlite_schema --",
           "a\nb", "a\tb", "=1+1", "\u202egnp.exe", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "%", "_", "Sales%"]


@pytest.fixture(scope="module")
def injected(tmp_path_factory, program):
    maker = Maker(tmp_path_factory.mktemp("injected"), program)
    folder = maker.folder / "service-0"
    folder.mkdir()
    database.make(folder / "source.db", employees=3)
    with sqlite3.connect(folder / "source.db") as db:
        db.executemany("INSERT INTO employees VALUES (?,?,?,?,?,?,?,?)", [
            (f"x-{i:02}", "Somebody", text, "engineer", 0.5, 0.5, 0.5, 50.0) for i, text in enumerate(STRINGS)])
    db.close()
    yield maker(types=database.TYPES)
    maker.finish()


@pytest.mark.asan
@pytest.mark.parametrize("text", STRINGS, ids=[f"string-{i}" for i in range(len(STRINGS))])
def test_a_parameter_matches_only_itself(injected, text):
    got = rows_of(injected, "employee_metrics", team=text)
    assert [one["employee_id"] for one in got] == [f"x-{STRINGS.index(text):02}"]
    assert got[0]["team"] == text
    assert rows_of(injected, "any_text", value=text) == [{"value": text}]


# --- values ---

HARD = """
name: hard
title: Values that are hard to write
source: graph
columns:
  - { name: id, type: int64 }
  - { name: "the \\"text\\", quoted", type: text }
  - { name: real, type: double }
  - { name: whole, type: int64 }
  - { name: yes, type: bool }
  - { name: day, type: date }
  - { name: moment, type: timestamptz }
  - { name: local, type: timestamp }
  - { name: clock, type: time }
  - { name: raw, type: bytes }
  - { name: exact, type: decimal }
query:
  sqlite: >-
    SELECT id, t AS "the ""text"", quoted", real, whole, yes, day, moment, local, clock, raw, exact FROM hard ORDER BY id
"""

TEXTS = ["plain", "", None, "a,b", 'a "quoted" word', '"', '""', "line\nfeed", "carriage\rreturn", "both\r\n", "\n", " ",
         " leading", "trailing ", "tab\there", "=cmd|' /C calc'!A0", "+1", "-1", "@x", "\x1b[31mred", "<script>",
         "Übermäßig", "日本語", "👩‍👩‍👧", "\u202egnp.exe", "é" * 5000, "\x7f", "\x01", "NULL", "'"]
REAL_NUMBERS = [0.0, -0.25, 1.0, -1.5, 0.1, 1e-05, 1e-4, 123456789.123, 1e15, 1e16, 1e17, 1e22, 1e23, 5e-324,
                1.7976931348623157e308, 2.2250738585072014e-308, math.pi, 1 / 3, 100.0, float("inf"), float("-inf"), None,
                9007199254740993.0, 0.30000000000000004, 2.5e-8, 1e100, 4.35, 0.000123, 123456.789e3, 1e21]
WHOLES = [0, 1, -1, 2**31, -2**31, 2**53 + 1, 2**63 - 1, -2**63, None, 42] * 3


def hard_rows():
    rows = []
    for i, (text, real, whole) in enumerate(zip(TEXTS, REAL_NUMBERS, WHOLES)):
        none = i % 7 == 6
        rows.append((i, text, real, whole, None if none else i % 2, None if none else f"20{i:02}-02-28",
                     None if none else f"2024-02-29 23:59:59.{i:06}" if i % 3 else f"2024-02-29T23:59:59+0{i % 9}:00",
                     None if none else "0001-01-01T00:00:00" if i % 2 else 86400 * i,
                     None if none else f"0{i % 9}:30:00", None if none else bytes(range(i)),
                     None if none else "1234567890123456789012345678.90" if i % 2 else f"-{i}.50"))
    return rows


def shown(row):
    """A row as the specification writes it: a list of (text, whether it is NULL)."""
    i, text, real, whole, yes, day, moment, local, clock, raw, exact = row
    if moment is not None:
        at = datetime.fromisoformat(moment)
        at = at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
        moment = at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{at.microsecond:06}" if at.microsecond else "") + "Z"
    if isinstance(local, int):
        local = (datetime(1970, 1, 1) + timedelta(seconds=local)).strftime("%Y-%m-%dT%H:%M:%S")
    return [str(i), text, None if real is None else repr(real), None if whole is None else str(whole),
            None if yes is None else ["false", "true"][yes], day, moment, local, clock,
            None if raw is None else base64.b64encode(raw).decode(), exact]


def as_csv(rows, bare):
    """NULL is nothing, empty text is "" (or nothing, where asked); the rest as Python's csv quotes it."""
    def cell(value):
        if value is None:
            return ""
        if value == "":
            return "" if bare else '""'
        out = io.StringIO(newline="")
        csv.writer(out).writerow([value])
        return out.getvalue().removesuffix("\r\n")

    return "".join(",".join(cell(value) for value in row) + "\r\n" for row in rows).encode()


@pytest.fixture(scope="module")
def hard(tmp_path_factory, program):
    maker = Maker(tmp_path_factory.mktemp("hard"), program)
    folder = maker.folder / "service-0"
    folder.mkdir()
    with database.create(folder / "source.db") as db:
        db.execute("CREATE TABLE hard (id, t, real REAL, whole INTEGER, yes INTEGER, day TEXT, moment TEXT, local,"
                   " clock TEXT, raw BLOB, exact TEXT)")
        db.executemany(f"INSERT INTO hard VALUES ({','.join('?' * 11)})", hard_rows())
        db.execute("CREATE TABLE bad (n INTEGER, t TEXT)")
        db.executemany("INSERT INTO bad VALUES (?, ?)", [(1, "good"), (2, "good")])
        db.execute("INSERT INTO bad VALUES (3, CAST(x'61ff62' AS TEXT))")
    db.close()
    texts = {"hard": HARD}
    for name, query, kind in (("not_text", "SELECT t AS value FROM bad ORDER BY n", "text"),
                              ("not_number", "SELECT t AS value FROM bad ORDER BY n", "int64"),
                              ("not_time", "SELECT 'yesterday' AS value", "timestamptz"),
                              ("too_wide", "SELECT 70000 AS value", "int16"),
                              ("real_for_whole", "SELECT 1.5 AS value", "int64"),
                              ("whole_for_real", "SELECT 7 AS value", "double"),
                              ("two_statements", "SELECT 1 AS value; SELECT 2 AS value", "int64"),
                              ("attach", "ATTACH 'x.db' AS x", "int64"),
                              ("pragma", "SELECT name AS value FROM pragma_table_list", "text"),
                              ("extension", "SELECT load_extension('x') AS value", "text"),
                              ("writing", "INSERT INTO bad VALUES (4, 'x') RETURNING n AS value", "int64"),
                              ("broken", "SELEC 1 AS value", "int64"),
                              ("nothing", "SELECT t AS value FROM bad WHERE n > 100", "text"),
                              ("wide", "SELECT printf('%.*c', 3000000, 'w') AS value FROM bad", "text")):
        texts[name] = (f"name: {name}\ntitle: {name}\nsource: graph\ncolumns:\n  - {{ name: value, type: {kind} }}\n"
                       f"query:\n  sqlite: |\n    {query}\n")
    database.write_types(folder / "types", **texts)
    yield maker("--types", str(folder / "types"))
    maker.finish()


@pytest.mark.asan
@pytest.mark.parametrize("bare", [False, True], ids=["quoted", "bare"])
def test_hard_values(hard, bare):
    header = ["id", 'the "text", quoted', "real", "whole", "yes", "day", "moment", "local", "clock", "raw", "exact"]
    want = as_csv([header], False) + as_csv([shown(row) for row in hard_rows()], bare)
    got = hard.file_of("hard", options={"csv": {"empty_string": "bare" if bare else "quoted"}})
    assert got.split(b"\r\n") == want.split(b"\r\n")
    assert got == want


@pytest.mark.asan
def test_hard_values_read_back(hard):
    """Python's reader finds the same values, NULL and empty text told apart by the quotes."""
    content = hard.file_of("hard").decode()
    rows = list(csv.reader(io.StringIO(content, newline="")))[1:]
    for row, (_, text, real, whole, *_rest) in zip(rows, hard_rows(), strict=True):
        assert row[1] == (text or "")
        if real is not None:
            assert float(row[2]) == real and math.copysign(1, float(row[2])) == math.copysign(1, real)
        if whole is not None:
            assert int(row[3]) == whole


@pytest.mark.asan
def test_dialects(hard):
    whole = hard.file_of("nothing")
    assert whole == b"value\r\n", "no rows: the header alone"
    assert hard.file_of("nothing", options={"csv": {"line_ending": "lf"}}) == b"value\n"
    assert hard.file_of("nothing", options={"csv": {"header": False}}) == b""
    assert hard.file_of("whole_for_real", options={"csv": {"header": False, "line_ending": "lf"}}) == b"7.0\n"


@pytest.mark.asan
def test_a_wide_row_travels_alone(hard):
    content = hard.file_of("wide")
    assert content == b"value\r\n" + (b"w" * 3000000 + b"\r\n") * 3


FAILING = [("not_text", "encode-failed", ["value", "3"]), ("not_number", "source-query", ["value", "row 1", "int64"]),
           ("not_time", "source-query", ["value", "row 1"]), ("too_wide", "source-query", ["value", "int16"]),
           ("real_for_whole", "source-query", ["value"]), ("two_statements", "source-query", ["one statement"]),
           ("attach", "source-query", []), ("pragma", "source-query", []), ("extension", "source-query", []),
           ("writing", "source-query", []), ("broken", "source-query", ["SELEC"])]


@pytest.mark.asan
@pytest.mark.parametrize("export_type,code,words", FAILING, ids=[row[0] for row in FAILING])
def test_what_cannot_be_exported(hard, export_type, code, words):
    before = hard.objects()
    task = hard.request(export_type)
    failed = hard.wait(task, status="failed")
    assert failed["error_code"] == code and failed["attempt"] == 1
    cause = [str(line) for line in hard.lines("export.failed") if line["task_id"] == task]
    assert len(cause) == 1
    for word in words:
        assert word in cause[0]
        assert word == "value" or word not in failed["error"]
    assert hard.objects() == before and hard.uploads() == []


@pytest.mark.asan
def test_the_default_line_end_can_be_set(make_service):
    service = make_service(environment={"ROWFERRY_CSV_EOL": "lf"}, types=["numbers"])
    assert service.file_of("numbers", params={"rows": 3}) == database.numbers_csv(3).replace(b"\r\n", b"\n")


@pytest.mark.asan
def test_row_limits(shared):
    whole = shared.export("numbers", params={"rows": 10}, row_limit=10)
    assert whole["row_count"] == 10
    failed = shared.wait(shared.request("numbers", params={"rows": 11}, row_limit=10), status="failed")
    assert (failed["error_code"], failed["attempt"]) == ("row-limit", 1)


@pytest.mark.asan
@pytest.mark.parametrize("rows", [0, 1, 4095, 4096, 4097, 100000])
def test_counts_around_the_batch(shared, rows):
    done = shared.export("numbers", params={"rows": rows})
    content = shared.fetch(done["download_url"])
    assert content == database.numbers_csv(rows)
    assert done["row_count"] == rows
    assert done["checksum"]["sha256"] == database.sha256(content)


def test_memory_does_not_grow_with_the_rows(shared):
    """As the parent sees it from outside; the bench does the same with five million rows."""
    few = shared.export("numbers", "memory", params={"rows": 10000})
    many = shared.export("numbers", "memory", params={"rows": 1000000})
    assert many["peak_memory_bytes"] < 32 << 20
    assert many["peak_memory_bytes"] < few["peak_memory_bytes"] + (12 << 20)
