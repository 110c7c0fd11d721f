"""kill -9 at random moments, of anything of ours, while exports run; then: nothing lost, nothing twice, nothing half.

One round is one test; its number is the seed of all it does. ROUNDS says how many, CHAOS_SEED where to begin.
"""

import hashlib
import os
import random
import signal
import threading
import time

import httpx
import pytest

import database
import processes
from maker import Maker

FIRST = int(os.environ.get("CHAOS_SEED", "1"))
ROUNDS = int(os.environ.get("ROUNDS", "20"))
SETTLE_SECONDS = 60

# What is exported: the user's name says which, so that whoever sees a file knows what must be in it.
MIX = {
    "none": ("numbers", {"rows": 0}),
    "tiny": ("numbers", {"rows": 7}),
    "small": ("numbers", {"rows": 5000}),
    "middle": ("numbers", {"rows": 60000}),
    "long": ("slow", {"rows": 6000, "work": 300}),
}
COUNTS = {"none": 3, "tiny": 16, "small": 4, "middle": 3, "long": 2}


def content_of(kind):
    export_type, params = MIX[kind]
    return (database.numbers_csv(params["rows"]) if export_type == "numbers"
            else database.slow_csv(params["rows"], params["work"]))


@pytest.fixture(scope="module")
def expected():
    """kind -> (rows, bytes, SHA-256)"""
    return {kind: (MIX[kind][1]["rows"], len(content_of(kind)), database.sha256(content_of(kind))) for kind in MIX}


class Onlooker(threading.Thread):
    """Looks all the time, as users do: every file that is listed is whole, and no status ever goes back."""

    def __init__(self, service, expected):
        super().__init__(daemon=True)
        self.service, self.expected = service, expected
        self.tasks, self.last, self.broken = [], {}, []
        self.looks = 0
        self.ends = threading.Event()

    def run(self):
        while not self.ends.is_set():
            try:
                with self.service.client(5) as client:
                    for kind in MIX:
                        self.look_at_files(client, kind)
                    for task in list(self.tasks):
                        self.look_at_status(client, task)
                self.looks += 1
            except httpx.TransportError:
                time.sleep(0.02)  # just being killed

    def look_at_files(self, client, kind):
        answer = client.get(f"/api/exports/user/{kind}?limit=1000")
        if answer.status_code == 503:
            return
        listed = answer.json()["exports"]
        for one in listed:
            if one["size"] != self.expected[kind][1]:
                self.broken.append(f"listed with a wrong size: {one}")
        for one in listed[:3]:  # the newest
            got = client.get(one["download_url"])
            if got.status_code == 200 and hashlib.sha256(got.content).hexdigest() != self.expected[kind][2]:
                self.broken.append(f"fetched and not whole: {one['key']}, {len(got.content)} bytes")

    def look_at_status(self, client, task):
        answer = client.get(f"/api/exports/{task}/status")
        if answer.status_code == 503:
            return
        if answer.status_code != 200:
            self.broken.append(f"{task}: {answer.status_code} {answer.text}")
            return
        now, before = answer.json(), self.last.get(task)
        self.last[task] = now
        if before is None:
            return
        if before["status"] in ("completed", "failed") and now["status"] != before["status"]:
            self.broken.append(f"a final status changed: {before} -> {now}")
        if now.get("progress", 0) < before.get("progress", 0):
            self.broken.append(f"progress fell: {before} -> {now}")
        if before["status"] == "processing" and now["status"] == "queued":
            self.broken.append(f"queued again: {before} -> {now}")

    def stop(self):
        self.ends.set()
        self.join(30)
        assert not self.is_alive()


def ask(service, kind, key):
    """Asks until there is an answer, with the same key: one task, whatever dies meanwhile."""
    export_type, params = MIX[kind]
    deadline = time.monotonic() + 30
    while True:
        try:
            with service.client(5) as client:
                answer = client.post("/api/exports/request", headers={"Idempotency-Key": key},
                                     json={"export_type": export_type, "params": params, "user_id": kind})
            if answer.status_code == 202:
                return answer.json()["task_id"]
            assert answer.status_code in (409, 503), answer.text
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline, f"no answer\n{service.tail()}"
        time.sleep(0.02)


class Asker(threading.Thread):
    def __init__(self, service, kinds, onlooker):
        super().__init__(daemon=True)
        self.service, self.kinds, self.onlooker = service, kinds, onlooker
        self.asked, self.error = {}, None

    def run(self):
        try:
            for number, kind in enumerate(self.kinds):
                task = ask(self.service, kind, f"key-{number}")
                self.asked[task] = kind
                self.onlooker.tasks.append(task)
        except BaseException as error:  # told where it is waited for
            self.error = error


# How often each is struck; "all" is every process at once.
VICTIMS = {"child": 3, "worker": 3, "api": 1, "beat": 1, "serve": 1, "all": 2}


def strike(service, chance):
    """One kill, of somebody who is there; what nobody starts again is started by hand."""
    there = {role: service.pids(role) for role in VICTIMS}
    victim = chance.choice([role for role, times in VICTIMS.items() for _ in range(times)
                            if there[role] or role == "all"])
    if victim == "all":
        service.kill_all()
        service.start()
        return victim
    service.kills += 1
    try:
        os.kill(chance.choice(there[victim]), signal.SIGKILL)
    except ProcessLookupError:
        pass  # it went by itself
    if victim == "serve":
        service.process.wait(10)
        processes.until(lambda: not service.processes(), 10, lambda: f"without supervisor: {service.processes()}")
        service.start()
    return victim


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + ROUNDS), ids=lambda seed: f"round-{seed}")
def test_kill(seed, tmp_path, program, expected):
    chance = random.Random(seed)
    maker = Maker(tmp_path, program)
    service = maker("--max-attempts", "50", types=["numbers", "slow"])
    kinds = [kind for kind, count in COUNTS.items() for _ in range(count)]
    chance.shuffle(kinds)
    onlooker = Onlooker(service, expected)
    asker = Asker(service, kinds, onlooker)
    onlooker.start()
    asker.start()
    strikes = []
    for _ in range(chance.randint(2, 5)):
        time.sleep(chance.uniform(0, 0.35))
        strikes.append(strike(service, chance))
    asker.join(60)
    assert asker.error is None and not asker.is_alive(), asker.error

    ended = settle(service, asker.asked)
    onlooker.stop()
    again = sum(done["attempt"] > 1 for done in ended.values())
    print(f"round {seed}: killed {', '.join(strikes)}; {again} of {len(ended)} exports were run again, "
          f"{onlooker.looks} looks meanwhile")
    assert not onlooker.broken, onlooker.broken[:3]
    assert onlooker.looks > 0
    check(service, asker.asked, ended, expected)
    sweep(service)
    check(service, asker.asked, ended, expected)
    assert service.uploads() == [], "left behind"
    assert service.sql("PRAGMA quick_check") == [("ok",)]
    maker.finish()


def settle(service, asked):
    """Every id that was ever answered ends, in time."""
    deadline = time.monotonic() + SETTLE_SECONDS
    return {task: service.wait(task, seconds=max(deadline - time.monotonic(), 1), patient=True) for task in asked}


def check(service, asked, ended, expected):
    assert len(asked) == sum(COUNTS.values()) == service.tasks(), "one task for each request, and no other"
    for task, kind in asked.items():
        rows, size, digest = expected[kind]
        done = ended[task]
        assert (done["row_count"], done["file_size"], done["checksum"]["sha256"]) == (rows, size, digest)
        path = service.data / "files" / done["key"]
        assert database.sha256(path.read_bytes()) == digest, f"{done['key']} is not whole"
    assert service.objects() == sorted(done["key"] for done in ended.values()), "each file once, and no other"
    assert len({done["key"] for done in ended.values()}) == len(ended)


def sweep(service):
    """A sweep that is due at once."""
    assert service.stop() == 0
    service.options += ["--cleanup-schedule", "* * * * *"]
    service.start()
    service.await_line("cleanup.done", 30)
