"""Signed links of the local store: who holds one may fetch that file until it expires, and nothing else."""

import os
import re
import string
import time

import pytest

import database
import signing

pytestmark = pytest.mark.asan

ROWS = 500
WHOLE = database.numbers_csv(ROWS)


@pytest.fixture(scope="module")
def done(shared):
    return shared.export("numbers", "linker", params={"rows": ROWS})


@pytest.fixture(scope="module")
def url(done):
    return done["download_url"]


@pytest.fixture
def secret(shared):
    return (shared.data / "url.secret").read_text().strip()


def code_of(answer):
    return answer.status_code, answer.json()["code"]


def test_the_link_gives_the_file(shared, done, url):
    answer = shared.http("GET", url)
    assert answer.status_code == 200
    assert answer.content == WHOLE
    assert database.sha256(answer.content) == done["checksum"]["sha256"]
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Length"] == str(len(WHOLE)) == str(done["file_size"])
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    name = done["key"].rsplit("/", 1)[1]
    assert answer.headers["Content-Disposition"] == f"attachment; filename=\"{name}\"; filename*=UTF-8''{name}"


def test_head_tells_the_same_without_the_bytes(shared, url):
    get, head = shared.http("GET", url), shared.http("HEAD", url)
    assert head.status_code == 200 and head.content == b""
    for name in ("Content-Length", "Content-Type", "ETag", "Accept-Ranges", "Content-Disposition"):
        assert head.headers[name] == get.headers[name]


def test_the_rule_of_the_signature_is_the_published_one(shared, done, url, secret):
    """A link made here, from the rule in the documents, is the very link of the service."""
    key, expires, name, _ = signing.parts(url)
    assert key == done["key"]
    assert signing.link(shared.url, secret, key, expires, name) == url


def test_a_link_that_has_expired(shared, done, secret):
    for expires, code in ((int(time.time()) - 1, "link-expired"), (1, "link-expired"), (int(time.time()) + 60, None)):
        answer = shared.http("GET", signing.link(shared.url, secret, done["key"], expires, "a.csv"))
        if code:
            assert code_of(answer) == (403, code)
        else:
            assert answer.content == WHOLE


@pytest.mark.testbuild
def test_a_link_expires_when_its_day_is_over(make_service):
    service = make_service()
    done = service.export("graph_data")
    target = done["download_url"].removeprefix(service.url)
    assert service.http("GET", target).status_code == 200
    assert service.stop() == 0
    service.environment["ROWFERRY_TEST_CLOCK_OFFSET_MS"] = str(86390 * 1000)
    service.start()
    assert service.http("GET", target).status_code == 200
    assert service.stop() == 0
    service.environment["ROWFERRY_TEST_CLOCK_OFFSET_MS"] = str(86402 * 1000)
    service.start()
    assert code_of(service.http("GET", target)) == (403, "link-expired")
    again = service.status(service.sql("SELECT id FROM task WHERE user_id <> ''")[0][0])
    assert service.http("GET", again["download_url"]).status_code == 200, "a new poll has a new link"


def test_a_short_link_where_asked_for(shared):
    done = shared.export("numbers", "linker", params={"rows": 1}, url_ttl=60)
    assert 30 <= done["expires_in"] <= 61
    longest = shared.export("numbers", "linker", params={"rows": 1}, url_ttl=604800, retain_days=7)
    assert 604790 < longest["expires_in"] <= 604801


def test_a_link_does_not_outlive_its_file(shared):
    done = shared.export("numbers", "linker", params={"rows": 1}, url_ttl=604800, retain_days=1)
    assert 86300 < done["expires_in"] <= 86400
    assert done["expires_reason"] == "retention"


def other_character(one):
    """Another character that may stand there."""
    return {"=": "-", "&": "+", "/": "_", "?": "!", "%": "A"}.get(one) or ("0" if one != "0" else "1")


def test_any_character_of_the_link_changed(shared, url):
    """All positions of path and query: never the file."""
    target = url.removeprefix(shared.url)
    served = []
    for at in range(1, len(target)):
        altered = target[:at] + other_character(target[at]) + target[at + 1:]
        answer = shared.http("GET", altered)
        if answer.status_code < 400:
            served.append(altered)
        assert answer.status_code in (400, 403, 404), (altered, answer.status_code)
    assert not served


def test_any_bit_of_the_signature_changed(shared, url):
    head, signature = url[:-64], url[-64:]
    for at in range(64):
        for bit in (1, 2, 4, 8):
            digit = f"{int(signature[at], 16) ^ bit:x}"
            answer = shared.http("GET", head + signature[:at] + digit + signature[at + 1:])
            assert code_of(answer) == (403, "forbidden")
    refused = shared.lines("link.refused")
    assert refused and signature not in str(refused)


def test_a_link_that_was_mangled_does_not_tell_its_signature(shared, url):
    """A mail program that encodes what it should not: the signature is still good, so it must not stand in the log."""
    for mangle in (lambda u: u.replace("?", "%3F"), lambda u: u.replace("?", "%3F").replace("=", "%3D"),
                   lambda u: u.replace("?", "!").replace("signature", "Signature")):
        assert shared.http("GET", mangle(url)).status_code in (400, 403, 404)
    assert url[-64:] not in shared.text()


def test_a_link_for_another_key(shared, done, url):
    other = shared.export("numbers", "linker", params={"rows": 2})
    altered = url.replace(done["key"], other["key"])
    assert altered != url
    assert code_of(shared.http("GET", altered)) == (403, "forbidden")


def test_a_link_of_another_secret(shared, done):
    foreign = signing.link(shared.url, "0" * 64, done["key"], int(time.time()) + 600, "a.csv")
    assert code_of(shared.http("GET", foreign)) == (403, "forbidden")


ALTERED = [
    ("upper-case signature", lambda url: url[:-64] + url[-64:].upper(), 403, "forbidden"),
    ("short signature", lambda url: url[:-1], 403, "forbidden"),
    ("long signature", lambda url: url + "0", 403, "forbidden"),
    ("no signature", lambda url: url[:url.index("&signature")], 403, "forbidden"),
    ("later expiry", lambda url: re.sub(r"expires=(\d+)", lambda m: f"expires={int(m[1]) + 1}", url), 403, "forbidden"),
    ("leading zero", lambda url: url.replace("expires=", "expires=0"), 403, "forbidden"),
    ("a plus", lambda url: url.replace("expires=", "expires=%2B"), 403, "forbidden"),
    ("another name", lambda url: url.replace("name=", "name=x"), 403, "forbidden"),
    ("expires twice", lambda url: url + "&expires=1", 400, "invalid-request"),
    ("signature twice", lambda url: url + "&signature=" + "0" * 64, 400, "invalid-request"),
    ("name twice", lambda url: url + "&name=a", 400, "invalid-request"),
    ("NUL in the name", lambda url: url.replace("name=", "name=%00"), 400, "invalid-request"),
]


@pytest.mark.parametrize("name,alter,status,code", ALTERED, ids=[row[0] for row in ALTERED])
def test_altered(shared, url, name, alter, status, code):
    altered = alter(url)
    if name == "upper-case signature" and altered == url:
        altered = url[:-64] + "A" + url[-63:]
    assert code_of(shared.http("GET", altered)) == (status, code)


RANGES = [
    ("single", "bytes=0-9", 0, 10),
    ("middle", "bytes=100-199", 100, 200),
    ("one byte", "bytes=5-5", 5, 6),
    ("open", f"bytes={len(WHOLE) - 7}-", len(WHOLE) - 7, len(WHOLE)),
    ("suffix", "bytes=-11", len(WHOLE) - 11, len(WHOLE)),
    ("suffix longer than the file", "bytes=-999999", 0, len(WHOLE)),
    ("end beyond", f"bytes=10-{len(WHOLE) + 50}", 10, len(WHOLE)),
    ("end beyond 64 bits", "bytes=10-99999999999999999999999", 10, len(WHOLE)),
    ("all of it", "bytes=0-", 0, len(WHOLE)),
]


@pytest.mark.parametrize("name,value,start,end", RANGES, ids=[row[0] for row in RANGES])
def test_ranges(shared, url, name, value, start, end):
    answer = shared.http("GET", url, headers={"Range": value})
    assert answer.status_code == 206
    assert answer.content == WHOLE[start:end]
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(WHOLE)}"
    assert answer.headers["Content-Length"] == str(end - start)
    head = shared.http("HEAD", url, headers={"Range": value})
    assert head.content == b""


BEYOND = [f"bytes={len(WHOLE)}-", "bytes=9999999-99999999", "bytes=-0"]


@pytest.mark.parametrize("value", BEYOND)
def test_ranges_beyond_the_end(shared, url, value):
    answer = shared.http("GET", url, headers={"Range": value})
    assert code_of(answer) == (416, "range-not-satisfiable")
    assert answer.headers["Content-Range"] == f"bytes */{len(WHOLE)}"


IGNORED = ["bytes=0-1,5-6", "bytes=" + ",".join(f"{i}-{i}" for i in range(200)), "lines=1-2", "bytes=9-2", "bytes=a-b",
           "bytes=", "bytes=--1"]


@pytest.mark.parametrize("value", IGNORED, ids=lambda value: value[:16])
def test_other_ranges_give_the_whole_file(shared, url, value):
    answer = shared.http("GET", url, headers={"Range": value})
    assert (answer.status_code, answer.content) == (200, WHOLE)


def test_validators(shared, url):
    tag = shared.http("HEAD", url).headers["ETag"]
    assert tag.startswith('"') and tag.endswith('"')
    unchanged = shared.http("GET", url, headers={"If-None-Match": tag})
    assert unchanged.status_code == 304 and unchanged.content == b"" and unchanged.headers["ETag"] == tag
    assert shared.http("GET", url, headers={"If-None-Match": f'"other", {tag}'}).status_code == 304
    assert shared.http("GET", url, headers={"If-None-Match": "*"}).status_code == 304
    assert shared.http("GET", url, headers={"If-None-Match": '"other"'}).status_code == 200
    same = shared.http("GET", url, headers={"Range": "bytes=0-4", "If-Range": tag})
    assert (same.status_code, same.content) == (206, WHOLE[:5])
    other = shared.http("GET", url, headers={"Range": "bytes=0-4", "If-Range": '"other"'})
    assert (other.status_code, other.content) == (200, WHOLE)


def test_a_file_in_pieces_is_the_file(shared, url):
    """As a client resumes a download."""
    tag, got = shared.http("HEAD", url).headers["ETag"], b""
    while len(got) < len(WHOLE):
        end = min(len(got) + 1000, len(WHOLE)) - 1
        got += shared.http("GET", url, headers={"Range": f"bytes={len(got)}-{end}", "If-Range": tag}).content
    assert got == WHOLE


NAMES = [
    ("report.csv", "report.csv", "report.csv"),
    ("no extension", "no extension.csv", "no%20extension.csv"),
    ("Übersicht (März).csv", None, "%C3%9Cbersicht%20%28M%C3%A4rz%29.csv"),
    ("100% 'quoted'; a=b.csv", None, "100%25%20%27quoted%27%3B%20a%3Db.csv"),
    ("统计.csv", None, "%E7%BB%9F%E8%AE%A1.csv"),
]


@pytest.mark.parametrize("filename,plain,encoded", NAMES, ids=[row[0] for row in NAMES])
def test_the_name_that_is_offered(shared, filename, plain, encoded):
    done = shared.export("numbers", "linker", params={"rows": 1}, filename=filename)
    disposition = shared.http("HEAD", done["download_url"]).headers["Content-Disposition"]
    assert disposition.startswith("attachment; filename=\"")
    assert disposition.isascii()
    assert disposition.split("filename*=UTF-8''")[1] == encoded
    if plain:
        assert f'filename="{plain}"' in disposition


def test_a_deleted_file_ends_its_link(shared):
    done = shared.export("numbers", "linker", params={"rows": 1})
    shared.http("DELETE", f"/api/exports/{done['key']}")
    assert code_of(shared.http("GET", done["download_url"])) == (404, "not-found")


def test_what_is_no_plain_file_is_not_served(make_service):
    """A link that is signed is still only for a regular file below the root, with one name."""
    service = make_service()
    service.export("graph_data", "u")
    secret = (service.data / "url.secret").read_text().strip()
    folder = service.data / "files" / "exports" / "u"
    (service.folder / "outside.csv").write_text("outside")
    (folder / "plain.csv").write_text("a\r\n")
    (folder / "link.csv").symlink_to(service.folder / "outside.csv")
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    os.link(service.folder / "outside.csv", folder / "hard.csv")
    (service.data / "files" / "exports" / "away").symlink_to(service.folder)

    def get(key):
        return service.http("GET", signing.link(service.url, secret, key, int(time.time()) + 60, "a.csv"))

    assert get("exports/u/plain.csv").content == b"a\r\n"
    for key in ("link.csv", "folder.csv", "pipe.csv", "hard.csv", "missing.csv"):
        assert code_of(get(f"exports/u/{key}")) == (404, "not-found"), key
    assert code_of(get("exports/away/outside.csv")) == (404, "not-found")
    assert service.lines("storage.refused")
    listed = service.http("GET", "/api/exports/user/u?limit=100").json()["exports"]
    names = {one["key"].rsplit("/", 1)[1] for one in listed}
    assert "plain.csv" in names
    assert not names & {"link.csv", "folder.csv", "pipe.csv", "hard.csv"}


def test_signed_paths_out_of_the_root_lead_nowhere(shared, secret):
    for key in ("../queue.db", "exports/../../queue.db", "/etc/passwd", "exports/u/..", "queue.db", ".uploads/x"):
        answer = shared.http("GET", signing.link(shared.url, secret, key, int(time.time()) + 60, "a"))
        assert answer.status_code in (400, 403, 404), key
        assert b"SQLite" not in answer.content


def test_the_secret_is_rotated(make_service):
    """New in front, old behind: old links live on; without the old one they are dead."""
    old, new = "o" * 40, string.ascii_lowercase + string.digits
    service = make_service(environment={"ROWFERRY_URL_SECRET": old})
    done = service.export("graph_data")
    target = done["download_url"].removeprefix(service.url)
    key, expires, name, signature = signing.parts(done["download_url"])
    assert signature == signing.signature(old, key, expires, name)

    assert service.stop() == 0
    service.environment["ROWFERRY_URL_SECRET"] = f"{new},{old}"
    service.start()
    assert service.http("GET", target).status_code == 200
    task = service.sql("SELECT id FROM task WHERE user_id <> ''")[0][0]
    assert signing.parts(service.status(task)["download_url"])[3] == signing.signature(new, key, expires, name)

    assert service.stop() == 0
    service.environment["ROWFERRY_URL_SECRET"] = new
    service.start()
    assert code_of(service.http("GET", target)) == (403, "forbidden")
    assert service.http("GET", service.status(task)["download_url"]).status_code == 200


def test_two_first_starts_have_two_secrets(make_service):
    first, second = make_service(), make_service()
    secrets = {(one.data / "url.secret").read_text().strip() for one in (first, second)}
    assert len(secrets) == 2 and all(re.fullmatch("[0-9a-f]{64}", secret) for secret in secrets)
    for one in (first, second):
        assert one.data.stat().st_mode & 0o777 == 0o700
        assert (one.data / "url.secret").stat().st_mode & 0o777 == 0o600
        assert (one.data / "queue.db").stat().st_mode & 0o777 == 0o600


def test_the_link_names_the_host_that_was_asked(shared, done):
    task = shared.sql("SELECT id FROM task WHERE key = ?", done["key"])[0][0]
    for host in ("exports.internal:9999", "localhost:8000"):
        url = shared.http("GET", f"/api/exports/{task}/status", headers={"Host": host}).json()["download_url"]
        assert url.startswith(f"http://{host}/files/")


def test_the_public_url_is_the_base_of_links(make_service):
    service = make_service(environment={"ROWFERRY_PUBLIC_URL": "https://exports.example.com/base"})
    done = service.export("graph_data")
    assert done["download_url"].startswith("https://exports.example.com/base/files/exports/user_1/")
    problem = service.http("GET", "/nothing", headers={"Host": "exports.example.com"}).json()
    assert problem["type"] == "https://exports.example.com/base/problems/not-found"
    target = done["download_url"].removeprefix("https://exports.example.com/base")
    assert service.http("GET", target).status_code == 200
