"""What every benchmark here has: the table, a command that is measured, a service that is started."""

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The servers and proxies of the stories.
sys.path += [os.path.join(ROOT, "test", folder) for folder in ("harness", "fake")]

ROWFERRY = os.environ.get("ROWFERRY_PROGRAM", os.path.join(ROOT, "build", "rowferry"))
SCRATCH = os.path.join(ROOT, "build", "bench")
QUICK = os.environ.get("QUICK") == "1"
ROUNDS = 3
ROWS = 500_000 if QUICK else 5_000_000
TICKS = os.sysconf("SC_CLK_TCK")

table = []


def line(what, ours, peer="", ratio="", aim=""):
    table.append((what, ours, peer, ratio, aim))
    print(f"  {what}: {ours}{'  |  ' + peer if peer else ''}{'  |  ' + ratio if ratio else ''}", flush=True)


def turns(names, warm_up=0):
    """Names in turn, the order another one in each round; and whether this run counts. The first rounds warm up."""
    for n in range(-warm_up, ROUNDS):
        for name in names if n % 2 == 0 else reversed(names):
            yield name, n >= 0


def measured(command, out, environment=None):
    """Seconds (to 5 ms), processor seconds and peak resident bytes of a command whose output goes to a file."""
    peak = 0
    began = time.monotonic()
    with open(out, "wb") as to, tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(command, stdout=to, stderr=errors, env=environment)
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            # Not ru_maxrss: it begins with what this script had when it started the command.
            peak = max(peak, proc_value(child.pid, "VmHWM"))
            time.sleep(0.005)
        took = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if child.returncode != 0:
            raise SystemExit(f"{command[0]} ended with {child.returncode}: {errors.read(400)}")
    return took, usage.ru_utime + usage.ru_stime, peak


class Service:
    """rowferry serve on a free port, in a fresh folder."""

    def __init__(self, demo=None, where=None, **environment):
        self.dir = tempfile.mkdtemp(prefix="rowferry-bench.", dir=where)
        os.chmod(self.dir, 0o700)
        self.log = os.path.join(self.dir, "log")
        data = os.path.join(self.dir, "data")
        os.mkdir(data, 0o700)
        if demo and os.stat(demo).st_dev == os.stat(data).st_dev:
            os.link(demo, os.path.join(data, "demo.db"))
        elif demo:
            shutil.copy(demo, os.path.join(data, "demo.db"))
        self.process = subprocess.Popen(
            [ROWFERRY, "serve", "--data-dir", data, "--port", "0", "--log-format", "json"],
            stderr=open(self.log, "wb"), env={**os.environ, **environment})
        deadline = time.monotonic() + 15
        self.url = None
        while not self.url:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the service did not start:\n{self.log_tail()}")
            for text in open(self.log):
                found = re.search(r'"event":"role.started".*"url":"http://127.0.0.1:(\d+)"', text)
                if found:
                    self.port = int(found.group(1))
                    self.url = f"http://127.0.0.1:{self.port}"
            time.sleep(0.02)
        self.http = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while True:  # the worker and its children are up
            if self.metric("rowferry_workers") or time.monotonic() > deadline:
                break
            time.sleep(0.05)

    def log_tail(self):
        return open(self.log).read()[-2000:]

    def call(self, method, path, body=None):
        self.http.request(method, path, json.dumps(body) if body else None,
                          {"Content-Type": "application/json"} if body else {})
        answer = self.http.getresponse()
        text = answer.read()
        return answer.status, text

    def request(self, export_type, **params):
        status, text = self.call("POST", "/api/exports/request",
                                 {"export_type": export_type, "params": params, "user_id": "bench"})
        if status != 202:
            raise SystemExit(f"POST: {status} {text[:300]}")
        return json.loads(text)["task_id"]

    def status(self, task, wait=0):
        return json.loads(self.call("GET", f"/api/exports/{task}/status?wait={wait}")[1])

    def wait(self, task, seconds=600):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            body = self.status(task, wait=10)
            if body["status"] in ("completed", "failed"):
                return body
        raise SystemExit(f"the export did not end:\n{self.log_tail()}")

    def metric(self, name):
        total = 0.0
        for text in self.call("GET", "/metrics")[1].decode().splitlines():
            if re.match(name + r"[{ ]", text):
                total += float(text.rsplit(" ", 1)[1])
        return total

    def pids(self):
        """The supervisor and all below it, with their command lines."""
        found = {}
        for pid in [self.process.pid, *below(self.process.pid)]:
            try:
                found[pid] = open(f"/proc/{pid}/cmdline").read().replace("\0", " ")
            except OSError:
                pass
        return found

    def of_role(self, *roles):
        return [pid for pid, command in self.pids().items() if any(f" {role} " in command for role in roles)]

    def stop(self):
        self.http.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def proc_value(pid, name, file="status"):
    try:
        for text in open(f"/proc/{pid}/{file}"):
            if text.startswith(name + ":"):
                return int(text.split()[1]) * 1024
    except OSError:
        pass
    return 0


def below(root):
    """Processes that this one started, and those that they did."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = open(f"/proc/{name}/stat").read()
                parents[int(name)] = int(stat[stat.rindex(")") + 2:].split()[1])
            except OSError:
                pass
    found = []
    for pid in parents:
        at = parents[pid]
        while at in parents and at != root:
            at = parents[at]
        if at == root:
            found.append(pid)
    return found


def times(pid):
    """utime, stime, cutime, cstime (proc(5)) in seconds."""
    with open(f"/proc/{pid}/stat") as file:
        return [int(text) / TICKS for text in file.read().rpartition(")")[2].split()[11:15]]


def cpu_of(pids):
    """Processor seconds of these processes, without those of their children."""
    return sum(sum(times(pid)[:2]) for pid in pids)


class Peak(threading.Thread):
    """The highest resident size of any child, by the kernel's own high-water mark."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.service, self.peak, self.ends = service, 0, threading.Event()

    def run(self):
        while not self.ends.wait(0.1):
            for pid, command in self.service.pids().items():
                if " child " in command:
                    self.peak = max(self.peak, proc_value(pid, "VmHWM"))

    def end(self):
        self.ends.set()
        self.join()
        return self.peak
