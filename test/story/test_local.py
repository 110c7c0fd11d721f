"""The commands that need no server: dump, types, doctor, config, version, help."""

import csv
import hashlib
import io
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time

import pytest

PROGRAM = os.environ["ROWFERRY_PROGRAM"]
pytestmark = pytest.mark.asan
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local") / "data"
    done = run(folder, "demo-data", "-q")
    assert done.returncode == 0, done.stderr
    return folder


def run(data, *args, env=None, text=True, **more):
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **(env or {})}
    words = [PROGRAM, args[0], "--data-dir", str(data), *map(str, args[1:])]
    return subprocess.run(words, capture_output=True, text=text, timeout=60, env=environment, **more)


def query(data, sql, *values):
    with sqlite3.connect(f"file:{data}/demo.db?mode=ro", uri=True) as db:
        return db.execute(sql, values).fetchall()


def parsed(text):
    return list(csv.reader(io.StringIO(text, newline="")))


def test_dump_to_standard_output(data):
    done = run(data, "dump", "employee_metrics")
    assert done.returncode == 0, done.stderr
    header, *rows = parsed(done.stdout)
    assert header == [
        "employee_id", "name", "team", "role", "degree_centrality", "betweenness_centrality", "clustering_coeff", "burnout_score",
    ]
    want = query(data, f"SELECT {', '.join(header)} FROM employees ORDER BY employee_id")
    assert [r[:4] for r in rows] == [list(w[:4]) for w in want]
    assert [[repr(x) for x in w[4:]] for w in want] == [r[4:] for r in rows]
    assert "500 rows" in done.stderr


def test_dump_takes_the_parameters_of_a_request(data):
    done = run(data, "dump", "interaction_history", "-p", "type=meeting", "-p", "start=2025-03-01", "-p", "end=2025-04-01T00:00:00Z")
    assert done.returncode == 0, done.stderr
    rows = parsed(done.stdout)[1:]
    want = query(data, "SELECT timestamp || 'Z', source, target FROM interactions WHERE type = 'meeting' AND timestamp >= '2025-03-01' AND timestamp < '2025-04-01'")
    assert [tuple(r[:3]) for r in rows] == want
    assert rows


def test_dump_to_a_file(data, tmp_path):
    done = run(data, "dump", "graph_data", "-o", tmp_path / "graph.csv", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    content = (tmp_path / "graph.csv").read_bytes()
    assert result["status"] == "completed"
    assert result["row_count"] == content.count(b"\r\n") - 1 == query(data, "SELECT count(*) FROM edges")[0][0]
    assert result["file_size"] == len(content)
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert os.listdir(tmp_path) == ["graph.csv"]
    assert run(data, "dump", "graph_data", text=False).stdout == content


def test_dump_never_overwrites(data, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("precious")
    done = run(data, "dump", "graph_data", "-o", path)
    assert done.returncode == 1
    assert "(exists)" in done.stderr
    assert path.read_text() == "precious" and os.listdir(tmp_path) == ["mine.csv"]


def test_dump_of_a_whole_request(data):
    body = json.dumps({"export_type": "employee_metrics", "user_id": "u", "params": {"team": "Sales"}, "options": {"csv": {"line_ending": "lf"}}})
    done = run(data, "dump", "--from-file", "-", input=body)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout
    assert {row[2] for row in parsed(done.stdout)[1:]} == {"Sales"}
    more = run(data, "dump", "--from-file", "-", "-p", "min_burnout_score=50", input=body)
    assert 1 < len(more.stdout.splitlines()) < len(done.stdout.splitlines())


def test_dump_of_nothing_is_a_header(data):
    done = run(data, "dump", "interaction_history", "-p", "source=nobody")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["timestamp,source,target,type,weight"]


@pytest.mark.parametrize(
    "args, status, says",
    [
        (["employee_metrics", "-p", "min_burnout_score=high"], 5, "/params/min_burnout_score"),
        (["employee_metrics", "-p", "min_burnout_score=101"], 5, "between 0 and 100"),
        (["employee_metrics", "-p", "tema=Sales"], 5, "/params/tema"),
        (["employee_metrix"], 5, "did you mean employee_metrics?"),
        (["employee_metrics", "--format", "xml"], 5, "/format"),
        (["employee_metrics", "-p", "team"], 2, "NAME=VALUE"),
        ([], 2, "TYPE"),
        (["employee_metrics", "-o", "/no/such/folder/file.csv"], 2, "/no/such/folder/file.csv"),
    ],
)
def test_dump_says_what_is_wrong(data, args, status, says):
    done = run(data, "dump", *args)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert done.stdout == ""


def test_dump_says_it_in_json(data):
    done = run(data, "dump", "employee_metrics", "-p", "min_burnout_score=101", "--json")
    assert done.returncode == 5
    problem = json.loads(done.stderr.splitlines()[-1])
    assert problem["code"] == "validation-failed"
    assert [error["pointer"] for error in problem["errors"]] == ["/params/min_burnout_score"]


def test_dump_makes_the_demo_database(tmp_path):
    done = run(tmp_path / "data", "dump", "employee_metrics")
    assert done.returncode == 0, done.stderr
    assert "demo database" in done.stderr
    assert len(parsed(done.stdout)) == 501


def slow_types(folder):
    folder.mkdir()
    (folder / "slow.yaml").write_text(
        """
name: slow
title: Slow
source: graph
columns:
  - { name: n, type: int64 }
query: |
  WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000000) SELECT count(*) AS n FROM c
"""
    )
    return folder


def test_interrupt_ends_the_query(data, tmp_path):
    types = slow_types(tmp_path / "types")
    out = tmp_path / "out"
    out.mkdir()
    running = subprocess.Popen(
        [PROGRAM, "dump", "slow", "--data-dir", data, "--types", types, "-o", out / "slow.csv"], stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 20
    while not os.listdir(out):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    time.sleep(0.2)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130, errors
    assert time.monotonic() - began < 5
    assert os.listdir(out) == []


def test_timeout_ends_the_query(data, tmp_path):
    done = run(data, "dump", "slow", "--types", slow_types(tmp_path / "types"), "--timeout", "1s")
    assert done.returncode == 124, done.stderr


def test_full_disk(data):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [PROGRAM, "dump", "interaction_history", "--data-dir", data], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode == 1
    assert "(storage-full)" in done.stderr


def test_closed_pipe_ends_quietly(data):
    line = f"'{PROGRAM}' dump -q interaction_history --data-dir '{data}' | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("timestamp,source")
    assert "rror" not in done.stderr


def test_missing_and_broken_sources(tmp_path):
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"this is no database" * 100)
    gone = run(tmp_path / "d", "dump", "graph_data", env={"GRAPH_DB_URL": f"sqlite:{tmp_path}/gone.db"})
    assert gone.returncode == 69 and "gone.db" in gone.stderr
    wrong = run(tmp_path / "d", "dump", "graph_data", env={"GRAPH_DB_URL": f"sqlite:{broken}"})
    assert wrong.returncode != 0 and "broken.db" in wrong.stderr


def test_types(data):
    listed = run(data, "types")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["NAME", "employee_metrics", "graph_data", "interaction_history"]
    described = json.loads(run(data, "types", "--json").stdout)
    assert [t["name"] for t in described] == ["employee_metrics", "graph_data", "interaction_history"]
    one = run(data, "types", "interaction_history")
    assert "timestamptz" in one.stdout and "start" in one.stdout
    assert run(data, "types", "nothing").returncode == 5


def test_types_skeleton_is_a_request(data):
    skeleton = run(data, "types", "employee_metrics", "--skeleton")
    request = json.loads(skeleton.stdout)
    assert request["export_type"] == "employee_metrics"
    assert request["params"] == {"team": None, "min_burnout_score": None}
    assert run(data, "dump", "--from-file", "-", input=skeleton.stdout).returncode == 0


def test_types_check_names_what_is_wrong(data, tmp_path):
    good = run(data, "types", "--check")
    assert good.returncode == 0, good.stdout
    assert good.stdout.count("✓") == 3
    types = tmp_path / "types"
    types.mkdir()
    (types / "wrong.yaml").write_text(
        "name: wrong\ntitle: Wrong\nsource: graph\ncolumns:\n  - { name: employee_id, type: text }\n"
        "  - { name: salary, type: double }\nquery: SELECT employee_id FROM employees\n"
    )
    (types / "typo.yaml").write_text(
        "name: typo\ntitle: Typo\nsource: graph\ncolumns:\n  - { name: employee_id, type: text }\n"
        "query: SELECT employee_idd AS employee_id FROM employees\n"
    )
    bad = run(data, "types", "--check", "--types", types)
    assert bad.returncode == 1
    assert "salary" in bad.stdout and "employee_idd" in bad.stdout
    rows = {r["name"]: r for r in json.loads(run(data, "types", "--check", "--types", types, "--json").stdout)}
    assert rows["graph_data"]["ok"] is True
    assert rows["wrong"]["ok"] is False and rows["wrong"]["code"] == "source-query"


def test_types_check_does_not_fail_for_a_demo_database_that_is_still_to_come(tmp_path):
    shop = tmp_path / "shop.db"
    with sqlite3.connect(shop) as database:
        database.execute("CREATE TABLE orders (id INTEGER, total REAL)")
    definition = tmp_path / "orders.yaml"
    definition.write_text("name: orders\nsource: shop\ncolumns:\n  - { name: id }\n"
                          "query: SELECT id, total FROM orders\n")
    config = tmp_path / "rowferry.yaml"
    config.write_text(f"types: ['{definition}']\nsources:\n  shop: {{ url: 'sqlite:{shop}' }}\n")
    done = run(tmp_path / "data", "types", "--check", "--config", config)
    assert done.returncode == 0, done.stdout
    assert "✓ orders" in done.stdout and "! graph_data" in done.stdout and "✗" not in done.stdout

    definition.write_text(definition.read_text().replace("SELECT id, total", "SELECT total"))
    done = run(tmp_path / "data", "types", "--check", "--config", config)
    assert done.returncode == 1
    assert f"✗ orders ({definition}): the query has no column id, it has: total" in done.stdout


def test_doctor(data):
    done = run(data, "doctor")
    assert done.returncode == 0, done.stdout
    for word in ("configuration", "data folder", "queue", "storage", "source graph", "type employee_metrics"):
        assert f"✓ {word}" in done.stdout
    assert "signed" in done.stdout and "deleted" in done.stdout
    files = [name for _, _, names in os.walk(data / "files") for name in names]
    assert [name for name in files if "probe" in name] == []
    report = json.loads(run(data, "doctor", "--json").stdout)
    assert report["ok"] is True
    assert {check["verdict"] for check in report["checks"]} <= {"good", "warning"}


def test_doctor_finds_what_is_broken(data, tmp_path):
    sick = tmp_path / "data"
    shutil.copytree(data, sick, symlinks=True, ignore=shutil.ignore_patterns("run", "*.lock"))
    os.chmod(sick, 0o700)
    shutil.rmtree(sick / "files")
    (sick / "files").write_text("not a folder")
    done = run(sick, "doctor", env={"TIMESCALE_URL": "sqlite:/no/such.db"})
    assert done.returncode == 1
    assert "✗ data folder" in done.stdout
    assert "✗ source timescale" in done.stdout
    assert "→" in done.stdout
    report = json.loads(run(sick, "doctor", "--json", env={"TIMESCALE_URL": "sqlite:/no/such.db"}).stdout)
    assert report["ok"] is False
    assert all(check["fix"] for check in report["checks"] if check["verdict"] == "failed")


def test_doctor_refuses_what_a_role_would_refuse(data):
    done = run(data, "doctor", "--cleanup-schedule", "61 2 * * *")
    assert done.returncode != 0
    assert "✗ configuration: --cleanup-schedule" in done.stdout


def test_config_show(data):
    shown = run(data, "config", "show", env={"GRAPH_DB_PASSWORD": "hunter22"})
    assert shown.returncode == 0
    assert "hunter22" not in shown.stdout and "***" in shown.stdout
    assert "variable GRAPH_DB_PASSWORD" in shown.stdout
    values = json.loads(run(data, "config", "show", "--json").stdout)
    assert values["options"]["data_dir"] == {"value": str(data), "from": "flag --data-dir"}
    assert run(data, "config", "hide").returncode == 2


def test_version():
    for words in (["version"], ["--version"]):
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0
        assert done.stdout.startswith("rowferry ")
        for library in ("SQLite", "OpenSSL", "libcurl", "Jansson", "libyaml", "Expat"):
            assert library in done.stdout


def test_sample_configuration_is_valid(tmp_path):
    """As it ships, and with every line in it switched on."""
    sample = open(os.path.join(ROOT, "etc", "rowferry.yaml")).read()
    lines = []
    for line in sample.splitlines():
        off = line.removeprefix("# ")
        key = off.split(":")[0]
        lines.append(off if line.startswith("# ") and ":" in off and key.strip().isidentifier() and key != "auth" else line)
    everything = "\n".join(lines).replace("/etc/rowferry/types", os.path.join(ROOT, "types"))
    password = tmp_path / "metrics"
    password.write_text("a long word")
    password.chmod(0o600)
    everything = everything.replace("/run/secrets/metrics", str(password))
    assert "\nsources:" in everything and "\npublic_url:" in everything
    for name, text in (("sample", sample), ("everything", everything)):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        done = run(tmp_path / "data", "config", "show", "--config", path)
        assert done.returncode == 0, done.stderr
    assert "source shop" in done.stdout and "a long word" not in done.stdout
