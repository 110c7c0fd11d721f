"""What a PostgreSQL server knows of rowferry's sessions: pg_stat_activity, looked at as its superuser."""

import threading
import time
from dataclasses import dataclass

import psycopg

import processes

OURS = """SELECT pid, state, application_name, query, coalesce(wait_event, '') FROM pg_stat_activity
          WHERE application_name LIKE 'rowferry%' AND backend_type = 'client backend'"""


@dataclass(frozen=True)
class Session:
    pid: int
    state: str  # "active", "idle", "idle in transaction" …
    name: str  # its application_name
    query: str
    waits_for: str

    @property
    def runs(self):
        return self.state != "idle"


def connect(server, **more):
    """A connection of the superuser that commits each statement."""
    return psycopg.connect(host=str(server.folder), port=server.port, user="postgres", dbname="postgres",
                           autocommit=True, **more)


def look(connection):
    return [Session(*row) for row in connection.execute(OURS).fetchall()]


def sessions(server):
    with connect(server) as connection:
        return look(connection)


def await_query(server, task, seconds=10):
    """Waits until this task's query is what its session runs; gives back that session."""
    with connect(server) as connection:
        def found():
            return [one for one in look(connection) if one.name == f"rowferry:{task}" and one.state == "active" and
                    "COPY (" in one.query.upper()]

        return processes.until(found, seconds, lambda: f"the query of {task}: {look(connection)}")[0]


def nothing_runs(server, pids=None, seconds=5):
    """Nothing of ours but idle connections; with `pids` only these sessions are looked at, and none may be there."""
    with connect(server) as connection:
        def left():
            return [one for one in look(connection) if (one.runs if pids is None else one.pid in pids)]

        processes.until(lambda: not left(), seconds, lambda: f"still there: {left()}")


class Sampler:
    """Looks all the time, in a thread, and keeps the most sessions of each user that ran something at once."""

    def __init__(self, server, every=0.002):
        self.server, self.every = server, every
        self.most, self.looks, self.error = {}, 0, None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(10)
        if self.error:
            raise self.error

    def _run(self):
        try:
            with connect(self.server) as connection:
                while not self._stop.is_set():
                    rows = connection.execute(
                        "SELECT usename, count(*) FROM pg_stat_activity WHERE state = 'active' AND "
                        "application_name LIKE 'rowferry%' AND backend_type = 'client backend' GROUP BY 1").fetchall()
                    for user, count in rows:
                        self.most[user] = max(self.most.get(user, 0), count)
                    self.looks += 1
                    time.sleep(self.every)
        except Exception as error:  # told to whoever asked
            self.error = error
