"""An export from PostgreSQL to S3 through the API, beside the usual stack of Python (peer/) on the same servers."""

import hashlib
import http.client
import itertools
import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

from database import Database
from measure import ROOT, ROWS, SCRATCH, Service, below, cpu_of, line, proc_value, turns

import daemon
from s3 import Minio

START_SECONDS = 60
STOP_SECONDS = 30
POLL_SECONDS = 0.05  # one who waits asks so often, whoever is asked
PSS_SECONDS = 0.25
WARM_END = "2024-01-02T00:00:00Z"  # some 27,000 rows

# Ours does what theirs does: in the order of time.
ORDERED = """
name: interaction_history
source: timescale
params:
  end: { type: timestamptz }
columns:
  - { name: timestamp, type: timestamptz }
  - { name: source, type: text }
  - { name: target, type: text }
  - { name: type, type: text }
  - { name: weight, type: double }
query: |
  SELECT timestamp, source, target, type, weight FROM interactions
  WHERE ($end IS NULL OR timestamp < $end) ORDER BY timestamp
"""


class PythonStack:
    """Redis, uvicorn and a Celery worker, each on a free port; gone at the end."""

    def __init__(self, mode, database, server, workers=2):
        self.folder = tempfile.mkdtemp(prefix="rowferry-peer.")
        self.processes = []
        try:
            python = subprocess.run(["sh", os.path.join(ROOT, "tools", "venv.sh"),
                                     os.path.join(ROOT, "bench", "peer", "requirements.txt")],
                                    check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
            redis, self.port = daemon.free_port(), daemon.free_port()
            # Whatever the machine's own settings are, both sides have these.
            self.environment = {"PATH": os.environ["PATH"], "HOME": self.folder, "LANG": "C.UTF-8",
                                "REDIS_URL": f"redis://127.0.0.1:{redis}/0", "TIMESCALE_URL": database.url(),
                                "EXPORT_MODE": mode, **server.service()}
            # Debian's package redis-server would also run one on port 6379, now and at every boot; redis-tools has the
            # same program under another name, and it goes by the name that it is called.
            self.launch("redis", ["redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--dir", self.folder,
                                  "--save", "", "--appendonly", "no"],
                        executable=shutil.which("redis-server") or shutil.which("redis-check-rdb"))
            self.await_line("redis", "Ready to accept connections")
            self.launch("api", [python, "-m", "uvicorn", "api:api", "--host", "127.0.0.1", "--port", str(self.port),
                                "--no-access-log", "--log-level", "info"])
            self.await_line("api", "Application startup complete")
            self.worker = self.launch("worker", [python, "-m", "celery", "-A", "worker", "worker", "--loglevel=info",
                                                 f"--concurrency={workers}", "--without-gossip", "--without-mingle"])
            self.await_line("worker", " ready.")
            self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        except BaseException:
            self.stop()
            raise

    def launch(self, name, command, **how):
        process = daemon.launch(command, self.log(name), cwd=os.path.join(ROOT, "bench", "peer"), env=self.environment,
                                **how)
        self.processes.append(process)
        return process

    def log(self, name):
        return os.path.join(self.folder, name + ".log")

    def await_line(self, name, words):
        deadline = time.monotonic() + START_SECONDS
        while True:
            with open(self.log(name), errors="replace") as file:
                text = file.read()
            if words in text:
                return
            if self.processes[-1].poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the {name} of the Python stack did not start:\n{text[-2000:]}")
            time.sleep(0.05)

    def call(self, method, path, body=None):
        self.http.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = self.http.getresponse()
        return answer.status, answer.read()

    def workers(self):
        """The worker and the processes of its pool."""
        return [self.worker.pid, *below(self.worker.pid)]

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(STOP_SECONDS)
        shutil.rmtree(self.folder, ignore_errors=True)


class Ours(Service):
    def workers(self):
        return self.of_role("worker", "child")


class Pss(threading.Thread):
    """The largest sum of what processes have for themselves and their share of what they have in common."""

    def __init__(self, pids):
        super().__init__(daemon=True)
        self.pids, self.peak, self.ends = pids, 0, threading.Event()

    def run(self):
        while not self.ends.wait(PSS_SECONDS):
            self.peak = max(self.peak, sum(proc_value(pid, "Pss", "smaps_rollup") for pid in self.pids))

    def end(self):
        self.ends.set()
        self.join()
        return self.peak


def export(side, **params):
    """POST to completed, as one sees it who asks now and then: seconds and the last status."""
    began = time.monotonic()
    status, text = side.call("POST", "/api/exports/request",
                             {"export_type": "interaction_history", "params": params, "user_id": "bench"})
    if status not in (200, 202):
        raise SystemExit(f"POST: {status} {text[:300]}")
    task = json.loads(text)["task_id"]
    while True:
        status = json.loads(side.call("GET", f"/api/exports/{task}/status")[1])
        if status["status"] in ("completed", "failed"):
            break
        time.sleep(POLL_SECONDS)
    if status["status"] != "completed":
        raise SystemExit(f"not completed: {status}")
    return time.monotonic() - began, status


def download(url, path):
    with urllib.request.urlopen(url, timeout=60) as answer, open(path, "wb") as file:
        shutil.copyfileobj(answer, file, 1 << 20)


def check_same_rows(files):
    """Line by line: what the benchmark is about is a right file."""
    lines = 0
    with open(files["ours"], "rb") as ours, open(files["stock"], "rb") as stock, open(files["copy"], "rb") as copy:
        for a, b, c in itertools.zip_longest(ours, stock, copy, fillvalue=b""):
            lines += 1
            # Theirs has a fraction in whole seconds as well; PostgreSQL's own text has another end of the line, and no
            # ".0" at the end of a number.
            b, c = (line.replace(b".000000Z", b"Z", 1) for line in (b, c))
            if a != b or a.removesuffix(b"\r\n").removesuffix(b".0") != c.removesuffix(b"\n"):
                raise SystemExit(f"line {lines} differs: {a} {b} {c}")
    if lines != ROWS + 1:
        raise SystemExit(f"{lines - 1} rows instead of {ROWS}")


class Race:
    def __init__(self, database, server):
        self.database, self.server = database, server
        folder = os.path.join(SCRATCH, "types-stack")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with open(os.path.join(folder, "interaction_history.yaml"), "w") as file:
            file.write(ORDERED)
        self.sides = {
            "ours": lambda: Ours(TIMESCALE_URL=database.url(), GRAPH_DB_URL=database.url(), ROWFERRY_TYPES=folder,
                                 **server.service()),
            "stock": lambda: PythonStack("cursor", database, server),
            "copy": lambda: PythonStack("copy", database, server),
        }
        self.got = {name: [] for name in self.sides}
        self.sha256 = None
        self.files = {name: os.path.join(SCRATCH, f"stack-{name}.csv") for name in self.sides}

    def run(self):
        for name, _ in turns(self.sides):
            self.server.wipe()
            os.sync()
            side = self.sides[name]()
            try:
                self.got[name].append(self.export(name, side))
            finally:
                side.stop()
        with open(self.files["ours"], "rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != self.sha256:
                raise SystemExit("what came of the store is not what was uploaded")
        check_same_rows(self.files)
        for path in self.files.values():
            os.remove(path)
        return {name: [statistics.median(x[i] for x in rounds) for i in range(2)] + [max(x[2] for x in rounds)]
                for name, rounds in self.got.items()}

    def export(self, name, side):
        """Seconds, processor seconds of the workers, and their peak of memory. A small export has opened connections."""
        for _ in side.workers():
            export(side, end=WARM_END)
        workers = side.workers()
        pss = Pss(workers)
        pss.start()
        before = cpu_of(workers)
        took, done = export(side)
        cpu = cpu_of(workers) - before
        peak = pss.end()
        if done["row_count"] != ROWS:
            raise SystemExit(f"{name}: {done['row_count']} rows instead of {ROWS}")
        if not self.got[name]:
            download(done["download_url"], self.files[name])
            self.sha256 = done.get("checksum", {}).get("sha256", self.sha256)  # theirs tells none
        return took, cpu, peak


def bench_stack():
    """interaction_history from PostgreSQL to S3 through the API, beside FastAPI, Celery, Redis and boto3."""
    with Database(ROWS) as database, Minio() as server:
        database.psql("CREATE INDEX ON interactions (timestamp); ANALYZE interactions", seconds=300)
        got = Race(database, server).run()
    ours, stock, copy = (got[name] for name in ("ours", "stock", "copy"))
    line(f"PostgreSQL to S3 through the API, {ROWS:,} rows, POST to completed", f"{ours[0]:.2f} s",
         f"Python stack {stock[0]:.2f} s", f"{stock[0] / ours[0]:.2f} x as fast", ">= 4 x")
    line("  the files", "SHA-256 as was told", "the same rows in the same order, in both modes")
    line("  beside the stack with COPY", f"{ours[0]:.2f} s", f"{copy[0]:.2f} s", f"{copy[0] / ours[0]:.2f} x as fast",
         ">= 1.7 x")
    line("  processor seconds of the workers", f"{ours[1]:.2f} s", f"stock {stock[1]:.2f} s, COPY {copy[1]:.2f} s",
         f"{ours[1] / stock[1]:.2f} of stock's, {ours[1] / copy[1]:.2f} of COPY's", "<= 0.20 of stock's")
    line("  peak memory of the workers (sum of PSS)", f"{ours[2] / 1e6:.1f} MB",
         f"stock {stock[2] / 1e6:.1f} MB, COPY {copy[2] / 1e6:.1f} MB", f"{ours[2] / stock[2]:.2f} of stock's")
