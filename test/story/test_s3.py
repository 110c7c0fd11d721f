"""The whole service on real S3 servers of two makers: asked, watched, fetched with curl, listed, deleted, swept."""

import hashlib
import re
import subprocess
import time
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

import database
import processes
import s3_moods
import s3_moods
from http_proxy import Rule

PART = {"ROWFERRY_S3_PART": "5MiB"}
SOME_PARTS = 400000  # rows of `numbers`: three parts


def curl(url, path):
    """As the seed's users do: curl -o FILE "DOWNLOAD_URL"."""
    done = subprocess.run(["curl", "-q", "-sS", "--fail", "--noproxy", "*", "--max-time", "60", "-o", path, url],
                          capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return path.read_bytes()


@pytest.fixture
def bucket(s3):
    """A bucket of one's own."""
    name = f"whole-{uuid.uuid4().hex[:12]}"
    s3.make_bucket(name)
    return name


@pytest.fixture
def service(make_service, s3, bucket):
    service = make_service(types=["numbers"], environment={**s3.service(), "S3_BUCKET": bucket, **PART})
    yield service
    # Nothing is kept on this machine, and nothing unfinished there.
    assert service.objects() == [] and service.uploads() == []


@pytest.mark.parametrize("rows", [0, 1, 1000, SOME_PARTS])
def test_from_request_to_file(service, s3, bucket, tmp_path, rows):
    seen = []
    done = service.wait(service.request("numbers", "whole", params={"rows": rows}), seen=seen)
    content = curl(done["download_url"], tmp_path / "export.csv")
    assert content == database.numbers_csv(rows)
    assert (done["progress"], done["file_size"], done["row_count"]) == (100, len(content), rows)
    assert done["checksum"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert done["download_url"].startswith(s3.endpoint + "/")
    told = [answer["progress"] for answer in seen]
    assert told == sorted(told) and told[-1] == 100
    assert s3.objects(bucket=bucket) == {done["key"]: len(content)}
    assert not s3.uploads(done["key"], bucket=bucket)
    # The seed promises 24 hours.
    ends = datetime.fromisoformat(done["expires_at"]).replace(tzinfo=timezone.utc)
    assert abs(ends - datetime.now(timezone.utc) - timedelta(hours=24)) < timedelta(minutes=1)


@pytest.mark.parametrize("payload", ["auto", "signed"])
def test_a_checksum_for_a_hash(make_service, s3, bucket, payload):
    """Within the machine parts go without a hash where the store has said that it compares their checksum."""
    with s3_moods.proxy(s3.endpoint) as line:
        service = make_service(types=["numbers"], environment={
            **s3.service(line.url), "S3_BUCKET": bucket, **PART, "ROWFERRY_S3_PAYLOAD": payload})
        done = service.export("numbers", params={"rows": SOME_PARTS})
        hashes = {part.request.header("x-amz-content-sha256") for part in line.of("UploadPart")}
        assert (hashes == {"UNSIGNED-PAYLOAD"}) == (payload == "auto")
    kept = s3.client().head_object(Bucket=bucket, Key=done["key"], ChecksumMode="ENABLED")
    assert ("ChecksumCRC32C" in kept) == (payload == "auto")


def test_listed_newest_first_and_deleted(service, s3, bucket):
    user, keys = "lists", []
    for rows in (1, 2, 3):
        keys.insert(0, service.export("numbers", user, params={"rows": rows})["key"])
        time.sleep(1.05)  # some stores tell whole seconds
    listed = service.http("GET", f"/api/exports/user/{user}").json()
    assert [entry["key"] for entry in listed["exports"]] == keys
    answer = service.http("DELETE", f"/api/exports/{keys[1]}")
    assert answer.status_code == 200, answer.text
    assert set(s3.objects(bucket=bucket)) == {keys[0], keys[2]}
    listed = service.http("GET", f"/api/exports/user/{user}").json()
    assert [entry["key"] for entry in listed["exports"]] == [keys[0], keys[2]]


def test_swept(service, s3, bucket, tmp_path):
    """Old files and uploads that nobody will finish go; young ones, other prefixes, and running uploads stay."""
    user, client = "swept", s3.client()
    service.stop()
    service.options += ["--retention", "3s", "--cleanup-schedule", "0 0 1 1 *"]
    service.start()
    old = service.request("numbers", user, params={"rows": 2})
    service.wait(old)
    client.put_object(Bucket=bucket, Key=f"exports/{user}/others_20200101_000000_abcdef01.csv", Body=b"a\r\n")
    client.put_object(Bucket=bucket, Key=f"elsewhere/{user}.csv", Body=b"a\r\n")
    young = service.export("numbers", user, params={"rows": SOME_PARTS}, retain_days=1)
    left = client.create_multipart_upload(Bucket=bucket, Key=young["key"])["UploadId"]
    client.upload_part(Bucket=bucket, Key=young["key"], UploadId=left, PartNumber=1, Body=b"half")
    assert s3.uploads(young["key"], bucket=bucket)
    time.sleep(3.1)  # their retention
    assert service.stop() == 0
    service.options += ["--cleanup-schedule", "* * * * *"]
    service.start()
    done = service.await_line("cleanup.done", 60)
    assert (done["deleted"], done["uploads_removed"], done["failed"]) == (2, 1, 0)
    assert set(s3.objects(bucket=bucket)) == {young["key"], f"elsewhere/{user}.csv"}
    assert not s3.uploads(young["key"], bucket=bucket)
    assert service.status(old)["state"] == "expired"
    assert curl(service.export("numbers", user, params={"rows": 5})["download_url"], tmp_path / "a") \
        == database.numbers_csv(5)


def test_cancelled_in_mid_upload(service, s3, bucket):
    """A cancel ends the upload at once: nothing is visible and nothing is paid for."""
    task = service.request("numbers", "cancels", params={"rows": 50_000_000})
    processes.until(lambda: s3.unfinished(), 20, lambda: f"no upload\n{service.tail()}")
    assert service.cancel(task).status_code in (200, 202)
    service.wait(task, state="cancelled")
    processes.until(lambda: not s3.unfinished(), 10, lambda: f"an upload is left\n{service.tail()}")
    assert not s3.objects(bucket=bucket)


def test_the_store_is_away_for_a_while(make_service, s3_kind, tmp_path):
    """Restarted in mid-upload: the export goes on, or is tried again, and is right; /readyz tells."""
    with s3_kind() as server:
        service = make_service("--retry-delays", "200ms", types=["numbers"], environment={**server.service(), **PART})
        task = service.request("numbers", "away", params={"rows": 3_000_000})
        processes.until(lambda: server.unfinished(), 20, lambda: f"no upload\n{service.tail()}")
        server.stop()
        processes.until(lambda: service.http("GET", "/readyz").status_code == 503, 20, "ready without its store")
        server.start()
        done = service.wait(task, seconds=90)
        content = curl(done["download_url"], tmp_path / "away.csv")
        assert hashlib.sha256(content).hexdigest() == done["checksum"]["sha256"]
        assert content == database.numbers_csv(3_000_000)
        processes.until(lambda: service.http("GET", "/readyz").status_code == 200, 20, "not ready with its store")


def test_memory_stays_bounded_while_parts_grow(make_service, versitygw, tmp_path):
    """The buffers of small parts give way to those of large ones."""
    bucket, memory, rest = f"grows-{uuid.uuid4().hex[:12]}", 64, 20  # MiB: of all buffers, and of the child besides
    versitygw.make_bucket(bucket)
    with s3_moods.proxy(versitygw.endpoint, Rule(s3_moods.slow(20_000_000), operation="UploadPart")) as proxy:
        service = make_service("--concurrency", "1", types=["numbers"], environment={
            **versitygw.service(proxy.url), "S3_BUCKET": bucket, **PART, "ROWFERRY_S3_MAX_PARTS": "20",
            "ROWFERRY_S3_MEMORY": f"{memory}MiB"})
        done = service.wait(service.request("numbers", "grows", params={"rows": 6_000_000}), seconds=90)
        assert done["file_size"] > 20 * 5 << 20
        peaks = [int(re.search(r"^VmHWM:\s*(\d+) kB", Path(f"/proc/{child}/status").read_text(encoding="ascii"), re.M)[1])
                 for child in service.pids("child")]
        assert max(peaks) < memory + rest << 10
        assert hashlib.sha256(curl(done["download_url"], tmp_path / "a")).hexdigest() == done["checksum"]["sha256"]
