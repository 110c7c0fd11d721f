"""What is left in a store is found and taken away, and what belongs to others is not touched."""

import os
import signal
import time

import pytest

import database
import processes

MISSED = ["--cleanup-schedule", "* * * * *"]  # one sweep at the next start: it was missed
ROWS = 3_000_000  # some 90 MB: a dozen parts and more


@pytest.fixture
def make_export_service(make_service, s3):
    def make(*options, **more):
        environment = {**s3.service(), "ROWFERRY_S3_PART": "5MiB", **more.pop("environment", {})}
        return make_service(*options, environment=environment, types=["numbers"], **more)
    return make


@pytest.fixture(autouse=True)
def empty(s3):
    """Stories share a store; these look at all that is in its bucket."""
    client = s3.client()
    for key in s3.objects():
        client.delete_object(Bucket=s3.bucket, Key=key)
    for key, upload in s3.uploads():
        client.abort_multipart_upload(Bucket=s3.bucket, Key=key, UploadId=upload)
    yield


def begin(s3, key):
    """An upload of another program, one part of it done."""
    client = s3.client()
    upload = client.create_multipart_upload(Bucket=s3.bucket, Key=key)["UploadId"]
    client.upload_part(Bucket=s3.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"half")
    return key, upload


def sweep(service):
    """Stops it, and starts it again with a sweep that was missed."""
    if service.process.poll() is None:
        assert service.stop() == 0
    service.options = [*service.options, *(MISSED if MISSED[0] not in service.options else [])]
    if time.time() % 60 > 55:  # else the next minute's own sweep may follow at once
        time.sleep(6)
    service.start()
    return service.await_line("cleanup.done", 60)


def test_what_is_due_goes_and_nothing_else(make_export_service, s3):
    service = make_export_service("--retention", "1s")
    client = s3.client()
    old = service.request("numbers", "u", params={"rows": 2})
    key = service.wait(old)["key"]
    young = service.export("numbers", "u", params={"rows": 3}, retain_days=1)["key"]
    others = ["exports/u/others +%'é.csv", "other/of-another-program.csv", "exports.csv"]
    for other in others:
        client.put_object(Bucket=s3.bucket, Key=other, Body=b"a")
    at_old = begin(s3, key)  # of a task that has ended: nobody needs it
    at_none = begin(s3, "exports/u/nobody.csv")  # perhaps of another program
    outside = begin(s3, "other/of-another-program.csv")
    time.sleep(1.1)  # the second of retention

    done = sweep(service)
    assert (done["deleted"], done["uploads_removed"]) == (2, 1)
    assert sorted(s3.objects()) == sorted([young, *others[1:]])
    assert s3.uploads(at_none[0], outside[0], key) == {at_none, outside}
    gone = service.status(old)
    assert (gone["status"], gone["state"], gone["download_url"], gone["key"]) == ("completed", "expired", None, key)
    assert at_old[1] not in s3.unfinished()
    text = service.http("GET", "/metrics").text
    assert "rowferry_cleanup_deleted_total 2\n" in text
    assert "rowferry_storage_multipart_aborts_total{reason=\"sweep\"} 1\n" in text
    assert "rowferry_storage_objects 1\n" in text


def test_thousands_of_files(make_export_service, s3):
    """More than a page and a batch."""
    service = make_export_service("--retention", "1s")
    client = s3.client()
    for i in range(1203):
        client.put_object(Bucket=s3.bucket, Key=f"exports/u_{i % 7}/old {i}.csv", Body=b"a")
    time.sleep(1.1)
    done = sweep(service)
    assert (done["deleted"], done["deleted_bytes"], done["failed"]) == (1203, 1203, 0)
    assert s3.objects() == {}


def await_upload(service, s3, task):
    """Until an upload is in the store and the task's record knows of it, while the export runs."""
    service.wait(task, state="streaming")
    processes.until(lambda: service.sql("SELECT upload FROM task WHERE id = ?", task)[0][0], 30, "no upload in the record")
    return s3.unfinished()


def test_an_export_that_was_killed_leaves_nothing(make_export_service, s3):
    """kill -9 of everything in the middle of an upload: the next run ends the first one's upload, and is whole."""
    service = make_export_service()
    task = service.request("numbers", params={"rows": ROWS})
    before = await_upload(service, s3, task)
    service.kill_all()
    assert s3.unfinished() == before
    assert s3.objects() == {}
    service.start()
    done = service.wait(task, seconds=60)
    assert s3.objects() == {done["key"]: done["file_size"]}
    body = s3.client().get_object(Bucket=s3.bucket, Key=done["key"])["Body"].read()
    assert database.sha256(body) == done["checksum"]["sha256"] == database.sha256(database.numbers_csv(ROWS))
    assert not s3.unfinished()
    assert sweep(service)["uploads_removed"] == 0


def test_an_export_that_died_for_good_is_swept(make_export_service, s3):
    """Its child is killed, and there is no other attempt: what it has uploaded is nobody's."""
    service = make_export_service("--max-attempts", "1")
    task = service.request("numbers", params={"rows": ROWS})
    await_upload(service, s3, task)
    service.kills += 1
    for pid in service.pids("child"):
        os.kill(pid, signal.SIGKILL)
    service.wait(task, status="failed")
    left = s3.unfinished()
    assert left
    done = sweep(service)
    assert done["uploads_removed"] == len(left)
    assert not s3.unfinished()
    assert s3.objects() == {}


def test_a_sweep_spares_what_runs(make_export_service, s3):
    service = make_export_service("--concurrency", "2")
    service.export("numbers", params={"rows": 1})
    assert service.stop() == 0
    service.options += MISSED
    service.launch()  # the sweep comes at once, and so does the export
    service.url = service.await_line("role.started", 30, lambda line: "url" in line)["url"]
    service._client = service.client()
    tasks = [service.request("numbers", f"user_{i}", params={"rows": ROWS}) for i in range(2)]
    for task in tasks:
        done = service.wait(task, seconds=90)
        assert s3.objects()[done["key"]] == done["file_size"] == len(database.numbers_csv(ROWS))
    assert service.await_line("cleanup.done", 60)["uploads_removed"] == 0
    assert not s3.unfinished()
