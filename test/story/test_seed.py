"""The seed document, as written: its commands, its four endpoints, their fields."""

import csv
import io
import re
import subprocess
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import pytest

import database
from service import Service

pytestmark = pytest.mark.asan

COLUMNS = {
    "employee_metrics": database.EMPLOYEE_COLUMNS,
    "graph_data": database.EDGE_COLUMNS,
    "interaction_history": database.INTERACTION_COLUMNS,
}


def seconds_from_now(text):
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return (moment - datetime.now(timezone.utc)).total_seconds()


def curl(namespace, command):
    """A command of the seed document, in a shell."""
    done = namespace.run(lambda: subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=30))
    assert done.returncode == 0, done.stderr
    return done.stdout


class DefaultPort(Service):
    """`rowferry serve`, with nothing but a folder of its own."""

    def command(self):
        return [self.program, "serve", "--data-dir", str(self.data)]


def test_the_seed_commands_work_as_written(namespace, tmp_path, program):
    service = DefaultPort(tmp_path / "service", program, spawn=namespace.run)
    service.launch()
    service.await_line("role.started", 30, lambda line: line.get("url") == "http://127.0.0.1:8000")
    try:
        said = curl(namespace, """curl -sS -X POST http://localhost:8000/api/exports/request \
  -H "Content-Type: application/json" \
  -d '{"export_type": "employee_metrics", "user_id": "test_user"}'""")
        task = re.search(r'"task_id": ?"([0-9a-f-]{36})"', said).group(1)
        assert f'/api/exports/{task}/status' in said

        for _ in range(600):
            said = curl(namespace, f"curl -sS http://localhost:8000/api/exports/{task}/status")
            if '"completed"' in said or '"failed"' in said:
                break
        url = re.search(r'"download_url": ?"(http[^"]+)"', said).group(1)

        curl(namespace, f'cd {tmp_path} && curl -sS -o export.csv "{url}"')
        with open(tmp_path / "export.csv", newline="") as file:
            rows = list(csv.reader(file))
        assert rows[0] == COLUMNS["employee_metrics"]
        assert len(rows) > 1
    finally:
        service.finish()


def test_a_request_is_answered_at_once(shared):
    answer = shared.ask({"export_type": "employee_metrics",
                         "params": {"team": "Engineering", "min_burnout_score": 60}, "user_id": "user_123"})

    assert answer.status_code == 202
    assert answer.elapsed < timedelta(milliseconds=500)
    body = answer.json()
    assert body["status"] == "queued"
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", body["task_id"])
    assert body["status_url"] == f"/api/exports/{body['task_id']}/status"
    assert answer.headers["Location"] == body["status_url"]
    assert int(answer.headers["Retry-After"]) >= 1
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Request-Id"]
    assert "Server" not in answer.headers
    shared.wait(body["task_id"])


def test_status_while_it_runs_and_when_it_is_done(shared):
    task = shared.request("slow", params={"rows": 15000, "work": 300})
    seen = []
    done = shared.wait(task, seconds=60, seen=seen)

    running = [one for one in seen if one["status"] == "processing"]
    assert running, "never seen while it ran"
    for one in running:
        assert isinstance(one["progress"], int) and 10 <= one["progress"] < 100

    assert isinstance(done["file_size"], int) and done["file_size"] > 0
    assert done["row_count"] == 15000
    assert done["progress"] == 100
    assert done["download_url"].startswith(shared.url)
    assert len(shared.fetch(done["download_url"])) == done["file_size"]
    # 24 hours, in the seed's form; its twin says the same in seconds.
    assert abs(seconds_from_now(done["expires_at"]) - 86400) < 120
    assert abs(done["expires_in"] - 86400) < 120
    assert done["expires_reason"] == "requested"


def test_progress_passes_the_four_marks_in_order(shared):
    task = shared.request("slow", params={"rows": 15000, "work": 300})
    seen = []
    shared.wait(task, seconds=60, seen=seen)
    progress = [one["progress"] for one in seen]

    assert progress == sorted(progress)
    assert progress[-1] == 100
    # Each mark is stored; a poller as quick as this one sees the long stretches between them.
    assert any(40 <= at < 70 for at in progress), progress
    states = [one["state"] for one in seen]
    order = ["queued", "starting", "querying", "streaming", "finishing", "completed"]
    assert [order.index(state) for state in states] == sorted(order.index(state) for state in states)


def test_a_failed_export_says_why_in_one_sentence(shared):
    failed = shared.wait(shared.request("wrong_column"), status="failed")

    assert failed["error"] == "The query of this export type failed"
    assert failed["error_code"] == "source-query"
    assert "salary" not in str(failed), "what is inside does not leave"
    assert any("salary" in str(line) for line in shared.lines("export.failed")), "the cause is in the log"


@pytest.mark.parametrize("export_type", COLUMNS)
def test_the_header_is_exactly_the_columns(shared, export_type):
    content = shared.file_of(export_type)
    rows = list(csv.reader(io.StringIO(content.decode())))

    assert content.split(b"\r\n")[0].decode() == ",".join(COLUMNS[export_type])
    assert rows[0] == COLUMNS[export_type]
    assert len(rows) > 10


def test_the_list_shows_the_newest_first(shared):
    done = [shared.export("numbers", "lister", params={"rows": rows}) for rows in (1, 20, 300)]
    answer = shared.http("GET", "/api/exports/user/lister?limit=10")
    listed = answer.json()["exports"]

    assert answer.status_code == 200
    assert [one["key"] for one in listed] == [one["key"] for one in reversed(done)]
    for one in listed:
        its = next(d for d in done if d["key"] == one["key"])
        assert one["size"] == its["file_size"]
        assert -120 < seconds_from_now(one["last_modified"]) <= 1
        assert len(shared.fetch(one["download_url"])) == one["size"]


def test_the_list_of_a_user_holds_only_his_files(shared):
    done = shared.export("numbers", "user_1x", params={"rows": 5})
    shared.export("numbers", "user_1xy", params={"rows": 5})

    listed = shared.http("GET", "/api/exports/user/user_1x").json()["exports"]
    assert [one["key"] for one in listed] == [done["key"]]
    assert shared.http("GET", "/api/exports/user/nobody_at_all").json() == {"exports": [], "next_cursor": None}


def test_the_list_goes_on_where_it_ended(shared):
    keys = {shared.export("numbers", "pager", params={"rows": rows})["key"] for rows in range(1, 6)}
    seen, path = [], "/api/exports/user/pager?limit=2"
    while path:
        answer = shared.http("GET", path)
        page = answer.json()
        assert len(page["exports"]) <= 2
        seen += [one["key"] for one in page["exports"]]
        cursor = page["next_cursor"]
        path = cursor and f"/api/exports/user/pager?limit=2&cursor={quote(cursor)}"
        assert ('rel="next"' in answer.headers.get("Link", "")) == bool(cursor)
    assert len(seen) == 5 and set(seen) == keys


def test_a_cursor_belongs_to_its_list(shared):
    for user in ("cursor_a", "cursor_b"):
        for _ in range(2):
            shared.export("numbers", user, params={"rows": 1})
    cursor = shared.http("GET", "/api/exports/user/cursor_a?limit=1").json()["next_cursor"]
    assert shared.http("GET", f"/api/exports/user/cursor_a?limit=1&cursor={quote(cursor)}").status_code == 200
    for path in (f"/api/exports/user/cursor_b?limit=1&cursor={quote(cursor)}",
                 f"/api/exports/user/cursor_a?limit=1&cursor={quote(cursor[:-1] + ('A' if cursor[-1] != 'A' else 'B'))}",
                 f"/api/exports/user/cursor_a?limit=1&cursor={quote(cursor[1:])}"):
        answer = shared.http("GET", path)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request"), path


@pytest.mark.parametrize("encode", [lambda key: key, lambda key: quote(key, safe="")])
def test_a_file_is_deleted_by_its_key(shared, encode):
    done = shared.export("numbers", "deleter", params={"rows": 3})
    key = done["key"]
    assert re.fullmatch(r"exports/deleter/numbers_\d{8}_\d{6}_[0-9a-f]{8}\.csv", key)

    answer = shared.http("DELETE", f"/api/exports/{encode(key)}")
    assert answer.status_code == 200
    assert answer.json() == {"status": "deleted", "key": key, "existed": True}

    assert shared.http("GET", done["download_url"]).status_code == 404
    assert key not in shared.objects()
    again = shared.http("DELETE", f"/api/exports/{key}")
    assert again.status_code == 200 and again.json()["existed"] is False
    after = shared.status(shared.sql("SELECT id FROM task WHERE key = ?", key)[0][0])
    assert (after["status"], after["state"], after["download_url"]) == ("completed", "expired", None)


def test_times_with_a_zone_where_asked_for(make_service):
    service = make_service(environment={"ROWFERRY_TIMESTAMPS": "rfc3339", "ROWFERRY_ACCEPTED_STATUS": "200",
                                        "ROWFERRY_UNKNOWN_TASK": "queued"})
    answer = service.ask({"export_type": "graph_data", "user_id": "u"})
    assert answer.status_code == 200
    done = service.wait(answer.json()["task_id"])
    assert done["expires_at"].endswith("Z")
    assert service.http("GET", "/api/exports/user/u").json()["exports"][0]["last_modified"].endswith("Z")
    unknown = service.http("GET", "/api/exports/abc-123/status")
    assert unknown.status_code == 200 and unknown.json()["status"] == "queued"


def test_health_and_readiness(shared):
    assert shared.http("GET", "/health").json() == {"status": "ok"}
    assert shared.http("GET", "/livez").status_code == 200
    ready = shared.http("GET", "/readyz")
    assert ready.status_code == 200
    assert ready.json()["status"] == "ok"
    assert all(check["ok"] for check in ready.json()["checks"].values())
    assert {"queue", "storage"} <= set(ready.json()["checks"])


def metrics(service):
    """Prometheus' text as a dictionary: series to value."""
    answer = service.http("GET", "/metrics")
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/plain")
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in answer.text.splitlines() if line and not line.startswith("#")}


def test_the_six_metrics_of_the_seed(shared):
    before = metrics(shared)
    shared.export("numbers", params={"rows": 7})
    shared.wait(shared.request("wrong_column"), status="failed")
    after = metrics(shared)

    def grew(series):
        return after.get(series, 0) - before.get(series, 0)

    assert grew('rowferry_exports_requested_total{type="numbers",format="csv"}') == 1
    assert grew('rowferry_exports_finished_total{type="numbers",format="csv",outcome="completed",error_code=""}') == 1
    assert grew('rowferry_exports_finished_total{type="wrong_column",format="csv",outcome="failed",'
                'error_code="source-query"}') == 1
    assert grew('rowferry_export_duration_seconds_count{type="numbers"}') == 1
    assert grew('rowferry_storage_requests_total{op="complete",outcome="ok"}') == 1
    assert grew('rowferry_export_rows_total{type="numbers",format="csv"}') == 7
    for name in ("rowferry_storage_bytes", "rowferry_queue_depth"):
        assert f"# TYPE {name} " in shared.http("GET", "/metrics").text


def test_a_thousand_unknown_paths_are_one_label(shared):
    for number in range(200):
        assert shared.http("GET", f"/nothing-{number}").status_code == 404
    routes = {series for series in metrics(shared) if series.startswith("rowferry_http_requests_total")}
    assert not any("nothing-" in series for series in routes)
    assert any('route="other"' in series for series in routes)


def test_one_line_for_each_thing_that_happens(shared):
    task = shared.request("numbers", params={"rows": 17})
    shared.wait(task)
    # Two processes write: the worker may be quicker with its first line than the API with its own.
    lines = sorted((line for line in shared.lines() if line.get("task_id") == task), key=lambda line: line["role"])
    assert [line["event"] for line in lines] == [
        "export.requested", "export.started", "export.first_row", "export.uploaded", "export.finished"]
    assert all(line["user_id"] == "user_1" and line["export_type"] == "numbers" for line in lines)
    assert (lines[-1]["rows"], lines[-1]["bytes"]) == (17, len(database.numbers_csv(17)))
    chance = ("ts", "pid", "task_id", "request_id")  # any digits may stand in these
    assert "17" not in str([value for name, value in lines[0].items() if name not in chance]), \
        "parameters are logged by name"
    assert lines[0]["params"] == "rows"


def test_head_wherever_get(shared):
    task = shared.request("numbers", params={"rows": 1})
    shared.wait(task)
    for path in ("/health", "/livez", "/readyz", "/metrics", f"/api/exports/{task}/status", "/api/exports/user/user_1",
                 "/problems/not-found"):
        head = shared.http("HEAD", path)
        assert (head.status_code, head.content) == (200, b""), path


def test_request_ids_go_from_header_to_log(shared):
    answer = shared.ask({"export_type": "graph_data", "user_id": "u"}, **{"X-Request-Id": "story-4711.a_b"})
    assert answer.headers["X-Request-Id"] == "story-4711.a_b"
    task = answer.json()["task_id"]
    shared.wait(task)
    asked = [line for line in shared.lines("export.requested") if line["task_id"] == task]
    assert [line["request_id"] for line in asked] == ["story-4711.a_b"]
    ended = [line for line in shared.lines("export.finished") if line["task_id"] == task]
    assert [line["request_id"] for line in ended] == ["story-4711.a_b"]

    replaced = shared.http("GET", "/health", headers={"X-Request-Id": "no blanks here"})
    assert replaced.headers["X-Request-Id"] not in ("", "no blanks here")


def test_a_poll_that_waits(shared):
    task = shared.request("slow", params={"rows": 20000, "work": 300})
    answer = shared.http("GET", f"/api/exports/{task}/status?wait=30")
    assert answer.json()["status"] == "completed"
    assert shared.http("GET", f"/api/exports/{task}/status?wait=0").json()["status"] == "completed"

    again = shared.http("GET", f"/api/exports/{task}/status", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304 and again.content == b""
    other = shared.http("GET", f"/api/exports/{task}/status", headers={"If-None-Match": '"another"'})
    assert other.status_code == 200


def test_a_request_that_waits_for_its_file(shared):
    answer = shared.ask({"export_type": "numbers", "params": {"rows": 9}, "user_id": "u"}, Prefer="wait=20")
    assert answer.status_code == 200
    assert answer.json()["status"] == "completed" and answer.json()["task_id"]
    assert shared.fetch(answer.json()["download_url"]) == database.numbers_csv(9)
    assert "wait" in answer.headers["Preference-Applied"]


def test_as_little_as_possible(shared):
    answer = shared.ask({"export_type": "graph_data", "user_id": "u"}, Prefer="return=minimal")
    assert set(answer.json()) == {"task_id", "status_url", "status"}
    shared.wait(answer.json()["task_id"])


def test_unknown_members_are_noted_and_not_refused(shared):
    answer = shared.ask({"export_type": "graph_data", "user_id": "u", "colour": "blue"})
    assert answer.status_code == 202
    assert [(one["code"], one["pointer"]) for one in answer.json()["warnings"]] == [("unknown-member", "/colour")]
    shared.wait(answer.json()["task_id"])


def test_answers_outlive_the_service(service):
    done = service.export("numbers", params={"rows": 11})
    service.restart()
    again = service.status(service.sql("SELECT id FROM task")[0][0])
    assert again["status"] == "completed" and again["key"] == done["key"]
    assert service.fetch(again["download_url"]) == database.numbers_csv(11)
