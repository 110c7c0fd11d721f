"""Two real stores, ours and other people's clients: what we export boto3, the aws command line and curl read back, and
what they put there we list, link and delete."""

import hashlib
import json
import os
import re
import subprocess
import time
from datetime import datetime, timezone
from types import SimpleNamespace
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import pytest

import database
from maker import Maker

BRIEF_S = 60  # the shortest life of a link
CSV = "text/csv; charset=utf-8"
FILENAME = "Größe 100% a+b & 'c'; d=e.csv"
DISPOSITION = ("attachment; filename=\"Gr__e 100_ a+b & 'c'_ d=e.csv\"; "
               "filename*=UTF-8''Gr%C3%B6%C3%9Fe%20100%25%20a%2Bb%20%26%20%27c%27%3B%20d%3De.csv")


def curl(url, *words):
    """Status, headers by lower-case name, and body, as the curl command got them."""
    done = subprocess.run(["curl", "-q", "--silent", "--show-error", "--globoff", "--include", "--max-time", "60",
                           "--noproxy", "*", *words, url], capture_output=True, timeout=90)
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return SimpleNamespace(status=int(first.split()[1]), headers=headers, body=body)


def end_of(url):
    """When a link ends, as it says itself; Unix seconds."""
    query = dict(parse_qsl(urlsplit(url).query, strict_parsing=True))
    begins = datetime.strptime(query["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)
    return begins.timestamp() + int(query["X-Amz-Expires"])


@pytest.fixture(scope="module")
def stores(minio, versitygw, tmp_path_factory, program):
    """A service over each store, and a link there that ends soon; both at once, so that their ends are awaited once."""
    maker, made = Maker(tmp_path_factory.mktemp("stores"), program), {}
    for server in (minio, versitygw):
        service = maker(name=server.name, types=["numbers", "any_text"],
                        environment={**server.service(), "ROWFERRY_S3_PART": "5MiB"})
        brief = service.export("numbers", "brief", params={"rows": 5}, url_ttl=BRIEF_S)
        asked = time.time()
        assert curl(brief["download_url"]).body == database.numbers_csv(5)
        made[server.name] = SimpleNamespace(server=server, service=service, brief=brief, brief_asked=asked)
    yield made
    maker.finish()


@pytest.fixture(params=["minio", "versitygw"])
def store(request, stores):
    return stores[request.param]


@pytest.fixture
def dump(program, tmp_path):
    """The bytes of `rowferry dump` for the same request."""
    def dump(service, export_type, params):
        body = json.dumps({"export_type": export_type, "user_id": "u", "params": params})
        done = subprocess.run([program, "dump", "--data-dir", tmp_path / "data", "--types", service.types, "--from-file", "-",
                               "-q"], input=body.encode(), capture_output=True, timeout=60,
                              env={"PATH": os.environ["PATH"], "GRAPH_DB_URL": f"sqlite:{service.source}",
                                   "TIMESCALE_URL": f"sqlite:{service.source}"})
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return dump


# --- what we wrote ---

@pytest.mark.parametrize("export_type,params,parts", [
    ("employee_metrics", {}, 0),
    ("graph_data", {}, 0),
    ("interaction_history", {}, 0),
    ("any_text", {"value": "\"é\" 日本 😀, +%\r\n"}, 0),
    ("numbers", {"rows": 0}, 0),
    ("numbers", {"rows": 400000}, 3),
], ids=["employee_metrics", "graph_data", "interaction_history", "any_text", "no_rows", "parts"])
def test_every_client_reads_what_dump_writes(store, dump, export_type, params, parts):
    server, done = store.server, store.service.export(export_type, "reader", params=params)
    written = dump(store.service, export_type, params)
    assert written and (len(written) > 10 << 20) == (parts > 0)
    place = {"Bucket": server.bucket, "Key": done["key"]}
    answer = server.client().get_object(**place)
    assert answer["Body"].read() == written
    assert answer["ETag"].strip('"').partition("-")[2] == (str(parts) if parts else "")
    assert answer["ContentType"] == CSV
    assert server.aws("s3", "cp", f"s3://{server.bucket}/{done['key']}", "-") == written
    assert curl(done["download_url"]).body == written
    assert (done["file_size"], done["checksum"]["sha256"]) == (len(written), database.sha256(written))


# --- links ---

@pytest.fixture(scope="module")
def linked(stores):
    """An export of each store; and another object whose link it is not."""
    def make(store):
        done = store.service.export("numbers", "linker", params={"rows": 1000}, filename=FILENAME)
        store.server.client().put_object(Bucket=store.server.bucket, Key=done["key"] + "x", Body=b"another")
        return done

    return {name: make(store) for name, store in stores.items()}


def links(store, done):
    """Of everybody who makes them, with what each was asked for."""
    place = {"Bucket": store.server.bucket, "Key": done["key"]}
    asked = {"ResponseContentDisposition": DISPOSITION, "ResponseContentType": CSV}
    yield "ours", done["download_url"], DISPOSITION
    yield "boto3", store.server.client().generate_presigned_url("get_object", {**place, **asked}, ExpiresIn=600), DISPOSITION
    yield "aws", store.server.aws("s3", "presign", "s3://{Bucket}/{Key}".format(**place)).decode().strip(), None


def test_links_give_the_file(store, linked):
    content = database.numbers_csv(1000)
    for maker, url, disposition in links(store, linked[store.server.name]):
        whole = curl(url)
        assert (whole.status, whole.body) == (200, content), maker
        assert whole.headers["content-type"] == CSV, maker
        assert disposition is None or whole.headers["content-disposition"] == disposition, maker
        for asked, start, end in (("0-0", 0, 1), ("10-19", 10, 20), ("-7", len(content) - 7, len(content)),
                                  ("100-", 100, len(content))):
            part = curl(url, "--range", asked)
            assert (part.status, part.body) == (206, content[start:end]), (maker, asked)
            assert part.headers["content-range"] == f"bytes {start}-{end - 1}/{len(content)}", (maker, asked)
        resumed = curl(url, "--header", f"Range: bytes={len(content)}-")
        assert resumed.status == 416, maker
        assert curl(url, "--head").status == 403, maker


def altered(url):
    """(what was done, the link after it): every part of it once."""
    split = urlsplit(url)
    query = parse_qsl(split.query, strict_parsing=True)

    def build(pairs=query, **parts):
        return urlunsplit(split._replace(query=urlencode(pairs, quote_via=quote, safe="-_.~"), **parts))

    assert sorted(urlsplit(build()).query.split("&")) == sorted(split.query.split("&")), "an escape that is not ours"
    for i, (name, value) in enumerate(query):
        last = value[-1]
        other = value[:-1] + ("1" if last == "0" else "0" if last.isdigit() else "a" if last == "b" else "b")
        if name == "X-Amz-Date":
            other = value[:-2] + str((int(value[-2]) + 1) % 10) + "Z"
        yield f"{name} changed", build([*query[:i], (name, other), *query[i + 1:]])
        yield f"{name} left out", build([*query[:i], *query[i + 1:]])
    yield "an override added", build([*query, ("response-cache-control", "public")])
    yield "another key", build(path=split.path + "x")
    yield "another bucket", build(path=split.path.replace("/exports/", "/another/", 1))
    yield "another host", build(netloc=f"localhost:{split.port}")


def test_an_altered_link_gives_nothing(store, linked):
    for maker, url, _ in links(store, linked[store.server.name]):
        assert curl(url).status == 200
        for what, other in altered(url):
            answer = curl(other)
            assert answer.status in (400, 403), (maker, what, answer.status)
            assert b"<Error>" in answer.body and b"number 1" not in answer.body, (maker, what)


def test_links_of_boto3_end_as_told(store, linked):
    place = {"Bucket": store.server.bucket, "Key": linked[store.server.name]["key"]}
    url = store.server.client().generate_presigned_url("get_object", place, ExpiresIn=2)
    assert curl(url).status == 200
    time.sleep(max(0, end_of(url) + 1.1 - time.time()))
    assert curl(url).status == 403


# --- what others wrote ---

NAMES = [
    "plain.csv", "a b.csv", "a+b.csv", "a%20b.csv", "a%2Bb.csv", "a%2bb.csv", "a%b.csv", "100%", "%", "%%", "%00", "%2F", "a%2Fb",
    "a%252Fb", " leading", "trailing ", "two  blanks", "'single'", "\"double\"", "`back`", "it's \"both\" + 100%.csv",
    "é.csv", "e\u0301.csv", "Ωmega", "日本語.csv", "😀.csv", "\u202eright to left", "\ufeffmark", "no\u00a0break", "ﬁ",
    "&amp;", "<Key>x</Key>", "]]>", "a&b=c", "a?b", "a?versionId=1", "#a", "a#b", "a;b", "a:b", "a,b", "a@b", "$a", "!a", "*", "a*",
    "(a)", "[a]", "{a}", "a|b", "a^b", "a~b", "~", "-rf", "--", "...", "a..b", ".hidden", "a.", "=1+1", "X-Amz-Signature=0",
    "deep/er/and/deeper.csv", "deep/er/a b+c%.csv", "long-" + "x" * 200, "lang-" + "é" * 100,
]
REFUSED = ["tab\there", "line\nbreak", "delete\x7f"]


def list_all(service, user, limit):
    """All pages of a user's list."""
    found, cursor = [], {}
    while True:
        answer = service.http("GET", f"/api/exports/user/{user}", params={"limit": limit, **cursor})
        assert answer.status_code == 200, answer.text
        found += answer.json()["exports"]
        if not answer.json()["next_cursor"]:
            return found
        cursor = {"cursor": answer.json()["next_cursor"]}


def put(server, key):
    body = b"the bytes of " + key.encode() + hashlib.sha256(key.encode()).digest()
    server.client().put_object(Bucket=server.bucket, Key=key, Body=body, ContentType="text/plain")
    return body


def test_keys_of_others_are_listed_linked_and_deleted(store):
    server, service = store.server, store.service
    mine = {f"exports/awkward/{name}": None for name in NAMES}
    not_ours = ["exports/awkward", "exports/awkward2/plain.csv", "awkward/plain.csv",
                *(f"exports/awkward/{name}" for name in REFUSED)]
    client = server.client()
    for key in mine:
        mine[key] = put(server, key)
    for key in not_ours[1:]:
        put(server, key)
    kept = {key: size for key, size in server.objects().items() if key not in mine}

    listed = list_all(service, "awkward", 1000)
    assert sorted(one["key"] for one in listed) == sorted(mine)
    assert all(one["size"] == len(mine[one["key"]]) for one in listed)
    times = [one["last_modified"] for one in listed]
    assert times == sorted(times, reverse=True)
    assert [one["key"] for one in list_all(service, "awkward", 7)] == [one["key"] for one in listed]

    for one in listed:
        answer = curl(one["download_url"])
        assert (answer.status, answer.body) == (200, mine[one["key"]]), one["key"]
        name = one["key"].rsplit("/", 1)[1]
        assert answer.headers["content-disposition"].endswith(f"filename*=UTF-8''{quote(name, safe='~')}"), one["key"]

    for key in not_ours[-len(REFUSED):]:
        assert service.http("DELETE", f"/api/exports/{quote(key)}").status_code == 400, key
    left = set(mine)
    for i, key in enumerate(mine):
        path = quote(key, safe="/" if i % 2 else "")
        answer = service.http("DELETE", f"/api/exports/{path}")
        assert (answer.status_code, answer.json()) == (200, {"status": "deleted", "key": key, "existed": True}), key
        left.remove(key)
        assert set(server.objects("exports/awkward/")) & set(mine) == left, key
        again = service.http("DELETE", f"/api/exports/{path}").json()
        if re.search("%[0-9a-fA-F]{2}", key):  # now it can only be a key that was encoded twice
            assert again["code"] == "invalid-key", key
        else:
            assert again["existed"] is False, key
    assert list_all(service, "awkward", 1000) == []
    assert server.objects() == kept
    for key in not_ours[1:]:
        client.delete_object(Bucket=server.bucket, Key=key)


# --- last, since it waits ---

@pytest.mark.timeout(180)
def test_our_link_ends_as_told(store):
    """The end that the API told is the link's own, though its date is rounded for browsers that keep what they have."""
    url, told = store.brief["download_url"], store.brief_asked + store.brief["expires_in"]
    assert abs(end_of(url) - told) <= 2
    assert store.brief["expires_reason"] == "requested"
    assert int(dict(parse_qsl(urlsplit(url).query))["X-Amz-Expires"]) >= BRIEF_S - 2
    time.sleep(max(0, end_of(url) + 1.1 - time.time()))
    assert curl(url).status == 403
    assert store.server.client().head_object(Bucket=store.server.bucket, Key=store.brief["key"])["ContentLength"] > 0
