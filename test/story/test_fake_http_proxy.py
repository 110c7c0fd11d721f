"""The HTTP proxy that other stories put before real servers does what its moods say, and nothing else."""

import hashlib
import http.client
import http.server
import random
import socket
import threading
import time

import pytest

import processes
import s3_moods
from http_proxy import Answer, HttpProxy, Mood, Request, Rule
from proxy import ANSWER, REQUEST

BODY = bytes(i % 251 for i in range(300000))


class Handler(http.server.BaseHTTPRequestHandler):
    """PUT answers with the SHA-256 of what came, GET with the bytes above, whole, in chunks, or until the end."""

    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.server.connections += 1

    def do_PUT(self):
        if self.path == "/refused":
            self.rfile.read(1000)
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.heard.append((self.command, self.path, self.headers["Host"], hashlib.sha256(body).hexdigest(),
                                  len(body)))
        if len(body) == int(self.headers["Content-Length"]):
            self.say(hashlib.sha256(body).hexdigest().encode())

    def do_HEAD(self):
        self.say(BODY)

    def do_GET(self):
        if self.path == "/chunks":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(BODY), 7000):
                piece = BODY[at:at + 7000]
                self.wfile.write(f"{len(piece):x};x=y\r\n".encode() + piece + b"\r\n")
            self.wfile.write(b"0\r\nTrailer: yes\r\n\r\n")
        elif self.path == "/until-the-end":
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n" + BODY)
            self.close_connection = True
        elif self.path == "/leaves":
            self.say(b"bye")
            self.close_connection = True
        else:
            self.say(BODY)

    def say(self, body):
        self.send_response(200)
        self.send_header("ETag", '"whole"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def talker():
    class Server(http.server.ThreadingHTTPServer):
        daemon_threads, heard, connections = True, None, 0

        def handle_error(self, *_):  # connections that are cut are what this is about
            pass

    with Server(("127.0.0.1", 0), Handler) as server:
        server.heard = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


@pytest.fixture
def make_proxy(talker):
    made = []

    def make(*rules, **more):
        made.append(HttpProxy(*talker.server_address, rules, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


class Client:
    """One connection; what a request came to: (status, body) or the name of the error."""

    def __init__(self, proxy):
        self.connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=10)

    def ask(self, method="GET", path="/", body=None, headers=None):
        try:
            self.connection.request(method, path, body, headers or {})
            answer = self.connection.getresponse()
            self.headers = dict(answer.getheaders())
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError) as error:
            self.connection.close()
            return type(error).__name__


def one(proxy, *words, **more):
    client = Client(proxy)
    try:
        return client.ask(*words, **more)
    finally:
        client.connection.close()


def digest(body):
    return hashlib.sha256(body).hexdigest().encode()


# --- without a mood ---

def test_by_itself_it_changes_nothing(make_proxy, talker):
    proxy = make_proxy()
    client = Client(proxy)
    for _ in range(3):
        assert client.ask("PUT", "/a%20b?c=d", BODY) == (200, digest(BODY))
        assert client.ask("HEAD", "/x") == (200, b"") and client.headers["Content-Length"] == str(len(BODY))
        assert client.ask("GET", "/x") == (200, BODY)
        assert client.ask("GET", "/chunks") == (200, BODY)
    assert talker.heard[0][1:3] == ("/a%20b?c=d", f"127.0.0.1:{proxy.port}"), "the target and Host go as they came"
    assert proxy.connections == talker.connections == 1, "connections are kept on both sides"
    assert proxy.counts() == {"PUT": 3, "HEAD": 3, "GET": 6}
    assert all(one.whole and one.status == one.server_status == 200 and not one.mood.name for one in proxy.exchanges)
    assert proxy.exchanges[0].sent[REQUEST] > len(BODY) and proxy.exchanges[2].sent[ANSWER] > len(BODY)


def test_answers_that_end_with_the_connection(make_proxy):
    proxy = make_proxy()
    assert one(proxy, "GET", "/until-the-end") == (200, BODY)
    client = Client(proxy)
    assert client.ask("GET", "/leaves") == (200, b"bye")
    processes.until(lambda: not proxy._connections, 5, "the server's end is not the client's")
    assert all(one.whole for one in proxy.exchanges)


def test_what_the_server_says_early_comes_at_once(make_proxy):
    proxy = make_proxy()
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as client:
        client.sendall(b"PUT /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 2000)
        assert client.recv(1000).startswith(b"HTTP/1.1 403 ")
        with pytest.raises(ConnectionError):
            while True:
                client.sendall(b"x" * 100_000)
    exchange = proxy.exchanges[0]
    processes.until(lambda: exchange.ended, 5, "it lasts")
    assert exchange.server_status == exchange.status == 403 and exchange.whole


def test_interim_answers(make_proxy):
    with socket.create_connection((make_proxy().host, make_proxy().port), timeout=5) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_client_that_goes_is_told_to_the_server(make_proxy, talker):
    with socket.create_connection((make_proxy().host, make_proxy().port), timeout=5) as client:
        client.sendall(b"PUT /half HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello")
    time.sleep(0.1)
    processes.until(lambda: talker.heard == [] or talker.heard[0][4] == 5, 5, "it waits on")


def test_it_is_fast(make_proxy):
    size = 200_000_000
    began = time.monotonic()
    assert one(make_proxy(), "PUT", "/", b"y" * size)[0] == 200
    assert size / (time.monotonic() - began) > 30_000_000, "bytes in a second, also on a busy machine"


# --- moods ---

def test_answers_of_its_own(make_proxy, talker):
    unavailable = Mood("sick", answer=Answer(503, b"<Error/>", (("Retry-After", "1"),)))
    proxy = make_proxy(Rule(unavailable, times=2))
    client = Client(proxy)
    assert client.ask("PUT", "/", BODY) == (503, b"<Error/>") and client.headers["Retry-After"] == "1"
    assert client.ask("HEAD") == (503, b"")
    assert client.ask("PUT", "/", BODY) == (200, digest(BODY))
    assert proxy.connections == 1 and len(talker.heard) == 1
    assert [(one.mood.name, one.status, one.server_status) for one in proxy.exchanges] == \
        [("sick", 503, 0), ("sick", 503, 0), ("", 200, 200)]


@pytest.mark.parametrize("how", ["reset", "close"])
def test_an_early_answer_leaves_the_body_unread(make_proxy, talker, how):
    proxy = make_proxy(Rule(Mood(answer=Answer(403, b"early"), early=how)))
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as client:
        client.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"z" * 1000)
        came = b""
        try:
            while piece := client.recv(1000):
                came += piece
            ended = "close"
        except ConnectionResetError:
            ended = "reset"
    assert came.startswith(b"HTTP/1.1 403 ") and came.endswith(b"early") and ended == how
    assert talker.connections == 0


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("at", [0, 1, 50, 0.5, -1])
def test_an_answer_is_cut(make_proxy, talker, how, at):
    proxy = make_proxy(Rule(Mood(end=how, at=at), calls=1))
    assert one(proxy, "PUT", "/", BODY) != (200, digest(BODY))
    assert len(talker.heard) == 1, "the server has done it"
    cut = proxy.exchanges[0]
    assert not cut.whole and cut.server_status == 200
    if isinstance(at, int) and at >= 0:
        assert cut.sent[ANSWER] == at
    assert one(proxy, "PUT", "/", BODY) == (200, digest(BODY)), "only the first had that mood"


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("at", [0, 20, 0.5, -1])
def test_a_request_is_cut(make_proxy, talker, how, at):
    proxy = make_proxy(Rule(Mood(end=how, of=REQUEST, at=at), calls=1))
    assert not isinstance(one(proxy, "PUT", "/", BODY), tuple)
    assert all(heard[4] < len(BODY) for heard in talker.heard)
    assert proxy.exchanges[0].status == proxy.exchanges[0].server_status == 0


def test_stalls_and_slow_links(make_proxy):
    proxy = make_proxy(Rule(Mood(stall=0.3, of=REQUEST, at=0.5), calls=1), Rule(Mood(stall=0.3, at=0), calls=1),
                       Rule(Mood(rate=1_000_000, of=REQUEST), calls=1))
    for _ in range(3):
        began = time.monotonic()
        assert one(proxy, "PUT", "/", BODY) == (200, digest(BODY))
        assert 0.2 < time.monotonic() - began < 3


def test_a_client_that_gives_up_ends_a_stall(make_proxy):
    proxy = make_proxy(Rule(Mood(stall=3600, at=0)))
    client = http.client.HTTPConnection(proxy.host, proxy.port, timeout=0.2)
    client.request("GET", "/")
    with pytest.raises(TimeoutError):
        client.getresponse()
    client.close()
    processes.until(lambda: not proxy._connections, 5, "it stalls on")


def test_one_byte_is_another(make_proxy):
    proxy = make_proxy(Rule(Mood(of=REQUEST, corrupt=1000, mask=1), calls=1), Rule(Mood(corrupt=-1, mask=1), calls=1))
    changed = BODY[:1000] + bytes([BODY[1000] ^ 1]) + BODY[1001:]
    assert one(proxy, "PUT", "/", BODY) == (200, digest(changed))
    assert one(proxy, "GET", "/") == (200, BODY[:-1] + bytes([BODY[-1] ^ 1]))
    assert one(proxy, "GET", "/") == (200, BODY)


def test_what_the_server_says_is_changed(make_proxy):
    proxy = make_proxy(Rule(s3_moods.etag('"other"'), calls=1), Rule(s3_moods.etag(None), calls=1),
                       Rule(Mood(body=lambda body: b"  " + body[:3]), calls=1))
    client = Client(proxy)
    assert client.ask() == (200, BODY) and client.headers["etag"] == '"other"'
    assert client.ask() == (200, BODY) and "etag" not in {name.lower() for name in client.headers}
    assert client.ask("PUT", "/", b"abc") == (200, b"  " + digest(b"abc")[:3])
    assert client.ask() == (200, BODY) and client.headers["ETag"] == '"whole"'


# --- rules ---

def request(method="GET", target="/", **headers):
    return Request(method, target, tuple(headers.items()), method)


def test_rules_choose(make_proxy):
    sick = Mood("sick")
    assert Rule(sick, "PUT", path="*/b c*", query={"part": "1?"}).fits(request("PUT", "/a/b%20c.csv?part=12"))
    assert not Rule(sick, query={"part": "1?"}).fits(request("PUT", "/a?part=1"))
    assert Rule(sick, match=lambda one: one.header("host") == "h").fits(request(host="h"))

    def struck(rule, calls=6):
        return [rule.strikes(request(), 1) is not None for _ in range(calls)]

    assert struck(Rule(sick, calls=2)) == [False, True, False, False, False, False]
    assert struck(Rule(sick, calls=(1, 4))) == [True, False, False, True, False, False]
    assert struck(Rule(sick, after=4)) == [False] * 4 + [True] * 2
    assert struck(Rule(sick, times=2)) == [True] * 2 + [False] * 4
    often = struck(Rule(sick, chance=0.3), 1000)
    assert 200 < sum(often) < 400 and often == struck(Rule(sick, chance=0.3), 1000), "by chance, and the same again"
    random_mood = Rule(lambda chance: Mood(str(chance.random())))
    assert random_mood.strikes(request(), 1).name != random_mood.strikes(request(), 1).name
    assert isinstance(random.Random(1).random(), float)


def test_an_impossible_mood_is_told(make_proxy, talker):
    proxy = HttpProxy(*talker.server_address, [Rule(Mood(head=lambda answer: answer.nonsense))])
    assert one(proxy, "GET", "/") in ("RemoteDisconnected", "ConnectionResetError")
    with pytest.raises(AttributeError):
        proxy.close()


# --- S3's words ---

@pytest.mark.parametrize("method,target,name", [
    ("PUT", "/bucket/a/b.csv", "PutObject"), ("PUT", "/bucket/a?partNumber=3&uploadId=x", "UploadPart"),
    ("POST", "/bucket/a?uploads=", "CreateMultipartUpload"), ("POST", "/bucket/a?uploads", "CreateMultipartUpload"),
    ("POST", "/bucket/a?uploadId=x", "CompleteMultipartUpload"),
    ("DELETE", "/bucket/a?uploadId=x", "AbortMultipartUpload"), ("GET", "/bucket/a?uploadId=x", "ListParts"),
    ("HEAD", "/bucket/a", "HeadObject"), ("DELETE", "/bucket/a", "DeleteObject"),
    ("GET", "/bucket/a?X-Amz-Signature=1", "GetObject"), ("GET", "/bucket?list-type=2", "ListObjectsV2"),
    ("GET", "/bucket/?uploads=&prefix=a%2Fb", "ListMultipartUploads"), ("POST", "/bucket?delete=", "DeleteObjects"),
    ("HEAD", "/bucket", "HeadBucket"), ("HEAD", "/bucket/", "HeadBucket"),
])
def test_operations_of_s3(method, target, name):
    assert s3_moods.operation(request(method, target)) == name


def test_whose_request_it_is():
    signed = request(authorization="AWS4-HMAC-SHA256 Credential=KEY/20250131/eu/s3/aws4_request, Signature=x",
                     **{"x-amz-date": "20250131T235958Z"})
    assert s3_moods.access_key(signed) == "KEY" and s3_moods.signed_at(signed) == 1738367998
    assert s3_moods.access_key(request()) == "" and s3_moods.signed_at(request()) is None
