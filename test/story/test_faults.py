"""The world fails: the user gets a clear error, the log has the cause, and nothing is lost."""

import fcntl
import os
import signal
import sqlite3
import subprocess
import time
from datetime import datetime, timedelta, timezone

import pytest

import database
import processes
from role import Role


def cause(service, task, event="export.failed"):
    return [line for line in service.lines(event) if line.get("task_id") == task]


def kept_apart(failed, *words):
    """The user's sentence holds nothing of what is inside."""
    for word in words:
        assert word not in str(failed), failed


# --- disks ---

def fill(folder):
    """Writes until there is no room; gives back what to remove."""
    path = folder / "filler"
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 4096, 512):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                pass
    return path


def test_disk_full_while_a_file_is_written(small_disk, make_service):
    service = make_service(types=["numbers"], start=False)
    small_disk(service.data, "12m")
    service.start()
    task = service.request("numbers", params={"rows": 1000000})
    failed = service.wait(task, status="failed")

    assert (failed["error_code"], failed["error"]) == ("storage-full", "The storage is full")
    assert cause(service, task) and "No space left" in str(cause(service, task))
    assert service.objects() == [] and service.uploads() == []
    done = service.export("numbers", params={"rows": 1000})
    assert service.fetch(done["download_url"]) == database.numbers_csv(1000)


def test_disk_full_when_asked_for_an_export(small_disk, make_service):
    service = make_service(types=["numbers"], start=False)
    disk = small_disk(service.data, "4m")
    service.start()
    later = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat()
    filler = fill(disk)
    accepted, refused = [], None
    for _ in range(3000):
        answer = service.ask({"export_type": "numbers", "params": {"rows": 5}, "user_id": "u", "not_before": later})
        if answer.status_code != 202:
            refused = answer
            break
        accepted.append(answer.json()["task_id"])
    assert refused is not None, "never full"
    assert (refused.status_code, refused.json()["code"]) == (507, "storage-full")
    assert service.http("GET", "/livez").status_code == 200

    filler.unlink()
    processes.until(lambda: service.ask(
        {"export_type": "numbers", "params": {"rows": 5}, "user_id": "u2"}).status_code == 202, 10, "still refused")
    for task in accepted:
        assert service.status(task)["state"] == "scheduled", "accepted is kept"
    assert service.sql("SELECT count(*) FROM task WHERE user_id = 'u'") == [(len(accepted),)]
    assert service.sql("PRAGMA quick_check") == [("ok",)]
    listed = processes.until(lambda: service.http("GET", "/api/exports/user/u2").json()["exports"], 20, "no file")
    assert service.fetch(listed[0]["download_url"]) == database.numbers_csv(5)


def remount(folder, how):
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True, timeout=10)


def test_files_read_only(small_disk, make_service):
    service = make_service(types=["numbers"], start=False)
    service.data.mkdir(mode=0o700)
    disk = small_disk(service.data / "files", "4m")
    service.start()
    done = service.export("numbers", params={"rows": 3})
    remount(disk, "ro")
    try:
        task = service.request("numbers", params={"rows": 4})
        failed = service.wait(task, status="failed")
        assert (failed["error_code"], failed["error"]) == ("storage-denied", "The storage refused access")
        assert "Read-only" in str(cause(service, task))
        kept_apart(failed, str(service.data))
        assert service.fetch(done["download_url"]) == database.numbers_csv(3)
        ready = service.http("GET", "/readyz")
        assert ready.status_code == 503 and ready.json()["checks"]["storage"]["ok"] is False
        gone = service.http("DELETE", f"/api/exports/{done['key']}")
        assert (gone.status_code, gone.json()["code"]) == (503, "storage-unavailable")
    finally:
        remount(disk, "rw")
    assert service.file_of("numbers", params={"rows": 4}) == database.numbers_csv(4)


def test_a_data_folder_that_cannot_be_written(small_disk, make_service):
    service = make_service(start=False)
    disk = small_disk(service.data, "4m")
    remount(disk, "ro")
    try:
        service.launch()
        assert service.process.wait(20) in (1, 2)
    finally:
        remount(disk, "rw")
    assert "data_dir" in service.text() and str(service.data) in service.text()
    service.start()
    service.export("graph_data")


# --- sources ---

def test_the_database_file_is_missing(make_service):
    service = make_service("--max-attempts", "3", types=["numbers"])
    away = service.source.with_suffix(".away")
    service.source.rename(away)
    task = service.request("employee_metrics")
    failed = service.wait(task, status="failed")
    assert (failed["error_code"], failed["error"]) == ("source-unavailable", "The database cannot be reached")
    assert (failed["attempt"], failed["max_attempts"], failed["retryable"]) == (3, 3, True)
    kept_apart(failed, "source.db")
    assert "source.db" in str(cause(service, task)) and "No such file" in str(cause(service, task))

    away.rename(service.source)
    assert service.export("employee_metrics")["row_count"] == 12


def test_the_database_comes_back_between_two_attempts(make_service):
    service = make_service("--max-attempts", "100", "--retry-delays", "200ms")
    away = service.source.with_suffix(".away")
    service.source.rename(away)
    task = service.request("employee_metrics")
    seen = []
    service.wait(task, state="retrying", seen=seen)
    away.rename(service.source)
    done = service.wait(task, seen=seen)
    assert done["row_count"] == 12 and done["attempt"] > 1
    after_start = [one["status"] for one in seen][[one["status"] for one in seen].index("processing"):]
    assert "queued" not in after_start, "what has run once does not look queued again"
    progress = [one["progress"] for one in seen]
    assert progress == sorted(progress)


def test_the_database_is_missing_when_the_service_starts(make_service):
    service = make_service(sources=False, environment={"GRAPH_DB_URL": "sqlite:/nowhere/at/all.db"})
    failed = service.wait(service.request("graph_data"), status="failed")
    assert failed["error_code"] == "source-unavailable"


def word_about(service, source):
    """What /readyz says of it, once it says something."""
    return processes.until(lambda: (lambda word: word if word["ok"] is not None else None)(
        service.http("GET", "/readyz").json()["sources"][source]), 10, f"no word about {source}")


def test_a_source_out_of_reach_is_told_and_refuses_nobody(make_service):
    service = make_service("--max-attempts", "100")
    away = service.folder / "away.db"
    now = datetime.now(timezone.utc)
    for source in ("graph", "timescale"):
        word = word_about(service, source)
        assert word["ok"] is True and 0 <= word["ms"] < 5000
        assert abs(datetime.fromisoformat(word["checked_at"]) - now) < timedelta(seconds=30)
    assert not service.lines("source.unreachable")
    series = service.http("GET", "/metrics").text
    assert 'rowferry_source_up{source="graph"} 1' in series.splitlines()

    service.stop()
    service.source.rename(away)
    service.start()
    logged = service.await_line("source.unreachable", which=lambda line: line["source"] == "graph")
    assert logged["level"] == "warning" and str(service.source) in str(logged)
    processes.until(lambda: word_about(service, "graph")["ok"] is False, 10, "it is away")
    answer = service.http("GET", "/readyz")
    word = answer.json()["sources"]["graph"]
    assert answer.status_code == 200 and answer.json()["status"] == "ok"
    assert (word["ok"], word["code"], word["error"]) == (
        False, "source-unavailable", "The database cannot be reached")
    kept_apart(answer.text, str(service.folder), "source.db")
    assert 'rowferry_source_up{source="graph"} 0' in service.http("GET", "/metrics").text.splitlines()
    task = service.request("employee_metrics")

    away.rename(service.source)
    os.kill(service.process.pid, signal.SIGHUP)  # tried again at once, not only within the minute
    service.await_line("source.reachable", which=lambda line: line["source"] == "graph")
    processes.until(lambda: word_about(service, "graph")["ok"], 10, "it is back")
    assert service.wait(task)["row_count"] == 12


def test_nothing_is_known_of_a_source_that_no_worker_tries(make_service):
    service = make_service(role="api")
    assert service.http("GET", "/readyz").json()["sources"] == {"graph": {"ok": None}, "timescale": {"ok": None}}


def test_a_link_is_no_database(make_service):
    service = make_service(sources=False, start=False)
    real = database.make(service.folder / "real.db")
    (service.folder / "link.db").symlink_to(real)
    service.environment["GRAPH_DB_URL"] = f"sqlite:{service.folder}/link.db"
    service.start()
    assert service.wait(service.request("graph_data"), status="failed")["error_code"] == "source-unavailable"


def test_the_database_is_locked(make_service):
    service = make_service("--max-attempts", "50")
    with sqlite3.connect(service.source, isolation_level=None) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        task = service.request("employee_metrics")
        service.wait(task, state="retrying", seconds=15)
        writer.execute("ROLLBACK")
    writer.close()
    assert service.wait(task)["row_count"] == 12


def test_the_database_stays_locked(make_service):
    service = make_service("--max-attempts", "2")
    with sqlite3.connect(service.source, isolation_level=None) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        task = service.request("employee_metrics")
        failed = service.wait(task, status="failed", seconds=15)
        writer.execute("ROLLBACK")
    writer.close()
    assert (failed["error_code"], failed["attempt"]) == ("source-unavailable", 2)
    assert "locked" in str(cause(service, task))


def test_the_file_is_no_database(make_service):
    service = make_service(sources=False, start=False)
    (service.folder / "text.db").write_text("this is not SQLite\n" * 100)
    service.environment["GRAPH_DB_URL"] = f"sqlite:{service.folder}/text.db"
    service.start()
    task = service.request("graph_data")
    failed = service.wait(task, status="failed")
    assert failed["error_code"] in ("source-query", "source-unavailable")
    assert "not a database" in str(cause(service, task))


def test_a_snapshot_while_others_write(make_service):
    """WAL: a writer goes on, the export sees one moment."""
    service = make_service(types=["slow"])
    with sqlite3.connect(service.source, isolation_level=None) as writer:
        writer.execute("PRAGMA journal_mode=WAL")
        tasks = [service.request("employee_metrics", f"u{i}") for i in range(20)]
        for i in range(200):
            writer.execute("UPDATE employees SET burnout_score = ?", (float(i),))
        for task in tasks:
            content = service.fetch(service.wait(task)["download_url"]).decode()
            scores = {line.rsplit(",", 1)[1] for line in content.split("\r\n")[1:-1]}
            assert len(scores) == 1 or scores == {str(float(i * 100 // 11)) for i in range(12)}
    writer.close()


# --- the queue's own file ---

def test_the_queue_is_locked_for_long(make_service):
    service = make_service()
    with open(service.data / "queue.lock", "r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start = time.monotonic()
        answer = service.ask({"export_type": "graph_data", "user_id": "u"})
        took = time.monotonic() - start
        assert (answer.status_code, answer.json()["code"]) == (503, "queue-unavailable")
        assert 1 < took < 5 and int(answer.headers["Retry-After"]) >= 1
        assert service.http("GET", "/livez").elapsed.total_seconds() < 1
    assert service.tasks() == 0, "nothing was queued"
    assert service.export("graph_data")["row_count"] == 12


def test_a_reader_does_not_stop_the_queue(make_service):
    service = make_service()
    with sqlite3.connect(f"file:{service.data}/queue.db?mode=ro", uri=True) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM task").fetchall()
        for i in range(20):
            service.export("graph_data", f"u{i}")
    reader.close()


def test_a_record_that_is_damaged_hurts_only_itself(make_service):
    service = make_service(types=["numbers"])
    later = (datetime.now(timezone.utc) + timedelta(seconds=2)).isoformat()
    bad = [service.request("numbers", "bad", params={"rows": 3}, not_before=later) for _ in range(3)]
    good = service.request("numbers", "good", params={"rows": 3}, not_before=later)
    for task, text in zip(bad, ("{", '{"export_type": 7}', '{"params": "x", "csv": []}')):
        service.sql("UPDATE task SET request = ? WHERE id = ? RETURNING id", text, task, write=True)
    for task in bad:
        failed = service.wait(task, status="failed")
        assert failed["error_code"] in ("internal", "definition-changed")
    service.wait(good)


def test_a_definition_that_changed_while_the_export_waited(make_service):
    service = make_service(types=["numbers"])
    later = (datetime.now(timezone.utc) + timedelta(seconds=3)).isoformat()
    task = service.request("numbers", params={"rows": 3}, not_before=later)
    path = service.folder / "types" / "numbers.yaml"
    path.write_text(path.read_text().replace("'number '", "'n '"))
    service.restart()
    failed = service.wait(task, status="failed")
    assert failed["error_code"] == "definition-changed"


# --- children ---

def test_a_child_that_crashes_is_replaced_and_its_task_tried_again(service):
    task = service.request("slow", params={"rows": 15000, "work": 300})
    neighbour = service.request("slow", "neighbour", params={"rows": 15000, "work": 300})
    service.wait(task, state="streaming")
    service.wait(neighbour, state="streaming")
    victim = busiest_child(service)
    service.kills += 1
    os.kill(victim, signal.SIGKILL)

    done = [service.wait(one, seconds=60) for one in (task, neighbour)]
    assert sorted(one["attempt"] for one in done) == [1, 2], "the neighbour was not hurt"
    for one in done:
        assert service.fetch(one["download_url"]) == database.slow_csv(15000, 300)
    assert len(service.objects()) == 2 and service.uploads() == []


def busiest_child(service):
    return processes.until(lambda: service.pids("child"), 10, "no child")[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV], ids=["SIGKILL", "SIGSEGV"])
def test_a_child_that_always_crashes_fails_its_task_with_the_reason(make_service, number):
    service = make_service("--concurrency", "1", types=["endless", "numbers"])
    task = service.request("endless")
    for attempt in (1, 2, 3):
        processes.until(lambda: (lambda s: s["status"] == "failed" or
                                 (s.get("attempt"), s["state"]) == (attempt, "querying"))(service.status(task)), 15,
                        f"attempt {attempt} does not run")
        service.kill("child", number)
    failed = service.wait(task, status="failed")
    assert (failed["error_code"], failed["attempt"]) == ("worker-lost", 3)
    assert failed["error"] == "The worker of this export died"
    assert service.export("numbers", params={"rows": 9})["attempt"] == 1, "the queue goes on"


def test_more_memory_than_it_may_have(make_service):
    service = make_service("--task-memory-limit", "48MiB", types=["hungry", "numbers"])
    task = service.request("hungry")
    failed = service.wait(task, status="failed", seconds=60)
    assert failed["error_code"] == "memory-limit"
    assert failed["attempt"] == 2, "tried again once"
    assert service.uploads() == [] and service.objects() == []
    assert service.export("numbers", params={"rows": 9})["row_count"] == 9


def test_a_child_that_hangs_is_killed_in_its_time(make_service):
    """Stopped, so that it does not even hear: the parent ends it from outside."""
    service = make_service("--concurrency", "1", "--max-attempts", "1", types=["endless", "numbers"])
    task = service.request("endless", time_limit=1)
    service.wait(task, state="querying")
    os.kill(service.pids("child")[0], signal.SIGSTOP)
    failed = service.wait(task, status="failed", seconds=25)
    assert failed["error_code"] in ("task-timeout", "worker-lost")
    assert service.export("numbers", params={"rows": 2})["row_count"] == 2


# --- roles ---

def test_a_dead_worker_is_replaced_and_its_tasks_taken_over(service):
    task = service.request("slow", params={"rows": 15000, "work": 300})
    service.wait(task, state="streaming")
    children = service.pids("child")
    service.kill("worker")
    processes.until(lambda: not any(processes.is_alive(pid) for pid in children), 5, "its children live on")
    start = time.monotonic()
    done = service.wait(task, seconds=60)
    assert done["attempt"] == 2
    assert service.fetch(done["download_url"]) == database.slow_csv(15000, 300)
    assert service.uploads() == [], "nothing of the first attempt is left"
    assert time.monotonic() - start < 30


def test_an_export_goes_on_while_the_api_is_away(service):
    task = service.request("slow", params={"rows": 15000, "work": 300})
    service.wait(task, state="streaming")
    before = service.pids("api")
    service.kill("api")
    done = service.wait(task, patient=True, seconds=60)
    assert done["attempt"] == 1
    assert service.pids("api") != before
    assert service.fetch(done["download_url"]) == database.slow_csv(15000, 300)


def test_beat_is_started_again(service):
    before = service.kill("beat")
    processes.until(lambda: service.pids("beat") not in ([], [before]), 10, "no beat")


@pytest.mark.parametrize("role", ["api", "worker", "beat"])
def test_a_role_whose_supervisor_died_meanwhile_does_not_start(make_service, role):
    """Killed between the start of a role and its first look around: nobody would ever end that role."""
    service = make_service(start=False)
    environment = {**service.environment, "ROWFERRY_SUPERVISED": str(os.getppid()), "ROWFERRY_LISTEN_FD": "3"}
    ended = subprocess.run([service.program, role, "--data-dir", str(service.data), "--port", "0"],
                           env=environment, timeout=10, capture_output=True, check=False)
    assert ended.returncode == 1
    assert not service.data.exists(), "it has begun"


def test_nothing_runs_without_its_supervisor(service):
    task = service.request("slow", params={"rows": 15000, "work": 300})
    service.wait(task, state="streaming")
    service.kill("serve")
    service.process.wait(10)
    processes.until(lambda: not service.processes(), 10, lambda: f"still there: {service.processes()}")
    service.start()
    assert service.fetch(service.wait(task, seconds=60)["download_url"]) == database.slow_csv(15000, 300)


@pytest.fixture
def apart(make_service):
    """An API of its own, and a function that starts other roles beside it."""
    owner = make_service(role="api", types=["numbers", "slow"])
    others = []

    def start(role, name, *options, inside=()):
        other = Role(owner, role, name)
        other.inside = inside
        if role == "beat":
            other.options = []
        other.options += options
        others.append(other)
        return other.start()

    owner.beside = start
    yield owner
    for other in others:
        other.finish()


def test_roles_as_processes_of_their_own(apart):
    task = apart.request("numbers", params={"rows": 20})
    assert apart.status(task)["state"] == "queued"
    apart.beside("worker", "worker-1")
    apart.beside("beat", "beat-1")
    assert apart.fetch(apart.wait(task)["download_url"]) == database.numbers_csv(20)


def test_two_workers_share_the_work(apart):
    workers = [apart.beside("worker", f"worker-{i}", "-c", "1") for i in range(2)]
    tasks = [apart.request("slow", f"u{i}", params={"rows": 5000, "work": 200}) for i in range(6)]
    for task in tasks:
        assert apart.wait(task, seconds=60)["attempt"] == 1
    started = [len(worker.lines("export.started")) for worker in workers]
    assert sum(started) == 6 and min(started) >= 1, started
    assert len(apart.objects()) == 6


def test_workers_in_containers_share_the_work(apart):
    """Both are process 1: they cannot see each other, and still neither takes the other for dead."""
    # Not --mount-proc: it wants "/" to be a mount, which it is not in a chroot.
    container = ("unshare", "--pid", "--fork", "--kill-child", "--mount", "--propagation", "unchanged", "sh", "-c",
                 'mount --make-private /proc && mount -t proc proc /proc && exec "$@"', "sh")
    workers = [apart.beside("worker", f"container-{i}", "-c", "1", inside=container) for i in range(2)]
    try:
        processes.until(lambda: len(list((apart.data / "run").glob("*.wake"))) == 3, 10,
                        "one is called for the other")
        tasks = [apart.request("slow", f"u{i}", params={"rows": 20000, "work": 300}) for i in range(2)]
        for task in tasks:
            assert apart.wait(task, seconds=60)["attempt"] == 1
        assert [len(worker.lines("export.finished")) for worker in workers] == [1, 1]
        assert not any(worker.lines("export.lost") for worker in workers)
    finally:
        for worker in workers:  # the signal would not get through what it runs in
            worker.kill("worker", signal.SIGTERM)
            assert worker.process.wait(20) == 0


def test_a_worker_that_sleeps_too_long_has_lost_its_task(apart):
    """Swapped out, or a machine that is moved: somebody else finishes; the one that wakes up does no harm."""
    sleeper = apart.beside("worker", "sleeper", "-c", "1")
    task = apart.request("slow", params={"rows": 60000, "work": 300})
    apart.wait(task, state="streaming")
    asleep = sleeper.processes()
    for process in asleep:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        apart.beside("worker", "other", "-c", "1")
        done = apart.wait(task, seconds=60)
        assert done["attempt"] == 2
    finally:
        for process in asleep:
            os.kill(process.pid, signal.SIGCONT)
    mine = apart.request("numbers", "after", params={"rows": 3})
    apart.wait(mine)
    processes.until(lambda: not apart.uploads(), 30, lambda: f"the sleeper goes on: {apart.uploads()}")
    assert apart.status(task)["key"] == done["key"]
    assert apart.objects() == sorted([done["key"], apart.status(mine)["key"]])
    assert apart.fetch(done["download_url"]) == database.slow_csv(60000, 300)


def test_first_starts_at_the_same_time(make_service):
    """A fresh folder, and everybody makes the queue's file at once."""
    for number in range(5):
        owner = make_service(role="api", name=f"fresh-{number}", start=False)
        (owner.folder / "types").mkdir(exist_ok=True)
        everybody = [Role(owner, role, f"{role}-{i}") for role in ("worker", "beat") for i in range(3)]
        for one in everybody:
            one.options = []
            one.launch()
        owner.start()
        for one in everybody:
            one.await_line("role.started", 20)
            assert one.stop() == 0
            one.check_log()
        assert owner.stop() == 0


def test_three_beats_fire_once(apart):
    """Each due time is one sweep, however many look at the clock."""
    first = apart.beside("beat", "beat-0")
    first.await_line("schedule.noted")
    assert first.stop() == 0
    beats = [apart.beside("beat", f"beat-{i}", "--cleanup-schedule", "* * * * *") for i in (1, 2, 3)]
    apart.beside("worker", "worker-1")
    sweeps = processes.until(lambda: apart.sql("SELECT id FROM task WHERE user_id = '' AND phase = 3"), 20, "no sweep")
    fired = [line["due"] for beat in beats for line in beat.lines("schedule.fired")]
    assert len(fired) == len(set(fired)) == len(sweeps)
