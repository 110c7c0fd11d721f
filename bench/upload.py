"""What the upload to S3 costs, beside the AWS command line's; and whether rows are read meanwhile."""

import hashlib
import os
import statistics
import subprocess
import sys
import time
import urllib.request

from measure import QUICK, ROUNDS, ROWFERRY, SCRATCH, Service, cpu_of, line, measured, proc_value, turns

import s3_moods
from http_proxy import Rule
from postgres import Server as Postgres
from proxy import ANSWER, Mood, Proxy
from s3 import Minio, Versitygw

GB = 1e9
PART = 8 << 20  # of ours and of the AWS command line

# Wide rows, which SQLite makes without reading any: the database is not what is measured.
ROW = 8000
WIDE_ROWS = (300_000_000 if QUICK else 3_000_000_000) // ROW
WIDE = f"""
name: wide
source: graph
params:
  rows: {{ type: int64, min: 0, max: 1000000000, required: true }}
columns:
  - {{ name: n, type: int64 }}
  - {{ name: text, type: text }}
query:
  sqlite: |
    WITH RECURSIVE number(n) AS (SELECT 1 WHERE $rows > 0 UNION ALL SELECT n + 1 FROM number WHERE n < $rows),
                   filler(text) AS MATERIALIZED (SELECT printf('%.*c', {ROW - 10}, 'x'))
    SELECT n, text FROM number, filler
"""
SIGNED = {"ROWFERRY_S3_PAYLOAD": "signed"}

# Source and store give and take so much in a second, each by itself.
SLOW = 20_000_000
PARALLEL = 4
PACED_BYTES = 60_000_000 if QUICK else 200_000_000
PACED_ROW = 2000
PACED = f"""
name: paced
source: graph
params:
  rows: {{ type: int64, min: 0, max: 1000000000, required: true }}
columns:
  - {{ name: n, type: int64 }}
  - {{ name: text, type: text }}
query:
  postgres: SELECT n, repeat('x', {PACED_ROW - 10}) AS text FROM generate_series(1, $rows::bigint) n
"""
LOOK_SECONDS = 0.05


def definition(name, text):
    """A folder with this type alone."""
    folder = os.path.join(SCRATCH, "types-" + name)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, name + ".yaml"), "w") as file:
        file.write(text)
    return folder


def wide_source():
    """Variables for the type `wide`; its database is empty."""
    path = os.path.join(SCRATCH, "empty.db")
    open(path, "ab").close()
    return {"GRAPH_DB_URL": "sqlite:" + path, "TIMESCALE_URL": "sqlite:" + path, "ROWFERRY_TYPES": definition("wide", WIDE)}


def sha256_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Upload:
    """The same file by each of the ways, each time to a server that has just been started and holds nothing."""

    def __init__(self, server, path, sha256):
        self.server, self.path, self.sha256 = server, path, sha256
        self.bytes = os.path.getsize(path)
        self.ways = {"ours": lambda: self.ours({}), "signed": lambda: self.ours(SIGNED), "aws": self.aws,
                     "curl": self.curl}
        self.got = {name: [] for name in self.ways}

    def run(self):
        for name, _ in turns(self.ways):
            self.server.wipe()
            os.sync()
            self.got[name].append(self.ways[name]())
            if list(self.server.objects().values()) != [self.bytes]:
                raise SystemExit(f"{name}: the bucket holds {self.server.objects()} instead of {self.bytes} bytes")
        return {name: [statistics.median(x[i] for x in rounds) for i in range(2)] + [max(x[2] for x in rounds)]
                for name, rounds in self.got.items()}

    def ours(self, settings):
        service = Service(**wide_source(), **self.server.service(), **settings)
        try:
            children = service.of_role("child")
            before, began = cpu_of(children), time.monotonic()
            done = service.wait(service.request("wide", rows=WIDE_ROWS))
            took = time.monotonic() - began
            if done["status"] != "completed" or done["checksum"]["sha256"] != self.sha256:
                raise SystemExit(f"another file, or none: {done}")
            cpu, peak = cpu_of(children) - before, max(proc_value(pid, "VmHWM") for pid in children)
            self.check_link(done["download_url"])
            return took, cpu, peak
        finally:
            service.stop()

    def check_link(self, url):
        """What the store gives back is the file, too; once is enough."""
        if len(self.got["ours"]) + len(self.got["signed"]) > 1:
            return
        digest = hashlib.sha256()
        with urllib.request.urlopen(url, timeout=60) as answer:
            while block := answer.read(1 << 20):
                digest.update(block)
        if digest.hexdigest() != self.sha256:
            raise SystemExit("what was uploaded is not the file")

    def aws(self):
        return measured([sys.executable, "-m", "awscli", "s3", "cp", "--quiet", self.path,
                         f"s3://{self.server.bucket}/exports/aws.csv"], os.devnull, self.server.aws_environment())

    def curl(self):
        """One PUT of the file, hashed by nobody: what sending costs."""
        server = self.server
        config = os.path.join(SCRATCH, "curl.config")  # keys are no words of a command
        with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(f'user = "{server.access_key}:{server.secret_key}"\n')
        return measured(["curl", "-sS", "-f", "--noproxy", "*", "-K", config, "-T", self.path, "--aws-sigv4",
                         f"aws:amz:{server.region}:s3", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD",
                         f"{server.endpoint}/{server.bucket}/exports/curl.csv"], os.devnull)


def tell_upload(name, size, got, reading, hashing):
    ours, signed, aws, curl = (got[way] for way in ("ours", "signed", "aws", "curl"))
    gb = size / GB
    for what, side, hashes in ((f"{gb:.1f} GB to {name}, POST to completed", ours, 1),
                               (f"{gb:.1f} GB to {name}, each part hashed as well", signed, 2)):
        line(what, f"{side[0]:.2f} s, {size / side[0] / 1e6:.0f} MB/s",
             f"aws s3 cp {aws[0]:.2f} s, {size / aws[0] / 1e6:.0f} MB/s", f"{aws[0] / side[0]:.2f} x as fast", ">= 1 x")
        line("  a child's processor seconds per GB", f"{side[1] / gb:.2f}", f"aws {aws[1] / gb:.2f}",
             f"{side[1] / aws[1]:.2f} of its", "<= 0.33")
        parts = reading + hashes * hashing + curl[1] / gb
        line("  what binds, per GB", f"{side[1] / gb:.2f} s",
             f"reading and CSV {reading:.2f}, SHA-256 {hashes} x {hashing:.2f}, sending (curl) {curl[1] / gb:.2f}: {parts:.2f} s",
             f"{side[1] / gb / parts:.2f} of the sum")
        line("  a child's peak resident (VmHWM)", f"{side[2] / 1e6:.1f} MB", f"aws {aws[2] / 1e6:.1f} MB",
             f"{side[2] / aws[2]:.2f} of its", "< 64 MB")
    line("  one unsigned PUT by curl", "", f"{curl[0]:.2f} s, {size / curl[0] / 1e6:.0f} MB/s")


def reading_cost(dump, size):
    """Processor seconds per GB of reading the rows and writing CSV, into nothing."""
    return statistics.median(measured(dump + ["-o", "-"], os.devnull, {**os.environ, **wide_source()})[1]
                             for _ in range(ROUNDS)) / size * GB


def hashing_cost():
    """Processor seconds per GB of one SHA-256 by OpenSSL."""
    block, blocks = os.urandom(PART), 64
    began = time.process_time()
    for _ in range(blocks):
        hashlib.sha256(block).digest()
    return (time.process_time() - began) / (blocks * PART) * GB


def bench_s3():
    """A big file to fresh, empty S3 servers, beside the AWS command line; rows are texts that SQLite makes."""
    path = os.path.join(SCRATCH, "wide.csv")
    dump = [ROWFERRY, "dump", "wide", "-q", "-p", f"rows={WIDE_ROWS}"]
    if os.path.exists(path):
        os.remove(path)
    try:
        subprocess.run(dump + ["-o", path], check=True, env={**os.environ, **wide_source()})
        sha256, size = sha256_of(path), os.path.getsize(path)  # and it is in memory now, for those who read it
        reading, hashing = reading_cost(dump, size), hashing_cost()
        for kind in Minio, Versitygw:
            with kind() as server:
                tell_upload(server.name, size, Upload(server, path, sha256).run(), reading, hashing)
    finally:
        if os.path.exists(path):
            os.remove(path)


class Paced:
    """An export between a source and a store, each of them quick or slow, as a proxy before it makes it."""

    def __init__(self, database, server, is_source_slow, is_store_slow):
        self.source = Proxy("127.0.0.1", database.port, mood=Mood(of=ANSWER, rate=SLOW if is_source_slow else 0))
        # Each part has a connection of its own.
        rules = [Rule(s3_moods.slow(SLOW // PARALLEL), operation="UploadPart")] if is_store_slow else []
        self.store = s3_moods.proxy(server.endpoint, *rules)
        url = database.url().replace(f":{database.port}/", f":{self.source.port}/")
        self.service = Service(GRAPH_DB_URL=url, TIMESCALE_URL=url, ROWFERRY_TYPES=definition("paced", PACED),
                               **server.service(self.store.url),
                               ROWFERRY_S3_PARALLEL=str(PARALLEL), ROWFERRY_S3_PART="5MiB")
        self.looks = []  # bytes that came of the source, and how many parts were on their way

    def run(self):
        """Seconds, and the share of the time with parts on their way in which rows came."""
        began = time.monotonic()
        task = self.service.request("paced", rows=PACED_BYTES // PACED_ROW)
        while True:
            status = self.service.status(task)
            if status["status"] in ("completed", "failed"):
                break
            self.looks.append((self.source.sent(ANSWER), sum(not one.ended for one in self.store.of("UploadPart"))))
            time.sleep(LOOK_SECONDS)
        took = time.monotonic() - began
        if status["status"] != "completed":
            raise SystemExit(f"not completed: {status}")
        # The end of the file has nothing left to be read beside it.
        last = self.looks[-1][0]
        busy = [after[0] > before[0] for before, after in zip(self.looks, self.looks[1:]) if after[1] and before[0] < last]
        return took, sum(busy) / len(busy) if busy else 0.0

    def close(self):
        self.service.stop()
        self.source.close()
        self.store.close()


def bench_s3_overlap():
    """A slow source and a slow store, in one export and each by itself: whether reading waits for the upload."""
    kinds = {"source": (True, False), "store": (False, True), "both": (True, True)}
    got = {name: [] for name in kinds}
    with Postgres() as database, Minio() as server:
        for name, _ in turns(kinds):
            server.wipe()
            paced = Paced(database, server, *kinds[name])
            try:
                got[name].append(paced.run())
            finally:
                paced.close()
    source, store, both = (statistics.median(x[0] for x in got[name]) for name in ("source", "store", "both"))
    line(f"{PACED_BYTES / 1e6:.0f} MB, source and store at {SLOW / 1e6:.0f} MB/s each", f"{both:.2f} s",
         f"source alone {source:.2f} s, store alone {store:.2f} s, one after the other {source + store:.2f} s",
         f"{both / (source + store):.2f} of the sum, {both / max(source, store):.2f} of the slower", "<= 0.65 of the sum")
    line("  while parts were on their way, rows came too", f"{statistics.median(x[1] for x in got['both']):.0%} of the time",
         "", "", ">= 90%")
