"""A client that asks the wrong server: what comes back is shown as text, and saved where the user said."""

import http.server
import json
import os
import subprocess
import threading

import pytest

pytestmark = pytest.mark.asan

TASK = "11111111-2222-4333-8444-555555555555"
EVIL = "red \x1b[31m bell \x07 c1 \u009b2J turned \u202e end"
CONTENT = b"n\r\n1\r\n"


class Hostile(http.server.BaseHTTPRequestHandler):
    """Says whatever the test has put into `server.says`: path prefix to (status, headers, body)."""

    def do_GET(self):
        for prefix, (status, headers, body) in self.server.says.items():
            if self.path.startswith(prefix):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return
        self.send_error(404)

    do_POST = do_DELETE = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def hostile():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    server.says = {}
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join(10)
    server.server_close()


@pytest.fixture
def cli(program, tmp_path, hostile):
    def run(*words):
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        done = subprocess.run([program, *words, "--url", hostile.url], capture_output=True, timeout=40, cwd=folder,
                              stdin=subprocess.DEVNULL, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path),
                                                             "LANG": "C.UTF-8", "ROWFERRY_USER": "u"})
        assert b"Sanitizer" not in done.stderr and b"runtime error" not in done.stderr, done.stderr
        return done

    return run


def completed(hostile, **more):
    return json.dumps({"status": "completed", "state": "completed", "progress": 100, "file_size": len(CONTENT),
                       "row_count": 1, "download_url": f"{hostile.url}/files/x", "expires_at": "2030-01-01T00:00:00",
                       "key": "exports/u/a_20240101_000000_11111111.csv", **more}).encode()


JSON = {"Content-Type": "application/json"}
NAMES = ['attachment; filename="../../.ssh/authorized_keys"', "attachment; filename*=UTF-8''..%2F..%2F.ssh%2Fx",
         'attachment; filename="/etc/passwd"', 'attachment; filename=".."', 'attachment; filename="a\\b"', "attachment"]


@pytest.mark.parametrize("disposition", NAMES)
def test_a_name_from_outside_stays_in_the_folder(cli, hostile, tmp_path, disposition):
    hostile.says = {
        "/api/": (200, JSON, completed(hostile, key="exports/u/../../../.ssh/authorized_keys")),
        "/files/": (200, {"Content-Type": "text/csv", "Content-Disposition": disposition}, CONTENT)}
    cli("download", TASK, "--no-verify")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.parent == tmp_path / "work" for path in files), files
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in files)


@pytest.mark.parametrize("command", ["status", "watch"])
def test_what_a_server_says_is_only_text(cli, hostile, command):
    hostile.says = {"/api/": (200, JSON, json.dumps({
        "status": "failed", "state": "failed", "progress": 10, "error": EVIL, "error_code": EVIL}).encode())}
    done = cli(command, TASK)
    shown = done.stdout + done.stderr
    assert done.returncode in (0, 1)
    for bad in (b"\x1b", b"\x07", "\u009b".encode(), "\u202e".encode()):
        assert bad not in shown


def test_a_list_is_only_text(cli, hostile):
    hostile.says = {"/api/": (200, JSON, json.dumps({"exports": [
        {"key": f"exports/u/{EVIL}.csv", "size": 1, "last_modified": EVIL, "download_url": "x"}],
        "next_cursor": None}).encode())}
    shown = cli("list").stdout
    assert b"\x1b" not in shown and "\u202e".encode() not in shown


ANSWERS = [("no JSON", 200, JSON, b"<html>"), ("an array", 200, JSON, b"[]"), ("nothing", 200, JSON, b""),
           ("teapot", 418, {}, b"short and stout"),
           ("an empty error", 500, JSON, b"{}"), ("deep", 200, JSON, b"[" * 100000),
           ("a redirect", 302, {"Location": "file:///etc/passwd"}, b""),
           ("nine megabytes", 200, JSON, b'{"status":"' + b"x" * (9 << 20) + b'"}')]


@pytest.mark.parametrize("name,status,headers,body", ANSWERS, ids=[row[0] for row in ANSWERS])
def test_answers_that_make_no_sense(cli, hostile, name, status, headers, body):
    hostile.says = {"/api/": (status, headers, body)}
    done = cli("status", TASK)
    assert done.returncode in (1, 5, 69) and done.stderr.startswith(b"rowferry"), (done.returncode, done.stderr)
    assert b"root:" not in done.stdout + done.stderr


def test_a_file_shorter_than_promised(cli, hostile, tmp_path):
    hostile.says = {"/api/": (200, JSON, completed(hostile, file_size=100, checksum={"sha256": "0" * 64})),
                    "/files/": (200, {"Content-Type": "text/csv"}, CONTENT)}
    assert cli("download", TASK, "-o", "x.csv").returncode == 7
    assert not (tmp_path / "work" / "x.csv").exists()


def test_links_to_other_places_are_not_followed(cli, hostile, tmp_path):
    for url in ("file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/x", "javascript:1", "/etc/passwd", ""):
        hostile.says = {"/api/": (200, JSON, completed(hostile, download_url=url))}
        done = cli("download", TASK, "-o", "x.csv", "--no-verify")
        assert done.returncode != 0, url
        assert not (tmp_path / "work" / "x.csv").exists()
