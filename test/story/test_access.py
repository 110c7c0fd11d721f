"""Whom the service answers: loopback, the private network, and nobody else unless it is written down."""

import http.client

import pytest

import wire

pytestmark = pytest.mark.asan

LOOPBACK, PRIVATE, PUBLIC = "127.0.0.1", "10.1.2.3", "203.0.113.5"


@pytest.fixture
def beyond(namespace, make_service):
    """A service that listens on all addresses of a network of its own."""

    def make(*options, environment=None):
        service = make_service("--host", "0.0.0.0", *options, environment=environment, start=False, spawn=namespace.run)
        service.launch()
        line = service.await_line("role.started", 30, lambda line: "url" in line)
        service.port = int(line["url"].rsplit(":", 1)[1])

        def get(address, path="/health", **headers):
            def work():
                connection = http.client.HTTPConnection(address, service.port, timeout=10, source_address=(address, 0))
                connection.request("GET", path, headers={"Host": f"{address}:{service.port}", **headers})
                answer = connection.getresponse()
                body = answer.read()
                connection.close()
                return answer.status, body.decode()

            return namespace.run(work)

        service.get = get
        return service

    return make


def test_protected_mode_serves_private_peers_only(beyond):
    service = beyond()
    assert service.get(LOOPBACK)[0] == 200
    assert service.get(PRIVATE)[0] == 200
    status, body = service.get(PUBLIC)
    assert status == 403 and '"forbidden"' in body and "ROWFERRY_AUTH" in body
    assert service.lines("auth.refused")
    service.await_line("auth.protected")


def test_a_forwarded_public_address_is_refused(beyond):
    service = beyond()
    assert service.get(PRIVATE, **{"X-Forwarded-For": PUBLIC})[0] == 403
    assert service.get(PRIVATE, Forwarded=f"for={PUBLIC}")[0] == 403
    assert service.get(LOOPBACK, **{"X-Forwarded-For": PUBLIC})[0] == 403
    assert service.get(PRIVATE, **{"X-Forwarded-For": "10.9.9.9"})[0] == 200


def test_the_host_rule_holds_beyond_loopback(beyond):
    service = beyond(environment={"ROWFERRY_HOSTS": "exports.example.com"})
    assert service.get(PRIVATE, Host="evil.example")[0] == 403
    assert service.get(PRIVATE, Host="exports.example.com")[0] == 200
    assert service.get(PRIVATE, Host="exports.example.com:8000")[0] == 200
    assert service.get(PRIVATE, Host="other.example.com")[0] == 403


def test_open_where_it_is_written_out(beyond):
    service = beyond("--auth", "none")
    assert service.get(PUBLIC)[0] == 200
    service.await_line("auth.open")


def test_a_service_that_requires_authentication_does_not_start(make_service):
    for options in ((), ("--auth", "none")):
        service = make_service("--host", "0.0.0.0", *options, environment={"ROWFERRY_REQUIRE_AUTH": "on"}, start=False)
        service.launch()
        assert service.process.wait(20) == 2
        assert "ROWFERRY_REQUIRE_AUTH" in service.text()


def test_what_a_proxy_on_loopback_passes_on_sees_no_metrics(shared):
    """Loopback is open; a proxy there that nobody told us of speaks for the internet."""
    for headers in ({"X-Forwarded-For": PUBLIC}, {"Forwarded": f"for={PUBLIC}"}):
        assert shared.http("GET", "/health", headers=headers).status_code == 200
        assert shared.http("GET", "/metrics", headers=headers).status_code == 401
    assert shared.http("GET", "/metrics", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 200
    assert shared.http("GET", "/metrics").status_code == 200


def test_a_trusted_proxy_may_say_who_asks(make_service):
    service = make_service(environment={"ROWFERRY_TRUSTED_PROXIES": "127.0.0.1"})
    assert service.http("GET", "/health", headers={"X-Forwarded-For": "10.0.0.9"}).status_code == 200


def test_two_identities_by_folding_are_refused(shared):
    """A folded line must not make up a header that a proxy would have set (security)."""
    found, closed = wire.exchange(shared.url, b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
                                              b"X-Forwarded-For: 10.0.0.1\r\n , 127.0.0.1\r\n\r\n", finish=True)
    assert closed and [answer.status for answer in found] == [400]


def test_no_route_shows_the_set_up(make_service):
    service = make_service(environment={"ROWFERRY_URL_SECRET": "planted-secret-planted-secret-planted",
                                        "GRAPH_DB_PASSWORD": "planted-password", "AWS_ACCESS_KEY_ID": "planted-id",
                                        "AWS_SECRET_ACCESS_KEY": "planted-aws"})
    done = service.export("interaction_history")
    for path in ("/health", "/livez", "/readyz", "/metrics", "/", "/ui", "/openapi.json", "/docs", "/.env", "/debug",
                 "/api/admin/overview", "/config", done["download_url"].removeprefix(service.url), "/server-status"):
        answer = service.http("GET", path)
        assert "planted" not in answer.text and str(service.data) not in answer.text, path


def test_secrets_are_not_in_the_environment_of_processes(make_service):
    service = make_service(environment={"ROWFERRY_URL_SECRET": "planted-secret-planted-secret-planted",
                                        "GRAPH_DB_PASSWORD": "planted-password"})
    service.export("interaction_history")
    seen = set()
    for process in service.processes():
        for name in ("environ", "cmdline"):
            with open(f"/proc/{process.pid}/{name}", "rb") as file:
                assert b"planted" not in file.read(), (process.role, name)
        seen.add(process.role)
    assert {"serve", "api", "worker", "beat", "child"} <= seen


def test_a_child_is_held_to_limits(make_service):
    service = make_service()
    service.export("interaction_history")
    children = [process for process in service.processes() if process.role == "child"]
    assert children
    for process in children:
        with open(f"/proc/{process.pid}/limits") as file:
            limits = {line[:25].strip(): line[25:].split()[:2] for line in file}
        assert limits["Max core file size"] == ["0", "0"]
        assert limits["Max open files"] == ["64", "64"]
        assert limits["Max file size"] == [str(50 << 30)] * 2
