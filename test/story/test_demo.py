"""demo-data: an organisation whose numbers follow from its interactions."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import time

import networkx
import pytest

PROGRAM = os.environ["ROWFERRY_PROGRAM"]
pytestmark = pytest.mark.asan


def demo_data(*args, **more):
    environment = {"PATH": os.environ["PATH"], "HOME": str(more.pop("home", "/nonexistent"))}
    return subprocess.run(
        [PROGRAM, "demo-data", *map(str, args)], capture_output=True, text=True, timeout=60, env=environment, **more
    )


def rows(path, query):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        return db.execute(query).fetchall()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    done = demo_data(path, "--employees", 300, "--interactions", 30000, "--seed", 5)
    assert done.returncode == 0, done.stderr
    return path


def test_tables(demo):
    assert rows(demo, "PRAGMA integrity_check") == [("ok",)]
    columns = {table: [c[1] for c in rows(demo, f"PRAGMA table_info({table})")] for table in ("employees", "edges", "interactions")}
    assert columns["edges"] == ["source_id", "source_name", "target_id", "target_name", "weight", "last_updated"]
    assert columns["interactions"] == ["timestamp", "source", "target", "type", "weight"]
    assert {"employee_id", "name", "team", "role", "degree_centrality", "betweenness_centrality", "clustering_coeff", "burnout_score"} <= set(columns["employees"])
    assert rows(demo, "SELECT count(*) FROM employees") == [(300,)]
    assert rows(demo, "SELECT count(*) FROM interactions") == [(30000,)]
    assert os.stat(demo).st_mode & 0o777 == 0o600


def test_edges_are_the_sums_of_interactions(demo):
    edges = rows(demo, "SELECT source_id, target_id, round(weight, 2), last_updated FROM edges ORDER BY 1, 2")
    sums = rows(demo, "SELECT source, target, round(sum(weight), 2), max(timestamp) FROM interactions GROUP BY 1, 2 ORDER BY 1, 2")
    assert edges == sums
    names = dict(rows(demo, "SELECT employee_id, name FROM employees"))
    for source, source_name, target, target_name in rows(demo, "SELECT source_id, source_name, target_id, target_name FROM edges"):
        assert (names[source], names[target]) == (source_name, target_name)


def test_measures_are_those_of_networkx(demo):
    graph = networkx.Graph()
    graph.add_nodes_from(i for i, in rows(demo, "SELECT employee_id FROM employees"))
    graph.add_edges_from(rows(demo, "SELECT DISTINCT source, target FROM interactions"))
    degree = networkx.degree_centrality(graph)
    betweenness = networkx.betweenness_centrality(graph)
    clustering = networkx.clustering(graph)
    for i, d, b, c in rows(demo, "SELECT employee_id, degree_centrality, betweenness_centrality, clustering_coeff FROM employees"):
        assert math.isclose(d, degree[i], rel_tol=1e-12)
        assert math.isclose(b, betweenness[i], rel_tol=1e-9, abs_tol=1e-12)
        assert math.isclose(c, clustering[i], rel_tol=1e-12)


def test_burnout_follows_from_the_interactions(demo):
    """The formula of docs/decisions/0007-demo-data.md, in SQL and Python."""
    late = "(strftime('%w', timestamp) IN ('0', '6') OR substr(timestamp, 12, 2) NOT BETWEEN '08' AND '17')"
    counted = {
        i: (total, outside, meetings)
        for i, total, outside, meetings in rows(
            demo,
            f"""SELECT who, count(*), sum(late), sum(meeting) FROM (
                  SELECT source AS who, {late} AS late, type = 'meeting' AS meeting FROM interactions
                  UNION ALL SELECT target, {late}, type = 'meeting' FROM interactions) GROUP BY who""",
        )
    }
    people = rows(demo, "SELECT employee_id, betweenness_centrality, burnout_score FROM employees")
    mean = sum(c[0] for c in counted.values()) / len(people)
    most = max(b for _, b, _ in people)
    for i, between, score in people:
        total, outside, meetings = counted.get(i, (0, 0, 0))
        want = 0.0
        if total:
            want = (
                40 * total / (total + mean)
                + 30 * min(1, 3 * outside / total)
                + 15 * min(1, 2.5 * meetings / total)
                + 15 * between / most
            )
        assert abs(score - want) <= 0.05 + 1e-9
    assert len({score for _, _, score in people}) > 50


def test_same_numbers_same_rows(demo, tmp_path):
    again, other = tmp_path / "again.db", tmp_path / "other.db"
    assert demo_data(again, "--employees=300", "--interactions=30000", "--seed=5").returncode == 0
    assert demo_data(other, "--employees=300", "--interactions=30000", "--seed=6").returncode == 0

    def dump(path):
        with sqlite3.connect(path) as db:
            return list(db.iterdump())

    assert dump(again) == dump(demo)
    assert dump(other) != dump(demo)


def test_never_overwrites(tmp_path):
    path = tmp_path / "mine.db"
    path.write_text("precious")
    done = demo_data(path)
    assert done.returncode == 1
    assert "there already" in done.stderr
    assert path.read_text() == "precious"
    assert os.listdir(tmp_path) == ["mine.db"]


def test_default_file_is_in_the_data_folder(tmp_path):
    data = tmp_path / "data"
    first = demo_data("--data-dir", data)
    assert first.returncode == 0, first.stderr
    made = os.stat(data / "demo.db").st_ino
    second = demo_data("--data-dir", data)
    assert second.returncode == 0, second.stderr
    assert os.stat(data / "demo.db").st_ino == made


def test_two_at_once_one_wins_quietly(tmp_path):
    data = tmp_path / "data"
    racers = [
        subprocess.Popen([PROGRAM, "demo-data", "--data-dir", str(data)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for racer in racers:
        _, errors = racer.communicate(timeout=60)
        assert racer.returncode == 0, errors
    assert rows(data / "demo.db", "SELECT count(*) FROM interactions") == [(50000,)]
    assert [name for name in os.listdir(data) if "unfinished" in name] == []


def test_interrupted_leaves_nothing(tmp_path):
    running = subprocess.Popen([PROGRAM, "demo-data", str(tmp_path / "large.db"), "--interactions", "200000000"], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 20
    while not any(os.stat(tmp_path / name).st_size > 1 << 20 for name in os.listdir(tmp_path)):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130, errors
    assert os.listdir(tmp_path) == []


def test_what_a_killed_one_left_is_removed(tmp_path):
    left = tmp_path / ".demo.db.00000000-0000-4000-8000-000000000000.unfinished"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 3600,) * 2)
    other = tmp_path / ".demo.db.unfinished"
    other.write_bytes(b"somebody else's")
    os.utime(other, (time.time() - 3600,) * 2)
    assert demo_data(tmp_path / "demo.db").returncode == 0
    assert sorted(os.listdir(tmp_path)) == [other.name, "demo.db"]


@pytest.mark.parametrize(
    "args",
    [("--employees", "1"), ("--employees", "1000001"), ("--employees", "-5"), ("--interactions", "many"), ("--seed", "0x1"), ("--people", "5")],
)
def test_wrong_use(tmp_path, args):
    done = demo_data(tmp_path / "demo.db", *args)
    assert done.returncode == 2, done.stderr
    assert os.listdir(tmp_path) == []


def test_no_room_and_no_permission(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    if os.geteuid() != 0:
        done = demo_data(closed / "demo.db")
        assert done.returncode == 1 and "storage-denied" in done.stderr
    done = demo_data("/proc/demo.db")
    assert done.returncode != 0
    assert "demo.db" in done.stderr


def test_json(tmp_path):
    done = demo_data(tmp_path / "demo.db", "--employees", 10, "--interactions", 100, "--json")
    result = json.loads(done.stdout)
    assert result["employees"] == 10 and result["interactions"] == 100 and result["made"] is True
    assert result["bytes"] == os.stat(tmp_path / "demo.db").st_size
