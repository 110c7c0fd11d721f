"""One rowferry service of a story: started, asked, killed and looked at from outside."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

import processes

FINAL = ("completed", "failed")
START_SECONDS = 30  # a sanitizer build on a busy machine
STOP_SECONDS = 25

# What no log line may hold, whatever happened.
NEVER_LOGGED = ("signature=", "Signature=", "AddressSanitizer", "LeakSanitizer", "runtime error:", "Assertion")


class Service:
    def __init__(self, folder, program, options=(), environment=None, role="serve", spawn=None):
        self.folder = Path(folder)
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.data = self.folder / "data"
        self.types = self.folder / "types"  # where its maker put definitions, if it has any
        self.log_path = self.folder / "log"
        self.program = program
        self.role = role
        self.options = list(options)
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            **(environment or {}),
        }
        self.spawn = spawn or (lambda start: start())
        self.process = None
        self.url = None
        self.sessions = []
        self.kills = 0  # deaths that the story itself brought about
        self.started_at = 0  # where the log of the last start begins
        self._client = None

    # --- its life ---

    def command(self):
        return [self.program, self.role, "--data-dir", str(self.data), "--port", "0", "--log-format", "json",
                *self.options]

    def start(self, seconds=START_SECONDS):
        self.launch()
        line = self.await_line("role.started", seconds, lambda line: "url" in line)
        self.url = line["url"]
        self._client = self.client()
        return self

    def launch(self):
        """Starts the program and does not wait for it to be ready."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        with open(self.log_path, "ab") as log:
            self.started_at = log.tell()
            self.process = self.spawn(lambda: subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment,
                cwd=self.folder, start_new_session=True))
        self.sessions.append(self.process.pid)

    def stop(self, number=signal.SIGTERM, seconds=STOP_SECONDS):
        """Asks it to end and gives back its exit status."""
        if self._client:
            self._client.close()
            self._client = None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there {seconds} s after signal {number}:\n{self.tail()}") from None

    def restart(self):
        assert self.stop() == 0
        return self.start()

    def kill_all(self):
        """kill -9 of every process at once."""
        self.kills += 1
        for process in self.processes():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(10)
        processes.until(lambda: not self.processes(), 10, "somebody survived kill -9")
        if self._client:
            self._client.close()
            self._client = None

    def kill(self, role, number=signal.SIGKILL):
        """One process of this role; gives back its pid."""
        pid = processes.until(lambda: self.pids(role), 10, f"no {role} runs")[0]
        if number in (signal.SIGKILL, signal.SIGSEGV):
            self.kills += 1
        os.kill(pid, number)
        return pid

    # --- what runs ---

    def processes(self):
        return [process for session in self.sessions for process in processes.of_session(session)]

    def pids(self, role):
        return [process.pid for process in self.processes() if process.role == role]

    # --- asking ---

    def client(self, seconds=20):
        """A connection pool of one's own; for threads, and for times in which the API comes and goes."""
        return httpx.Client(base_url=self.url, timeout=seconds, trust_env=False, verify=False)

    def http(self, method, path, **more):
        return self._client.request(method, path, **more)

    def ask(self, body, **headers):
        return self.http("POST", "/api/exports/request", json=body, headers=headers)

    def request(self, export_type="employee_metrics", user_id="user_1", **members):
        answer = self.ask({"export_type": export_type, "user_id": user_id, **members})
        assert answer.status_code == 202, answer.text
        return answer.json()["task_id"]

    def status(self, task):
        answer = self.http("GET", f"/api/exports/{task}/status")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def wait(self, task, status="completed", state=None, seconds=30, patient=False, seen=None):
        """Polls until the task is there. `patient`: the API may be away meanwhile. `seen`: every answer goes there."""
        deadline = time.monotonic() + seconds
        last = None
        while True:
            try:
                last = self.status(task)
                if seen is not None:
                    seen.append(last)
                if last["state"] == state if state else last["status"] == status:
                    return last
                if last["status"] in FINAL:
                    raise AssertionError(f"waited for {state or status}, and it ended so: {last}\n{self.tail()}")
            except httpx.TransportError:
                if not patient:
                    raise
            if time.monotonic() > deadline:
                raise AssertionError(f"not {state or status} within {seconds} s: {last}\n{self.tail()}")
            time.sleep(0.01)

    def export(self, export_type="employee_metrics", user_id="user_1", seconds=60, **members):
        return self.wait(self.request(export_type, user_id, **members), seconds=seconds)

    def fetch(self, url):
        answer = self.http("GET", url)
        assert answer.status_code == 200, answer.text
        return answer.content

    def file_of(self, export_type="employee_metrics", user_id="user_1", **members):
        """The bytes of a finished export."""
        return self.fetch(self.export(export_type, user_id, **members)["download_url"])

    def cancel(self, task, **more):
        return self.http("POST", f"/api/exports/{task}/cancel", **more)

    # --- looking inside ---

    def objects(self):
        """Keys of the files that are visible, in the store itself."""
        root = self.data / "files"
        return sorted(str(path.relative_to(root)) for path in (root / "exports").rglob("*") if not path.is_dir())

    def uploads(self):
        folder = self.data / "files" / ".uploads"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def sql(self, query, *values, write=False):
        """Rows of the queue's own file."""
        mode = "rw" if write else "ro"
        with sqlite3.connect(f"file:{self.data}/queue.db?mode={mode}", uri=True, timeout=10) as database:
            rows = database.execute(query, values).fetchall()
        database.close()
        return rows

    def tasks(self):
        return self.sql("SELECT count(*) FROM task WHERE user_id <> ''")[0][0]

    def text(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def tail(self):
        return "--- the log's end ---\n" + "\n".join(self.text().splitlines()[-40:])

    def lines(self, event=None, since_start=False):
        """Log lines as objects; only of this event, if one is named."""
        with open(self.log_path, "rb") as file:
            file.seek(self.started_at if since_start else 0)
            text = file.read()
        whole = [json.loads(line) for line in text.split(b"\n")[:-1] if line.startswith(b"{")]
        return [line for line in whole if event in (None, line["event"])]

    def await_line(self, event, seconds=10, which=lambda line: True):
        def look():
            found = [line for line in self.lines(event, since_start=True) if which(line)]
            if not found and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before {event}\n{self.tail()}")
            return found

        return processes.until(look, seconds, lambda: f"{event} in the log\n{self.tail()}")[-1]

    # --- at the end of a story ---

    def finish(self):
        """Ends it and looks at what every story promises: a clean end, nobody left behind, no secret in the log."""
        if self.process is None:
            return
        if self.process.poll() is None:
            try:
                status = self.stop()
                assert status == 0, f"it ended with {status}\n{self.tail()}"
            finally:
                left = self.processes()
                for process in left:
                    os.kill(process.pid, signal.SIGKILL)
                if self.process.poll() is None:
                    self.process.kill()
                    self.process.wait(10)
        processes.until(lambda: not self.processes(), 5, lambda: f"left behind: {self.processes()}\n{self.tail()}")
        self.check_log()

    def check_log(self):
        text = self.text()
        for word in NEVER_LOGGED:
            assert word not in text, f"{word} in the log of {self.folder}\n" + "\n".join(
                [line[:2000] for line in text.splitlines() if word in line][:5]) + self.tail()
        for secret in self.secrets():
            assert secret not in text, f"a secret stands in the log of {self.folder}"
        assert self.kills or not self.lines("role.died"), f"a role died by itself\n{self.tail()}"

    def secrets(self):
        found = [value for name, value in self.environment.items() if not name.endswith("_FILE")
                 and any(word in name for word in ("SECRET", "PASSWORD", "TOKEN"))]
        found += [unquote(split.password) for split in map(urlsplit, self.environment.values())
                  if "://" in split.geturl() and split.password]
        path = self.data / "url.secret"
        if path.exists():
            found += path.read_text().split()
        return [one for many in found for one in many.split(",") if one]
