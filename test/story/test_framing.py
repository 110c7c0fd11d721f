"""What is badly framed is refused and the connection closed; what was pipelined behind it is not run."""

import json
import socket

import pytest

import processes
import wire

pytestmark = pytest.mark.asan

BODY = json.dumps({"export_type": "graph_data", "user_id": "pipelined"})
SECOND = (f"POST /api/exports/request HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
          f"Content-Length: {len(BODY)}\r\n\r\n{BODY}").encode()


def post(*headers, body="", host="Host: localhost", line="POST /api/exports/request HTTP/1.1"):
    lines = [line, *([host] if host else []), "Content-Type: application/json", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body.encode() if isinstance(body, str) else body)


def get(*headers, line="GET /health HTTP/1.1", host="Host: localhost"):
    return ("\r\n".join([line, *([host] if host else []), *headers]) + "\r\n\r\n").encode("latin-1")


REFUSED = [
    ("length and encoding", post("Content-Length: 2", "Transfer-Encoding: chunked", body="0\r\n\r\n")),
    ("encoding and length", post("Transfer-Encoding: chunked", "Content-Length: 2", body="0\r\n\r\n")),
    ("two lengths", post("Content-Length: 2", "Content-Length: 5", body="{}")),
    ("two equal lengths", post("Content-Length: 2", "Content-Length: 2", body="{}")),
    ("blank before the colon", post("Content-Length : 2", body="{}")),
    ("blank before another colon", get("X-Any : 2")),
    ("unknown coding", post("Transfer-Encoding: xchunked", body="0\r\n\r\n")),
    ("chunked and identity", post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n")),
    ("gzip and chunked", post("Transfer-Encoding: gzip, chunked", body="0\r\n\r\n")),
    ("identity", post("Transfer-Encoding: identity", body="{}")),
    ("two encodings", post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body="0\r\n\r\n")),
    ("empty encoding", post("Transfer-Encoding: ", body="{}")),
    ("encoding in HTTP/1.0", post("Transfer-Encoding: chunked", body="0\r\n\r\n",
                                  line="POST /api/exports/request HTTP/1.0")),
    ("bad chunk size", post("Transfer-Encoding: chunked", body="zz\r\n{}\r\n0\r\n\r\n")),
    ("negative chunk size", post("Transfer-Encoding: chunked", body="-2\r\n{}\r\n0\r\n\r\n")),
    ("chunk longer than it says", post("Transfer-Encoding: chunked", body="1\r\n{}\r\n0\r\n\r\n")),
    ("overlong chunk size", post("Transfer-Encoding: chunked", body="fffffffffffffffff\r\n{}\r\n0\r\n\r\n")),
    ("length with a plus", post("Content-Length: +2", body="{}")),
    ("negative length", post("Content-Length: -1")),
    ("list of lengths", post("Content-Length: 2,2", body="{}")),
    ("length of 30 digits", post("Content-Length: " + "9" * 30)),
    ("length is hexadecimal", post("Content-Length: 0x2", body="{}")),
    ("empty length", post("Content-Length: ", body="{}")),
    ("two Host", get("Host: other")),
    ("two equal Host", get("Host: localhost")),
    ("no Host", get(host=None)),
    ("empty Host", get(host="Host: ")),
    ("a user in Host", get(host="Host: a@localhost")),
    ("NUL in a value", get("X-Any: a\0b")),
    ("control in a value", get("X-Any: a\x01b")),
    ("DEL in a value", get("X-Any: a\x7fb")),
    ("NUL in a name", get("X-A\0ny: b")),
    ("blank in a name", get("X Any: b")),
    ("no name", get(": b")),
    ("no colon", get("X-Any")),
    ("folded", get("X-Any: a", " b")),
    ("folded with a tab", get("X-Any: a", "\tb")),
    ("folded name", get("X-Forwarded-Use: admin", " r: b")),
    ("folded before the first", post(host=" Host: localhost")),
    ("bare line feed", b"GET /health HTTP/1.1\nHost: localhost\n\n"),
    ("bare line feed in the headers", b"GET /health HTTP/1.1\r\nHost: localhost\nX-Any: a\r\n\r\n"),
    ("bare carriage return", b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Any: a\rb\r\n\r\n"),
    ("HTTP/0.9", b"GET /health\r\n\r\n"),
    ("HTTP/2.0", get(line="GET /health HTTP/2.0")),
    ("HTTP/1.2", get(line="GET /health HTTP/1.2")),
    ("lower case", get(line="GET /health http/1.1")),
    ("RTSP", get(line="DESCRIBE /health RTSP/1.0")),
    ("RTSP with our method", get(line="GET /health RTSP/1.0")),
    ("ICE", get(line="SOURCE /health ICE/1.0")),
    ("unknown method", get(line="BREW /health HTTP/1.1")),
    ("lower-case method", get(line="get /health HTTP/1.1")),
    ("CONNECT", get(line="CONNECT localhost:80 HTTP/1.1")),
    ("absolute form", get(line="GET http://evil/ HTTP/1.1")),
    ("absolute form of ours", get(line="GET http://localhost/health HTTP/1.1")),
    ("asterisk", get(line="OPTIONS * HTTP/1.1")),
    ("fragment", get(line="GET /health#a HTTP/1.1")),
    ("byte over 0x7f in the target", get(line="GET /h\xe9alth HTTP/1.1")),
    ("control in the target", get(line="GET /he\x01alth HTTP/1.1")),
    ("two blanks", get(line="GET  /health HTTP/1.1")),
    ("a word too many", get(line="GET /health /x HTTP/1.1")),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("noise", bytes(range(256))),
]


@pytest.mark.parametrize("name,first", REFUSED, ids=[row[0] for row in REFUSED])
def test_refused_and_what_follows_is_not_run(shared, name, first):
    before = shared.tasks()
    found, closed = wire.exchange(shared.url, first + SECOND, finish=True)

    assert closed
    assert [answer.status for answer in found] == [400], found
    assert found[0].header("Content-Type") == "application/problem+json"
    assert found[0].json["code"] == "invalid-request"
    assert found[0].header("Connection") == "close"
    assert shared.tasks() == before, "the second request was run"
    assert shared.http("GET", "/health").status_code == 200


REFUSED_OTHERWISE = [
    ("request line of 8,193", get(line="GET /" + "a" * 8179 + " HTTP/1.1"), 414, "uri-too-long"),
    ("headers of 32,769", get("X-Large: " + "a" * 32769), 431, "headers-too-large"),
    ("101 headers", get(*[f"X-{i}: a" for i in range(101)]), 431, "headers-too-large"),
    ("expects tea", post("Expect: tea", "Content-Length: 2", body="{}"), 417, "expectation-failed"),
    ("body of 65,537", post("Content-Length: 65537", body=" " * 65537), 413, "body-too-large"),
    ("chunks of 65,537", post("Transfer-Encoding: chunked", body="10001\r\n" + " " * 65537 + "\r\n0\r\n\r\n"), 413,
     "body-too-large"),
    ("a foreign Host", get(host="Host: evil.example"), 403, "forbidden"),
]


@pytest.mark.parametrize("name,first,status,code", REFUSED_OTHERWISE, ids=[row[0] for row in REFUSED_OTHERWISE])
def test_limits(shared, name, first, status, code):
    before = shared.tasks()
    found, _ = wire.exchange(shared.url, first, finish=True)
    assert [(answer.status, answer.json["code"]) for answer in found] == [(status, code)]
    assert shared.tasks() == before


def test_a_line_and_headers_at_their_limit_are_taken(shared):
    line = "GET /" + "a" * (8192 - len("GET / HTTP/1.1")) + " HTTP/1.1"
    assert len(line) == 8192
    found, _ = wire.exchange(shared.url, get("Connection: close", line=line))
    assert found[0].status == 404
    found, _ = wire.exchange(shared.url, get("Connection: close", *[f"X-{i}: a" for i in range(98)]))
    assert found[0].status == 200


TAKEN = [
    ("pipelined", get() + get() + get("Connection: close"), [200, 200, 200]),
    ("a query", get("Connection: close", line="GET /health?x=1 HTTP/1.1"), [200]),
    ("HTTP/1.0", get(line="GET /health HTTP/1.0"), [200]),
    ("HTTP/1.0 that stays", get("Connection: keep-alive", line="GET /health HTTP/1.0") + get("Connection: close"),
     [200, 200]),
    ("an upgrade that is not made", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")
     + get("Connection: close"), [200, 200]),
    ("empty lines before", b"\r\n\r\n" + get("Connection: close"), [200]),
    ("close means close", get("Connection: close") + get(), [200]),
]


@pytest.mark.parametrize("name,data,statuses", TAKEN, ids=[row[0] for row in TAKEN])
def test_taken(shared, name, data, statuses):
    found, closed = wire.exchange(shared.url, data)
    assert closed and [answer.status for answer in found] == statuses


def test_chunks_and_trailers_make_a_body(shared):
    body = json.dumps({"export_type": "graph_data", "user_id": "chunks"})
    pieces = "".join(f"{len(piece):x};ext=1\r\n{piece}\r\n" for piece in (body[:9], body[9:]))
    found, _ = wire.exchange(shared.url, post("Transfer-Encoding: chunked", "Connection: close", "Trailer: X-Any",
                                              body=pieces + "0\r\nX-Any: Host\r\n\r\n"))
    assert [answer.status for answer in found] == [202]
    shared.wait(found[0].json["task_id"])


def test_continue_is_said_to_those_who_wait_for_it(shared):
    body = json.dumps({"export_type": "graph_data", "user_id": "continue"}).encode()
    with wire.connect(shared.url) as connection:
        connection.sendall(post("Expect: 100-continue", f"Content-Length: {len(body)}", "Connection: close"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        found = wire.answers(wire.read_all(connection)[0])
    assert [answer.status for answer in found] == [202]
    shared.wait(found[0].json["task_id"])


def test_a_byte_at_a_time(shared):
    body = json.dumps({"export_type": "graph_data", "user_id": "bytes"})
    data = post(f"Content-Length: {len(body)}", "Connection: close", body=body)
    with wire.connect(shared.url) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            connection.sendall(data[at:at + 1])
        found = wire.answers(wire.read_all(connection)[0])
    assert [answer.status for answer in found] == [202]
    shared.wait(found[0].json["task_id"])


def test_head_has_no_body(shared):
    with wire.connect(shared.url) as connection:
        connection.sendall(get("Connection: close", line="HEAD /health HTTP/1.1"))
        came, closed = wire.read_all(connection)
    assert closed and came.endswith(b"\r\n\r\n") and b" 200 " in came.split(b"\r\n")[0]


def test_one_connection_more_than_an_address_may_have(make_service):
    service = make_service(environment={"ROWFERRY_CONNECTIONS_PER_ADDRESS": "3"})
    service._client.close()  # so that none of its own is open
    held = [wire.connect(service.url) for _ in range(3)]
    try:
        for connection in held:
            connection.sendall(get())
            assert connection.recv(2000).startswith(b"HTTP/1.1 200")
        with wire.connect(service.url) as fourth:
            fourth.sendall(get())
            assert wire.read_all(fourth) == (b"", True)
        service.await_line("http.limited")
    finally:
        for connection in held:
            connection.close()

    def served_again():
        with wire.connect(service.url) as again:
            again.sendall(get("Connection: close"))
            return b" 200 " in wire.read_all(again)[0][:20]

    processes.until(served_again, 5, "nobody is served after they left")


def test_more_connections_than_there_may_be(make_service):
    service = make_service(environment={"ROWFERRY_CONNECTIONS": "8"})
    held = [wire.connect(service.url) for _ in range(40)]
    for connection in held:
        connection.close()
    processes.until(lambda: service.http("GET", "/health").status_code == 200, 5, "no answer")
