"""A PostgreSQL server that is broken or hostile: an export ends with a reason, never with a wrong file or a crash."""

import random
import struct
import time

import pytest

import activity
import pg_exports
import processes
from lying_postgres import END, LyingPostgres, error, notice, said
from pg_exports import ONCE, all_is_clean, causes, is_whole
from service import FINAL

pytestmark = pytest.mark.asan

ROWS = 1000
HEADER = 19  # bytes in front of the first row of a binary COPY


@pytest.fixture
def liar(server):
    with LyingPostgres("127.0.0.1", server.port) as liar:
        yield liar


@pytest.fixture
def service(make, server, liar):
    return make("--concurrency", "1", *ONCE, url=pg_exports.url_by(server, liar.port))


def copy_data(nth_wanted, change):
    """Changes the nth CopyData message; `change` makes of its body a body, or a list of pieces."""
    def lie(kind, body, nth):
        if kind != b"d" or nth != nth_wanted:
            return None
        made = change(body)
        return said(b"d", made) if isinstance(made, bytes) else made

    return lie


def instead_of(kind_wanted, *pieces, nth_wanted=0):
    """These pieces instead of the nth message of that type."""
    return lambda kind, body, nth: list(pieces) if kind == kind_wanted and nth == nth_wanted else None


def copy_ends(instead):
    """This instead of the word that all rows were sent."""
    return lambda kind, body, nth: instead if kind == b"C" and body.startswith(b"COPY") else None


def field(count, *lengths_and_bytes):
    """A row of a binary COPY."""
    row = struct.pack(">h", count)
    for length, data in lengths_and_bytes:
        row += struct.pack(">i", length) + data
    return row


def all_from(kind_wanted, pieces):
    """From the first message of that type on only these."""
    return lambda kind, body, nth: pieces() if kind == kind_wanted else None


def endless(piece):
    def pieces():
        while True:
            yield piece

    return pieces


def silence():
    for _ in range(100):
        time.sleep(0.05)
        yield b""
    yield END


GOOD = ((8, struct.pack(">q", 7)), (8, struct.pack(">q", 49)), (8, b"number 7"))
ONE_ROW_MORE = field(3, *GOOD)

BROKEN_ROWS = {
    "another signature": copy_data(0, lambda body: b"X" + body[1:]),
    "text instead of binary": copy_data(0, lambda body: b"1\t1\tnumber 1\n"),
    "a critical flag": copy_data(0, lambda body: body[:11] + b"\x00\x01\x00\x00" + body[15:]),
    "a header of 2 GB": copy_data(0, lambda body: body[:15] + b"\x7f\xff\xff\xff" + body[19:]),
    "a negative header": copy_data(0, lambda body: body[:15] + b"\xff\xff\xff\xff" + body[19:]),
    "no header": copy_data(0, lambda body: body[HEADER:]),
    "an empty message": copy_data(0, lambda body: b""),
    "minus two fields": copy_data(5, lambda body: field(-2)),
    "no fields": copy_data(5, lambda body: field(0)),
    "a field too few": copy_data(5, lambda body: field(2, *GOOD[:2])),
    "a field too many": copy_data(5, lambda body: field(4, *GOOD, GOOD[0])),
    "32767 fields": copy_data(5, lambda body: field(32767, *GOOD)),
    "a field of 2 GB": copy_data(5, lambda body: field(3, (0x7FFFFFFF, b"x"))),
    "a field of minus two": copy_data(5, lambda body: field(3, (-2, b""), *GOOD[1:])),
    "a field longer than the row": copy_data(5, lambda body: field(3, *GOOD[:2], (9, b"number 7"))),
    "a number of four bytes": copy_data(5, lambda body: field(3, (4, b"\0\0\0\7"), *GOOD[1:])),
    "a number of no bytes": copy_data(5, lambda body: field(3, (0, b""), *GOOD[1:])),
    "something behind the row": copy_data(5, lambda body: body + b"x"),
    "text that is not UTF-8": copy_data(5, lambda body: field(3, *GOOD[:2], (8, b"numb\xff\xc0r"))),
    "half a trailer": copy_data(ROWS, lambda body: b"\xff"),
    "no trailer": lambda kind, body, nth: b"" if kind == b"d" and nth == ROWS else None,
    "the end too early": copy_data(5, lambda body: b"\xff\xff"),
    "a row behind the end": copy_data(ROWS, lambda body: [said(b"d", body), said(b"d", ONE_ROW_MORE)]),
    "the end twice": copy_data(ROWS, lambda body: [said(b"d", body), said(b"d", body)]),
}


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_rows_that_are_none(service, liar, server, name):
    liar.lie = BROKEN_ROWS[name]
    task = service.request("pg_numbers", params={"rows": ROWS})
    failed = service.wait(task, status="failed")
    assert failed["error_code"] in ("source-query", "source-unavailable", "size-limit", "memory-limit"), failed
    assert causes(service, task)[-1]["error"]
    liar.lie = lambda *_: None
    done = service.export("pg_numbers", params={"rows": ROWS})
    is_whole(service, done, ROWS)
    all_is_clean(service, server, done)


def big(kind, length, sent=1000):
    """A message that says it is `length` bytes long and is not."""
    return kind + struct.pack(">i", length) + b"x" * sent


def description(change):
    """Changes what the server says of the query's columns."""
    return lambda kind, body, nth: said(b"T", change(body)) if kind == b"T" and b"square" in body else None


def row_description(columns, name=b"n\0", oid=20):
    return struct.pack(">h", columns) + (name + struct.pack(">ihihih", 0, 0, oid, 8, -1, 1)) * columns


BROKEN_TALK = {
    "an error behind all rows": (instead_of(b"c", error("22012")), "source-query"),
    "an error with a conflict": (instead_of(b"c", error("40001")), "source-conflict"),
    "an error without a code": (instead_of(b"c", error("")), None),
    "an error in another language": (instead_of(b"c", error("57014", "Anweisung wird abgebrochen")), "source-conflict"),
    "an error with an unknown code": (instead_of(b"c", error("ZZ999", "?" * 100000)), "source-query"),
    "an error that says nothing": (instead_of(b"c", said(b"E", b"\0")), None),
    "an error that is not UTF-8": (instead_of(b"c", said(b"E", b"SERROR\0C22012\0M\xff\x1b[31m\n{\"level\"\0\0")),
                                   "source-query"),
    "an error instead of the end": (copy_ends(error("22012")), "source-query"),
    "the end of rows, and away": (instead_of(b"c", said(b"c"), END), "source-unavailable"),
    "away without the end": (instead_of(b"c", END), "source-unavailable"),
    "a fatal word": (instead_of(b"c", error("57P01", severity="FATAL"), END), "source-unavailable"),
    "a message of 2 GB": (instead_of(b"d", big(b"d", 0x7FFFFFFF), END, nth_wanted=5), None),
    "a message of minus one": (instead_of(b"d", big(b"d", -1), END, nth_wanted=5), None),
    "a message of no bytes": (instead_of(b"d", big(b"d", 0), END, nth_wanted=5), None),
    "an unknown message": (instead_of(b"d", said(b"?", b"x" * 10), END, nth_wanted=5), None),
    "an answer for another question": (instead_of(b"H", said(b"T", b"\0\0"), said(b"C", b"SELECT 0\0")), None),
    "copy in": (lambda kind, body, nth: said(b"G", body) if kind == b"H" else None, None),
    "copy both": (lambda kind, body, nth: said(b"W", body) if kind == b"H" else None, None),
    "10,000 columns": (description(lambda body: row_description(10000)), "source-query"),
    "no columns": (description(lambda body: row_description(0)), "source-query"),
    "half a description": (description(lambda body: body[:20]), None),
    "a column of type 0": (description(lambda body: row_description(1, b"n\0", 0)), "source-query"),
    "a name of a megabyte": (description(lambda body: row_description(1, b"n" * (1 << 20) + b"\0")), "source-query"),
    "a name that is not UTF-8": (description(lambda body: row_description(1, b"\xff\xfe\0")), "source-query"),
    "starting up": (instead_of(b"R", error("57P03", "the database system is starting up", "FATAL"), END),
                    "source-unavailable"),
    "another login": (instead_of(b"R", said(b"R", struct.pack(">i", 99))), None),
    "a SASL way nobody knows": (instead_of(b"R", said(b"R", struct.pack(">i", 10) + b"SCRAM-SHA-9\0\0")), None),
    "a server that proves nothing": (instead_of(b"R", said(b"R", struct.pack(">i", 12) + b"v=AAAA"), nth_wanted=2),
                                     None),
}


@pytest.mark.parametrize("name", BROKEN_TALK)
def test_talk_that_makes_no_sense(make, liar, server, name):
    lie, code = BROKEN_TALK[name]
    service = make("--concurrency", "1", *ONCE, "--task-time-limit", "5s", url=pg_exports.url_by(server, liar.port))
    liar.lie = lie
    task = service.request("pg_numbers", params={"rows": ROWS})
    failed = service.wait(task, status="failed")
    assert failed["error_code"] == code or (code is None and failed["error_code"] in (
        "source-query", "source-unavailable", "source-auth", "memory-limit")), (failed, causes(service, task))
    assert causes(service, task)[-1]["error"]
    liar.lie = lambda *_: None
    done = service.export("pg_numbers", params={"rows": ROWS})
    is_whole(service, done, ROWS)
    all_is_clean(service, server, done)


class Repacked:
    """The same bytes of COPY in messages of another size."""

    def __init__(self, size):
        self.size, self.held = size, b""

    def __call__(self, kind, body, nth):
        if kind == b"d":
            self.held += body
            return b""
        if kind == b"c":
            held, self.held = self.held, b""
            return [said(b"d", held[i:i + self.size]) for i in range(0, len(held), self.size)] + [said(b"c")]
        return None


HARMLESS = {
    "a notice before each row": lambda kind, body, nth: [notice("hello"), said(kind, body)] if kind == b"d" else None,
    "a setting that changes": copy_data(5, lambda body: [said(b"S", b"TimeZone\0Mars\0"), said(b"d", body)]),
    "news for somebody else": copy_data(5, lambda body: [said(b"A", b"\0\0\0\1x\0y\0"), said(b"d", body)]),
    "a notice of a megabyte": copy_data(5, lambda body: [notice("x" * (1 << 20)), said(b"d", body)]),
    "all rows in one message": Repacked(1 << 30),
    "rows in pieces of seven bytes": Repacked(7),
    "the end of another count": copy_ends(said(b"C", b"COPY 7\0")),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_what_a_server_may_do(service, liar, server, name):
    liar.lie = HARMLESS[name]
    done = service.export("pg_numbers", params={"rows": ROWS})
    is_whole(service, done, ROWS)
    all_is_clean(service, server, done)


ENDLESS = {
    "notices for ever": all_from(b"H", endless(notice("x" * 1000) * 50)),
    "notices at the door": all_from(b"R", endless(notice("x" * 1000) * 50)),
    "settings for ever": all_from(b"H", endless(said(b"S", b"a\0b\0") * 100)),
    "silence, and no answer to a cancel": all_from(b"d", silence),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_talk_without_an_end(make, liar, server, name):
    service = make("--concurrency", "1", *ONCE, url=pg_exports.url_by(server, liar.port))
    liar.lie = ENDLESS[name]
    begun = time.monotonic()
    task = service.request("pg_numbers", params={"rows": ROWS}, time_limit=2)
    failed = service.wait(task, status="failed")
    assert failed["error_code"] in ("task-timeout", "source-unavailable", "source-timeout", "memory-limit"), failed
    assert time.monotonic() - begun < 9
    liar.lie = lambda *_: None
    assert service.export("pg_numbers", params={"rows": ROWS})["row_count"] == ROWS
    assert service.lines("child.died") == []


EVERYTHING = pg_exports.type_text(
    "pg_everything",
    "SELECT n AS a, n::int2 AS b, n::int8 AS c, n / 7.0::float4 AS d, n / 7.0::float8 AS e, n * 1234567.891 AS f, "
    "n % 2 = 0 AS g, '2024-01-01'::date + n AS h, '12:34:56.789'::time AS i, "
    "'2024-01-01'::timestamp + n * interval '1h' AS j, '2024-01-01'::timestamptz + n * interval '1h' AS k, "
    "n * interval '1 month 2 days 3.5 s' AS l, gen_random_uuid() AS m, decode(md5(n::text), 'hex') AS o, "
    "jsonb_build_object('n', n) AS p, ARRAY[n, n + 1] AS q FROM generate_series(1, 300) n",
    columns=" | ".join(f"{{ name: {name} }}" for name in "abcdefghijklmopq"))


def test_bytes_that_are_turned_over(make, liar, server):
    """Any bytes among the rows: the export may fail or show other values, and the child lives on."""
    service = make("--concurrency", "2", *ONCE, "--task-time-limit", "5s", types=[EVERYTHING],
                   url=pg_exports.url_by(server, liar.port))
    assert service.export("pg_everything")["row_count"] == 300
    chance = random.Random(20240229)

    def lie(kind, body, nth):
        if kind != b"d" or chance.random() < 0.99:
            return None
        changed = bytearray(body)
        for _ in range(chance.randint(1, 3)):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        return said(b"d", bytes(changed))

    liar.lie = lie
    tasks = [service.request("pg_everything", f"user_{i}") for i in range(60)]
    processes.until(lambda: all(service.status(task)["status"] in FINAL for task in tasks), 30, "no end")
    codes = {service.status(task).get("error_code") for task in tasks}
    assert codes <= {None, "source-query", "source-unavailable", "size-limit", "memory-limit", "encode-failed"}, codes
    assert "source-query" in codes
    assert service.lines("child.died") == [] and service.uploads() == []
    activity.nothing_runs(server)
