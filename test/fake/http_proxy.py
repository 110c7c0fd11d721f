"""An HTTP/1.1 proxy that does harm on purpose, between a client and a server that both believe in each other.

Heads and bodies go through as they come, byte by byte and without being held (a signature over Host stays good), on
one connection to the server for each of the client's. A script of rules says which requests meet which mood; all that
happened is kept in `exchanges`. What an operation is called is the business of whoever makes the proxy (`name`);
s3_moods.py has the words of S3. Connections have threads of their own, which belong to the network namespace of the
thread that started the proxy.
"""

import fcntl
import fnmatch
import random
import select
import socket
import struct
import termios
import threading
import time
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, unquote, urlsplit

from proxy import ANSWER, LINGER_RESET, REQUEST

PIECE = 1 << 18
HEAD_BYTES = 1 << 16
HELD_BYTES = 1 << 20  # of an answer that is changed as a whole
FLUSH_SECONDS = 5
LINGER_SECONDS = 2


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    headers: tuple = ()  # pairs; Content-Length is added
    reason: str = "Whatever"


@dataclass(frozen=True)
class Mood:
    """What happens to one request and its answer; by itself, nothing.

    Positions count the bytes of a message from the first of its head; a float is a share of the whole message (of 1 KiB
    where its size is not known), a negative number counts from its end.
    """

    name: str = ""  # for whoever reads what happened
    answer: Answer | None = None  # is said, and the server is not asked
    early: str = ""  # "reset", "close": it is said before the body has been read, and so the connection ends
    end: str = ""  # "reset" (RST) or "close" (FIN) of both connections at `at` of `of`; an answer is heard to its end
    stall: float = 0  # seconds in which nothing of `of` moves, at `at`
    of: str = ANSWER
    at: int | float = 0
    rate: int = 0  # bytes of `of` in a second; 0: as they come
    corrupt: int | float | None = None  # the byte of the body of `of` of which the bits of `mask` are turned over
    mask: int = 0xFF
    head: object = None  # Answer without body -> Answer: changes the answer's head
    body: object = None  # bytes -> bytes: changes the answer's body, which is held for it


CALM = Mood()


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: tuple  # pairs, names in lower case
    operation: str = ""

    @property
    def path(self):
        return unquote(self.target.partition("?")[0])

    @property
    def query(self):
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def header(self, name, absent=""):
        return next((value for key, value in self.headers if key == name), absent)


@dataclass
class Rule:
    """Which requests meet the mood. All that is said must fit. The first rule that strikes is the one that does; those
    behind it do not count the call."""

    mood: object  # or a function of a random.Random that makes one
    operation: str = "*"  # pattern of the shell, as are the others
    path: str = "*"
    query: dict = field(default_factory=dict)
    match: object = None  # a function of the Request, besides
    calls: object = None  # the only n-th fitting calls that are struck: a number or a collection; the first one is 1
    after: int = 0  # so many fitting calls are left alone first
    chance: float = 1
    times: int = 0  # strikes at most so often; 0: without end
    fitting: int = 0  # so many calls fitted
    struck: int = 0  # so many were struck

    def fits(self, request):
        if not (fnmatch.fnmatchcase(request.operation, self.operation)
                and fnmatch.fnmatchcase(request.path, self.path)):
            return False
        query = request.query if self.query else {}
        return (all(name in query and fnmatch.fnmatchcase(query[name], str(value))
                    for name, value in self.query.items())
                and (self.match is None or self.match(request)))

    def strikes(self, request, seed):
        """The mood that this call meets, or None. By itself deterministic: what happens to the n-th fitting call
        depends on the seed and n alone."""
        if not self.fits(request):
            return None
        self.fitting += 1
        calls = (self.calls,) if isinstance(self.calls, int) else self.calls
        chance = random.Random(f"{seed}/{self.fitting}")
        if (self.fitting <= self.after or (calls is not None and self.fitting not in calls)
                or (self.times and self.struck >= self.times) or chance.random() >= self.chance):
            return None
        self.struck += 1
        return self.mood if isinstance(self.mood, Mood) else self.mood(chance)


@dataclass
class Exchange:
    """What became of one request; may be read while it lasts."""

    request: Request
    mood: Mood
    connection: int  # number of the client's connection, from 0
    began: float = field(default_factory=time.monotonic)
    ended: float = 0  # 0: it lasts
    server_status: int = 0  # what the server said; 0: nothing, or it was not asked
    status: int = 0  # what the client was told; 0: nothing, or not even a whole head
    whole: bool = False  # the answer got through to its last byte
    sent: dict = field(default_factory=lambda: {ANSWER: 0, REQUEST: 0})  # bytes that got through

    @property
    def operation(self):
        return self.request.operation

    def __str__(self):
        return (f"{self.operation} {self.request.target[:120]} [{self.mood.name}] server {self.server_status} "
                f"client {self.status}{'' if self.whole else ' (cut)'}")


class _Framing:
    """Where a message ends (RFC 9112, 6): after a length, after the last chunk, or with the connection."""

    def __init__(self, headers, has_none=False, ends_with_connection=False):
        named = dict(headers)
        self.is_chunked = not has_none and "chunked" in named.get("transfer-encoding", "").lower()
        length = named.get("content-length")
        self.left = 0 if has_none else int(length) if length is not None else -1 if ends_with_connection else 0
        self.length = None if self.is_chunked or self.left < 0 else self.left
        self._line, self._chunk, self._is_last = b"", 0, False
        self.done = not self.is_chunked and self.left == 0

    def take(self, data):
        """So many of these bytes belong to the message."""
        if self.is_chunked:
            return self._take_chunks(data)
        if self.left < 0:
            return len(data)
        used = min(self.left, len(data))
        self.left -= used
        self.done = self.left == 0
        return used

    def _take_chunks(self, data):
        at = 0
        while at < len(data) and not self.done:
            if self._chunk:
                used = min(self._chunk, len(data) - at)
                self._chunk -= used
                at += used
                continue
            end = data.find(b"\n", at)
            if end < 0:
                self._line += data[at:]
                return len(data)
            line, self._line, at = (self._line + data[at:end]).strip(b"\r"), b"", end + 1
            if self._is_last:
                self.done = line == b""  # else a trailer
            elif line:
                size = int(line.partition(b";")[0], 16)
                self._chunk, self._is_last = size + 2 if size else 0, size == 0
        return at


class _Gone(Exception):
    """This connection is over. `how`: "reset" or "close"."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class _Way:
    """One message on its way through, and what its mood does to it."""

    def __init__(self, direction, exchange, source, target, mood):
        self.direction, self.exchange = direction, exchange
        self.source, self.target = source, target
        self.mood = mood if mood.of == direction else CALM
        self.framing = None  # not before its head is there
        self.pending = memoryview(b"")
        self.passed = self.head_bytes = self.status = 0
        self.ends = False  # the connection ends with it
        self.free_at = 0
        self.stop_at = self.corrupt_at = None  # positions, known with the head
        self.is_dead = False  # its target takes nothing any more

    def begin(self, head, framing, body=b""):
        self.framing = framing
        self.head_bytes = len(head)
        size = len(head) + (1024 if framing.length is None else framing.length)
        if self.mood.end or self.mood.stall:
            self.stop_at = _position(self.mood.at, size)
        if self.mood.corrupt is not None:
            self.corrupt_at = len(head) + min(_position(self.mood.corrupt, size - len(head)), size - len(head) - 1)
        if self.mood.rate:
            self.free_at = time.monotonic()
        data = bytes(head) + bytes(body)
        self.pending = memoryview(self._harm(data))
        self.reach_stop()

    def _harm(self, data):
        at = None if self.corrupt_at is None else self.corrupt_at - self.passed - len(self.pending)
        if at is None or not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ self.mood.mask]) + data[at + 1:]

    @property
    def done(self):
        return self.framing is not None and not self.pending and self.framing.done

    @property
    def waits(self):
        return self.free_at > time.monotonic()

    def take(self, data):
        """Bytes of the source; gives back those that belong to the next message."""
        used = self.framing.take(data)
        self.pending = memoryview(self._harm(data[:used]))
        return data[used:]

    def send(self):
        """Some of what is pending."""
        most = len(self.pending)
        if self.mood.rate:
            most = min(most, max(1, self.mood.rate // 50))
        if self.stop_at is not None:
            most = min(most, self.stop_at - self.passed)
        self.note(most)  # before the other end can know
        try:
            sent = self.target.send(self.pending[:most])
        except OSError as error:
            self.note(0)
            if isinstance(error, BlockingIOError):
                return
            raise
        self.note(sent)
        self.pending = self.pending[sent:]
        self.passed += sent
        if self.mood.rate:
            self.free_at = max(self.free_at, time.monotonic() - 0.1) + sent / self.mood.rate
        self.reach_stop()

    def note(self, more):
        """What has happened once so many of the pending bytes are sent."""
        self.exchange.sent[self.direction] = self.passed + more
        if self.direction == ANSWER:
            self.exchange.status = self.status if self.passed + more >= self.head_bytes else 0
            self.exchange.whole = self.framing.done and more == len(self.pending)

    def reach_stop(self):
        if self.stop_at is None or self.passed < self.stop_at:
            return
        self.stop_at = None
        if self.mood.stall:
            self.free_at = time.monotonic() + self.mood.stall
        if self.mood.end:
            raise _Gone(self.mood.end)


def _position(at, size):
    at = int(at * size) if isinstance(at, float) else at if at >= 0 else size + at
    return max(0, min(at, size))


def _split_head(data):
    """Lines of a head, and its size; None: it is not all there."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = data[:end].decode("latin-1").split("\r\n")
    headers = tuple((name.strip().lower(), value.strip()) for name, _, value in
                    (line.partition(":") for line in lines[1:]))
    return lines[0], headers, end + 4


def _ends(headers):
    return "close" in dict(headers).get("connection", "").lower()


def _head_bytes(answer, framed=True):
    """Of an answer of ours; `framed`: with the length of its body."""
    headers = answer.headers
    if framed:
        headers = (*((name, value) for name, value in headers
                     if name.lower() not in ("content-length", "transfer-encoding")),
                   ("Content-Length", str(len(answer.body))))
    return f"HTTP/1.1 {answer.status} {answer.reason}\r\n{''.join(f'{n}: {v}{chr(13)}{chr(10)}' for n, v in headers)}\r\n" \
        .encode("latin-1")


class _Connection:
    """One of the client's, and the one to the server that belongs to it. Runs in a thread of its own."""

    def __init__(self, proxy, number, client):
        self.proxy, self.number, self.client, self.server = proxy, number, client, None
        self.ahead = b""  # read of the client, belongs to the next request
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self):
        how = "close"
        try:
            try:
                while (request := self.read_request()) is not None:
                    self.exchange(*request)
            except _Gone as gone:
                how = gone.how
            except OSError:
                how = "reset"
            if how == "close":
                self.close()
            else:
                _flush(self.client)
        except OSError:
            pass
        finally:
            for sock in (self.server, self.client):
                if sock is not None:
                    _reset(sock)

    def interrupt(self):
        """From another thread: what it waits for ends."""
        for sock in (self.client, self.server):
            try:
                if sock is not None:
                    sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    # --- requests ---

    def read_request(self):
        """The head's bytes and the request, or None where the client has ended."""
        while (split := _split_head(self.ahead)) is None:
            assert len(self.ahead) < HEAD_BYTES, "a head without an end"
            ready = _poll({self.client: select.POLLIN, self.server: select.POLLIN})
            if self.server in ready:  # nothing was asked: it ends a connection that was idle
                self.drop_server()
                if not self.ahead and self.client not in ready:
                    return None
            if self.client in ready:
                piece = self.client.recv(PIECE)
                if not piece:
                    return None
                self.ahead += piece
        line, headers, size = split
        method, target, _ = line.split(" ", 2)
        request = Request(method, target, headers)
        head, self.ahead = self.ahead[:size], self.ahead[size:]
        return head, replace(request, operation=self.proxy.name(request))

    def drop_server(self):
        if self.server is not None:
            _reset(self.server)
            self.server = None

    def exchange(self, head, request):
        exchange = self.proxy.meet(request, self.number)
        asked = _Way(REQUEST, exchange, self.client, None, exchange.mood)
        told = _Way(ANSWER, exchange, None, self.client, exchange.mood)
        try:
            if exchange.mood.answer is not None:
                self.answer_alone(exchange, asked, told)
            else:
                self.connect()
                asked.target = told.source = self.server
                framing, data = _Framing(request.headers), self.ahead
                used = framing.take(data)
                self.ahead = data[used:]
                asked.begin(head, framing, data[:used])
                self.pump(exchange, asked, told)
        finally:
            exchange.ended = time.monotonic()

    def connect(self):
        if self.server is None:
            self.server = socket.create_connection(self.proxy.target, timeout=10)
            self.server.setblocking(False)
            self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    # --- an answer of our own ---

    def answer_alone(self, exchange, asked, told):
        answer, request = exchange.mood.answer, exchange.request
        if not exchange.mood.early:
            if request.header("expect"):
                self.send_all(b"HTTP/1.1 100 Continue\r\n\r\n")
            framing = _Framing(request.headers)
            while not framing.done:
                data, self.ahead = self.ahead, b""
                self.ahead = data[framing.take(data):]
                if not framing.done:
                    self.ahead += self.read_client()
        head = _head_bytes(answer)
        has_none = request.method == "HEAD"
        told.status = answer.status
        told.begin(head, _Framing((), has_none=True), b"" if has_none else answer.body)
        while told.pending:
            self.turn({self.client: 0 if told.waits else select.POLLOUT}, told)
            if not told.waits:
                told.send()
        if exchange.mood.early:
            raise _Gone(exchange.mood.early)

    def read_client(self):
        _poll({self.client: select.POLLIN})
        piece = self.client.recv(PIECE)
        if not piece:
            raise _Gone("close")
        return piece

    def send_all(self, data):
        while data:
            _poll({self.client: select.POLLOUT})
            data = data[self.client.send(data):]

    # --- both ways at once ---

    def turn(self, wants, *ways):
        """Waits for one of these, not beyond the time at which a way is free again. A client that goes is gone."""
        waits = [way.free_at for way in ways if way.waits]
        timeout = max(0, min(waits) - time.monotonic()) if waits else None
        ready = _poll({self.client: 0, **wants}, timeout, hears_end=self.client)
        if ready.get(self.client, 0) & (select.POLLERR | select.POLLHUP):
            raise _Gone("reset")
        if ready.get(self.client, 0) & select.POLLRDHUP and not wants.get(self.client, 0) & select.POLLIN:
            raise _Gone("close")
        return ready

    def pump(self, exchange, asked, told):
        heard = b""  # of the answer's head
        while not (asked.done and told.done):
            wants = {self.server: 0}
            self.want(wants, asked)
            self.want(wants, told)
            ready = self.turn(wants, asked, told)
            if told.framing is None:
                if self.server in ready and ready[self.server] & ~select.POLLOUT:
                    heard = self.hear(exchange, told, heard + self.read_server(b""))
            else:
                self.move(told, ready)
            self.move(asked, ready)
            if told.done and asked.is_dead:
                raise _Gone("reset")
        if told.ends:
            self.drop_server()
            raise _Gone("close")
        if _ends(exchange.request.headers):
            raise _Gone("close")

    def want(self, wants, way):
        if way.done or way.is_dead or way.waits:
            return
        if way.pending:
            wants[way.target] = wants.get(way.target, 0) | select.POLLOUT
        else:
            wants[way.source] = wants.get(way.source, 0) | select.POLLIN

    def move(self, way, ready):
        if way.done or way.is_dead or way.waits:
            return
        if way.pending:
            if way.target in ready:
                self.send(way)
        elif way.source in ready:
            self.read(way)

    def send(self, way):
        try:
            way.send()
        except _Gone:
            self.hear_out(way)
            raise
        except OSError:
            if way.direction == ANSWER:
                raise
            way.is_dead = True  # what the server has said before is still to be heard

    def read(self, way):
        if way.direction == ANSWER:
            data = self.read_server(None)
            if data is None:
                way.framing.done = way.framing.left < 0  # its end was the message's end
                if not way.framing.done:
                    raise _Gone("close")
                way.note(0)
                return
            way.take(data)
        else:
            data = self.client.recv(PIECE)
            if not data:
                raise _Gone("close")
            self.ahead = way.take(data)

    def read_server(self, nothing):
        try:
            data = self.server.recv(PIECE)
        except BlockingIOError:
            return b""
        if not data:
            if nothing is None:
                return None
            raise _Gone("close")
        return data

    def hear(self, exchange, told, heard):
        """The answer's head, when it is there: interim ones go through, the last one is changed as the mood wants."""
        while (split := _split_head(heard)) is not None:
            line, headers, size = split
            status = int(line.split(" ")[1])
            if 100 <= status < 200:
                self.send_all(heard[:size])
                heard = heard[size:]
                continue
            exchange.server_status = status
            has_none = exchange.request.method == "HEAD" or status in (204, 304)
            framing = _Framing(headers, has_none, True)
            head, body = heard[:size], heard[size:]
            told.ends = _ends(headers) or (framing.length is None and not framing.is_chunked)
            told.status = status
            mood = exchange.mood
            if has_none:
                mood = replace(mood, body=None)
            if mood.head or mood.body:
                head, body, framing = self.change(told, mood, line, headers, body, framing)
            else:
                framing.take(body)
            try:
                told.begin(head, framing, body)
            except _Gone:
                self.hear_out(told)
                raise
            return b""
        assert len(heard) < HEAD_BYTES, "an answer's head without an end"
        return heard

    def change(self, told, mood, line, headers, body, framing):
        answer = Answer(told.status, headers=headers, reason=line.split(" ", 2)[2] if line.count(" ") > 1 else "")
        if mood.head:
            answer = mood.head(answer)
            told.status = answer.status
        if not mood.body:
            framing.take(body)
            return _head_bytes(answer, framed=False), body, framing
        assert not framing.is_chunked, "a chunked body is not changed"
        framing.take(body)
        while not framing.done:
            assert len(body) < HELD_BYTES, "a body that is too large to be changed"
            _poll({self.server: select.POLLIN})
            data = self.read_server(None)
            if data is None:
                break
            framing.take(data)
            body += data
        answer = replace(answer, body=mood.body(body))
        changed = _Framing((), has_none=True)
        return _head_bytes(answer), answer.body, changed

    def hear_out(self, way):
        """Before an answer is cut, the server has said it all: what it was asked is done."""
        if way.direction != ANSWER:
            return
        while not way.framing.done:
            _poll({self.server: select.POLLIN})
            data = self.read_server(None)
            if data is None:
                return
            way.framing.take(data)

    def close(self):
        """By FIN: what still comes is read for a while, since bytes left unread would make it an RST."""
        self.client.shutdown(socket.SHUT_WR)
        self.drop_server()
        deadline = time.monotonic() + LINGER_SECONDS
        while _poll({self.client: select.POLLIN}, max(0, deadline - time.monotonic())):
            if not self.client.recv(PIECE):
                return


def _poll(wants, timeout=None, hears_end=None):
    """Socket to what is ready of it."""
    poll = select.poll()
    by_number = {}
    for sock, events in wants.items():
        if sock is not None:
            by_number[sock.fileno()] = sock
            poll.register(sock, events | (select.POLLRDHUP if sock is hears_end else 0))
    return {by_number[number]: event for number, event in
            poll.poll(None if timeout is None else timeout * 1000)}


def _flush(sock):
    """Until the other end has everything, so that an RST takes nothing of it away."""
    deadline = time.monotonic() + FLUSH_SECONDS
    while struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0" * 4))[0] > 0 and time.monotonic() < deadline:
        time.sleep(0.001)


def _reset(sock):
    """Closes by RST; where both ends have sent a FIN there is nothing left to reset."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    except OSError:
        pass
    sock.close()


class HttpProxy:
    """Listens on a free port of 127.0.0.1 and asks host:port. To be closed; also a context manager."""

    def __init__(self, host, port, rules=(), name=lambda request: request.method, seed=1):
        self.target, self.name, self.seed = (host, port), name, seed
        self.rules = list(rules)  # may be changed at any time, by `script`
        self.exchanges = []
        self._lock = threading.Lock()
        self._connections, self._count, self._ends = {}, 0, False
        self._problem = None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host, self.port = self._listener.getsockname()[:2]
        self._thread = threading.Thread(target=self._accept, name="http-proxy", daemon=True)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    @property
    def connections(self):
        """So many came, from the beginning."""
        return self._count

    def script(self, *rules):
        """These rules from now on, and what happened is forgotten."""
        with self._lock:
            self.rules = list(rules)
            self.exchanges = []

    def meet(self, request, connection):
        """The exchange that this request begins, in its mood."""
        with self._lock:
            moods = (rule.strikes(request, f"{self.seed}/{number}") for number, rule in enumerate(self.rules))
            mood = next((mood for mood in moods if mood is not None), CALM)
            exchange = Exchange(request, mood, connection)
            self.exchanges.append(exchange)
        return exchange

    def of(self, operation="*", mood="*"):
        """The exchanges of these operations and moods, so far."""
        return [one for one in list(self.exchanges) if fnmatch.fnmatchcase(one.operation, operation)
                and fnmatch.fnmatchcase(one.mood.name, mood)]

    def counts(self):
        """Operation to number of requests."""
        found = {}
        for one in list(self.exchanges):
            found[one.operation] = found.get(one.operation, 0) + 1
        return found

    def end_all(self):
        """Ends the connections that there are now."""
        with self._lock:
            there = list(self._connections.items())
        for connection, _ in there:
            connection.interrupt()
        for _, thread in there:
            thread.join(10)

    def close(self):
        if self._ends:
            return
        self._ends = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.end_all()
        with self._lock:
            assert not self._connections, "a connection of the proxy does not end"
        if self._problem is not None:
            raise self._problem

    def _accept(self):
        with self._listener:
            while True:
                try:
                    client, _ = self._listener.accept()
                except OSError:
                    return
                with self._lock:
                    connection = _Connection(self, self._count, client)
                    thread = threading.Thread(target=self._run, args=(connection,), daemon=True)
                    self._connections[connection] = thread
                    self._count += 1
                    thread.start()

    def _run(self, connection):
        try:
            connection.run()
        except Exception as problem:  # of the proxy itself: told where it is closed
            self._problem = problem
        finally:
            with self._lock:
                del self._connections[connection]
