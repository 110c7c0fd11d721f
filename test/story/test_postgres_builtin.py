"""The three types that ship, from PostgreSQL: the demo database copied there gives the same files as SQLite does."""

import csv
import io
import json
import os
import sqlite3
import subprocess

import psycopg
import pytest

TABLES = {
    "employees": "employee_id text PRIMARY KEY, name text, team text, role text, degree_centrality double precision,"
                 " betweenness_centrality double precision, clustering_coeff double precision, burnout_score double precision",
    "edges": "source_id text, source_name text, target_id text, target_name text, weight double precision, last_updated timestamptz",
    "interactions": "timestamp timestamptz, source text, target text, type text, weight double precision",
}


def names(table):
    return [column.split()[0] for column in TABLES[table].split(", ")]


@pytest.fixture(scope="module")
def both(postgres, tmp_path_factory, program):
    """URLs of the same data: SQLite's, PostgreSQL's."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    subprocess.run([program, "demo-data", path, "--employees", "60", "--interactions", "30000", "--seed", "7"],
                   check=True, timeout=60, stdout=subprocess.DEVNULL)
    postgres.psql("CREATE DATABASE demo LOCALE 'C' TEMPLATE template0")
    with sqlite3.connect(path) as demo, \
            psycopg.connect(postgres.url(user="postgres", database="demo"), options="-c timezone=UTC") as connection:
        for table, columns in TABLES.items():
            connection.execute(f"CREATE TABLE {table} ({columns})")
            wanted = ", ".join(names(table))
            with connection.cursor().copy(f"COPY {table} ({wanted}) FROM STDIN") as copy:
                for row in demo.execute(f"SELECT {wanted} FROM {table}"):
                    copy.write_row(row)
    yield f"sqlite:{path}", postgres.url(database="demo")
    postgres.psql("DROP DATABASE demo WITH (FORCE)")


@pytest.fixture
def dump(program, tmp_path):
    def dump(url, export_type, params):
        body = json.dumps({"export_type": export_type, "user_id": "u", "params": params})
        done = subprocess.run([program, "dump", "--data-dir", tmp_path / "data", "--from-file", "-", "-q"], input=body.encode(),
                              capture_output=True, timeout=60,
                              env={"PATH": os.environ["PATH"], "GRAPH_DB_URL": url, "TIMESCALE_URL": url})
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return dump


@pytest.mark.asan
@pytest.mark.parametrize("export_type,params", [
    ("employee_metrics", {}),
    ("employee_metrics", {"min_burnout_score": 40}),
    ("employee_metrics", {"team": "Sales"}),
    ("employee_metrics", {"team": "nobody's"}),
    ("graph_data", {}),
    ("interaction_history", {}),
    ("interaction_history", {"type": "email"}),
    ("interaction_history", {"source": "emp_0007", "type": "chat"}),
    ("interaction_history", {"start": "middle"}),
    ("interaction_history", {"start": "middle", "end": "later"}),
    ("interaction_history", {"end": "middle", "target": "busiest"}),
])
def test_same_as_sqlite(both, dump, export_type, params):
    every = list(csv.DictReader(io.StringIO(dump(both[0], "interaction_history", {}).decode())))
    times = sorted(row["timestamp"] for row in every)
    targets = sorted(row["target"] for row in every)
    known = {"middle": times[len(times) // 2], "later": times[len(times) * 3 // 4],
             "busiest": max(set(targets), key=targets.count)}
    params = {name: known.get(value, value) for name, value in params.items()}
    files = [dump(url, export_type, params) for url in both]
    lines = [file.split(b"\r\n") for file in files]
    assert lines[0][0] == lines[1][0]
    if export_type == "interaction_history":  # in no order
        assert sorted(lines[0]) == sorted(lines[1])
    else:
        assert files[0] == files[1]
    if not params:
        assert len(lines[0]) > 50
