"""HTTP by the byte: for what no well-behaved client would send."""

import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Answer:
    status: int
    headers: list = field(default_factory=list)
    body: bytes = b""

    def header(self, name):
        found = [value for key, value in self.headers if key.lower() == name.lower()]
        return found[0] if found else None

    @property
    def json(self):
        import json

        return json.loads(self.body)


def connect(url, seconds=10):
    split = urlsplit(url)
    return socket.create_connection((split.hostname, split.port), timeout=seconds)


def read_all(connection):
    """Everything until the other side closes; what came, and whether it closed within the socket's time."""
    came = b""
    while True:
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            return came, False
        except ConnectionResetError:
            return came, True
        if not piece:
            return came, True
        came += piece


def _chunked(data):
    body = b""
    while True:
        size, data = data.split(b"\r\n", 1)
        count = int(size, 16)
        if count == 0:
            return body, data.split(b"\r\n", 1)[1]
        body, data = body + data[:count], data[count + 2:]


def answers(data, method="GET"):
    """The answers in a stream of bytes, one after the other."""
    found = []
    while data:
        head, data = data.split(b"\r\n\r\n", 1)
        first, *rest = head.decode("latin-1").split("\r\n")
        answer = Answer(int(first.split()[1]), [tuple(line.split(": ", 1)) for line in rest])
        if answer.status >= 200 and method != "HEAD":
            if answer.header("Transfer-Encoding") == "chunked":
                answer.body, data = _chunked(data)
            else:
                count = int(answer.header("Content-Length") or 0)
                answer.body, data = data[:count], data[count:]
        found.append(answer)
    return found


def exchange(url, data, seconds=10, finish=False):
    """Sends, then reads until it closes: the answers, and whether it closed. `finish`: our side ends after sending."""
    with connect(url, seconds) as connection:
        try:
            connection.sendall(data)
            if finish:
                connection.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it had heard enough
        came, closed = read_all(connection)
    return answers(came), closed
