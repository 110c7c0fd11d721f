"""The proxy that other stories break connections with does what its moods say, to the byte."""

import errno
import socket
import socketserver
import threading
import time

import pytest

import processes
from proxy import ANSWER, REQUEST, Mood, Proxy

SAID = bytes(i % 251 for i in range(300000))


class Talker(socketserver.BaseRequestHandler):
    """Hears a line, says what it has to say, and keeps what it heard and whether it was cut off."""

    def handle(self):
        heard, reset = b"", False
        try:
            while not heard.endswith(b"\n") and (piece := self.request.recv(65536)):
                heard += piece
            self.request.sendall(SAID)
        except ConnectionError:
            reset = True
        self.server.heard.append((heard, reset))


@pytest.fixture
def talker():
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads, heard = True, []

    with Server(("127.0.0.1", 0), Talker) as server:
        server.heard = []
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join(10)


def talk(proxy, words=b"say\n", seconds=10):
    """What came, and how it ended: "close" or "reset"."""
    came = b""
    try:
        with socket.create_connection((proxy.host, proxy.port), timeout=seconds) as client:
            client.sendall(words)
            while piece := client.recv(65536):
                came += piece
        return came, "close"
    except ConnectionResetError:
        return came, "reset"


@pytest.fixture
def make_proxy(talker):
    made = []

    def make(*script, **more):
        made.append(Proxy(*talker.server_address, script, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_by_itself_it_changes_nothing(make_proxy, talker):
    proxy = make_proxy()
    assert talk(proxy) == (SAID, "close")
    assert proxy.connections[0].sent == {ANSWER: len(SAID), REQUEST: 4}
    assert talker.heard == [(b"say\n", False)]


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("after", [0, 1, 65536, 65537, len(SAID) - 1])
def test_an_answer_ends_after_so_many_bytes(make_proxy, how, after):
    proxy = make_proxy(Mood(how, after))
    assert talk(proxy) == (SAID[:after], how)
    assert proxy.connections[0].sent[ANSWER] == after and proxy.connections[0].ended == "mood"
    assert talk(proxy) == (SAID, "close"), "only the first one had that mood"


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_request_ends_after_so_many_bytes(make_proxy, talker, how):
    proxy = make_proxy(Mood(how, 2, REQUEST))
    assert talk(proxy) == (b"", how)
    proxy.close()
    processes.until(lambda: talker.heard, 5, "the server does not hear of the end")
    assert talker.heard[0][0] == b"sa" and proxy.sent(REQUEST) == 2


def test_a_hole_keeps_both_ends_open_until_it_is_told_otherwise(make_proxy):
    proxy = make_proxy(Mood("hole", 1000))
    with socket.create_connection((proxy.host, proxy.port), timeout=0.3) as client:
        client.sendall(b"say\n")
        came = b""
        with pytest.raises(TimeoutError):
            while True:
                came += client.recv(65536)
        assert came == SAID[:1000]
        client.sendall(b"still there")
        proxy.end_all("reset")
        client.settimeout(5)
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_dead_one_does_not_even_acknowledge(make_proxy):
    proxy = make_proxy(Mood("dead", 1000))
    with socket.create_connection((proxy.host, proxy.port), timeout=5) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        client.sendall(b"say\n")
        came = client.recv(1000, socket.MSG_WAITALL)
        assert came == SAID[:1000]
        processes.until(lambda: proxy.connections[0].ended, 5, "it lives")
        time.sleep(0.05)
        client.sendall(b"anybody there?")
        with pytest.raises(TimeoutError) as error:
            client.recv(1)
        assert error.value.errno == errno.ETIMEDOUT, "TCP gave up, not this test"


def test_an_order_ends_what_lasts(make_proxy):
    proxy = make_proxy(mood=Mood(rate=10000))
    threading.Timer(0.2, proxy.end_all, ["reset"]).start()
    came, ended = talk(proxy)
    assert ended == "reset" and 0 < len(came) < len(SAID)


def test_one_byte_is_another(make_proxy, talker):
    proxy = make_proxy(Mood(corrupt=70000, mask=0x01), Mood(of=REQUEST, corrupt=0, mask=0x20))
    came, _ = talk(proxy)
    assert [i for i in range(len(SAID)) if came[i] != SAID[i]] == [70000] and came[70000] == SAID[70000] ^ 1
    assert talk(proxy) == (SAID, "close")
    assert talker.heard[1] == (b"Say\n", False)


def test_slow(make_proxy):
    proxy = make_proxy(Mood(rate=1000000), Mood(of=REQUEST, delay=0.2))
    for at_least in (0.2, 0.2):
        start = time.monotonic()
        assert talk(proxy) == (SAID, "close")
        assert at_least <= time.monotonic() - start < 2


def test_a_server_that_is_away_is_a_reset():
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = nobody.getsockname()
    with Proxy(*address) as proxy:
        assert talk(proxy)[1] == "reset"
        assert proxy.connections[0].ended == "server"
