"""Cancel, time limits, stopping, waiting, keys that make retries safe: what users and operators may rely on."""

import concurrent.futures
import os
import signal
import threading
import time
from datetime import datetime, timedelta, timezone

import pytest

import database
import processes

pytestmark = pytest.mark.asan


def processor_ticks(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def is_at_rest(pid):
    """Uses no processor any more: what ran in it is gone."""
    before = processor_ticks(pid)
    time.sleep(0.3)
    return processor_ticks(pid) - before <= 3


def in_seconds(seconds):
    return (datetime.now(timezone.utc) + timedelta(seconds=seconds)).isoformat()


# --- cancel ---

def test_cancel_of_a_query_that_runs_for_minutes(make_service):
    service = make_service("--concurrency", "1", types=["endless", "numbers"])
    task = service.request("endless")
    service.wait(task, state="querying")
    child = service.pids("child")[0]
    start = time.monotonic()

    answer = service.cancel(task, json={"reason": "not needed"})
    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["state"]) == ("processing", "cancelling")
    assert int(answer.headers["Retry-After"]) >= 1

    done = service.wait(task, state="cancelled", seconds=5)
    assert time.monotonic() - start < 5
    assert (done["status"], done["error"], done["error_code"]) == ("failed", "Cancelled", "cancelled")
    assert done["cancel"]["reason"] == "not needed" and done["cancel"]["query_stopped"] is True
    assert 0 <= done["cancel"]["stopped_after_ms"] < 5000
    assert not processes.is_alive(child) or is_at_rest(child), "the query still runs"

    assert service.export("numbers", params={"rows": 3}, seconds=5)["row_count"] == 3, "the child is not free"
    again = service.cancel(task)
    assert again.status_code == 200 and again.json()["state"] == "cancelled"
    assert len(service.objects()) == 1 and service.uploads() == []


def test_cancel_while_rows_flow(service):
    task = service.request("slow", params={"rows": 10000000, "work": 300})
    service.wait(task, state="streaming")
    start = time.monotonic()
    assert service.cancel(task).status_code == 202
    service.wait(task, state="cancelled", seconds=5)
    assert time.monotonic() - start < 5
    assert service.objects() == [] and service.uploads() == []
    assert service.lines("export.cancelled")


def test_cancel_of_what_waits(make_service):
    service = make_service(types=["numbers"])
    task = service.request("numbers", params={"rows": 1}, not_before=in_seconds(600))
    answer = service.cancel(task)
    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["state"]) == ("failed", "cancelled")
    assert service.cancel(task).status_code == 200
    assert service.status(task)["state"] == "cancelled"


def test_cancel_that_comes_too_late(shared):
    task = shared.request("numbers", params={"rows": 1})
    shared.wait(task)
    answer = shared.cancel(task)
    assert (answer.status_code, answer.json()["code"]) == (409, "not-cancellable")
    failed = shared.request("wrong_column")
    shared.wait(failed, status="failed")
    assert shared.cancel(failed).status_code == 409


def test_cancel_twice_at_once(service):
    task = service.request("endless")
    service.wait(task, state="querying")
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: service.cancel(task), range(4)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    service.wait(task, state="cancelled", seconds=5)


# --- time limits ---

def test_time_out_of_a_query_that_runs_for_minutes(make_service):
    service = make_service("--concurrency", "1", types=["endless", "numbers"])
    start = time.monotonic()
    task = service.request("endless", time_limit=1)
    service.wait(task, state="querying")
    child = service.pids("child")[0]
    failed = service.wait(task, status="failed", seconds=10)
    assert time.monotonic() - start < 6
    assert (failed["error_code"], failed["attempt"]) == ("task-timeout", 1)
    assert not processes.is_alive(child) or is_at_rest(child), "the query still runs"
    assert service.export("numbers", params={"rows": 3}, seconds=5)["row_count"] == 3


def test_time_limits_of_type_and_service(make_service):
    service = make_service("--task-time-limit", "2s", types=["endless"], start=False)
    quick = database.TYPES["endless"].replace("name: endless", "name: quick") + "time_limit: 1s\n"
    database.write_types(service.folder / "types", quick=quick)
    service.start()
    start = time.monotonic()
    tasks = {name: service.request(name) for name in ("quick", "endless")}
    took = {}
    for name in ("quick", "endless"):
        failed = service.wait(tasks[name], status="failed", seconds=15)
        took[name] = time.monotonic() - start
        assert failed["error_code"] == "task-timeout"
    assert took["quick"] >= 0.9 and took["endless"] >= 1.9 and took["endless"] < 8
    refused = service.ask({"export_type": "quick", "user_id": "u", "time_limit": 2})
    assert refused.status_code == 422 and refused.json()["errors"][0]["pointer"] == "/time_limit"


# --- waiting ---

def test_an_export_that_starts_later(shared):
    at = datetime.now(timezone.utc) + timedelta(seconds=1.5)
    answer = shared.ask({"export_type": "numbers", "params": {"rows": 4}, "user_id": "u",
                         "not_before": at.isoformat()})
    assert answer.json()["state"] == "scheduled" and answer.json()["status"] == "queued"
    task = answer.json()["task_id"]
    assert shared.status(task)["state"] == "scheduled"
    done = shared.wait(task, seconds=10)
    started = datetime.fromisoformat(done["started_at"].replace("Z", "+00:00"))
    assert timedelta(seconds=-0.002) <= started - at < timedelta(seconds=1.5)


def test_a_moment_that_has_passed_is_now(shared):
    assert shared.export("numbers", params={"rows": 4}, not_before="2020-01-01T00:00:00Z")["row_count"] == 4


def test_first_come_first_served_but_for_priority(make_service):
    service = make_service("--concurrency", "1", types=["slow", "numbers"])
    blocker = service.request("slow", params={"rows": 8000, "work": 500})
    service.wait(blocker, state="streaming")
    asked = [service.request("numbers", f"u{i}", params={"rows": 1}, priority=priority)
             for i, priority in enumerate(["low", "normal", "low", "normal", "normal"])]
    position = service.status(asked[0])
    assert (position["state"], position["position"], position["waiting_for"]) == ("queued", 4, "worker")
    done = {task: service.wait(task, seconds=60) for task in asked}
    order = sorted(asked, key=lambda task: done[task]["started_at"])
    assert order == [asked[1], asked[3], asked[4], asked[0], asked[2]]


def test_who_is_not_known_may_not_hurry(shared):
    refused = shared.http("POST", "/api/exports/request", json={
        "export_type": "numbers", "params": {"rows": 1}, "user_id": "user_1", "priority": "high"})
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert "exports:priority" in refused.json()["detail"]


def test_a_source_with_a_limit_of_its_own(make_service):
    service = make_service("--concurrency", "2", types=["slow"], sources=False, start=False)
    source = database.make(service.folder / "source.db")
    config = service.folder / "rowferry.yaml"
    config.write_text(f'sources:\n  graph: {{ url: "sqlite:{source}", concurrency: 1 }}\n'
                      f'  timescale: {{ url: "sqlite:{source}" }}\n')
    config.chmod(0o600)
    service.options += ["--config", str(config)]
    service.start()
    tasks = [service.request("slow", f"u{i}", params={"rows": 10000, "work": 300}) for i in range(2)]
    other = service.request("interaction_history", "other")
    service.wait(other)
    done = [service.wait(task, seconds=60) for task in tasks]
    first, second = sorted(done, key=lambda one: one["started_at"])
    assert first["completed_at"] <= second["started_at"], "two at once on a source that takes one"


def test_a_full_queue_says_so(make_service):
    service = make_service("--queue-limit", "3", types=["numbers"])
    waiting = [service.request("numbers", params={"rows": 1}, not_before=in_seconds(600)) for _ in range(3)]
    refused = service.ask({"export_type": "numbers", "params": {"rows": 1}, "user_id": "u"})
    assert (refused.status_code, refused.json()["code"]) == (503, "queue-full")
    assert int(refused.headers["Retry-After"]) >= 1
    assert service.tasks() == 3
    service.cancel(waiting[0])
    assert service.export("numbers", params={"rows": 1})["row_count"] == 1


# --- the same request twice ---

BODY = {"export_type": "numbers", "params": {"rows": 3}, "user_id": "user_1"}


def test_five_times_at_once_with_one_key_is_one_task(service):
    barrier = threading.Barrier(5)

    def ask(_):
        with service.client() as client:
            barrier.wait()
            return client.post("/api/exports/request", json=BODY, headers={"Idempotency-Key": '"storm-1"'})

    with concurrent.futures.ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(ask, range(5)))
    first = [answer for answer in answers if answer.status_code == 202 and
             "Idempotency-Replayed" not in answer.headers]
    assert len(first) == 1
    for answer in answers:
        assert answer.status_code in (202, 409), answer.text
        if answer.status_code == 202:
            assert answer.json()["task_id"] == first[0].json()["task_id"]
        else:
            assert answer.json()["code"] == "idempotency-in-flight"
    assert service.tasks() == 1
    service.wait(first[0].json()["task_id"])


def test_a_repeated_request_gets_the_first_answer(service):
    first = service.ask(BODY, **{"Idempotency-Key": "repeat-1"})
    service.wait(first.json()["task_id"])
    for key in ("repeat-1", '"repeat-1"'):
        again = service.ask(BODY, **{"Idempotency-Key": key})
        assert (again.status_code, again.json()) == (202, first.json())
        assert again.headers["Idempotency-Replayed"] == "true"
    service.restart()
    later = service.ask({**BODY}, **{"Idempotency-Key": "repeat-1"})
    assert later.json()["task_id"] == first.json()["task_id"], "the key is as durable as the task"
    assert service.tasks() == 1


def test_member_order_does_not_matter_but_values_do(service):
    first = service.ask(BODY, **{"Idempotency-Key": "order-1"})
    turned = dict(reversed(list(BODY.items())))
    assert service.ask(turned, **{"Idempotency-Key": "order-1"}).json() == first.json()
    other = service.ask({**BODY, "params": {"rows": 4}}, **{"Idempotency-Key": "order-1"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-mismatch")
    assert service.tasks() == 1
    service.wait(first.json()["task_id"])


def test_another_user_has_keys_of_his_own(service):
    first = service.ask(BODY, **{"Idempotency-Key": "same"})
    other = service.ask({**BODY, "user_id": "user_2"}, **{"Idempotency-Key": "same"})
    assert other.status_code == 202
    assert other.json()["task_id"] != first.json()["task_id"]
    assert "user_1" not in other.text
    for answer in (first, other):
        service.wait(answer.json()["task_id"])


def test_a_refused_request_does_not_use_up_its_key(service):
    assert service.ask({**BODY, "params": {}}, **{"Idempotency-Key": "again"}).status_code == 422
    answer = service.ask(BODY, **{"Idempotency-Key": "again"})
    assert answer.status_code == 202 and "Idempotency-Replayed" not in answer.headers
    service.wait(answer.json()["task_id"])


def test_without_a_key_each_request_is_one(service):
    tasks = {service.request("numbers", params={"rows": 1}) for _ in range(5)}
    assert len(tasks) == 5 and service.tasks() == 5
    for task in tasks:
        service.wait(task)
    assert len(service.objects()) == 5


# --- stopping ---

def test_a_stop_lets_running_exports_end(service):
    task = service.request("slow", params={"rows": 6000, "work": 500})
    service.wait(task, status="processing")
    waiting = [service.request("slow", f"u{i}", params={"rows": 6000, "work": 500}) for i in range(4)]
    assert service.stop() == 0
    assert service.processes() == []
    phases = dict(service.sql("SELECT id, attempt FROM task"))
    service.start()
    done = service.status(task)
    assert (done["status"], done["attempt"]) == ("completed", 1), "it was running, so it ended"
    for one in waiting:
        assert service.wait(one, seconds=60)["attempt"] == max(phases[one], 1), "no attempt was used up"
    for one in [task, *waiting]:
        assert service.fetch(service.status(one)["download_url"]) == database.slow_csv(6000, 500)


def test_a_second_signal_stops_now_and_gives_back(service):
    task = service.request("endless")
    slow = service.request("slow", params={"rows": 20000, "work": 300})
    service.wait(task, state="querying")
    service.wait(slow, state="streaming")
    os.kill(service.process.pid, signal.SIGTERM)
    service.await_line("role.stopping")
    start = time.monotonic()
    assert service.stop(signal.SIGTERM) == 0
    assert time.monotonic() - start < 7
    assert service.processes() == []
    assert service.uploads() == [] and service.objects() == []
    service.start()
    assert service.wait(slow, seconds=90)["attempt"] == 1, "given back, not used up"
    service.cancel(task)
    service.wait(task, state="cancelled", seconds=5)


def test_what_runs_longer_than_the_drain_goes_back(make_service):
    service = make_service("--drain", "1s", types=["endless"])
    task = service.request("endless")
    service.wait(task, state="querying")
    start = time.monotonic()
    assert service.stop() == 0
    assert 0.9 < time.monotonic() - start < 8
    assert service.sql("SELECT attempt, give_backs FROM task WHERE id = ?", task) == [(0, 1)]
    service.start()
    service.wait(task, state="querying")
    service.cancel(task)
    service.wait(task, state="cancelled", seconds=5)


def test_an_idle_service_stops_at_once(service):
    service.export("numbers", params={"rows": 1})
    start = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - start < 3


def test_who_waits_for_a_status_hears_of_the_stop(make_service):
    service = make_service("--drain", "0s", types=["endless"])
    task = service.request("endless")
    service.wait(task, state="querying")
    answers = []

    def poll():
        with service.client(40) as client:
            answers.append(client.get(f"/api/exports/{task}/status?wait=30"))

    waiter = threading.Thread(target=poll)
    waiter.start()
    service.await_line("role.started")
    time.sleep(0.2)  # let it arrive; if it comes later, it is refused, which is no less right
    start = time.monotonic()
    assert service.stop() == 0
    waiter.join(20)
    assert time.monotonic() - start < 12
    assert [answer.status_code for answer in answers] in ([200], [503])


# --- SIGHUP ---

def test_definitions_are_read_again(make_service):
    service = make_service(types=["numbers"])
    added = database.TYPES["numbers"].replace("name: numbers", "name: digits")
    database.write_types(service.folder / "types", digits=added)
    assert service.ask({"export_type": "digits", "params": {"rows": 2}, "user_id": "u"}).status_code == 422

    os.kill(service.process.pid, signal.SIGHUP)
    service.await_line("config.loaded", which=lambda line: line["role"] == "worker")
    answer = processes.until(lambda: (lambda a: a if a.status_code == 202 else None)(
        service.ask({"export_type": "digits", "params": {"rows": 2}, "user_id": "u"})), 10, "not known after SIGHUP")
    assert service.fetch(service.wait(answer.json()["task_id"])["download_url"]) == database.numbers_csv(2)


def test_a_wrong_definition_leaves_the_old_state(make_service):
    service = make_service(types=["numbers"])
    database.write_types(service.folder / "types", broken="name: ../x\n")
    os.kill(service.process.pid, signal.SIGHUP)
    refused = service.await_line("config.refused")
    assert "broken.yaml:1" in str(refused) and refused["msg"] == "what was loaded before stays"
    assert service.export("numbers", params={"rows": 2})["row_count"] == 2


def test_the_log_level_is_read_again(make_service):
    service = make_service(types=["numbers"], start=False)
    config = service.folder / "rowferry.yaml"
    config.write_text("loglevel: error\n")
    config.chmod(0o600)
    service.options += ["--config", str(config)]
    service.launch()
    # The line with the port is not said at this level, so ask for it another way.
    assert service.process.poll() is None
    processes.until(lambda: service.pids("api"), 20, "no api")
    config.write_text("loglevel: info\n")
    processes.until(lambda: (os.kill(service.process.pid, signal.SIGHUP), time.sleep(0.1),
                             service.lines("config.loaded"))[2], 20, "no line at the new level")


# --- the sweep ---

def swept(service):
    return service.await_line("cleanup.done", 30)


def test_a_missed_sweep_is_made_up_for_once(make_service):
    """Due while it was down: at the next start it runs, once; old files go, young ones stay."""
    service = make_service("--retention", "1s", types=["numbers"])
    old = service.request("numbers", "u", params={"rows": 2})
    key = service.wait(old)["key"]
    young = service.export("numbers", "u", params={"rows": 3}, retain_days=1)
    folder = service.data / "files"
    foreign = folder / "exports" / "u" / "others_20200101_000000_abcdef01.csv"
    foreign.write_text("a\r\n")
    os.utime(foreign, (time.time() - 9 * 86400,) * 2)
    (folder / ".uploads" / "00000000-0000-4000-8000-000000000000.1").write_text("half")
    assert service.stop() == 0
    time.sleep(1.1)  # its second of retention

    service.options += ["--cleanup-schedule", "* * * * *"]
    service.start()
    done = swept(service)
    assert (done["deleted"], done["uploads_removed"]) == (2, 1)
    assert service.objects() == [young["key"]] and service.uploads() == []
    gone = service.status(old)
    assert (gone["status"], gone["state"], gone["download_url"], gone["key"]) == ("completed", "expired", None, key)
    assert len(service.lines("schedule.fired", since_start=True)) == 1
    text = service.http("GET", "/metrics").text
    assert 'rowferry_cleanup_runs_total{outcome="ok"} 1\n' in text
    assert "rowferry_cleanup_deleted_total 2\n" in text
    assert "rowferry_storage_objects 1\n" in text


def test_a_sweep_that_is_not_due_does_not_run(make_service):
    service = make_service("--cleanup-schedule", "0 0 1 1 *", types=["numbers"])
    service.export("numbers", params={"rows": 2})
    service.restart()
    service.export("numbers", params={"rows": 2})
    assert not service.lines("schedule.fired") and not service.lines("cleanup.started")


@pytest.mark.testbuild
def test_after_seven_days_and_two_o_clock(make_service):
    """The seed's rule as it stands: daily at 02:00 UTC what is older than 7 days is deleted."""
    service = make_service(types=["numbers"])
    task = service.request("numbers", params={"rows": 2})
    key = service.wait(task)["key"]
    now = datetime.now(timezone.utc)
    two = now.replace(hour=2, minute=0, second=0, microsecond=0)
    for days, left in ((6, [key]), (9, [])):
        assert service.stop() == 0
        # Just after 02:00 of that day, so that the sweep is due and was missed.
        offset = (two + timedelta(days=days, minutes=1)) - now
        service.environment["ROWFERRY_TEST_CLOCK_OFFSET_MS"] = str(int(offset.total_seconds() * 1000))
        service.start()
        swept(service)
        assert service.objects() == left
        fired = service.lines("schedule.fired", since_start=True)
        assert [line["due"][11:16] for line in fired] == ["02:00"]
    assert service.status(task)["state"] == "expired"


@pytest.mark.testbuild
def test_the_clock_reaches_two_while_it_runs(make_service):
    service = make_service(start=False)
    now = datetime.now(timezone.utc)
    two = (now + timedelta(days=1)).replace(hour=2, minute=0, second=0, microsecond=0)
    first = two - timedelta(days=1, hours=-1) - now  # 03:00 of the day before: nothing is due
    service.environment["ROWFERRY_TEST_CLOCK_OFFSET_MS"] = str(int(first.total_seconds() * 1000))
    service.start()
    service.await_line("schedule.noted")
    assert service.stop() == 0
    soon = two - timedelta(seconds=8) - datetime.now(timezone.utc)
    service.environment["ROWFERRY_TEST_CLOCK_OFFSET_MS"] = str(int(soon.total_seconds() * 1000))
    service.start()
    fired = service.await_line("schedule.fired", 25)
    assert fired["due"].endswith("T02:00:00.000Z") and 0 <= fired["late_ms"] < 5000
    swept(service)
