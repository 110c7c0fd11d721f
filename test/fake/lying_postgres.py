"""A PostgreSQL server that lies: messages go to a real one and back, and what the real one says may be changed.

`lie(kind, body, nth)` is asked for each message of the server with its type byte, its body, and its number among those
of that type on this connection, from 0. It gives back the bytes that the client shall see instead (`said()` makes whole
messages), an iterator of such bytes, which may be endless, or None: as it was said. END as the last of an iterator
closes the connection. Protocol 3.0: PostgreSQL 15, chapter 55.
"""

import socket
import socketserver
import struct
import threading

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
NO_SECRETS = (SSL_REQUEST, GSS_REQUEST)
END = object()


def said(kind, body=b""):
    """A whole message."""
    return kind + struct.pack(">i", len(body) + 4) + body


def error(code, message="the story says so", severity="ERROR"):
    fields = {b"S": severity, b"V": severity, b"C": code, b"M": message}
    return said(b"E", b"".join(name + value.encode() + b"\0" for name, value in fields.items() if value) + b"\0")


def notice(message):
    return said(b"N", b"SNOTICE\0VNOTICE\0C00000\0M" + message.encode() + b"\0\0")


def _read(sock, count):
    read = bytearray()
    while len(read) < count:
        piece = sock.recv(count - len(read))
        if not piece:
            raise ConnectionResetError
        read += piece
    return bytes(read)


def _pass_on(source, target):
    try:
        while piece := source.recv(65536):
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        target.close()


class _Session(socketserver.BaseRequestHandler):
    def handle(self):
        client = self.request
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            with socket.create_connection(self.server.real, timeout=60) as real:
                self._first(client, real)
                forth = threading.Thread(target=_pass_on, args=(client, real), daemon=True)
                forth.start()
                self._back(real, client)
        except OSError:
            pass

    def _first(self, client, real):
        """The client's first message has no type; it may be a wish for encryption, which is refused."""
        while True:
            first = _read(client, 8)
            if struct.unpack(">ii", first)[1] not in NO_SECRETS:
                real.sendall(first)
                return
            client.sendall(b"N")

    def _back(self, real, client):
        count = {}
        while True:
            head = _read(real, 5)
            kind, body = head[:1], _read(real, struct.unpack(">i", head[1:])[0] - 4)
            nth = count.get(kind, 0)
            count[kind] = nth + 1
            instead = self.server.lie(kind, body, nth)
            if instead is None:
                client.sendall(head + body)
            else:
                for piece in [instead] if isinstance(instead, bytes) else instead:
                    if piece is END:
                        return
                    client.sendall(piece)


class LyingPostgres(socketserver.ThreadingTCPServer):
    """Before the server at host:port, on a free port of 127.0.0.1. A context manager; `lie` may be changed any time."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, host, port):
        super().__init__(("127.0.0.1", 0), _Session)
        self.real = (host, port)
        self.lie = lambda kind, body, nth: None
        self.port = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="liar", daemon=True)
        self._thread.start()

    def __exit__(self, *words):
        self.shutdown()
        self._thread.join(10)
        super().__exit__(*words)
