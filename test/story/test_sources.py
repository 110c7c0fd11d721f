"""What is known of the sources beside their rows: can they be reached, by a login that may only read?"""

import json
import os
import signal
import subprocess

import threading

import pytest

import database
import processes

pytestmark = pytest.mark.asan

ROLE = "reviewed"
PASSWORD = "quite-secret-17"


@pytest.fixture
def reviewed(postgres):
    """A database of its own with one table, which a fresh role may read and nothing else; `grant` gives it more."""

    class Reviewed:
        url = None

        def grant(self, sql):
            postgres.psql(sql, database=ROLE)

    postgres.psql(f"CREATE DATABASE {ROLE}")
    postgres.psql(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'; REVOKE TEMPORARY ON DATABASE {ROLE} FROM PUBLIC")
    postgres.psql("CREATE TABLE interactions (timestamp timestamptz, source text, target text, type text, weight float8); "
                  f"GRANT SELECT ON interactions TO {ROLE}", database=ROLE)
    postgres.passwords[ROLE] = PASSWORD
    made = Reviewed()
    made.url = postgres.url(ROLE, ROLE)
    yield made
    del postgres.passwords[ROLE]
    postgres.psql(f"DROP OWNED BY {ROLE}", database=ROLE)
    postgres.psql(f"DROP DATABASE {ROLE} WITH (FORCE)")
    postgres.psql(f"DROP ROLE {ROLE}; DROP ROLE IF EXISTS {ROLE}_more")


@pytest.fixture
def doctor(program, tmp_path):
    """What doctor finds about one source: (verdict, detail, fix) of each."""
    graph = database.make(tmp_path / "graph.db")

    def ask(url):
        done = subprocess.run([program, "doctor", "--json"], capture_output=True, text=True, timeout=60, cwd=tmp_path,
                              stdin=subprocess.DEVNULL,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8",
                                   "ROWFERRY_DATA_DIR": str(tmp_path / "data"), "GRAPH_DB_URL": f"sqlite:{graph}",
                                   "TIMESCALE_URL": url})
        assert PASSWORD not in done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["ok"] == (done.returncode == 0) == all(one["verdict"] != "failed" for one in report["checks"])
        return [(one["verdict"], one["detail"], one.get("fix") or "")
                for one in report["checks"] if one["name"] == "source timescale"]

    return ask


def test_a_role_that_may_only_read(reviewed, doctor):
    found = doctor(reviewed.url)
    assert [verdict for verdict, _, _ in found] == ["good", "good"], found
    assert found[1][1].startswith("PostgreSQL ")


TOO_MUCH = [
    ("superuser", f"ALTER ROLE {ROLE} SUPERUSER", "failed", "superuser"),
    ("a superuser's member", f"ALTER ROLE {ROLE} NOINHERIT; GRANT postgres TO {ROLE}", "failed", "member of postgres"),
    ("reads files", f"GRANT pg_read_server_files TO {ROLE}", "failed", "member of pg_read_server_files"),
    ("writes files", f"GRANT pg_write_server_files TO {ROLE}", "failed", "member of pg_write_server_files"),
    ("runs programs", f"GRANT pg_execute_server_program TO {ROLE}", "failed", "member of pg_execute_server_program"),
    ("by way of another role", f"CREATE ROLE {ROLE}_more; "
     f"GRANT pg_read_server_files TO {ROLE}_more; GRANT {ROLE}_more TO {ROLE}", "failed", "member of pg_read_server_files"),
    *[(verb.lower(), f"GRANT {verb} ON interactions TO {ROLE}", "failed", "write to public.interactions")
      for verb in ("INSERT", "UPDATE", "DELETE", "TRUNCATE")],
    ("a column", f"GRANT UPDATE (weight) ON interactions TO {ROLE}", "failed", "write to public.interactions"),
    ("everybody writes", "GRANT INSERT ON interactions TO PUBLIC", "failed", "write to public.interactions"),
    ("everything", f"GRANT pg_write_all_data TO {ROLE}", "failed", "write to public.interactions"),
    ("its own table", f"ALTER TABLE interactions OWNER TO {ROLE}", "failed", "write to public.interactions"),
    ("a view, and odd names", f'CREATE SCHEMA "s ü"; CREATE VIEW "s ü"."V;1" AS SELECT 1 AS a; '
     f'GRANT INSERT ON "s ü"."V;1" TO {ROLE}', "failed", 'write to "s ü"."V;1"'),
    ("many tables", "CREATE TABLE a1 (); CREATE TABLE a2 (); CREATE TABLE a3 (); CREATE TABLE a4 (); "
     f"GRANT INSERT ON a1, a2, a3, a4 TO {ROLE}", "failed", "write to public.a1, public.a2, public.a3 …"),
    ("makes schemas", f"GRANT CREATE ON DATABASE {ROLE} TO {ROLE}", "warning", "make schemas"),
    ("makes tables", f"GRANT CREATE ON SCHEMA public TO {ROLE}", "warning", "make tables in the schema public"),
    ("temporary tables", f"GRANT TEMPORARY ON DATABASE {ROLE} TO {ROLE}", "warning", "temporary tables"),
    ("makes roles", f"ALTER ROLE {ROLE} CREATEROLE", "warning", "make roles"),
]


@pytest.mark.parametrize("sql, verdict, says", [case[1:] for case in TOO_MUCH], ids=[case[0] for case in TOO_MUCH])
def test_a_role_that_may_more(reviewed, doctor, sql, verdict, says):
    reviewed.grant(sql)
    found = doctor(reviewed.url)
    told = [one for one in found if one[0] != "good"]
    assert len(told) == 1, found
    assert told[0][0] == verdict and says in told[0][1] and told[0][2], told


def test_a_role_that_cannot_log_in(reviewed, doctor):
    found = doctor(reviewed.url.replace(PASSWORD, "another"))
    assert [verdict for verdict, _, _ in found] == ["failed"] and "source-auth" in found[0][1], found
    assert "password" in found[0][2]


def test_a_trap_in_the_role_s_own_schema_changes_nothing(reviewed, doctor):
    """Operators and functions of the same names, in a schema that the role searches first."""
    reviewed.grant(f"""
        CREATE SCHEMA trap;
        CREATE FUNCTION trap.never(name, name) RETURNS bool LANGUAGE sql AS 'SELECT false';
        CREATE OPERATOR trap.= (LEFTARG = name, RIGHTARG = name, FUNCTION = trap.never);
        CREATE FUNCTION trap.pg_has_role(oid, text) RETURNS bool LANGUAGE sql AS 'SELECT false';
        CREATE VIEW trap.pg_roles AS SELECT 'x'::name AS rolname, false AS rolsuper;
        GRANT USAGE ON SCHEMA trap TO {ROLE}; GRANT SELECT ON trap.pg_roles TO {ROLE};
        ALTER ROLE {ROLE} SET search_path = trap, pg_catalog, public;
        GRANT pg_read_server_files TO {ROLE}""")
    told = [one for one in doctor(reviewed.url) if one[0] != "good"]
    assert len(told) == 1 and "member of pg_read_server_files" in told[0][1], told


# --- the service ---

def word_about(service, source, ok):
    """What /readyz says of it, once it is this."""
    return processes.until(lambda: (lambda word: word if word["ok"] is ok else None)(
        service.http("GET", "/readyz").json()["sources"][source]), 15, lambda: service.tail())


def test_a_login_that_is_refused_is_a_warning(reviewed, make_service):
    service = make_service(environment={"TIMESCALE_URL": reviewed.url})
    assert word_about(service, "timescale", True)["ms"] < 5000

    reviewed.grant(f"ALTER ROLE {ROLE} PASSWORD 'another'")
    os.kill(service.process.pid, signal.SIGHUP)
    word = word_about(service, "timescale", False)
    assert (word["code"], word["error"]) == ("source-auth", "The database refused the login")
    answer = service.http("GET", "/readyz")
    assert answer.status_code == 200 and ROLE not in answer.text and "127.0.0.1" not in answer.text
    service.await_line("source.unreachable", which=lambda line: line["source"] == "timescale")
    assert PASSWORD not in service.text()

    reviewed.grant(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")
    os.kill(service.process.pid, signal.SIGHUP)
    assert word_about(service, "timescale", True)
    service.await_line("source.reachable", which=lambda line: line["source"] == "timescale")


def test_to_be_tried_leaves_no_session(reviewed, postgres, make_service):
    service = make_service(environment={"TIMESCALE_URL": reviewed.url})
    word_about(service, "timescale", True)
    processes.until(lambda: postgres.psql(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'") == "0", 5,
                    "a session that stays")


def test_a_wrong_url_is_refused_when_it_starts_and_when_it_is_read_again(reviewed, make_service):
    service = make_service(start=False)
    config = service.folder / "rowferry.yaml"
    wrong = f'sources:\n  shop: {{ url: "postgresql://u:{PASSWORD}@h/d?no_such_key=1" }}\n'
    config.write_text(wrong)
    config.chmod(0o600)
    service.options += ["--config", str(config)]
    for role in ("serve", "api", "worker", "beat"):
        service.role = role
        service.launch()
        assert service.process.wait(20) == 2, role
        assert "rowferry.yaml:2: sources.shop.url: " in service.text()
    service.role = "serve"

    config.write_text(f'sources:\n  shop: {{ url: "{reviewed.url}" }}\n')
    service.start()
    config.write_text(wrong)
    os.kill(service.process.pid, signal.SIGHUP)
    for role in ("api", "worker", "beat"):
        refused = service.await_line("config.refused", which=lambda line: line["role"] == role)
        assert "sources.shop.url" in str(refused)
    assert word_about(service, "shop", True)
    assert PASSWORD not in service.text()


# --- a source's limit ---

WIDE = """name: {name}
source: shop
{parallel}columns:
  - {{ name: n, type: int64 }}
query: SELECT n FROM wide WHERE pg_catalog.pg_sleep(0.3 * (n % 100000 = 0)::int) IS NOT NULL
"""


def test_an_export_over_several_connections_takes_them_of_its_source(reviewed, postgres, make_service):
    """The definition says 4, the source lets in 3: an export has 3, and whoever has 1 waits until it has ended."""
    reviewed.grant(f"CREATE TABLE wide (n bigint, pad text); INSERT INTO wide SELECT i, repeat('x', 100) "
                   f"FROM generate_series(1, 400000) AS i; ANALYZE wide; GRANT SELECT ON wide TO {ROLE}")
    service = make_service("--concurrency", "4", start=False)
    types = service.folder / "types"
    types.mkdir()
    wide = "parallel: { by: ctid, table: wide, connections: 4 }\n"
    for name, parallel in (("wide", wide), ("narrow", "")):
        (types / f"{name}.yaml").write_text(WIDE.format(name=name, parallel=parallel))
    config = service.folder / "rowferry.yaml"
    config.write_text(f'types: [{types}]\nsources:\n  shop: {{ url: "{reviewed.url}", concurrency: 3 }}\n')
    config.chmod(0o600)
    service.options += ["--config", str(config)]
    service.start()
    word_about(service, "shop", True)  # and no check is under way

    most, ended = set(), threading.Event()

    def look():
        while not ended.is_set():
            rows = postgres.psql("SELECT application_name FROM pg_stat_activity WHERE state <> 'idle' AND "
                                 f"usename = '{ROLE}' AND application_name LIKE 'rowferry:%'").splitlines()
            most.add((len(rows), len(set(rows))))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        tasks = [service.request(name) for name in ("wide", "narrow", "wide", "narrow")]
        done = [service.wait(task, seconds=60) for task in tasks]
    finally:
        ended.set()
        watcher.join()
    assert [one["row_count"] for one in done] == [400000] * 4
    assert max(sessions for sessions, _ in most) == 3, most
    assert (3, 1) in most, "one export had them all"
    assert all(exports == 1 or sessions < 3 for sessions, exports in most), most
