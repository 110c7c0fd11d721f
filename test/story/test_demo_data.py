"""The demo database: everything in it follows from its interactions, as a library that is not ours computes it."""

import os
import sqlite3
import subprocess
from collections import defaultdict

import networkx
import pytest


@pytest.fixture(scope="module")
def demo(program, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    subprocess.run([program, "demo-data", "demo.db", "--employees", "150", "--interactions", "3000", "--seed", "4711"],
                   cwd=folder, check=True, timeout=60, capture_output=True,
                   env={"PATH": os.environ["PATH"], "HOME": str(folder)})
    database = sqlite3.connect(folder / "demo.db")
    yield database
    database.close()


@pytest.fixture(scope="module")
def graph(demo):
    graph = networkx.Graph()
    graph.add_nodes_from(row[0] for row in demo.execute("SELECT employee_id FROM employees"))
    graph.add_edges_from(demo.execute("SELECT source, target FROM interactions"))
    return graph


def column(demo, name):
    return dict(demo.execute(f"SELECT employee_id, {name} FROM employees"))


def test_as_many_as_asked_for(demo):
    assert demo.execute("SELECT count(*) FROM employees").fetchone() == (150,)
    assert demo.execute("SELECT count(*) FROM interactions").fetchone() == (3000,)
    assert demo.execute("SELECT count(*) FROM interactions WHERE source = target").fetchone() == (0,)


def test_degree_betweenness_and_clustering_are_those_of_the_graph(demo, graph):
    for name, computed in (("degree_centrality", networkx.degree_centrality(graph)),
                           ("betweenness_centrality", networkx.betweenness_centrality(graph)),
                           ("clustering_coeff", networkx.clustering(graph))):
        assert column(demo, name) == pytest.approx(computed, rel=1e-9, abs=1e-12), name


def test_edges_are_sums_of_interactions(demo):
    weight, last = defaultdict(float), {}
    for at, source, target, one in demo.execute("SELECT timestamp, source, target, weight FROM interactions"):
        weight[source, target] += one
        last[source, target] = max(last.get((source, target), ""), at)
    edges = {(row[0], row[1]): row[2:] for row in demo.execute(
        "SELECT source_id, target_id, weight, last_updated FROM edges")}
    assert edges.keys() == weight.keys()
    for pair, (total, latest) in edges.items():
        assert total == pytest.approx(weight[pair], abs=1e-6) and latest == last[pair]
    names = column(demo, "name")
    for source, source_name, target, target_name in demo.execute(
            "SELECT source_id, source_name, target_id, target_name FROM edges"):
        assert (names[source], names[target]) == (source_name, target_name)


def test_the_burnout_score_is_its_formula(demo, graph):
    """docs/decisions: what there is to do, late hours, meetings, and how much everybody needs this person."""
    every, late, meetings = defaultdict(int), defaultdict(int), defaultdict(int)
    for source, target, kind, is_late in demo.execute(
            "SELECT source, target, type, NOT (strftime('%w', timestamp) BETWEEN '1' AND '5' AND "
            "strftime('%H', timestamp) BETWEEN '08' AND '17') FROM interactions"):
        for one in (source, target):
            every[one] += 1
            late[one] += is_late
            meetings[one] += kind == "meeting"
    mean = sum(every.values()) / len(graph)
    between = networkx.betweenness_centrality(graph)
    most = max(between.values())
    for employee, score in column(demo, "burnout_score").items():
        count = every[employee]
        want = 0 if not count else (
            40 * count / (count + mean) + 30 * min(1, 3 * late[employee] / count)
            + 15 * min(1, 2.5 * meetings[employee] / count) + 15 * between[employee] / most)
        assert score == pytest.approx(want, abs=0.051), employee
