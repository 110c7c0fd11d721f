"""Clients that take their time: each wait has an end, and nobody else waits for them."""

import time

import wire


def test_slow_headers_end_after_ten_seconds_and_a_slow_body_after_thirty(shared):
    """Both at once, beside a client that is served all the while."""
    body = (b"POST /api/exports/request HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 10\r\n\r\n{")
    with wire.connect(shared.url, 45) as slow_headers, wire.connect(shared.url, 45) as slow_body:
        start = time.monotonic()
        slow_headers.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        slow_body.sendall(body)

        came, closed = wire.read_all(slow_headers)
        assert closed and came == b""
        assert 8 < time.monotonic() - start < 14
        assert shared.http("GET", "/health").elapsed.total_seconds() < 2

        came, closed = wire.read_all(slow_body)
        assert closed and 28 < time.monotonic() - start < 36
        found = wire.answers(came)
        assert [(answer.status, answer.json["code"]) for answer in found] == [(408, "request-timeout")]
