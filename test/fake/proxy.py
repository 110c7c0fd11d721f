"""A TCP proxy that does harm on purpose: it cuts, stops, slows down or changes a connection at one exact byte.

It knows no protocol. The n-th connection that comes has the n-th mood of the script, all others have `mood`. Bytes are
counted for each connection and direction from its start, so the same mood does the same harm to the same traffic. It
runs in a thread of its own, and what it opens belongs to the network namespace of the thread that started it.
"""

import asyncio
import ctypes
import fcntl
import socket
import struct
import termios
import threading
import time
from dataclasses import dataclass, field

ANSWER, REQUEST = "answer", "request"  # what the server sends; what the client sends
PIECE = 65536
FLUSH_SECONDS = 5
LINGER_RESET = struct.pack("ii", 1, 0)
SO_ATTACH_FILTER = 26  # socket(7); not in Python's
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # the BPF program "return 0 bytes"


@dataclass(frozen=True)
class Mood:
    """What happens to a connection; by itself, nothing."""

    # "reset" (RST), "close" (FIN), "hole" (nothing goes through any more, both ends stay open), "dead" (a hole that
    # does not even acknowledge what the client sends, as if its cable were out)
    end: str = ""
    after: int = 0  # so many bytes of `of` get through before the end
    of: str = ANSWER
    corrupt: int = -1  # the byte of `of`, from 0, of which the bits of `mask` are turned over
    mask: int = 0xFF
    delay: float = 0  # seconds that each piece of `of` waits
    rate: int = 0  # bytes of `of` in a second; 0: as they come


@dataclass
class Connection:
    """What is known of one connection; may be read while it lasts."""

    mood: Mood
    sent: dict = field(default_factory=lambda: {ANSWER: 0, REQUEST: 0})  # bytes that got through
    ended: str = ""  # by "mood", "order", "client", "server" or "both" (each said it had no more); "": it lasts


class _Pipe:
    """One connection while it lasts. How it ends is said once; who says it first is right."""

    def __init__(self, connection, client, server):
        self.connection, self.client, self.server = connection, client, server
        self.how = asyncio.get_running_loop().create_future()
        self.hole_ends = asyncio.Event()
        self.open_ways = 2

    def end(self, how, who):
        if not self.how.done():
            self.how.set_result(how)
            self.connection.ended = who
        elif who == "order":
            self.hole_ends.set()

    async def _forward(self, way, source, target):
        loop, sent, mood = asyncio.get_running_loop(), self.connection.sent, self.connection.mood
        if way != mood.of:
            mood = Mood()
        free_at = time.monotonic()
        while not mood.end or sent[way] < mood.after:
            want = min(PIECE, max(1, mood.rate // 50)) if mood.rate else PIECE
            piece = await loop.sock_recv(source, min(want, mood.after - sent[way]) if mood.end else want)
            if not piece:
                return False
            at = mood.corrupt - sent[way]
            if mood.corrupt >= 0 and 0 <= at < len(piece):
                piece = piece[:at] + bytes([piece[at] ^ mood.mask]) + piece[at + 1:]
            if mood.rate:
                free_at = max(free_at, time.monotonic() - 0.1) + len(piece) / mood.rate
            await asyncio.sleep(mood.delay + max(0, free_at - time.monotonic()) if mood.rate else mood.delay)
            await loop.sock_sendall(target, piece)
            sent[way] += len(piece)
        return True

    async def _go(self, way, source, target, who):
        try:
            if await self._forward(way, source, target):
                await _flush(target)
                self.end(self.connection.mood.end, "mood")
                return
            target.shutdown(socket.SHUT_WR)
        except OSError:
            self.end("reset", who)
            return
        self.open_ways -= 1
        if self.open_ways == 0:
            self.end("close", "both")

    async def run(self):
        ways = [asyncio.create_task(self._go(REQUEST, self.client, self.server, "client")),
                asyncio.create_task(self._go(ANSWER, self.server, self.client, "server"))]
        try:
            how = await self.how
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            if how == "dead":
                drop_all(self.client)
            if how in ("hole", "dead"):
                await self.hole_ends.wait()
            if how == "close":
                await self._close()
        finally:
            for way in ways:
                way.cancel()

    async def _close(self):
        """By FIN: what still comes is read until the client ends, since bytes left unread would make it an RST."""
        for sock in (self.server, self.client):
            try:
                sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
        try:
            while await asyncio.get_running_loop().sock_recv(self.client, PIECE):
                pass
        except OSError:
            pass


def drop_all(sock):
    """From now on the kernel throws away what comes for this socket, before TCP sees it; on one that listens, too."""
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(DROP_ALL)))


async def _flush(sock):
    """Until the other end has everything, so that an RST takes nothing of it away."""
    deadline = time.monotonic() + FLUSH_SECONDS
    while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0] > 0 and time.monotonic() < deadline:
        await asyncio.sleep(0.001)


def _reset(sock):
    """Closes by RST; where both ends have sent a FIN there is nothing left to reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    sock.close()


class Proxy:
    """Listens on a free port of 127.0.0.1 and connects to host:port. To be closed; also a context manager."""

    def __init__(self, host, port, script=(), mood=Mood()):
        self.target, self.mood = (host, port), mood
        self.script = list(script)  # moods of the connections to come; the first is taken away by each that comes
        self.connections = []
        self._pipes = set()
        self._tasks = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.host, self.port = self._listener.getsockname()[:2]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def sent(self, way=ANSWER):
        """Bytes that got through, over all connections."""
        return sum(connection.sent[way] for connection in self.connections)

    def end_all(self, how):
        """Ends what lasts now: "reset" (done when this returns), "close", "hole" or "dead"."""
        asyncio.run_coroutine_threadsafe(self._end_all(how), self._loop).result(10)

    async def _end_all(self, how):
        tasks = set(self._tasks)
        for pipe in self._pipes:
            pipe.end(how, "order")
        if how == "reset" and tasks:
            await asyncio.wait(tasks, timeout=5)

    def close(self):
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._main.cancel)
            self._thread.join(10)
            assert not self._thread.is_alive(), "the proxy does not end"

    def _run(self):
        self._main = self._loop.create_task(self._accept())
        try:
            self._loop.run_until_complete(self._main)
        except asyncio.CancelledError:
            pass
        self._loop.close()

    async def _accept(self):
        try:
            while True:
                client, _ = await self._loop.sock_accept(self._listener)
                connection = Connection(self.script.pop(0) if self.script else self.mood)
                self.connections.append(connection)
                task = self._loop.create_task(self._serve(connection, client))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, connection, client):
        server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        for sock in (client, server):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pipe = _Pipe(connection, client, server)
        self._pipes.add(pipe)
        try:
            await self._loop.sock_connect(server, self.target)
            await pipe.run()
        except OSError:
            connection.ended = connection.ended or "server"
        finally:
            self._pipes.discard(pipe)
            for sock in (server, client):
                _reset(sock)
