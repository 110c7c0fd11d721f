"""PostgreSQL fails in the middle of an export, refuses it, or gives it up: the whole file or a clear reason."""

import json
import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from datetime import datetime

import psycopg
import pytest

import activity
import pg_exports
import processes
from maker import Maker
from pg_exports import ONCE, PATIENT, all_is_clean, causes, is_whole, slow, was_tried
from postgres import Server, Standby
from proxy import ANSWER, REQUEST, Mood, Proxy, drop_all

# --- the server stops ---

@pytest.mark.parametrize("mode", ["fast", "immediate", "kill"])
def test_the_server_is_restarted_in_the_middle(make, server, mode):
    service = make(*PATIENT)
    task = slow(service)
    service.wait(task, state="streaming")
    server.stop(mode)
    time.sleep(0.3)
    server.start()
    done = service.wait(task)
    assert done["attempt"] > 1
    assert {line["error_code"] for line in causes(service, task)} == {"source-unavailable"}
    is_whole(service, done, 30000)
    all_is_clean(service, server, done)


def test_a_backend_is_killed_in_the_middle(make, server):
    """The server takes all its other sessions down, too, and recovers by itself."""
    service = make(*PATIENT)
    tasks = [slow(service), slow(service)]
    for task in tasks:
        service.wait(task, state="streaming")
    os.kill(activity.await_query(server, tasks[0]).pid, signal.SIGKILL)
    done = [service.wait(task) for task in tasks]
    for one in done:
        assert one["attempt"] > 1
        is_whole(service, one, 30000)
    all_is_clean(service, server, *done)


def test_the_server_stays_away(make, server):
    service = make("--max-attempts", "3")
    task = slow(service)
    service.wait(task, state="streaming")
    server.stop()
    late = service.request("pg_numbers", params={"rows": 3})
    for one in (task, late):
        failed = service.wait(one, status="failed")
        assert (failed["error_code"], failed["error"]) == ("source-unavailable", "The database cannot be reached")
        assert (failed["attempt"], failed["retryable"]) == (3, True)
        assert str(server.port) not in str(failed) and "127.0.0.1" not in str(failed)
    assert "administrator command" in str(causes(service, task)[0]) and "refused" in str(causes(service, task)[-1])
    server.start()
    all_is_clean(service, server)
    assert service.export("pg_numbers", params={"rows": 3})["attempt"] == 1


@pytest.mark.parametrize("mode", ["fast", "kill"])
def test_the_server_was_restarted_between_two_exports(make, server, mode):
    """The connection that the child kept is dead, which is nobody's failed attempt."""
    service = make("--concurrency", "1", *ONCE)
    was_tried(service)
    service.export("pg_numbers", params={"rows": 3})
    kept = activity.sessions(server)
    assert [one.state for one in kept] == ["idle"]
    service.export("pg_numbers", params={"rows": 3})
    assert [one.pid for one in activity.sessions(server)] == [kept[0].pid], "it was not kept"
    server.restart(mode)
    is_whole(service, service.export("pg_numbers", params={"rows": 3}), 3)


def test_the_server_closes_what_is_idle(make, server):
    server.psql("ALTER ROLE exporter SET idle_session_timeout = '200ms'")
    try:
        service = make("--concurrency", "1", *ONCE)
        was_tried(service)
        for _ in range(3):
            service.export("pg_numbers", params={"rows": 3})
            processes.until(lambda: activity.sessions(server) == [], 5, "it is not closed")
    finally:
        server.psql("ALTER ROLE exporter RESET idle_session_timeout")


# --- the connection is cut ---

@pytest.mark.asan
def test_a_connection_that_is_cut_anywhere(make, server):
    """At every step of the way: either the attempt counts, or it leaves nothing at all."""
    rows = 3000
    with Proxy("127.0.0.1", server.port) as proxy:
        service = make("--concurrency", "1", "--max-attempts", "3", "--retry-delays", "1ms",
                       url=pg_exports.url_by(server, proxy.port))
        was_tried(service)
        service.export("pg_numbers", params={"rows": rows})
        proxy.end_all("reset")
        whole, asked = (proxy.connections[-1].sent[way] for way in (ANSWER, REQUEST))
        begun = whole - rows * 30  # more than all rows take: in there nothing is an end
        moods = [Mood(how, at) for at in (0, 1, 5, 30, 150, 300, 400, 450, 500, 550, 600, 700, 800, begun, whole // 3,
                                          whole // 2, whole - 2000, whole - 200)
                 + tuple(range(whole - 80, whole, 6)) for how in ("reset", "close")]
        moods += [Mood(how, at, REQUEST) for at in range(0, asked, asked // 12) for how in ("reset", "close")]
        done = []
        for mood in moods:
            proxy.script = [mood]
            one = service.export("pg_numbers", params={"rows": rows})
            is_whole(service, one, rows)
            assert proxy.script == [], "nobody met that mood"
            if mood.of == ANSWER and mood.after < whole - 200:
                assert one["attempt"] == 2, mood
            done.append(one)
            proxy.end_all("reset")  # the next one needs a connection of its own
        assert len(service.objects()) == len(done) + 1 and service.uploads() == []
        assert service.lines("child.died") == []
        codes = {line["error_code"] for line in service.lines("export.retried")}
        assert codes <= {"source-unavailable", "source-timeout"}, codes
    activity.nothing_runs(server)


def test_a_connection_that_is_always_cut(make, server):
    with Proxy("127.0.0.1", server.port, mood=Mood("reset", 100000)) as proxy:
        service = make("--max-attempts", "3", url=pg_exports.url_by(server, proxy.port))
        task = service.request("pg_numbers", params={"rows": 30000})
        failed = service.wait(task, status="failed")
        assert (failed["error_code"], failed["attempt"]) == ("source-unavailable", 3)
        all_is_clean(service, server)


def test_a_host_that_swallows_everything_is_passed_over(make, server):
    with socket.create_server(("127.0.0.1", 0)) as unreachable:
        drop_all(unreachable)
        url = pg_exports.url_by(server, server.port).replace(
            f"127.0.0.1:{server.port}", f"127.0.0.1:{unreachable.getsockname()[1]},127.0.0.1:{server.port}")
        service = make(*ONCE, url=url)
        done = service.export("pg_numbers", params={"rows": 1000})
        assert done["row_count"] == 1000
        all_is_clean(service, server, done)


@pytest.fixture(scope="module", autouse=True)
def silence(tmp_path_factory, program):
    """Exports from servers that say nothing, each in its own way: they take half a minute, and the stories go on."""
    folder = tmp_path_factory.mktemp("silence")
    maker = Maker(folder, program)
    with Server() as server, ExitStack() as stack:
        make = pg_exports.Maker(maker, folder, server)
        silent, unreachable = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        drop_all(unreachable)  # not even a SYN is answered
        half_way, dead, kept = (stack.enter_context(Proxy("127.0.0.1", server.port, mood=mood)) for mood in
                                (Mood("dead", 20), Mood("dead", 60000), Mood()))
        ports = {"silent": silent.getsockname()[1], "unreachable": unreachable.getsockname()[1],
                 "half_way": half_way.port, "dead": dead.port}
        types = [pg_exports.type_text(f"pg_{name}", f"{pg_exports.SELECT} generate_series(1, 30000) n", "{}",
                                      pg_exports.NUMBERS, source=name) for name in ports]
        sources = {name: pg_exports.url_by(server, port) for name, port in ports.items()}
        service = make(*ONCE, "--concurrency", "4", types=types, sources=sources)
        keeper = make(*ONCE, "--concurrency", "1", url=pg_exports.url_by(server, kept.port), name="keeper")
        was_tried(keeper)
        keeper.export("pg_numbers", params={"rows": 3})
        kept.end_all("hole")  # something in between acknowledges for a server that is gone
        tasks = {name: (service, service.request(f"pg_{name}")) for name in ports}
        tasks["kept"] = (keeper, keeper.request("pg_numbers", params={"rows": 3}))
        yield tasks
        for service, task in tasks.values():
            service.cancel(task)
        maker.finish()


SPEECH = {
    "http": b"HTTP/1.0 400 Bad Request\r\n\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "nothing": b"",
    "zeros": b"\0" * 4096,
    "noise": bytes((i * 167 + 13) % 256 for i in range(4096)),
    "an error": b"E\xff\xff\xff\xff",
    "a long error": b"E\0\0\x75\x30" + b"x" * 40000,
    "another version": b"E\0\0\0\x1dSFATAL\0VFATAL\0C0A000\0Mno\0\0",
    "another login": b"R\0\0\0\x08\0\0\0\x63",
}


@pytest.mark.asan
def test_something_else_listens_there(make, server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        speech = [b""]

        def speak():
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    try:
                        client.settimeout(2)
                        client.recv(100)
                        client.sendall(speech[0])
                        client.shutdown(socket.SHUT_WR)
                        client.recv(100)
                    except OSError:
                        pass

        thread = threading.Thread(target=speak, daemon=True)
        thread.start()
        service = make("--concurrency", "1", "--max-attempts", "2", "--retry-delays", "1ms",
                       url=pg_exports.url_by(server, listener.getsockname()[1]))
        for name, words in SPEECH.items():
            speech[:] = [words]
            failed = service.wait(service.request("pg_numbers", params={"rows": 3}), status="failed")
            assert (failed["error_code"], failed["attempt"]) == ("source-unavailable", 2), name
        assert service.lines("child.died") == []
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    assert service.objects() == [] and service.uploads() == []


def test_a_slow_connection_is_only_slow(make, server):
    with Proxy("127.0.0.1", server.port, mood=Mood(rate=400000)) as proxy:
        service = make(*ONCE, url=pg_exports.url_by(server, proxy.port))
        is_whole(service, service.export("pg_numbers", params={"rows": 10000}), 10000)


# --- the server gives the query up ---

def test_an_administrator_ends_the_session(make, server):
    service = make(*PATIENT)
    task = slow(service)
    service.wait(task, state="streaming")
    server.psql(f"SELECT pg_terminate_backend({activity.await_query(server, task).pid})")
    done = service.wait(task)
    assert done["attempt"] == 2
    assert [line["error_code"] for line in causes(service, task)] == ["source-unavailable"]
    is_whole(service, done, 30000)
    all_is_clean(service, server, done)


def test_an_administrator_cancels_the_query(make, server):
    service = make(*PATIENT)
    task = slow(service)
    service.wait(task, state="streaming")
    server.psql(f"SELECT pg_cancel_backend({activity.await_query(server, task).pid})")
    done = service.wait(task)
    assert done["attempt"] == 2
    assert [line["error_code"] for line in causes(service, task)] == ["source-conflict"]
    is_whole(service, done, 30000)
    all_is_clean(service, server, done)


def test_a_standby_takes_back_the_rows_that_an_export_reads(make, server):
    """What the primary has deleted and vacuumed, the standby cannot keep for long: retried, and whole."""
    rows = 10000
    with Standby(server, max_standby_streaming_delay="300ms", hot_standby_feedback="off") as standby:
        pg_exports.fill_shop(server, 2 * rows)
        standby.catch_up()
        service = make(*PATIENT, url=standby.url())
        plain = service.export("pg_table")
        is_whole(service, plain, 2 * rows)
        task = service.request("pg_table_slow")
        service.wait(task, state="streaming")
        server.psql(f"DELETE FROM shop WHERE n > {rows}")
        server.psql("VACUUM shop")
        done = service.wait(task)
        first = causes(service, task)[0]
        assert first["error_code"] == "source-conflict" and "conflict with recovery" in str(first)
        assert done["attempt"] > 1
        is_whole(service, done, rows)
        all_is_clean(service, standby, plain, done)


def test_too_many_connections(make, server):
    service = make(*PATIENT)
    others = []
    try:
        with pytest.raises(psycopg.OperationalError):
            while True:
                others.append(psycopg.connect(server.url()))
        task = service.request("pg_numbers", params={"rows": 3})
        service.wait(task, state="retrying")
    finally:
        for other in others:
            other.close()
    is_whole(service, service.wait(task), 3)
    assert all("too many clients" in line["error"] or "remaining connection slots" in line["error"]
               for line in causes(service, task))
    assert {line["error_code"] for line in causes(service, task)} == {"source-unavailable"}


def test_what_the_server_says_decides_what_follows(make, server):
    """By SQLSTATE, in the middle of the rows. It says so until the story tells it to stop."""
    expected = {
        "40001": ("source-conflict", 3), "40P01": ("source-conflict", 3), "55P03": ("source-conflict", 3),
        "57P01": ("source-unavailable", 3), "57P03": ("source-unavailable", 3), "08006": ("source-unavailable", 3),
        "53300": ("source-unavailable", 3), "58030": ("source-unavailable", 3), "25P03": ("source-unavailable", 3),
        "22012": ("source-query", 1), "22P02": ("source-query", 1), "42883": ("source-query", 1),
        "0A000": ("source-query", 1), "XX001": ("source-query", 1), "P0001": ("source-query", 1),
        "53200": ("memory-limit", 2), "53100": ("memory-limit", 2)}
    service = make("--max-attempts", "3", "--retry-delays", "10ms")
    tasks = {code: service.request("pg_raises", params={"code": code}) for code in expected}
    seen = {}
    for code, task in tasks.items():
        failed = service.wait(task, status="failed")
        seen[code] = (failed["error_code"], failed["attempt"])
        assert f"the story says {code}" in str(causes(service, task)) and "the story" not in str(failed)
    assert seen == expected
    all_is_clean(service, server)
    patient = make(*PATIENT, name="patient")
    tasks = [patient.request("pg_raises", params={"code": code}) for code in ("40001", "57P01")]
    for task in tasks:
        patient.wait(task, state="retrying")
    server.psql("INSERT INTO mood VALUES ('40001'), ('57P01')")
    done = [patient.wait(task) for task in tasks]
    server.psql("TRUNCATE mood")
    assert {one["row_count"] for one in done} == {20000}
    all_is_clean(patient, server, *done)


# --- what will never work ---

@pytest.mark.asan
def test_what_will_never_work_fails_at_once_with_a_reason(make, server):
    secret = "wrong-" + "x" * 20
    server.psql("CREATE ROLE stranger LOGIN PASSWORD 'let me in'; GRANT SELECT ON shop TO stranger")
    server.passwords["stranger"] = "let me in"
    try:
        nameless = f"postgresql://exporter@127.0.0.1:{server.port}/postgres"
        sources = {"stranger": server.url("stranger"), "wrong_password": {"url": nameless, "password": secret},
                   "no_password": nameless, "nobody": nameless.replace("exporter", "nobody_at_all:x"),
                   "no_database": server.url(database="nowhere")}
        types = [pg_exports.type_text(f"pg_at_{name}", "SELECT n FROM shop", source=name) for name in list(sources)[1:]]
        types.append(pg_exports.type_text("pg_denied", "SELECT n FROM secret_shop", source="stranger"))
        service = make("--max-attempts", "3", types=types, sources=sources)
        expected = {
            "pg_at_wrong_password": ("source-auth", "password authentication failed"),
            "pg_at_no_password": ("source-auth", "no password supplied"),
            "pg_at_nobody": ("source-auth", "nobody_at_all"),
            "pg_at_no_database": ("source-auth", 'database "nowhere" does not exist'),
            "pg_denied": ("source-query", "permission denied for table secret_shop"),
            "pg_no_table": ("source-query", 'relation "nowhere_to_be_found" does not exist'),
            "pg_no_column": ("source-query", 'column "colour" does not exist'),
            "pg_not_yielded": ("source-query", "n"),
            "pg_syntax": ("source-query", 'syntax error at or near "SELEKT"'),
            "pg_two_statements": ("source-query", "cannot insert multiple commands"),
            "pg_writes": ("source-query", ""),
            "pg_function_writes": ("source-query", "read-only transaction"),
            "pg_divides": ("source-query", "division by zero"),
            "pg_casts": ("source-query", "invalid input syntax for type bigint"),
        }
        tasks = {name: service.request(name) for name in expected}
        for name, task in tasks.items():
            code, reason = expected[name]
            failed = service.wait(task, status="failed")
            lines = causes(service, task)
            ended = (failed["error_code"], failed["attempt"], failed["retryable"])
            assert ended == (code, 1, False), (name, failed, lines)
            assert len(lines) == 1 and lines[0]["error_code"] == code and reason in lines[0]["error"], (name, lines)
            for inside in (reason, secret, "127.0.0.1", str(server.port), pg_exports.MARK, "SELECT"):
                assert len(inside) < 2 or inside not in json.dumps(failed), (name, failed)
        text = service.text()
        for inside in (secret, "let me in", pg_exports.MARK, *server.passwords.values()):
            assert inside not in text, f"{inside} is in the log"
        all_is_clean(service, server)
    finally:
        server.psql("DROP OWNED BY stranger; DROP ROLE stranger")


def test_the_schema_changes_between_the_request_and_the_run(make, server):
    server.psql("CREATE TABLE changing AS SELECT n, n AS square, n AS label FROM generate_series(1, 10) n")
    text = pg_exports.type_text("pg_changing", "SELECT n, square FROM changing",
                                columns="{ name: n, type: int64 } | { name: square, type: int64 }")
    service = make("--concurrency", "1", types=[text])
    assert service.export("pg_changing")["row_count"] == 10
    server.psql("ALTER TABLE changing ALTER square TYPE int8, DROP label, ADD later text DEFAULT 'x'")
    assert service.export("pg_changing")["row_count"] == 10, "a kept connection knows nothing old"
    blocker = slow(service, rows=1000, every=1000, pause=0.5)
    task = service.request("pg_changing")
    server.psql("ALTER TABLE changing RENAME square TO circle")
    service.wait(blocker)
    failed = service.wait(task, status="failed")
    assert (failed["error_code"], failed["attempt"]) == ("source-query", 1)
    assert "square" in causes(service, task)[0]["error"] and "square" not in str(failed)


def test_one_snapshot(make, server):
    """What happens to the table meanwhile is not in the file, and dropping it waits."""
    pg_exports.fill_shop(server, 10000)
    service = make(*ONCE)
    task = service.request("pg_table_slow")
    service.wait(task, state="streaming")
    server.psql("INSERT INTO shop SELECT n, 0, 'late' FROM generate_series(10001, 20000) n; "
                "DELETE FROM shop WHERE n % 2 = 0; UPDATE shop SET label = 'changed'")
    dropped = threading.Thread(target=server.psql, args=("DROP TABLE shop",))
    dropped.start()
    dropped.join(0.2)
    assert dropped.is_alive(), "the table went away under a reader"
    is_whole(service, service.wait(task), 10000)
    dropped.join(5)
    assert not dropped.is_alive()
    pg_exports.fill_shop(server)


# --- limits ---

ENDLESS = ("pg_sleeps", "pg_computes", "pg_sorts", "pg_streams")


def test_limits_of_time(make, server):
    """The source's, its role's, and the task's, also in a wait for a lock: each says which; none is tried again."""
    server.psql("CREATE ROLE hurried LOGIN PASSWORD 'hurried-secret'; "
                "ALTER ROLE hurried SET statement_timeout = '400ms'")
    server.passwords["hurried"] = "hurried-secret"
    sources = {"limited": {"url": server.url(), "statement_timeout": "500ms"}, "hurried": server.url("hurried")}
    service = make("--concurrency", "6", sources=sources, types=[pg_exports.type_text(
        f"pg_{name}", "SELECT 1::int8 AS n FROM pg_sleep(600)", source=name) for name in sources])
    begun = time.monotonic()
    with activity.connect(server) as holder:
        holder.autocommit = False
        holder.execute("LOCK TABLE shop IN ACCESS EXCLUSIVE MODE")
        limited = [service.request(f"pg_{name}") for name in sources]
        tasks = [service.request(name, time_limit=1) for name in (*ENDLESS, "pg_table")]
        for task in limited:
            failed = service.wait(task, status="failed")
            assert (failed["error_code"], failed["attempt"], failed["retryable"]) == ("query-timeout", 1, False)
        for task in tasks:
            failed = service.wait(task, status="failed")
            assert (failed["error_code"], failed["attempt"]) == ("task-timeout", 1), (failed, causes(service, task))
        assert time.monotonic() - begun < 8
        all_is_clean(service, server)
        holder.rollback()
    assert service.export("pg_table")["attempt"] == 1
    server.psql("DROP ROLE hurried")


# --- nothing goes on there ---

def start_endless(service, server):
    """One export of each kind that never ends, and one that waits for a lock; who holds it; their sessions."""
    holder = activity.connect(server)
    holder.autocommit = False
    holder.execute("LOCK TABLE shop IN ACCESS EXCLUSIVE MODE")
    tasks = {name: service.request(name) for name in (*ENDLESS, "pg_table")}
    pids = set()
    for name, task in tasks.items():
        if name == "pg_table":
            pids.add(processes.until(lambda: [one for one in activity.sessions(server) if one.name.endswith(task) and
                                              one.runs], 10, "nobody waits for the lock")[0].pid)
        else:
            pids.add(activity.await_query(server, task).pid)
    return tasks, pids, holder


def test_cancel_reaches_the_server(make, server):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        service = make("--concurrency", "6")
        other = make("--concurrency", "1", url=pg_exports.url_by(server, silent.getsockname()[1]), name="other")
        tasks, pids, holder = start_endless(service, server)
        with holder:
            connecting = other.request("pg_numbers", params={"rows": 3})
            processes.until(lambda: other.status(connecting)["status"] == "processing", 5, "it does not begin")
            time.sleep(0.2)
            begun = time.monotonic()
            for one, task in [(service, task) for task in tasks.values()] + [(other, connecting)]:
                assert one.cancel(task).status_code in (200, 202)
            for one, task in [(service, task) for task in tasks.values()] + [(other, connecting)]:
                assert one.wait(task, status="failed")["error_code"] == "cancelled"
            assert time.monotonic() - begun < 5
            activity.nothing_runs(server, pids, seconds=max(0, begun + 5 - time.monotonic()))
            holder.rollback()
        all_is_clean(service, server)
        assert service.export("pg_numbers", params={"rows": 3})["attempt"] == 1


@pytest.mark.parametrize("who", ["child", "worker", "all"])
def test_nothing_goes_on_after_kill_9(make, server, who):
    """Also where the server has nothing to say, and so would not find out by itself that nobody listens."""
    service = make("--concurrency", "6", "--retry-delays", "60s")
    tasks, pids, holder = start_endless(service, server)
    with holder:
        if who == "all":
            service.kill_all()
        elif who == "worker":
            service.kill("worker")
        else:
            service.kills += 1
            for pid in service.pids("child"):
                os.kill(pid, signal.SIGKILL)
        activity.nothing_runs(server, pids)
        holder.rollback()
    if who == "all":
        service.start()
    for task in tasks.values():
        service.cancel(task)
    for name, task in tasks.items():
        processes.until(lambda: service.status(task)["state"] in ("cancelled", "completed"), 30, f"{name} goes on")
    if who == "all":
        service.options += ["--cleanup-schedule", "* * * * *"]  # one sweep at once: nobody else looks after the files
        service.restart()
    processes.until(lambda: service.uploads() == [], 5, lambda: f"left: {service.uploads()}")
    activity.nothing_runs(server)


def test_a_worker_that_stops_gives_back_what_runs(make, server):
    service = make("--drain", "300ms", "--concurrency", "2")
    tasks = [slow(service, rows=20000), service.request("pg_sleeps")]
    pids = {activity.await_query(server, task).pid for task in tasks}
    assert service.stop() == 0
    activity.nothing_runs(server, pids, seconds=1)
    service.start()
    service.cancel(tasks[1])
    done = service.wait(tasks[0])
    assert done["attempt"] == 1, "a drain uses up no attempt"
    is_whole(service, done, 20000)
    all_is_clean(service, server, done)


# --- memory ---

def high_water_kb(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return int(next(line for line in file if line.startswith("VmHWM:")).split()[1])


def test_a_million_wide_rows_in_32_megabytes(make, server):
    wide = pg_exports.type_text(
        "pg_wide", "SELECT n, a, a AS b, a AS c FROM generate_series(1, 1000000) n, repeat(md5(n::text), 2) a",
        columns="{ name: n, type: int64 } | " + " | ".join(f"{{ name: {name}, type: text }}" for name in "abc"))
    service = make("--concurrency", "1", *ONCE, types=[wide])
    task = service.request("pg_wide")
    most = {}
    while service.status(task)["status"] not in ("completed", "failed"):
        for pid in service.pids("child"):
            try:
                most[pid] = high_water_kb(pid)
            except (FileNotFoundError, ProcessLookupError, StopIteration):
                pass
        time.sleep(0.05)
    done = service.wait(task)
    assert done["row_count"] == 1000000 and done["file_size"] > 200_000_000
    assert max(most.values()) < 32 << 10, most


def test_values_that_are_too_large(make, server):
    """One value of 20 MB is only large; 70 MB are more than a row may have, 300 MB more than there is memory."""
    value = pg_exports.type_text("pg_value", "SELECT repeat('x', $bytes) AS v",
                                 params="{ bytes: { type: int32, required: true } }",
                                 columns="{ name: v, type: text }")
    service = make("--concurrency", "1", types=[value])
    done = service.export("pg_value", params={"bytes": 20 << 20})
    assert done["file_size"] == (20 << 20) + 5
    for size in (70 << 20, 300 << 20):
        failed = service.wait(service.request("pg_value", params={"bytes": size}), status="failed")
        assert (failed["error_code"], failed["attempt"]) in (("size-limit", 1), ("memory-limit", 2)), failed
    all_is_clean(service, server, done)


# --- what took its time meanwhile ---

@pytest.mark.parametrize("name,least,most", [("silent", 9, 13), ("unreachable", 3, 7), ("half_way", 3, 13),
                                             ("kept", 9, 13), ("dead", 10, 36)])
def test_a_server_that_says_nothing(silence, name, least, most):
    """Four seconds for a packet that nobody acknowledges, ten at the door and at the first words, thirty for a peer that
    answers no probe."""
    service, task = silence[name]
    failed = service.wait(task, status="failed", seconds=60)
    assert failed["error_code"] in ("source-unavailable", "source-timeout"), failed
    took = [datetime.fromisoformat(failed[when].replace("Z", "+00:00")) for when in ("started_at", "failed_at")]
    assert least < (took[1] - took[0]).total_seconds() < most
    assert service.uploads() == []
