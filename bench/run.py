"""What `make bench` measures: rowferry beside its peers, in turn, in one run.

Every line of the table is a median over ROUNDS rounds; two sides of a ratio take turns in each round, so that a machine
whose speed drifts changes both. Needs the sqlite3 shell, PostgreSQL with psql, the C programs beside, and what the stories
know of S3 servers; the Python stack is installed when it is first needed.

    run.py            all of it
    run.py rows post  only these
"""

import filecmp
import itertools
import json
import os
import platform
import re
import resource
import signal
import statistics
import subprocess
import sys
import time

from database import Database
from measure import (QUICK, ROUNDS, ROWFERRY, ROWS, SCRATCH, Peak, Service, line, measured, proc_value, table,
                     turns)
from stack import bench_stack
from upload import bench_s3, bench_s3_overlap

PACED = os.path.join(SCRATCH, "paced")
DRAIN = os.path.join(SCRATCH, "drain")
POST_SECONDS = 5 if QUICK else 20
TINY = 5_000 if QUICK else 30_000
TYPE_QUERY = "SELECT timestamp, source, target, type, weight FROM interactions"

def demo(name, employees, interactions):
    path = os.path.join(SCRATCH, f"{name}-{employees}-{interactions}.db")
    if not os.path.exists(path):
        began = time.monotonic()
        subprocess.run([ROWFERRY, "demo-data", path, "--employees", str(employees), "--interactions",
                        str(interactions), "--seed", "1"], check=True, stdout=subprocess.DEVNULL)
        print(f"  made {os.path.basename(path)} in {time.monotonic() - began:.1f} s", flush=True)
    return path


def count_lines(path):
    with open(path, "rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def bench_rows():
    """interaction_history from SQLite to a CSV file, beside the sqlite3 shell."""
    path = demo("rows", 2000, ROWS)
    out = os.path.join(SCRATCH, "out")
    ours, peer = [], []
    shell = ["sqlite3", "-csv", "-header", path, TYPE_QUERY]
    dump = [ROWFERRY, "dump", "interaction_history", "-q", "-o", "-"]
    os.environ["TIMESCALE_URL"] = "sqlite:" + path
    measured(dump, out + ".ours")  # both read a warm cache
    measured(shell, out + ".peer")
    for n in range(ROUNDS):
        turn = [(dump, ours, ".ours"), (shell, peer, ".peer")]
        for command, to, ending in turn if n % 2 == 0 else reversed(turn):
            to.append(measured(command, out + ending))
    del os.environ["TIMESCALE_URL"]
    lines = [count_lines(out + ending) for ending in (".ours", ".peer")]
    if lines[0] != ROWS + 1 or lines[0] != lines[1]:
        raise SystemExit(f"rows differ: {lines}")
    a, b = statistics.median(x[0] for x in ours), statistics.median(x[0] for x in peer)
    line(f"SQLite to CSV, {ROWS:,} rows, wall", f"{a:.2f} s, {ROWS / a / 1e6:.2f} M rows/s",
         f"sqlite3 -csv {b:.2f} s", f"{b / a:.2f} x as fast", ">= 2 x")
    a, b = statistics.median(x[1] for x in ours), statistics.median(x[1] for x in peer)
    line("  the same, processor seconds", f"{a:.2f} s", f"sqlite3 -csv {b:.2f} s", f"{a / b:.2f} of its")
    line("  the same, peak resident", f"{max(x[2] for x in ours) / 1e6:.1f} MB",
         f"sqlite3 -csv {max(x[2] for x in peer) / 1e6:.1f} MB", "", "< 32 MB")
    for ending in (".ours", ".peer"):
        os.remove(out + ending)

    through_service(Service(path), "interaction_history", "the same")


def through_service(service, export_type, name):
    try:
        peak = Peak(service)
        peak.start()
        began = time.monotonic()
        done = service.wait(service.request(export_type))
        took = time.monotonic() - began
        resident = peak.end()
        if done["status"] != "completed" or done["row_count"] != ROWS:
            raise SystemExit(f"not completed: {done}")
        line(f"{name} through the service, POST to completed", f"{took:.2f} s, {ROWS / took / 1e6:.2f} M rows/s")
        line("  a child's peak resident (VmHWM)", f"{resident / 1e6:.1f} MB", "", "", "< 32 MB")
    finally:
        service.stop()


# The same table, cut into ranges of pages that two connections read under one snapshot.
# A server that has work with each row: what parallel exports are for.
COSTLY_QUERY = "SELECT timestamp, source, target, md5(md5(source || target) || type) AS type, weight FROM interactions"
PARALLEL = "parallel: { by: ctid, table: interactions, connections: 2 }"


def definition(name, query, parallel=""):
    """A type over the table, in a folder of its own."""
    folder = os.path.join(SCRATCH, "types")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    columns = {"timestamp": "timestamptz", "source": "text", "target": "text", "type": "text", "weight": "double"}
    with open(os.path.join(folder, name + ".yaml"), "w") as file:
        file.write(f"name: {name}\nsource: timescale\n{parallel}\ncolumns:\n" +
                   "".join(f"  - {{ name: {column}, type: {of} }}\n" for column, of in columns.items()) +
                   f"query: {query}\n")
    return folder


def dump(export_type):
    return lambda path: [ROWFERRY, "dump", export_type, "-q", "-o", path]


def in_turn(database, commands):
    """What each command cost while they took turns: medians of its seconds, its processor seconds and the server's, and
    its peak of resident bytes. `commands` are functions of a path: a command, which may make a file there."""
    got = {name: [] for name in commands}
    for name, counts in turns(commands, warm_up=1):
        path = out_path(name)
        if os.path.exists(path):
            os.remove(path)  # nobody pays for the file of the round before
        before = database.cpu()
        seconds, cpu, peak = measured(commands[name](path), path + ".said")
        if counts:
            got[name].append((seconds, cpu, database.cpu() - before, peak))
    return {name: [statistics.median(x[i] for x in rounds) for i in range(3)] + [max(x[3] for x in rounds)]
            for name, rounds in got.items()}


def out_path(name):
    return os.path.join(SCRATCH, "out." + name)


def ways_out(url):
    """The same rows: ours, psql's, and thrown away."""
    return {
        "ours": dump("interaction_history"),
        "copy": lambda path: ["psql", "-X", "-q", "-d", url, "-c", f"\\copy ({TYPE_QUERY}) to '{path}' csv header"],
        "drain": lambda path: [DRAIN, url, TYPE_QUERY],
    }


# A line of ours, in parts that make a line of psql's: another end of the line, and no zeros at the end of a number.
OUR_LINE = re.compile(rb"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d*[1-9])?)[.0]*Z(,.*?)(?:\.0)?\r\n")


def check_same_rows():
    """Line by line: what the benchmark is about is a right file."""
    lines = 0
    with open(out_path("ours"), "rb") as ours, open(out_path("copy"), "rb") as copy:
        if ours.readline().rstrip() != copy.readline().rstrip():
            raise SystemExit("the headers differ")
        for a, b in itertools.zip_longest(ours, copy, fillvalue=b""):
            lines += 1
            if OUR_LINE.sub(rb"\1 \2+00\3\n", a) != b:
                raise SystemExit(f"row {lines} differs: {a} {b}")
    if lines != ROWS:
        raise SystemExit(f"{lines} rows instead of {ROWS}")
    for name in "drain", "drain_two":
        with open(out_path(name + ".said")) as file:
            rows = json.load(file)["rows"]
        if rows != ROWS:
            raise SystemExit(f"{name}: {rows} rows instead of {ROWS}")
    if not filecmp.cmp(out_path("ours"), out_path("two"), shallow=False):
        raise SystemExit("the file of two connections is another one")


def bench_postgres():
    """interaction_history from PostgreSQL to a CSV file, beside psql's \\copy and a drain by libpq that keeps nothing."""
    definition("costly", COSTLY_QUERY)
    definition("costly_parallel", COSTLY_QUERY, PARALLEL)
    types = definition("interaction_history_parallel", TYPE_QUERY, PARALLEL)
    began = time.monotonic()
    with Database(ROWS) as database:
        print(f"  made the table in {time.monotonic() - began:.1f} s", flush=True)
        os.environ.update(TIMESCALE_URL=database.url(), ROWFERRY_TYPES=types)
        middle = int(database.psql("SELECT relpages / 2 FROM pg_class WHERE relname = 'interactions'"))
        halves = [f"{TYPE_QUERY} WHERE ctid {side} '({middle},0)'" for side in ("<", ">=")]
        got = in_turn(database, {
            **ways_out(database.url()),
            "two": dump("interaction_history_parallel"),
            "drain_two": lambda path: [DRAIN, database.url(), *halves]})
        check_same_rows()
        tell_postgres(got)
        tell_costly(in_turn(database, {"costly": dump("costly"), "costly_two": dump("costly_parallel")}))
        os.environ.update(TIMESCALE_URL=database.socket_url())
        got = in_turn(database, ways_out(database.socket_url()))
        ours, copy, drain = (got[name][0] for name in ("ours", "copy", "drain"))
        line("the same over a Unix socket, wall", f"{ours:.2f} s", f"\\copy {copy:.2f} s, drained {drain:.2f} s",
             f"{copy / ours:.2f} x as fast, {ours / drain:.2f} of the drain")
        os.environ.update(TIMESCALE_URL=database.url())
        through_service(Service(), "interaction_history", "the same")
        through_service(Service(), "interaction_history_parallel", "the same over two connections")
    for name in "TIMESCALE_URL", "ROWFERRY_TYPES":
        del os.environ[name]
    for name in "ours", "copy", "drain", "two", "drain_two", "costly", "costly_two":
        for path in out_path(name), out_path(name + ".said"):
            if os.path.exists(path):
                os.remove(path)


def tell_postgres(got):
    ours, copy, drain, two, drain_two = (got[name] for name in ("ours", "copy", "drain", "two", "drain_two"))
    cores = os.cpu_count()
    line(f"PostgreSQL to CSV, {ROWS:,} rows, wall", f"{ours[0]:.2f} s, {ROWS / ours[0] / 1e6:.2f} M rows/s",
         f"\\copy {copy[0]:.2f} s", f"{copy[0] / ours[0]:.2f} x as fast", ">= 1.4 x")
    line("  beside the same binary COPY, drained", f"{ours[0]:.2f} s", f"libpq {drain[0]:.2f} s",
         f"{ours[0] / drain[0]:.2f} of its", "<= 1.1 (aim 1.08)")
    line("  the server's processor seconds", f"{ours[2]:.2f} s", f"\\copy {copy[2]:.2f} s, drained {drain[2]:.2f} s",
         f"{ours[2] / copy[2]:.2f} of \\copy's", "< 1 (aim 0.8)")
    line("  the client's processor seconds", f"{ours[1]:.2f} s", f"\\copy {copy[1]:.2f} s, drained {drain[1]:.2f} s",
         f"{ours[1] / copy[1]:.2f} of \\copy's")
    line("  the client's peak resident", f"{ours[3] / 1e6:.1f} MB",
         f"\\copy {copy[3] / 1e6:.1f} MB, drained {drain[3] / 1e6:.1f} MB", "", "< 32 MB")
    line("  over two connections, wall", f"{two[0]:.2f} s, {ROWS / two[0] / 1e6:.2f} M rows/s",
         f"over one {ours[0]:.2f} s; drained {drain_two[0]:.2f} s, over one {drain[0]:.2f} s",
         f"{ours[0] / two[0]:.2f} x as fast, drained {drain[0] / drain_two[0]:.2f} x", ">= 1.3 x")
    # Server and client share the cores: nothing is faster than all that both compute, spread evenly.
    line("  over two connections, processor seconds of both sides", f"{two[1] + two[2]:.2f} s",
         f"{cores} cores: {(two[1] + two[2]) / cores:.2f} s at least", f"{(two[1] + two[2]) / cores / two[0]:.2f} of the wall")
    line("  over two connections, peak resident", f"{two[3] / 1e6:.1f} MB", "", "", "< 32 MB")


def tell_costly(got):
    one, two = got["costly"], got["costly_two"]
    line("  where the server has work with each row, over two connections", f"{two[0]:.2f} s", f"over one {one[0]:.2f} s",
         f"{one[0] / two[0]:.2f} x as fast", ">= 1.3 x")


def paced(service, *words):
    body = json.dumps({"export_type": "employee_metrics", "params": {}, "user_id": "bench"})
    out = subprocess.run([PACED, "--port", str(service.port), "--body", body, *words, "POST",
                          "/api/exports/request"], check=True, capture_output=True, timeout=POST_SECONDS + 60)
    result = json.loads(out.stdout)
    if result["refused"] or result["broken"] or result["unanswered"]:
        raise SystemExit(f"not every request was accepted: {result} {out.stderr.decode()[:300]}")
    return result


def drained(service, want, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if service.metric("rowferry_exports_finished_total") >= want:
            return
        time.sleep(0.01)
    raise SystemExit(f"only {service.metric('rowferry_exports_finished_total')} of {want} exports ended")


def bench_post():
    """POST on the durable SQLite queue, by the clock and at saturation; exports of ten rows."""
    path = demo("tiny", 10, 200)
    p50, p99, most = [], [], []
    for _ in range(ROUNDS):
        service = Service(path)
        try:
            result = paced(service, "--rate", "500", "--seconds", str(POST_SECONDS))
            drained(service, result["good"], 60)
            p50.append(result["p50_ms"])
            p99.append(result["p99_ms"])
            most.append(result["max_ms"])
        finally:
            service.stop()
    line("POST at 500/s while a worker runs them, p50 / p99 / max",
         f"{statistics.median(p50):.2f} / {statistics.median(p99):.2f} / {statistics.median(most):.2f} ms",
         "", "", "p99 < 5 ms (aim 3)")

    rates, worst = [], []
    for _ in range(ROUNDS):
        service = Service(path, ROWFERRY_QUEUE_LIMIT="1000000")
        try:
            for pid, command in service.pids().items():  # nothing but the api: T12's figure
                if " worker" in command or " child" in command:
                    os.kill(pid, signal.SIGSTOP)
            result = paced(service, "--connections", "64", "--seconds", str(POST_SECONDS / 4))
            rates.append(result["rate"])
            worst.append(result["p99_ms"])
        finally:
            for pid in service.pids():
                os.kill(pid, signal.SIGKILL)
            service.stop()
    line("POST at saturation, 64 connections, no worker", f"{statistics.median(rates):,.0f}/s, p99 "
         f"{statistics.median(worst):.1f} ms", "", "", "aim 10,000/s")

    # The same in memory says what is left when syncing costs nothing: the rest is the disk's.
    for where, name in (None, "on this disk"), ("/dev/shm", "with the data folder in memory"):
        small_exports(path, where, name)


def small_exports(path, where, name):
    rates = []
    for _ in range(ROUNDS):
        service = Service(path, where)
        try:
            began = time.monotonic()
            result = paced(service, "--connections", "64", "--requests", str(TINY), "--seconds", "120")
            posted = time.monotonic() - began
            drained(service, TINY, 300)
            rates.append((TINY / (time.monotonic() - began), result["good"] / posted))
        finally:
            service.stop()
    rates.sort()
    line(f"exports of 10 rows, first POST to the last one finished, {TINY:,}, {name}",
         f"{rates[ROUNDS // 2][0]:,.0f}/s (POST meanwhile {rates[ROUNDS // 2][1]:,.0f}/s)", "", "", "aim 3,000/s")


def bench_idle():
    """What the service costs when nobody asks."""
    service = Service(demo("tiny", 10, 200))
    try:
        service.wait(service.request("employee_metrics"))
        service.http.close()
        time.sleep(2)
        before = {pid: switches(pid) for pid in service.pids()}
        time.sleep(10)
        after = {pid: switches(pid) for pid in service.pids()}
        pss = sum(proc_value(pid, "Pss", "smaps_rollup") for pid in after)
        line("idle, all roles, PSS", f"{pss / 1e6:.1f} MB in {len(after)} processes", "", "", "<= 20 MB")
        line("idle, wake-ups a second", f"{sum(after[p] - before.get(p, 0) for p in after) / 10:.1f}")
    finally:
        service.stop()
    took = []
    for _ in range(ROUNDS):
        began = time.monotonic()
        service = Service(demo("tiny", 10, 200))
        task = service.request("employee_metrics")
        service.wait(task)
        took.append((time.monotonic() - began) * 1000)
        service.stop()
    line("start to first finished export", f"{statistics.median(took):.0f} ms", "", "", "aim 100 ms")


def switches(pid):
    total = 0
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            for text in open(f"/proc/{pid}/task/{task}/status"):
                if text.startswith("voluntary_ctxt_switches"):
                    total += int(text.split()[1])
    except OSError:
        pass
    return total


BENCHES = {"rows": bench_rows, "postgres": bench_postgres, "post": bench_post, "idle": bench_idle, "s3": bench_s3,
           "s3-overlap": bench_s3_overlap, "stack": bench_stack}


def main():
    wanted = sys.argv[1:] or list(BENCHES)
    if any(name not in BENCHES for name in wanted):
        raise SystemExit(f"usage: run.py [{' '.join(BENCHES)}]")
    version = subprocess.run([ROWFERRY, "version"], capture_output=True, text=True).stdout.split("\n")[0]
    print(f"bench: {version}; {os.cpu_count()} cores, {platform.machine()}; medians of {ROUNDS} rounds"
          f"{'; QUICK' if QUICK else ''}", flush=True)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for name in wanted:
        print(f"{name}: {BENCHES[name].__doc__}", flush=True)
        BENCHES[name]()
    head = ("what", "rowferry", "peer", "ratio", "aim")
    widths = [max(len(row[i]) for row in [head, *table]) for i in range(5)]
    print()
    for row in [head, tuple("-" * w for w in widths), *table]:
        print("| " + " | ".join(text.ljust(w) for text, w in zip(row, widths)) + " |")


if __name__ == "__main__":
    main()
