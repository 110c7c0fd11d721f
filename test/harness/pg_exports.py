"""Export types over PostgreSQL whose files are known without asking it, and services that have them."""

import json

import activity
import database
import processes

# What stands in each query and nowhere else: it shows where a query got out.
MARK = "not_for_clients"


def type_text(name, query, params="{}", columns="{ name: n, type: int64 }", source="timescale", more=""):
    rows = "".join(f"  - {column}\n" for column in columns.split(" | "))
    return (f"name: {name}\ntitle: {name}\nsource: {source}\nparams: {params}\ncolumns:\n{rows}{more}"
            f"query:\n  postgres: |\n    /* {MARK} */ {query}\n")


NUMBERS = "{ name: n, type: int64 } | { name: square, type: int64 } | { name: label, type: text }"
ROWS = "rows: { type: int64, required: true }"
SELECT = "SELECT n, n * n AS square, 'number ' || n AS label FROM"

TYPES = {name: type_text(name, *words) for name, *words in (
    ("pg_numbers", f"{SELECT} generate_series(1, $rows) n", f"{{ {ROWS} }}", NUMBERS),
    # Every so many rows it sleeps.
    ("pg_slow", f"{SELECT} generate_series(1, $rows) n WHERE n % $every <> 0 OR pg_sleep($pause) IS NOT NULL",
     f"{{ {ROWS}, every: {{ type: int64, required: true }}, pause: {{ type: double, required: true }} }}", NUMBERS),
    # A table that a story makes: n, square, label.
    ("pg_table", "SELECT n, square, label FROM shop ORDER BY n", "{}", NUMBERS),
    ("pg_table_slow", "SELECT n, square, label FROM shop WHERE n % 100 <> 0 OR pg_sleep(0.01) IS NOT NULL", "{}",
     NUMBERS),
    # Without an end, each in its own way.
    ("pg_sleeps", "SELECT 1::int8 AS n FROM pg_sleep(600)"),
    ("pg_computes", "SELECT count(*) AS n FROM generate_series(1, 300000) a, generate_series(1, 300000) b"),
    ("pg_sorts", "SELECT a + b AS n FROM generate_series(1, 4000) a, generate_series(1, 4000) b "
                 "ORDER BY md5(a || '/' || b)"),
    ("pg_streams", "SELECT a::int8 AS n FROM generate_series(1, 30000) a, generate_series(1, 30000) b, "
                   "generate_series(1, 30000) c"),
    # What fails.
    ("pg_no_table", "SELECT n FROM nowhere_to_be_found"),
    ("pg_no_column", "SELECT colour AS n FROM shop"),
    ("pg_not_yielded", "SELECT 1 AS m"),
    ("pg_denied", "SELECT n FROM secret_shop"),
    ("pg_syntax", "SELEKT 1 AS n"),
    ("pg_two_statements", "SELECT 1 AS n; SELECT 2 AS n"),
    ("pg_writes", "INSERT INTO shop VALUES (0, 0, 'x') RETURNING n"),
    ("pg_function_writes", "SELECT writes(n) AS n FROM shop"),
    ("pg_divides", "SELECT 1000000 / (50000 - n) AS n FROM generate_series(1, 100000) n"),
    ("pg_casts", "SELECT (CASE n WHEN 50000 THEN 'fifty' ELSE '1' END)::int8 AS n FROM generate_series(1, 100000) n"),
    ("pg_raises", "SELECT n FROM generate_series(1, 20000) n WHERE raises($code, n)",
     "{ code: { type: text, required: true } }"),
)}


def fill_shop(server, rows=1000):
    """The table `shop` from the beginning."""
    server.psql(f"DROP TABLE IF EXISTS shop; CREATE TABLE shop AS SELECT n::int8, (n * n)::int8 AS square, "
                f"'number ' || n AS label FROM generate_series(1, {rows}) n")


def make_shop(server):
    """The tables and functions that the types name."""
    fill_shop(server)
    server.psql("""
        CREATE TABLE secret_shop (n int8);
        CREATE TABLE mood (code text);
        REVOKE ALL ON secret_shop FROM PUBLIC;
        CREATE FUNCTION writes(int8) RETURNS int8 LANGUAGE plpgsql AS
            'BEGIN INSERT INTO shop VALUES ($1, $1, ''written''); RETURN $1; END';
        -- Halfway, and only while the story says so.
        CREATE FUNCTION raises(code text, n int) RETURNS bool LANGUAGE plpgsql AS $$
            BEGIN
                IF n = 10000 AND NOT EXISTS (SELECT FROM mood WHERE mood.code = raises.code) THEN
                    RAISE EXCEPTION 'the story says %', code USING ERRCODE = code;
                END IF;
                RETURN true;
            END $$""")


PATIENT = ("--max-attempts", "20", "--retry-delays", "100ms")
ONCE = ("--max-attempts", "1")


class Maker:
    """Makes services over a PostgreSQL server with these types, `types` (texts) and `sources` (name to URL or map)."""

    def __init__(self, make_service, folder, server):
        self.make_service, self.folder, self.server = make_service, folder, server

    def __call__(self, *options, url=None, types=(), sources=None, name="service", **more):
        folder = self.folder / f"{name}-types"
        database.write_types(folder, **{**TYPES, **{text.split()[1]: text for text in types}})
        if sources:
            path = self.folder / f"{name}.yaml"
            path.write_text("sources:\n" + "".join(
                f"  {key}: {json.dumps({'url': source} if isinstance(source, str) else source)}\n"
                for key, source in sources.items()))
            path.chmod(0o600)
            options = ("--config", str(path), *options)
        service = self.make_service("--types", str(folder), *options, name=name,
                                    environment={"TIMESCALE_URL": url or self.server.url()}, **more)
        service.types = folder
        service.sources = {"graph", "timescale", *(sources or ())}
        return service


def url_by(server, port, **parameters):
    """The server's URL by another port of 127.0.0.1."""
    return server.url(**parameters).replace(f":{server.port}/", f":{port}/")


def was_tried(service):
    """Waits until its worker has tried all sources: for most of a minute it has no reason of its own to connect."""
    def names():
        return {row[0] for row in service.sql("SELECT name FROM source")}

    processes.until(lambda: names() == service.sources, 15, lambda: f"only {names()}")


def slow(service, rows=30000, every=1000, pause=0.05, **members):
    """An export that takes its time: a second and a half."""
    return service.request("pg_slow", params={"rows": rows, "every": every, "pause": pause}, **members)


def causes(service, task):
    """What the operator reads: the log's lines about ends of this task's attempts. The last may come a moment later."""
    has_failed = service.status(task)["status"] == "failed"

    def found():
        lines = [line for line in service.lines() if line.get("task_id") == task and
                 line["event"] in ("export.failed", "export.retried")]
        return lines if lines and (lines[-1]["event"] == "export.failed" or not has_failed) else None

    return processes.until(found, 5, f"no word of {task}")


def is_whole(service, done, rows):
    assert done["row_count"] == rows
    assert service.fetch(done["download_url"]) == database.numbers_csv(rows)


def all_is_clean(service, server, *done):
    """Nothing half visible, nothing left behind: only these exports' files."""
    processes.until(lambda: service.uploads() == [], 5, lambda: f"left: {service.uploads()}")
    assert service.objects() == sorted(one["key"] for one in done)
    activity.nothing_runs(server)
    assert service.lines("child.died") == [] or service.kills
