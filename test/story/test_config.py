"""What an operator writes: precedence, and mistakes that are named with file, line, key and what to do."""

import json
import os
import subprocess

import pytest

import database

pytestmark = pytest.mark.asan


@pytest.fixture
def run(program, tmp_path):
    """The program with a command line, in an environment of its own."""

    def run(*words, environment=None, seconds=40, **more):
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=seconds, cwd=tmp_path, env={
            "PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8",
            "ROWFERRY_DATA_DIR": str(tmp_path / "data"), **(environment or {})}, stdin=subprocess.DEVNULL, **more)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        return done

    return run


def config_file(tmp_path, text):
    path = tmp_path / "rowferry.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return path


WRONG_FILES = [
    ("unknown key", "port: 8000\nconcurency: 2\n", ":2: concurency", "concurrency"),
    ("wrong type", "port: [1]\n", ":1: port", "whole number"),
    ("out of range", "port: 70000\n", ":1: port", "65535"),
    ("text for a number", "max_attempts: many\n", ":1: max_attempts", "number"),
    ("no time", "\nurl_ttl: soon\n", ":2: url_ttl", "time"),
    ("too short", "url_ttl: 5s\n", ":1: url_ttl", "7d"),
    ("no size", "task_memory_limit: big\n", ":1: task_memory_limit", "size"),
    ("no switch", "require_auth: perhaps\n", ":1: require_auth", "on"),
    ("double key", "port: 1\nport: 2\n", ":2", "port"),
    ("anchor", "port: &a 1\nmax_attempts: *a\n", ":1", ""),
    ("tag", "port: !!int 1\n", ":1", "tag"),
    ("no map", "- port\n", ":1", "map"),
    ("no YAML", "port: [\n", ":", ""),
    ("unknown source key", "sources:\n  shop:\n    url: sqlite:/a\n    uri: x\n", ":4: sources.shop.uri", "url"),
    ("no url", "sources:\n  shop: { user: a }\n", ":2: sources.shop", "url"),
    ("bad source name", "sources:\n  Shop!: { url: 'sqlite:/a' }\n", ":2", "name"),
    ("unknown scheme", "sources:\n  shop: { url: 'oracle://a' }\n", ":2: sources.shop.url", "only for postgresql:"),
    ("tab", "sources:\n\tshop: { url: 'sqlite:/a' }\n", ":2: ", "a tab"),
    ("relative source", "sources:\n  shop: { url: 'sqlite:' }\n", "sources.shop", ""),
    ("bad cron", "cleanup_schedule: 61 * * * *\n", ":1: cleanup_schedule", "minute"),
    ("never", "cleanup_schedule: 0 0 31 2 *\n", ":1: cleanup_schedule", ""),
    ("short secret", "url_secret: abc\n", ":1: url_secret", "32"),
    ("later auth", "auth: jwt\n", ":1: auth", "not"),
]


@pytest.mark.parametrize("name,text,place,hint", WRONG_FILES, ids=[row[0] for row in WRONG_FILES])
def test_wrong_files(run, tmp_path, name, text, place, hint):
    path = config_file(tmp_path, text)
    done = run("serve", "--config", str(path), "--port", "0")
    assert done.returncode == 2, done.stderr
    assert place in done.stderr and hint in done.stderr, done.stderr
    if place.startswith(":"):
        assert f"{path}{place}" in done.stderr
    if name == "short secret":
        assert "abc" not in done.stderr.replace(str(path), "")


def test_all_mistakes_of_a_file_are_said_at_once(run, tmp_path):
    path = config_file(tmp_path, "port: 70000\nnonsense: 1\nurl_ttl: soon\n")
    done = run("serve", "--config", str(path))
    assert done.returncode == 2
    for place in (":1: port", ":2: nonsense", ":3: url_ttl"):
        assert place in done.stderr


def test_a_file_that_others_can_write(run, tmp_path):
    path = config_file(tmp_path, "port: 0\n")
    path.chmod(0o666)
    done = run("serve", "--config", str(path))
    assert done.returncode == 2 and str(path) in done.stderr


def test_a_file_that_is_missing(run, tmp_path):
    done = run("serve", "--config", str(tmp_path / "none.yaml"))
    assert done.returncode == 2 and "none.yaml" in done.stderr


WRONG_WORDS = [
    ("unknown flag", ["serve", "--prot", "1"], "--port"),
    ("no value", ["serve", "--port"], "--port"),
    ("bad value", ["serve", "--port", "http"], "port"),
    ("a secret as a flag", ["serve", "--url-secret", "x" * 40], "url-secret"),
    ("a word too many", ["serve", "now"], "now"),
    ("unknown command", ["sreve"], "help"),
]


@pytest.mark.parametrize("name,words,hint", WRONG_WORDS, ids=[row[0] for row in WRONG_WORDS])
def test_wrong_words(run, name, words, hint):
    done = run(*words)
    assert done.returncode == 2 and hint in done.stderr, (done.returncode, done.stderr)


def test_wrong_variables(run):
    done = run("serve", environment={"ROWFERRY_PORT": "http"})
    assert done.returncode == 2 and "ROWFERRY_PORT" in done.stderr


def test_precedence(run, tmp_path):
    path = config_file(tmp_path, "max_attempts: 4\nqueue_limit: 40\nretention: 4d\nurl_secret: " + "s" * 40 + "\n")
    done = run("config", "show", "--json", "--config", str(path), "--retention", "8d", environment={
        "ROWFERRY_QUEUE_LIMIT": "50", "ROWFERRY_RETENTION": "5d", "GRAPH_DB_PASSWORD": "hidden-password"})
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    assert "hidden-password" not in shown and "s" * 40 not in shown
    text = run("config", "show", "--config", str(path), "--retention", "8d",
               environment={"ROWFERRY_QUEUE_LIMIT": "50", "ROWFERRY_RETENTION": "5d"}).stdout
    found = {line.split()[0].rstrip(":"): line for line in text.splitlines() if line.strip()}
    assert "4" in found["max_attempts"] and "rowferry.yaml:1" in found["max_attempts"]
    assert "50" in found["queue_limit"] and "ROWFERRY_QUEUE_LIMIT" in found["queue_limit"]
    assert "8d" in found["retention"] and "--retention" in found["retention"]
    assert "***" in found["url_secret"]
    json.loads(shown)


def test_a_secret_from_a_file(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("z" * 40 + "\n")
    secret.chmod(0o600)
    done = run("config", "show", environment={"ROWFERRY_URL_SECRET_FILE": str(secret)})
    assert done.returncode == 0 and "***" in done.stdout and "z" * 40 not in done.stdout
    both = run("config", "show", environment={"ROWFERRY_URL_SECRET_FILE": str(secret),
                                              "ROWFERRY_URL_SECRET": "y" * 40})
    assert both.returncode == 2


# --- definitions ---

BASE = """name: things
title: Things
source: graph
params:
  since: { type: timestamptz }
columns:
  - { name: a, type: text }
query:
  sqlite: SELECT 'x' AS a WHERE $since IS NULL OR 1
"""

WRONG_TYPES = [
    ("a path as name", BASE.replace("name: things", "name: ../x"), ":1", "name"),
    ("capital name", BASE.replace("name: things", "name: Things"), ":1", "name"),
    ("unknown key", BASE + "colums: []\n", ":10", "columns"),
    ("double key", BASE + "title: again\n", ":10", "title"),
    ("alias", BASE.replace("title: Things", "title: &t Things\ndescription: *t"), ":2", ""),
    ("tag", BASE.replace("title: Things", "title: !!str Things"), ":2", "tag"),
    ("no columns", BASE.replace("columns:\n  - { name: a, type: text }\n", ""), ".yaml", "columns"),
    ("empty columns", BASE.replace("columns:\n  - { name: a, type: text }\n", "columns: []\n"), ":6", "columns"),
    ("double column", BASE.replace("  - { name: a, type: text }\n", "  - { name: a }\n  - { name: a }\n"), ":8", "a"),
    ("unknown column type", BASE.replace("type: text", "type: varchar"), ":7", "text"),
    ("unknown param type", BASE.replace("type: timestamptz", "type: when"), ":5", "timestamptz"),
    ("unknown source", BASE.replace("source: graph", "source: shop"), ":3", "shop"),
    ("no query", BASE.split("query:")[0], ".yaml", "query"),
    ("unknown driver", BASE.replace("sqlite:", "sqlight:"), ":9", "sqlite"),
    ("undeclared parameter", BASE.replace("$since IS", "$until IS"), ":9", "until"),
    ("bounds of a text", BASE.replace("{ type: timestamptz }", "{ type: text, min: x }"), ":5", "min"),
    ("bad pattern", BASE.replace("{ type: timestamptz }", "{ type: text, pattern: '(' }"), ":5", "pattern"),
    ("default that does not fit", BASE.replace("{ type: timestamptz }", "{ type: int64, default: x }"), ":5", "default"),
    ("no time limit", BASE + "time_limit: soon\n", ":10", "time_limit"),
    ("not YAML", "name: [\n", ".yaml:", ""),
    ("a list", "- a\n", ":1", ""),
    ("empty", "", ".yaml", ""),
    ("deep", "name: " + "[" * 20 + "]" * 20 + "\n", ":1", ""),
    ("large", "name: things\ndescription: " + "x" * (257 * 1024) + "\n", ".yaml", ""),
]


@pytest.mark.parametrize("name,text,place,hint", WRONG_TYPES, ids=[row[0] for row in WRONG_TYPES])
def test_wrong_definitions_are_refused_at_start(run, tmp_path, name, text, place, hint):
    database.write_types(tmp_path / "types", wrong=text)
    done = run("serve", "--port", "0", "--types", str(tmp_path / "types"))
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert "wrong.yaml" in done.stderr and place in done.stderr and hint in done.stderr, done.stderr


def test_the_same_name_twice(run, tmp_path):
    database.write_types(tmp_path / "types", one=BASE, two=BASE)
    done = run("serve", "--port", "0", "--types", str(tmp_path / "types"))
    assert done.returncode == 2 and "things" in done.stderr


def test_a_definition_that_others_can_write(run, tmp_path):
    folder = database.write_types(tmp_path / "types", things=BASE)
    (folder / "things.yaml").chmod(0o666)
    done = run("serve", "--port", "0", "--types", str(folder))
    assert done.returncode == 2 and "things.yaml" in done.stderr


def test_a_bomb_of_aliases_is_refused_quickly(run, tmp_path):
    bomb = "a0: &a0 x\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))
    database.write_types(tmp_path / "types", bomb=bomb)
    assert run("types", "--types", str(tmp_path / "types"), seconds=20).returncode == 2


def test_a_definition_replaces_a_built_in_one(make_service):
    service = make_service(start=False)
    own = database.TYPES["numbers"].replace("name: numbers", "name: graph_data")
    service.options += ["--types", str(database.write_types(service.folder / "types", mine=own))]
    service.start()
    assert service.file_of("graph_data", params={"rows": 3}) == database.numbers_csv(3)


# --- types, doctor ---

def with_sources(tmp_path):
    source = tmp_path / "source.db"
    if not source.exists():
        database.make(source)
    return {"GRAPH_DB_URL": f"sqlite:{source}", "TIMESCALE_URL": f"sqlite:{source}"}


def test_types_are_listed_and_shown(run, tmp_path):
    environment = with_sources(tmp_path)
    listed = run("types", environment=environment)
    assert listed.returncode == 0
    for name in ("employee_metrics", "graph_data", "interaction_history"):
        assert name in listed.stdout
    one = run("types", "employee_metrics", environment=environment)
    for column in database.EMPLOYEE_COLUMNS:
        assert column in one.stdout
    assert run("types", "payroll", environment=environment).returncode == 5
    skeleton = json.loads(run("types", "employee_metrics", "--skeleton", environment=environment).stdout)
    assert skeleton["export_type"] == "employee_metrics" and set(skeleton["params"]) == {"team", "min_burnout_score"}


def test_check_tries_each_type_against_its_source(run, tmp_path):
    environment = with_sources(tmp_path)
    assert run("types", "--check", environment=environment).returncode == 0

    folder = database.write_types(tmp_path / "types", "wrong_column", "numbers")
    wrong = run("types", "--check", "--types", str(folder), environment=environment)
    said = wrong.stdout + wrong.stderr
    assert wrong.returncode == 1
    assert "wrong_column" in said and "salary" in said

    missing = run("types", "--check", environment={"GRAPH_DB_URL": "sqlite:/nowhere/a.db",
                                                   "TIMESCALE_URL": "sqlite:/nowhere/a.db"})
    assert missing.returncode in (1, 69) and "/nowhere/a.db" in missing.stdout + missing.stderr


def test_doctor_on_a_healthy_machine(run, tmp_path):
    done = run("doctor", environment=with_sources(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("queue", "storage", "graph", "timescale"):
        assert word in done.stdout


def test_doctor_names_what_to_fix(run, tmp_path):
    done = run("doctor", environment={"GRAPH_DB_URL": "sqlite:/nowhere/a.db", **{
        "TIMESCALE_URL": with_sources(tmp_path)["TIMESCALE_URL"]}})
    assert done.returncode != 0
    assert "/nowhere/a.db" in done.stdout + done.stderr

    (tmp_path / "data" / "files").rename(tmp_path / "data" / "away")
    (tmp_path / "data" / "files").symlink_to(tmp_path / "data" / "away")
    linked = run("doctor", environment=with_sources(tmp_path))
    assert linked.returncode != 0 and "files" in linked.stdout + linked.stderr


def test_doctor_leaves_nothing_behind(run, tmp_path):
    run("doctor", environment=with_sources(tmp_path))
    assert [path for path in (tmp_path / "data" / "files").rglob("*") if path.is_file()] == []


def test_data_folders_that_are_not_ours(run, tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    done = run("serve", "--port", "0", "--data-dir", str(folder))
    assert done.returncode == 2 and "write" in done.stderr and str(folder) in done.stderr
    if os.geteuid() == 0:
        other = tmp_path / "other"
        other.mkdir(mode=0o700)
        os.chown(other, 12345, 12345)
        done = run("serve", "--port", "0", "--data-dir", str(other))
        assert done.returncode == 2 and "12345" in done.stderr


def test_a_port_that_is_taken(run, make_service):
    service = make_service()
    port = service.url.rsplit(":", 1)[1]
    done = run("serve", "--port", port)
    assert done.returncode == 1 and port in done.stderr


@pytest.mark.parametrize("role", ["api", "worker", "beat"])
def test_a_role_whose_supervisor_is_gone_does_not_live_on(run, role):
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = run(role, "--port", "0", environment={"ROWFERRY_SUPERVISED": str(gone.pid)}, seconds=10)
    assert done.returncode == 1
    assert "role.started" not in done.stderr
