#!/usr/bin/env python3
"""A PostgreSQL server of one's own: a fresh folder, a free port of 127.0.0.1, gone at the end.

    with Server(log_statement="all") as server:
        server.psql("CREATE TABLE t (n int)")
        ... server.url() ...

For programs that are not Python: `postgres.py [--set NAME=VALUE]... -- COMMAND ...` runs the command while a server
runs, with the superuser's URL in ROWFERRY_TEST_POSTGRES, and ends with the command's status.

Data here may vanish with the machine (fsync is off): never more than a test's.
"""

import argparse
import atexit
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import daemon

INITDB_SECONDS = 60
START_SECONDS = 30
STOP_SECONDS = 30
PSQL_SECONDS = 60

SUPERUSER = "postgres"
EXPORTER = "exporter"  # may read everything and change nothing

STOP_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
READY = ("ready", "standby")  # what a server's pid file says once it takes connections

def binaries():
    """The folder of the newest PostgreSQL server here: Debian's place, else whatever the PATH knows."""
    found = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "postgres").exists()]
    if found:
        return max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path.parent.name)])
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    raise FileNotFoundError("no PostgreSQL server is installed; tools/deps.sh test installs Debian's")


def _unprivileged():
    """Whom the server runs as: initdb and postgres refuse to be root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("root, and neither a user postgres nor nobody to run the server as")


def _quoted(value):
    return "'" + str(value).replace("'", "''") + "'"


class Server:
    """Starts when entered. `settings` are lines of postgresql.conf; `initdb` are further words for initdb."""

    def __init__(self, initdb=(), **settings):
        self.bin = binaries()
        self.user = _unprivileged()
        self.passwords = {SUPERUSER: secrets.token_urlsafe(12), EXPORTER: secrets.token_urlsafe(12)}
        self.initdb = list(initdb)
        self.settings = settings
        self.folder = self.port = self.process = None
        self.known = False  # whether somebody may count on its port

    # --- its life ---

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="rowferry-pg-"))
        atexit.register(self.close)
        try:
            if self.user:
                os.chown(self.folder, self.user.pw_uid, self.user.pw_gid)
            self._create()
            self.port = daemon.free_port()
            self._configure()
            self.start()
            self._greet()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops it and removes its folder; again does nothing."""
        atexit.unregister(self.close)
        if self.running():
            self.stop("immediate")
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _create(self):
        """Makes its folder of data."""
        password = self.folder / "password"
        password.write_text(self.passwords[SUPERUSER])
        self._give(password)
        done = subprocess.run(
            [self.bin / "initdb", "-D", self.data, "-U", SUPERUSER, "--pwfile", password, "--auth-local=trust",
             "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", *self.initdb],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INITDB_SECONDS, **self._how())
        password.unlink()
        if done.returncode != 0:
            raise RuntimeError(f"initdb ended with {done.returncode}\n{done.stdout}{done.stderr}")

    def _configure(self):
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": self.folder, "timezone": "UTC",
                    "log_timezone": "UTC", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
                    **self.settings}
        with open(self.data / "postgresql.conf", "a", encoding="utf-8") as file:
            file.writelines(f"{name} = {_quoted(value)}\n" for name, value in settings.items())

    def _greet(self):
        """The first words to a new server."""
        self.psql(f"CREATE ROLE {EXPORTER} LOGIN PASSWORD {_quoted(self.passwords[EXPORTER])}; "
                  f"GRANT pg_read_all_data TO {EXPORTER}")

    def _give(self, path):
        os.chmod(path, 0o600)
        if self.user:
            os.chown(path, self.user.pw_uid, self.user.pw_gid)

    def _how(self):
        """Everything about a process of the server but its words."""
        how = {"cwd": self.folder,
               "env": {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8"}}
        if self.user:
            how |= {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        return how

    def start(self, seconds=START_SECONDS):
        """Starts it on its port and waits until it takes connections."""
        assert not self.running(), "it runs already"
        deadline = time.monotonic() + seconds
        while True:
            began = self.log_path.stat().st_size if self.log_path.exists() else 0
            self.process = daemon.launch([self.bin / "postgres", "-D", self.data, "-p", str(self.port)], self.log_path,
                                         death=signal.SIGINT, **self._how())
            if self._ready(deadline):
                return self
            # The port was taken meanwhile, or processes of a killed server have not all gone yet.
            said = self.log_path.read_text(encoding="utf-8", errors="replace")[began:]
            again = "could not create any TCP/IP sockets" in said or "pre-existing shared memory" in said
            if not again or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start within {seconds} s\n{self.tail()}")
            if self.known:
                time.sleep(0.1)
            else:
                self.port = daemon.free_port()

    def _ready(self, deadline):
        """Waits for the word that a server of our pid writes into its pid file."""
        while self.process.poll() is None:
            try:
                lines = (self.data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            except FileNotFoundError:
                lines = []
            if len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() in READY:
                self.known = True
                return True
            if time.monotonic() > deadline:
                self.process.kill()
                self.process.wait(STOP_SECONDS)
                return False
            time.sleep(0.02)
        return False

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, mode="fast", seconds=STOP_SECONDS):
        """`smart`, `fast` (ends sessions), `immediate` (like a crash), or `kill`: kill -9 of all its processes."""
        if mode == "kill":
            for pid in self.pids():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        else:
            self.process.send_signal(STOP_SIGNALS[mode])
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
            raise RuntimeError(f"PostgreSQL did not stop ({mode}) within {seconds} s\n{self.tail()}") from None

    def restart(self, mode="fast"):
        """Stops and starts it; the port stays."""
        self.stop(mode)
        return self.start()

    # --- looking at it ---

    @property
    def data(self):
        return self.folder / "data"

    @property
    def log_path(self):
        return self.folder / "log"

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def tail(self, lines=20):
        last = [line[:400] for line in self.log().splitlines()[-lines:]]
        return "\n".join(["--- the end of PostgreSQL's log ---", *last])

    def pids(self):
        """The server's processes, the first one first."""
        return [self.process.pid, *self.backends()]

    def backends(self):
        """Processes that the server's first one started."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                text = stat.read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(text.rpartition(")")[2].split()[1]) == self.process.pid:
                found.append(int(stat.parent.name))
        return found

    # --- using it ---

    def url(self, user=EXPORTER, database="postgres", **parameters):
        """A libpq URL over TCP; `parameters` go into its query. A role's password is looked for in `passwords`."""
        login = quote(user, safe="")
        if user in self.passwords:
            login += ":" + quote(self.passwords[user], safe="")
        query = "?" + urlencode(parameters, quote_via=quote) if parameters else ""
        return f"postgresql://{login}@127.0.0.1:{self.port}/{quote(database, safe='')}{query}"

    def psql(self, sql, database="postgres", user=SUPERUSER, seconds=PSQL_SECONDS, binary=False, **environment):
        """What the program psql prints of this input: rows by line, columns by `|`. The first error ends it."""
        command = [self.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", self.folder,
                   "-p", str(self.port), "-U", user, "-d", database]
        done = subprocess.run(command, input=sql if isinstance(sql, bytes) else sql.encode(), capture_output=True,
                              timeout=seconds, cwd="/",
                              env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LANG": "C.UTF-8",
                                   "PGCLIENTENCODING": "UTF8", "PGOPTIONS": "-c client_min_messages=warning",
                                   **environment})
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace")
            raise RuntimeError(f"psql ended with {done.returncode}: {said}{self.tail() if 'connection' in said else ''}")
        return done.stdout if binary else done.stdout.decode().rstrip("\n")


class Standby(Server):
    """A copy of a running server that follows it and only reads. The same roles and passwords; a port of its own."""

    def __init__(self, primary, **settings):
        super().__init__(**settings)
        self.primary = primary
        self.passwords = primary.passwords

    def _create(self):
        done = subprocess.run(
            [self.bin / "pg_basebackup", "-D", self.data, "-R", "-X", "stream", "-c", "fast", "--no-sync", "-h",
             self.primary.folder, "-p", str(self.primary.port), "-U", SUPERUSER],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=INITDB_SECONDS, **self._how())
        if done.returncode != 0:
            raise RuntimeError(f"pg_basebackup ended with {done.returncode}\n{done.stdout}{done.stderr}")

    def _greet(self):
        self.catch_up()

    def catch_up(self, seconds=START_SECONDS):
        """Waits until it shows all that the primary has committed."""
        # Commits are asynchronous: one that is not carries the others to where a standby sees them.
        self.primary.psql("SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'rowferry', '')")
        there = self.primary.psql("SELECT pg_current_wal_flush_lsn()")
        deadline = time.monotonic() + seconds
        while self.psql(f"SELECT pg_last_wal_replay_lsn() >= '{there}'") != "t":
            if time.monotonic() > deadline:
                raise RuntimeError(f"the standby does not catch up within {seconds} s\n{self.tail()}")
            time.sleep(0.02)


def main():
    parser = argparse.ArgumentParser(description="Runs a command while a PostgreSQL server runs.")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a line of postgresql.conf")
    parser.add_argument("command", nargs="+", help="after --")
    arguments = parser.parse_args()
    with Server(**dict(setting.split("=", 1) for setting in arguments.set)) as server:
        status = daemon.run(arguments.command, ROWFERRY_TEST_POSTGRES=server.url(SUPERUSER))
        if status != 0:
            print(server.tail(), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
