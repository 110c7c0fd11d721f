"""A real TimescaleDB: hypertables with compressed, partly compressed and empty chunks; every row once, whatever its chunk."""

import json
from collections import Counter
from datetime import datetime, timedelta, timezone

import pytest

import csvfile
from definitions import Definitions
from maker import Maker
from timescale import Timescale

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
DAYS = 12
DAY = timedelta(days=1)

# Chunks of a day; a row every two minutes, and one at the first microsecond and at the last one of each day. `weight` numbers the rows.
INTERACTIONS = """
CREATE TABLE interactions (timestamp timestamptz NOT NULL, source text NOT NULL, target text, type text, weight double precision);
SELECT create_hypertable('interactions', 'timestamp', chunk_time_interval => interval '1 day', create_default_indexes => true);
CREATE SEQUENCE numbers;
CREATE FUNCTION fill(day int, kind text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO interactions
    SELECT at, 'e-' || extract(minute FROM at)::int % 7, CASE WHEN extract(hour FROM at) <> 5 THEN 'e-' || extract(hour FROM at)::int END, kind, nextval('numbers')
    FROM (SELECT timestamptz '2024-01-01 00:00Z' + day * interval '1 day' AS d) AS days,
         LATERAL (SELECT generate_series(d, d + interval '23:58', '2 minutes') AS at UNION ALL SELECT d + interval '23:59:59.999999') AS times
$$;
"""
SETTINGS = """ALTER TABLE interactions SET (timescaledb.compress, timescaledb.compress_segmentby = 'source',
                                            timescaledb.compress_orderby = 'timestamp')"""
CHUNK = """SELECT c FROM show_chunks('interactions', newer_than => timestamptz '2024-01-01 00:00Z' + {0} * interval '1 day',
                                     older_than => timestamptz '2024-01-01 00:00Z' + ({0} + 1) * interval '1 day') AS c"""
READINGS = """
CREATE TABLE readings (at timestamptz NOT NULL, id bigint NOT NULL, flag bool, amount numeric, notes jsonb, tags text[], raw bytea, u uuid, day date,
                       span interval, small real);
SELECT create_hypertable('readings', 'at', chunk_time_interval => interval '1 day');
INSERT INTO readings SELECT timestamptz '2024-01-01 00:00Z' + n * interval '10 minutes', n, n % 3 = 0, CASE WHEN n % 5 > 0 THEN n / 8.0 END,
    jsonb_build_object('n', n, 'q', '"'), ARRAY['a,' || n, NULL], decode(md5(n::text), 'hex'), md5(n::text)::uuid, date '2024-01-01' + n,
    n * interval '1 minute 0.5 seconds', n / 3.0 FROM generate_series(0, 1000) n;
ALTER TABLE readings SET (timescaledb.compress, timescaledb.compress_orderby = 'at');
ALTER TABLE readings ADD COLUMN later int DEFAULT 7;
"""
# Big rows, so that few of them make a range; days in another order than time.
EVENTS = """
CREATE TABLE events (at timestamptz NOT NULL, id bigint, body text);
SELECT create_hypertable('events', 'at', chunk_time_interval => interval '1 day');
"""
EVENT_DAYS = (5, 0, 3, 1, 4, 2)
EVENTS_A_DAY = 8000


def _compress(connection, day):
    (chunk,), = connection.execute(CHUNK.format(day)).fetchall()
    connection.execute("SELECT compress_chunk(%s::regclass)", (chunk,))
    return chunk


def _is_compressed(connection, table):
    return [row[0] for row in connection.execute(
        "SELECT is_compressed FROM timescaledb_information.chunks WHERE hypertable_name = %s ORDER BY range_start",
        (table,)).fetchall()]


@pytest.fixture(scope="module")
def timescale():
    with Timescale() as server:
        with server.connect() as connection:
            connection.execute(INTERACTIONS)
            for day in (3, 0, 1, 2, 5, 4, 8, 7, 6, 9, 11):  # day 10 has no chunk
                connection.execute("SELECT fill(%s, %s)", (day, ("mail", "chat", "meeting")[day % 3]))
            connection.execute(SETTINGS)
            for day in (0, 1, 2, 5, 8, 9):
                _compress(connection, day)
            connection.execute("SELECT fill(2, 'late')")                               # partly compressed
            connection.execute("DELETE FROM interactions WHERE timestamp >= %s AND timestamp < %s",
                               (START + 4 * DAY, START + 5 * DAY))  # empty
            connection.execute("DELETE FROM interactions WHERE timestamp >= %s AND timestamp < %s",
                               (START + 5 * DAY, START + 6 * DAY))  # compressed, empty
            connection.execute("DELETE FROM interactions WHERE source = 'e-3' AND timestamp >= %s AND timestamp < %s",
                               (START + 8 * DAY, START + 9 * DAY))                      # compressed, and some of it changed
            connection.execute("SELECT fill(9, 'late')")
            _compress(connection, 9)                                                   # compressed again
            assert _is_compressed(connection, "interactions") == [True, True, True, False, False, True, False, False,
                                                                  True, True, False]

            connection.execute("CREATE MATERIALIZED VIEW by_day WITH (timescaledb.continuous, "
                               "timescaledb.materialized_only = false) AS "
                               "SELECT time_bucket('1 day', timestamp) AS day, type, count(*) AS n, sum(weight) AS "
                               "weight FROM interactions GROUP BY 1, 2 WITH NO DATA")
            connection.execute("CALL refresh_continuous_aggregate('by_day', '2024-01-01', '2024-01-08')")

            connection.execute(READINGS)
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('readings') c LIMIT 4")

            connection.execute(EVENTS)
            for day in EVENT_DAYS:
                connection.execute("INSERT INTO events SELECT timestamptz '2024-01-01 00:00Z' + %s * interval '1 day' "
                                   "+ n * interval '10 seconds', %s * 100000 + n, "
                                   "repeat(md5(n::text), 25) FROM generate_series(0, %s) n",
                                   (day, day, EVENTS_A_DAY - 1))
            connection.execute("ALTER TABLE events SET (timescaledb.compress, timescaledb.compress_orderby = 'at')")
            connection.execute("SELECT compress_chunk(c) FROM show_chunks('events') c LIMIT 2")
            connection.execute("ANALYZE")
        yield server


@pytest.fixture(scope="module")
def definitions(tmp_path_factory, program, timescale):
    return Definitions(tmp_path_factory.mktemp("timescale"), program, timescale=timescale.url())


@pytest.fixture(scope="module")
def read(timescale):
    """Rows as Python reads them; its connection is closed before anybody else needs one."""

    def read(query, *values):
        with timescale.connect() as connection:
            return connection.execute(query, values or None).fetchall()

    return read


def shown(at):
    return at.astimezone(timezone.utc).replace(tzinfo=None).isoformat() + "Z"


@pytest.fixture(scope="module")
def rows(read):
    """All interactions as they should stand in a file."""
    found = [[shown(at), source, target, kind, repr(weight)] for at, source, target, kind, weight in
             read("SELECT timestamp, source, target, type, weight FROM interactions")]
    assert len(found) == len({row[4] for row in found}) > 7000
    return found


def history(definitions, **params):
    """Rows of the export type that ships."""
    body = {"export_type": "interaction_history", "user_id": "u", "params": params}
    done = definitions.run("dump", "--from-file", "-", input=json.dumps(body).encode())
    assert done.returncode == 0, done.stderr.decode()
    header, *found = csvfile.rows(done.stdout)
    assert header == ["timestamp", "source", "target", "type", "weight"]
    return found


def same(got, want):
    """The same rows, each as often."""
    assert Counter(map(tuple, got)) == Counter(map(tuple, want))
    assert len(got) == len(want)


def test_every_row_once(definitions, rows):
    same(history(definitions), rows)


BOUNDS = [(0, DAYS), (0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (4, 6), (2, 4), (7, 9), (8, 10), (9, 12), (10, 11),
          (11, 12), (-3, 0), (12, 20)]


@pytest.mark.parametrize("first,last", BOUNDS)
def test_ranges_that_end_on_chunk_bounds(definitions, rows, first, last):
    start, end = START + first * DAY, START + last * DAY
    got = history(definitions, start=shown(start), end=shown(end))
    want = [row for row in rows if shown(start) <= row[0] < shown(end)]
    same(got, want)
    if (first, last) in ((4, 5), (5, 6), (4, 6), (10, 11), (-3, 0), (12, 20)):
        assert got == []
    elif last - first == 1:
        assert len(got) >= 600


def test_days_add_up_to_the_whole(definitions, rows):
    days = [history(definitions, start=shown(START + day * DAY), end=shown(START + (day + 1) * DAY))
            for day in range(DAYS)]
    same([row for day in days for row in day], rows)
    same(history(definitions, end=shown(START + 3 * DAY)) + history(definitions, start=shown(START + 3 * DAY)), rows)


def test_bounds_to_the_microsecond(definitions, rows):
    tick = timedelta(microseconds=1)
    for day in (1, 2, 3, 6, 9):
        for start, end in ((START + day * DAY - tick, START + day * DAY), (START + day * DAY, START + day * DAY + tick),
                           (START + day * DAY - tick, START + day * DAY + tick)):
            written = [t.strftime("%Y-%m-%dT%H:%M:%S.%fZ") for t in (start, end)]
            got = history(definitions, start=written[0], end=written[1])
            same(got, [row for row in rows if start <= datetime.fromisoformat(row[0].replace("Z", "+00:00")) < end])
    # The same moments in another zone.
    assert history(definitions, start="2024-01-02T05:45:00+05:45", end="2024-01-02T19:00:00-05:00") == \
        history(definitions, start=shown(START + DAY), end=shown(START + 2 * DAY))


def test_filters_over_compressed_chunks(definitions, rows):
    for params in ({"source": "e-3"}, {"type": "late"}, {"target": "e-5"}, {"target": "e-6"},
                   {"source": "e-1", "type": "chat"}, {"source": "nobody"},
                   {"source": "e-3", "start": shown(START + 8 * DAY), "end": shown(START + 9 * DAY)}):
        want = [row for row in rows if all(row[at] == params.get(name, row[at]) for at,
                                           name in ((1, "source"), (2, "target"), (3, "type")))
                and params.get("start", "") <= row[0] < params.get("end", "z")]
        same(history(definitions, **params), want)


def test_by_the_service(timescale, rows, tmp_path, program):
    """One child, which keeps its connection from one export to the next."""
    maker = Maker(tmp_path, program)
    service = maker("-c", "1", environment={"TIMESCALE_URL": timescale.url()}, sources=False)
    try:
        for params in ({}, {"start": shown(START + DAY), "end": shown(START + 3 * DAY)}, {"type": "late"}):
            done = service.export("interaction_history", params=params)
            got = csvfile.rows(service.fetch(done["download_url"]))[1:]
            same(got, [row for row in rows if params.get("start", "") <= row[0] < params.get("end", "z")
                       and params.get("type") in (None, row[3])])
            assert done["row_count"] == len(got)
    finally:
        maker.finish()


def test_order_is_kept(definitions, rows):
    content = definitions.query("SELECT timestamp, weight FROM interactions ORDER BY timestamp, weight",
                                ["timestamp", "weight"])
    got = csvfile.rows(content)[1:]
    times = [datetime.fromisoformat(row[0].replace("Z", "+00:00")) for row in got]
    assert times == sorted(times)
    same(got, [[row[0], row[4]] for row in rows])


def test_continuous_aggregate(definitions, read):
    """One part of it is kept, the rest is made when it is asked."""
    query = "SELECT day, type, n, weight FROM by_day ORDER BY day, type"
    want = [[shown(day), kind, str(n), repr(weight)] for day, kind, n, weight in read(
        "SELECT time_bucket('1 day', timestamp), type, count(*), sum(weight) FROM interactions GROUP BY 1, 2 ORDER BY "
        "1, 2")]
    assert csvfile.rows(definitions.query(query, ["day", "type", "n", "weight"])) == [["day", "type", "n", "weight"],
                                                                                      *want]
    assert len(want) == 11


def test_other_types_in_compressed_chunks(definitions, read):
    columns = ["at", "id", "flag", "amount", "notes", "tags", "raw", "u", "day", "span", "small", "later"]
    got = csvfile.rows(definitions.query("SELECT * FROM readings ORDER BY id", columns))[1:]
    want = read("""SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), id::text, flag::text, amount::text, notes::text, tags::text,
                          encode(raw, 'base64'), u::text, day::text, NULL, NULL, later::text FROM readings ORDER BY readings.id""")
    spans = read("SELECT extract(epoch FROM span)::float8, small FROM readings ORDER BY id")
    assert len(got) == len(want) == 1001
    for mine, its, (seconds, small) in zip(got, want, spans):
        assert mine[:9] == list(its[:9]) and mine[11] == its[11]
        assert mine[10] == repr(small)
        assert mine[9].startswith("PT") and seconds == _seconds(mine[9])


def _seconds(text):
    """PT16H40M500S and the like."""
    total, number = 0.0, ""
    for letter in text.removeprefix("PT"):
        if letter in "HMS":
            total += float(number) * {"H": 3600, "M": 60, "S": 1}[letter]
            number = ""
        else:
            number += letter
    return total


# --- in ranges, over the one connection there is ---

def parallel(definitions, query, columns, by, table, values=None, **more):
    definition = definitions.write("ranged", query, columns, parallel={"by": by, "table": table, "connections": 1},
                                   **more)
    return definitions.dump(definition, values, expect=None)


def test_ranges_of_time_over_a_hypertable(definitions, read):
    query, columns = "SELECT id, at, body FROM events", ["id", "at", "body"]
    done = parallel(definitions, query, columns, "at", "events")
    assert done.returncode == 0, done.stderr.decode()
    got = csvfile.rows(done.stdout)[1:]
    ids = [int(row[0]) for row in got]
    assert len(ids) == len(EVENT_DAYS) * EVENTS_A_DAY and len(set(ids)) == len(ids)
    assert set(ids) == {day * 100000 + n for day in EVENT_DAYS for n in range(EVENTS_A_DAY)}
    # Ranges come in the order of time; without them the chunks came as they were made.
    starts = [ids[0] // 100000] + [after // 100000 for before,
                                   after in zip(ids, ids[1:]) if after // 100000 != before // 100000]
    assert starts == sorted(starts) == list(range(len(EVENT_DAYS)))
    whole = csvfile.rows(definitions.query(query, columns))[1:]
    same(got, whole)
    assert got != whole

    ordered = parallel(definitions, query + " ORDER BY at, id", columns, "at", "events")
    assert ordered.returncode == 0, ordered.stderr.decode()
    assert ordered.stdout == definitions.query(query + " ORDER BY at, id", columns)


def test_ranges_with_a_filter_on_chunk_bounds(definitions):
    query, columns = "SELECT at, id, body FROM events WHERE at >= $start AND at < $end", ["at", "id", "body"]
    params = {name: {"type": "timestamptz"} for name in ("start", "end")}
    values = {"start": shown(START + DAY), "end": shown(START + 5 * DAY)}
    done = parallel(definitions, query, columns, "at", "events", values, params=params)
    assert done.returncode == 0, done.stderr.decode()
    ids = [int(row[1]) for row in csvfile.rows(done.stdout)[1:]]
    assert sorted(ids) == [day * 100000 + n for day in (1, 2, 3, 4) for n in range(EVENTS_A_DAY)]


def test_ranges_of_rows_that_are_few(definitions, rows):
    done = parallel(definitions, "SELECT timestamp, source, target, type, weight FROM interactions",
                    ["timestamp", "source", "target", "type", "weight"],
                    "timestamp", "interactions")
    assert done.returncode == 0, done.stderr.decode()
    same(csvfile.rows(done.stdout)[1:], rows)


def test_places_say_nothing_in_a_hypertable(definitions):
    done = parallel(definitions, "SELECT id, at FROM events", ["id", "at"], "ctid", "events")
    assert done.returncode != 0 and b"source-query" in done.stderr and b"hypertable" in done.stderr, done.stderr
