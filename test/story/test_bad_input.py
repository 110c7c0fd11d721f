"""Every bad-input row of the API: exact status, code and place; and nothing happens besides."""

import json
import time
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.asan

GOOD = {"export_type": "employee_metrics", "user_id": "user_1"}
JSON = {"Content-Type": "application/json"}
UNKNOWN = "00000000-0000-4000-8000-000000000000"


def problem_of(answer, status, code, pointer=None):
    """Checks one refusal, and gives back its body."""
    assert (answer.status_code, answer.headers.get("Content-Type")) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == f"/problems/{code}"
    assert isinstance(body["title"], str) and isinstance(body["detail"], str)
    assert body["request_id"] == answer.headers["X-Request-Id"]
    if pointer is not None:
        assert pointer in [one["pointer"] for one in body["errors"]], body
    assert len(answer.content) < 16384
    return body


@pytest.fixture(autouse=True)
def unhurt(shared):
    """After each row: nothing was queued, and the service answers as before."""
    before = shared.tasks()
    pids = shared.pids("serve"), shared.pids("api")
    yield
    assert shared.tasks() == before, "something was queued"
    assert shared.http("GET", "/health").status_code == 200
    assert (shared.pids("serve"), shared.pids("api")) == pids


# --- the body as JSON ---

def padded(bytes_):
    body = json.dumps(GOOD)
    return body[:-1] + " " * (bytes_ - len(body)) + "}"


BODIES = [
    ("empty", b"", JSON, 400, "malformed-json", None),
    ("no content type", json.dumps(GOOD), {"Content-Type": ""}, 415, "unsupported-media-type", None),
    ("text/plain", json.dumps(GOOD), {"Content-Type": "text/plain"}, 415, "unsupported-media-type", None),
    ("form", "a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type", None),
    ("inflated", json.dumps(GOOD), {**JSON, "Content-Encoding": "gzip"}, 415, "unsupported-media-type", None),
    ("65,537 bytes", padded(65537), JSON, 413, "body-too-large", None),
    ("a megabyte", padded(1 << 20), JSON, 413, "body-too-large", None),
    ("not JSON", b"export_type=employee_metrics", JSON, 400, "malformed-json", None),
    ("half of it", b'{"export_type": "employee_me', JSON, 400, "malformed-json", None),
    ("depth 33", b'{"a":' + b"[" * 32 + b"]" * 32 + b"}", JSON, 400, "malformed-json", None),
    ("depth 20,000", b"[" * 20000, JSON, 400, "malformed-json", None),
    ("double member", b'{"user_id":"a","user_id":"b","export_type":"graph_data"}', JSON, 400, "malformed-json", None),
    ("NaN", b'{"params":{"min_burnout_score":NaN}}', JSON, 400, "malformed-json", None),
    ("Infinity", b'{"params":{"min_burnout_score":Infinity}}', JSON, 400, "malformed-json", None),
    ("trailing bytes", json.dumps(GOOD) + " x", JSON, 400, "malformed-json", None),
    ("two values", json.dumps(GOOD) * 2, JSON, 400, "malformed-json", None),
    ("BOM", b"\xef\xbb\xbf" + json.dumps(GOOD).encode(), JSON, 400, "malformed-json", None),
    ("comment", b'{"user_id":"a" /* b */}', JSON, 400, "malformed-json", None),
    ("not UTF-8", b'{"user_id":"\xff"}', JSON, 400, "invalid-encoding", None),
    ("overlong UTF-8", b'{"user_id":"\xc0\xaf"}', JSON, 400, "invalid-encoding", None),
    ("raw surrogate", b'{"user_id":"\xed\xa0\x80"}', JSON, 400, "invalid-encoding", None),
    ("escaped surrogate", b'{"user_id":"\\ud800"}', JSON, 400, "invalid-encoding", None),
    ("second half only", b'{"user_id":"\\udc00x"}', JSON, 400, "invalid-encoding", None),
    ("U+0000 in a value", b'{"export_type":"graph_data","user_id":"a\\u0000b"}', JSON, 422, "validation-failed", None),
    ("U+0000 in a name", b'{"export_type":"graph_data","user_id":"a","x\\u0000y":1}', JSON, 422, "validation-failed",
     None),
    ("1e400", b'{"export_type":"employee_metrics","user_id":"a","params":{"min_burnout_score":1e400}}', JSON, 422,
     "validation-failed", None),
    ("20 digits", b'{"export_type":"graph_data","user_id":"a","row_limit":12345678901234567890}', JSON, 422,
     "validation-failed", None),
    ("array", b"[]", JSON, 422, "validation-failed", ""),
    ("string", b'"x"', JSON, 422, "validation-failed", ""),
    ("number", b"7", JSON, 422, "validation-failed", ""),
    ("null", b"null", JSON, 422, "validation-failed", ""),
]


@pytest.mark.parametrize("name,body,headers,status,code,pointer", BODIES, ids=[row[0] for row in BODIES])
def test_bodies(shared, name, body, headers, status, code, pointer):
    answer = shared.http("POST", "/api/exports/request", content=body, headers=headers)
    problem_of(answer, status, code, pointer)
    if status == 415:
        assert answer.headers["Accept-Post"] == "application/json"


def test_a_body_too_large_in_chunks(shared):
    def pieces():
        for _ in range(70):
            yield b" " * 1024

    problem_of(shared.http("POST", "/api/exports/request", content=pieces(), headers=JSON), 413, "body-too-large")


def test_malformed_json_names_line_and_column(shared):
    answer = shared.http("POST", "/api/exports/request", content=b'{\n  "user_id": oops\n}', headers=JSON)
    detail = problem_of(answer, 400, "malformed-json")["detail"]
    assert "line 2" in detail and "column" in detail


# --- what is asked for ---

INVALID = "validation-failed"
LATER = "not-available"
MEMBERS = [
    ("no type", {"export_type": ...}, INVALID, "/export_type"),
    ("type is a number", {"export_type": 7}, INVALID, "/export_type"),
    ("type is null", {"export_type": None}, INVALID, "/export_type"),
    ("unknown type", {"export_type": "payroll"}, "unknown-export-type", "/export_type"),
    ("type is a path", {"export_type": "../x"}, "unknown-export-type", "/export_type"),
    ("type is SQL", {"export_type": "a;DROP TABLE employees"}, "unknown-export-type", "/export_type"),
    ("type of 10 KiB", {"export_type": "x" * 10240}, "unknown-export-type", "/export_type"),
    ("params is an array", {"params": []}, INVALID, "/params"),
    ("params is a text", {"params": "team"}, INVALID, "/params"),
    ("unknown param", {"params": {"teem": "Sales"}}, INVALID, "/params/teem"),
    ("65 params", {"params": {f"p{i}": i for i in range(65)}}, INVALID, "/params"),
    ("4,000 params", {"params": {f"p{i}": i for i in range(4000)}}, INVALID, "/params"),
    ("text for a number", {"params": {"min_burnout_score": "60"}}, INVALID, "/params/min_burnout_score"),
    ("number for a text", {"params": {"team": 7}}, INVALID, "/params/team"),
    ("array for a text", {"params": {"team": ["Sales"]}}, INVALID, "/params/team"),
    ("below its bounds", {"params": {"min_burnout_score": -0.5}}, INVALID, "/params/min_burnout_score"),
    ("above its bounds", {"params": {"min_burnout_score": 160}}, INVALID, "/params/min_burnout_score"),
    ("too long", {"params": {"team": "x" * 201}}, INVALID, "/params/team"),
    ("no whole number", {"export_type": "numbers", "params": {"rows": 10.5}}, INVALID, "/params/rows"),
    ("missing param", {"export_type": "numbers", "params": {}}, INVALID, "/params/rows"),
    ("start after end", {"export_type": "interaction_history",
                         "params": {"start": "2024-01-02T00:00:00Z", "end": "2024-01-01T00:00:00Z"}}, INVALID,
     "/params/end"),
    ("start is end", {"export_type": "interaction_history",
                      "params": {"start": "2024-01-02T00:00:00Z", "end": "2024-01-02T01:00:00+01:00"}}, INVALID,
     "/params/end"),
    ("no time", {"export_type": "interaction_history", "params": {"start": "yesterday"}}, INVALID, "/params/start"),
    ("no such day", {"export_type": "interaction_history", "params": {"start": "2024-02-30T00:00:00Z"}}, INVALID,
     "/params/start"),
    ("no user", {"user_id": ...}, INVALID, "/user_id"),
    ("user is a number", {"user_id": 7}, INVALID, "/user_id"),
    ("user is empty", {"user_id": ""}, INVALID, "/user_id"),
    ("user of 129", {"user_id": "u" * 129}, INVALID, "/user_id"),
    ("user is a path", {"user_id": "../a"}, INVALID, "/user_id"),
    ("user with a slash", {"user_id": "a/b"}, INVALID, "/user_id"),
    ("user with two dots", {"user_id": "a..b"}, INVALID, "/user_id"),
    ("user with a blank", {"user_id": "a b"}, INVALID, "/user_id"),
    ("user is not ASCII", {"user_id": "é"}, INVALID, "/user_id"),
    ("user with line ends", {"user_id": "a\r\nb"}, INVALID, "/user_id"),
    ("user starts with a dot", {"user_id": ".a"}, INVALID, "/user_id"),
    ("unknown format", {"format": "docx"}, INVALID, "/format"),
    ("later format", {"format": "xlsx"}, LATER, "/format"),
    ("unknown compression", {"compression": "rar"}, INVALID, "/compression"),
    ("later compression", {"compression": "gzip"}, LATER, "/compression"),
    ("257 columns", {"columns": [f"c{i}" for i in range(257)]}, LATER, "/columns"),
    ("17 labels", {"labels": {f"l{i}": "x" for i in range(17)}}, LATER, "/labels"),
    ("excel", {"profile": "excel"}, LATER, "/profile"),
    ("split", {"split": {"max_rows": 1000}}, LATER, "/split"),
    ("template", {"template": "tpl_1"}, LATER, "/template"),
    ("incremental", {"incremental": {}}, LATER, "/incremental"),
    ("dedupe", {"dedupe": "join"}, LATER, "/dedupe"),
    ("truncate", {"on_row_limit": "truncate"}, LATER, "/on_row_limit"),
    ("a web hook", {"notify": {"url": "https://u:p@h"}}, LATER, "/notify"),
    ("null text", {"options": {"csv": {"null": ","}}}, LATER, "/options/csv/null"),
    ("delimiter", {"options": {"csv": {"delimiter": "\r"}}}, LATER, "/options/csv/delimiter"),
    ("formula guard", {"options": {"csv": {"formula_guard": "maybe"}}}, LATER, "/options/csv/formula_guard"),
    ("time zone", {"options": {"timezone": "Mars/Olympus"}}, LATER, "/options/timezone"),
    ("options is a list", {"options": []}, INVALID, "/options"),
    ("unknown line end", {"options": {"csv": {"line_ending": "cr"}}}, INVALID, "/options/csv/line_ending"),
    ("header is a text", {"options": {"csv": {"header": "yes"}}}, INVALID, "/options/csv/header"),
    ("unknown priority", {"priority": "urgent"}, INVALID, "/priority"),
    ("no row", {"row_limit": 0}, INVALID, "/row_limit"),
    ("half a row", {"row_limit": 10.5}, INVALID, "/row_limit"),
    ("link too short", {"url_ttl": 59}, INVALID, "/url_ttl"),
    ("link too long", {"url_ttl": 604801}, INVALID, "/url_ttl"),
    ("kept for ever", {"retain_days": 10**9}, INVALID, "/retain_days"),
    ("not kept", {"retain_days": 0}, INVALID, "/retain_days"),
    ("no time at all", {"time_limit": 0}, INVALID, "/time_limit"),
    ("more than the server's time", {"time_limit": 86400}, INVALID, "/time_limit"),
    ("not a time", {"not_before": "soon"}, INVALID, "/not_before"),
    ("next century", {"not_before": "2124-01-01T00:00:00Z"}, INVALID, "/not_before"),
    ("name is a path", {"filename": "../x"}, INVALID, "/filename"),
    ("name with line ends", {"filename": "a\r\nSet-Cookie: b"}, INVALID, "/filename"),
    ("name turned around", {"filename": "a\u202evsc.exe"}, INVALID, "/filename"),
    ("name of a device", {"filename": "CON"}, INVALID, "/filename"),
    ("empty name", {"filename": ""}, INVALID, "/filename"),
    ("name with a quote", {"filename": 'a"b'}, INVALID, "/filename"),
    ("name with a dot last", {"filename": "a."}, INVALID, "/filename"),
    ("name of 129", {"filename": "n" * 129}, INVALID, "/filename"),
]


def changed(members):
    body = {**GOOD, **members}
    return {name: value for name, value in body.items() if value is not ...}


@pytest.mark.parametrize("name,members,code,pointer", MEMBERS, ids=[row[0] for row in MEMBERS])
def test_members(shared, name, members, code, pointer):
    body = problem_of(shared.ask(changed(members)), 422, code, pointer)
    assert 1 <= len(body["errors"]) <= 20
    for error in body["errors"]:
        assert error["code"] and error["detail"]
        assert len(str(error.get("value", ""))) <= 64


def test_an_unknown_type_names_those_there_are(shared):
    body = problem_of(shared.ask(changed({"export_type": "payroll"})), 422, "unknown-export-type")
    assert {"employee_metrics", "graph_data", "interaction_history"} <= set(body["errors"][0]["allowed"])


def test_a_value_out_of_bounds_is_shown_with_its_bounds(shared):
    body = problem_of(shared.ask(changed({"params": {"min_burnout_score": 160}})), 422, INVALID)
    assert body["errors"] == [{"pointer": "/params/min_burnout_score", "code": "out-of-range",
                               "detail": "must be between 0 and 100", "value": 160}]


def test_all_that_is_wrong_is_said_at_once(shared):
    answer = shared.ask({"export_type": "employee_metrics", "user_id": "a/b", "priority": "urgent",
                         "params": {"teem": "x", "min_burnout_score": 101}, "filename": "CON"})
    body = problem_of(answer, 422, INVALID)
    assert {one["pointer"] for one in body["errors"]} == {
        "/user_id", "/priority", "/params/teem", "/params/min_burnout_score", "/filename"}


def test_a_strict_request_refuses_unknown_members(shared):
    body = problem_of(shared.ask({**GOOD, "formt": "csv"}, Prefer="handling=strict"), 422, "unknown-member", "/formt")
    assert "format" in body["errors"][0]["detail"], "the nearest known name"


def test_many_names_are_refused_quickly(shared):
    body = {**GOOD, "params": {f"p{i}": i for i in range(4000)}}
    start = time.monotonic()
    assert shared.ask(body).status_code == 422
    assert time.monotonic() - start < 0.5


KEYS = [("empty", ""), ("256", "k" * 256), ("blank in it", "a b"), ("not ASCII", "k\u00e9".encode())]


@pytest.mark.parametrize("name,key", KEYS, ids=[row[0] for row in KEYS])
def test_idempotency_keys(shared, name, key):
    answer = shared.ask(GOOD, **{"Idempotency-Key": key})
    problem_of(answer, 400, "invalid-request", "header:Idempotency-Key")


# --- paths, methods, queries ---

PATHS = [
    ("unknown", "GET", "/api/nothing", 404, "not-found", None),
    ("root", "GET", "/", 404, "not-found", None),
    ("slash at the end", "POST", "/api/exports/request/", 404, "not-found", None),
    ("slash after health", "GET", "/health/", 404, "not-found", None),
    ("two slashes", "GET", "/api//exports/user/a", 404, "not-found", None),
    ("a dot", "GET", "/api/./exports/user/a", 404, "not-found", None),
    ("two dots", "GET", "/api/../health", 404, "not-found", None),
    ("bad percent", "GET", "/api/exports/%zz/status", 400, "invalid-request", None),
    ("half a percent", "GET", "/api/exports/%2/status", 400, "invalid-request", None),
    ("NUL in the path", "GET", "/api/exports/a%00b/status", 400, "invalid-request", None),
    ("line feed in the path", "GET", "/api/exports/a%0ab/status", 400, "invalid-request", None),
    ("NUL in the query", "GET", "/api/exports/user/a?limit=%00", 400, "invalid-request", None),
    ("bad percent in the query", "GET", "/api/exports/user/a?limit=%zz", 400, "invalid-request", None),
    ("line of 8,193 bytes", "GET", "/api/exports/" + "a" * 8192 + "/status", 414, "uri-too-long", None),
    ("query of 9,000 bytes", "GET", "/api/exports/user/a?limit=" + "1" * 9000, 414, "uri-too-long", None),
    ("unknown task", "GET", f"/api/exports/{UNKNOWN}/status", 404, "export-not-found", None),
    ("no plausible id", "GET", "/api/exports/abc-123/status", 404, "export-not-found", None),
    ("id of 129", "GET", "/api/exports/" + "a" * 129 + "/status", 404, "export-not-found", None),
    ("slash in an id", "GET", "/api/exports/a%2Fb/status", 404, None, None),
    ("wait below", "GET", f"/api/exports/{UNKNOWN}/status?wait=-1", 422, "validation-failed", "query:wait"),
    ("wait above", "GET", f"/api/exports/{UNKNOWN}/status?wait=31", 422, "validation-failed", "query:wait"),
    ("wait is a text", "GET", f"/api/exports/{UNKNOWN}/status?wait=x", 422, "validation-failed", "query:wait"),
    ("wait is empty", "GET", f"/api/exports/{UNKNOWN}/status?wait=", 422, "validation-failed", "query:wait"),
    ("wait twice", "GET", f"/api/exports/{UNKNOWN}/status?wait=1&wait=1", 400, "invalid-request", None),
    ("limit 0", "GET", "/api/exports/user/a?limit=0", 422, "validation-failed", "query:limit"),
    ("limit negative", "GET", "/api/exports/user/a?limit=-1", 422, "validation-failed", "query:limit"),
    ("limit 1001", "GET", "/api/exports/user/a?limit=1001", 422, "validation-failed", "query:limit"),
    ("limit is a text", "GET", "/api/exports/user/a?limit=ten", 422, "validation-failed", "query:limit"),
    ("limit is empty", "GET", "/api/exports/user/a?limit=", 422, "validation-failed", "query:limit"),
    ("limit is huge", "GET", "/api/exports/user/a?limit=99999999999999999999", 422, "validation-failed", "query:limit"),
    ("limit twice", "GET", "/api/exports/user/a?limit=1&limit=2", 400, "invalid-request", None),
    ("bad user", "GET", "/api/exports/user/a..b", 422, "validation-failed", "path:user_id"),
    ("user is not ASCII", "GET", "/api/exports/user/%C3%A9", 422, "validation-failed", "path:user_id"),
    ("user of 129", "GET", "/api/exports/user/" + "u" * 129, 422, "validation-failed", "path:user_id"),
    ("bad cursor", "GET", "/api/exports/user/a?cursor=oops", 400, "invalid-request", None),
    ("empty cursor", "GET", "/api/exports/user/a?cursor=", 400, "invalid-request", None),
    ("no problem of ours", "GET", "/problems/no-such-code", 404, "not-found", None),
    ("cancel of nothing", "POST", f"/api/exports/{UNKNOWN}/cancel", 404, "export-not-found", None),
    ("files without signature", "GET", "/files/exports/u/a.csv", 403, "forbidden", None),
]


@pytest.mark.parametrize("name,method,path,status,code,pointer", PATHS, ids=[row[0] for row in PATHS])
def test_paths(shared, raw, name, method, path, status, code, pointer):
    answer = raw(method, path)
    assert answer.status == status, answer
    body = answer.json
    assert body["status"] == status and (code is None or body["code"] == code), body
    if pointer:
        assert pointer in [one["pointer"] for one in body["errors"]], body


@pytest.fixture
def raw(shared):
    """A request whose target goes out exactly as written; clients tidy theirs up."""
    import wire

    def ask(method, path, *headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        found, closed = wire.exchange(shared.url, ("\r\n".join(lines) + "\r\n\r\n").encode())
        assert closed and len(found) == 1
        return found[0]

    return ask


KEYS_OF_FILES = [
    ("not below exports", "secrets/u/a.csv"),
    ("exports alone", "exports"),
    ("another path of ours", "user/a"),
    ("the folder", "exports/"),
    ("a user's folder", "exports/u"),
    ("slash at the end", "exports/u/a.csv/"),
    ("two dots", "exports/u/../b.csv"),
    ("a dot", "exports/./u/b.csv"),
    ("two slashes", "exports//u/b.csv"),
    ("dots in escapes", "exports/u/%2e%2e/b.csv"),
    ("encoded twice", "exports/u/%252e%252e/b.csv"),
    ("backslash", "exports/u/%5cb.csv"),
    ("1,025 bytes", "exports/u/" + "a" * 1015),
    ("an absolute path", "%2Fetc%2Fpasswd"),
    ("uploads", "exports/../.uploads/a"),
]


@pytest.mark.parametrize("name,key", KEYS_OF_FILES, ids=[row[0] for row in KEYS_OF_FILES])
def test_keys_of_files(shared, raw, name, key):
    answer = raw("DELETE", f"/api/exports/{key}")
    assert (answer.status, answer.json["code"]) == (400, "invalid-key"), answer.json


def test_a_control_character_in_a_key(raw):
    assert raw("DELETE", "/api/exports/exports/u/a%0ab.csv").status == 400


METHODS = [
    ("/api/exports/request", "GET", {"POST"}),
    ("/api/exports/request", "PUT", {"POST"}),
    (f"/api/exports/{UNKNOWN}/status", "POST", {"GET", "HEAD"}),
    ("/api/exports/user/a", "PATCH", {"GET", "HEAD"}),
    (f"/api/exports/{UNKNOWN}/cancel", "GET", {"POST"}),
    ("/api/exports/exports/u/a.csv", "PATCH", {"DELETE"}),
    ("/health", "POST", {"GET", "HEAD"}),
    ("/metrics", "PUT", {"GET", "HEAD"}),
    ("/files/exports/u/a.csv", "PUT", {"GET", "HEAD"}),
    ("/api/exports/request", "OPTIONS", {"POST"}),
    ("/health", "TRACE", {"GET", "HEAD"}),
]


@pytest.mark.parametrize("path,method,allowed", METHODS, ids=[f"{row[1]} {row[0][:24]}" for row in METHODS])
def test_methods(shared, path, method, allowed):
    answer = shared.http(method, path)
    problem_of(answer, 405, "method-not-allowed")
    assert allowed <= {word.strip() for word in answer.headers["Allow"].split(",")}


HEADERS = [
    ("no JSON wanted", {"Accept": "text/html"}, 406, "not-acceptable"),
    ("JSON weighs nothing", {"Accept": "application/json;q=0, text/plain"}, 406, "not-acceptable"),
    ("expects tea", {"Expect": "tea"}, 417, "expectation-failed"),
    ("101 headers", {f"X-{i}": "a" for i in range(101)}, 431, "headers-too-large"),
    ("33 KiB of headers", {"X-Large": "a" * 33000}, 431, "headers-too-large"),
    ("a foreign name", {"Host": "evil.example"}, 403, "forbidden"),
    ("a foreign name with our port", {"Host": "localhost.evil.example:8000"}, 403, "forbidden"),
]


@pytest.mark.parametrize("name,headers,status,code", HEADERS, ids=[row[0] for row in HEADERS])
def test_headers(shared, name, headers, status, code):
    problem_of(shared.http("GET", f"/api/exports/{UNKNOWN}/status", headers=headers), status, code)


HOSTS = ["localhost", "127.0.0.1:8000", "[::1]:8000", "exports", "a.local", "b.internal", "c.svc:80", "d.lan",
         "e.cluster.local", "LOCALHOST"]


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_that_are_answered(shared, host):
    assert shared.http("GET", "/health", headers={"Host": host}).status_code == 200


SITES = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"},
         {"Sec-Fetch-Site": "same-site"}]


@pytest.mark.parametrize("headers", SITES, ids=str)
@pytest.mark.parametrize("method,path", [("POST", f"/api/exports/{UNKNOWN}/cancel"), ("POST", "/api/exports/request"),
                                         ("DELETE", "/api/exports/exports/u/a.csv")])
def test_other_sites(shared, method, path, headers):
    problem_of(shared.http(method, path, headers=headers, json=GOOD if method == "POST" else None), 403, "csrf")


def test_unknown_query_names(shared):
    path = "/api/exports/user/a?colour=blue"
    assert shared.http("GET", path).status_code == 200
    problem_of(shared.http("GET", path, headers={"Prefer": "handling=strict"}), 422, "unknown-member", "query:colour")


def test_cancel_bodies(shared):
    path = f"/api/exports/{UNKNOWN}/cancel"
    problem_of(shared.http("POST", path, content=b"{", headers=JSON), 400, "malformed-json")
    problem_of(shared.http("POST", path, content=b"[]", headers=JSON), 422, "validation-failed", "")
    problem_of(shared.http("POST", path, json={"reason": 7}), 422, "validation-failed", "/reason")
    problem_of(shared.http("POST", path, content=b"x", headers={"Content-Type": "text/plain"}), 415,
               "unsupported-media-type")


def test_a_refusal_is_one_line_in_the_log_and_stays_one(shared):
    evil = 'x\n{"level":"error","event":"forged"}'
    answer = shared.ask({**GOOD, "export_type": evil})
    request_id = problem_of(answer, 422, "unknown-export-type")["request_id"]
    refused = [line for line in shared.lines("http.refused") if line["request_id"] == request_id]
    assert len(refused) == 1 and refused[0]["error_code"] == "unknown-export-type"
    assert not shared.lines("forged")


def test_a_known_problem_has_a_page(shared):
    page = shared.http("GET", "/problems/validation-failed")
    assert page.status_code == 200 and "validation-failed" in page.text


def test_values_from_outside_are_cut(shared):
    body = problem_of(shared.ask({**GOOD, "export_type": "secret" * 100}), 422, "unknown-export-type")
    assert "secret" * 11 not in json.dumps(body)


def test_the_path_is_in_the_problem(shared):
    body = problem_of(shared.http("GET", f"/api/exports/{UNKNOWN}/status"), 404, "export-not-found")
    assert body["instance"] == f"/api/exports/{UNKNOWN}/status"
    assert quote(body["instance"]) == body["instance"]
