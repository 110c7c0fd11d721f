"""A PostgreSQL server with a big table of interactions, and the processor time that it spends."""

import time

from measure import times  # knows where the servers of the stories are

from postgres import Server

FILL_SECONDS = 300
QUIET_SECONDS = 30

# Every value is a function of its row's number: the same table on every machine.
TABLE = """
CREATE TABLE interactions (timestamp timestamptz NOT NULL, source text NOT NULL, target text NOT NULL,
                           type text NOT NULL, weight double precision NOT NULL);
INSERT INTO interactions
SELECT timestamptz '2024-01-01 00:00:00Z' + n * interval '3.217 s',
       'emp-' || lpad((n * 7919 % 2000)::text, 5, '0'),
       'emp-' || lpad(((n * 104729 + 17) % 2000)::text, 5, '0'),
       (ARRAY['email', 'chat', 'meeting', 'call', 'code_review'])[1 + n * 31 / 7 % 5],
       (n * 2654435761 % 1000003)::double precision / 1000
FROM generate_series(1::bigint, {rows}) n;
VACUUM (FREEZE, ANALYZE) interactions;
SELECT count(*) FROM interactions;
"""


class Database(Server):
    """Everything is in its memory, and nothing of its own runs beside the query that is measured."""

    def __init__(self, rows):
        # Twice the memory that the table needs, and more than four times its size: smaller, and a scan would begin
        # where the last one was (synchronize_seqscans), so that two files of the same rows could differ.
        # JIT, parallel query and all else stay as the server has them.
        super().__init__(shared_buffers="2GB", max_wal_size="8GB", checkpoint_timeout="1h", autovacuum="off")
        self.rows = rows

    def __enter__(self):
        super().__enter__()
        try:
            self.psql(TABLE.format(rows=self.rows), seconds=FILL_SECONDS)
        except BaseException:
            self.close()
            raise
        self.helpers = {int(pid) for pid in self.psql(
            "SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend'").split()}
        return self

    def socket_url(self):
        """The same login over the Unix socket."""
        return self.url(host=self.folder)

    def cpu(self):
        """Processor seconds of all its processes since it started, once no session is left."""
        deadline = time.monotonic() + QUIET_SECONDS
        while sessions := set(self.backends()) - self.helpers:
            if time.monotonic() > deadline:
                raise SystemExit(f"sessions of the server do not end: {sessions}")
            time.sleep(0.005)
        # What its ended sessions used is in the first process's cutime and cstime.
        return sum(sum(times(pid)[:2]) for pid in self.helpers) + sum(times(self.process.pid))

