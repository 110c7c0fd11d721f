"""Reading does not wait for the upload while buffers are free: it goes on when not one byte of a part gets through, up
to a bound, and from there when it does."""

import time

import pytest

import database
import processes
import s3_moods
from http_proxy import REQUEST, Rule

PART = 5 << 20
WIDTH = 1000
ROWS = 60_000  # twelve parts
BATCH = 1 << 20  # that much is read at once
STILL_SECONDS = 1.5  # progress is written twice a second
HELD_SECONDS = 3600


@pytest.fixture
def store(minio):
    with s3_moods.proxy(minio.endpoint) as proxy:
        yield proxy


def until_it_stands_still(service, task, seconds=25):
    """The last status, once nothing more is read."""
    deadline, last, since = time.monotonic() + seconds, None, time.monotonic()
    while True:
        now = service.status(task)
        assert now["status"] in ("queued", "processing"), now
        if not last or now.get("bytes_done") != last.get("bytes_done"):
            last, since = now, time.monotonic()
        elif now.get("bytes_done") and time.monotonic() - since > STILL_SECONDS:
            return now
        assert time.monotonic() < deadline, f"it does not come to rest: {now}"
        time.sleep(0.05)


def release(store):
    store.script()
    store.end_all()  # whoever was held up begins again


def assert_whole(service, server, task, content):
    done = service.wait(task)
    assert (done["row_count"], done["file_size"]) == (ROWS, len(content))
    stored = server.client().get_object(Bucket=server.bucket, Key=done["key"])["Body"].read()
    assert database.sha256(stored) == database.sha256(content) == done["checksum"]["sha256"]


@pytest.mark.parametrize("parallel", [1, 4])
def test_rows_are_read_while_no_part_gets_through_until_the_buffers_are_full(make_service, minio, store, parallel):
    service = make_service(types=["wide"], environment={
        **minio.service(store.url), "ROWFERRY_S3_PART": str(PART), "ROWFERRY_S3_PARALLEL": str(parallel)})
    store.script(Rule(s3_moods.stalled(HELD_SECONDS, at=0), operation="UploadPart"))
    task = service.request("wide", params={"rows": ROWS, "width": WIDTH})

    held = until_it_stands_still(service, task)
    parts = store.of("UploadPart")
    assert [part.request.query["partNumber"] for part in parts] == [str(n + 1) for n in range(parallel)]
    assert all(part.sent[REQUEST] == 0 for part in parts), "not one byte has got through"
    # So many parts on their way, and one more that is full.
    full = (parallel + 1) * PART
    assert full - BATCH <= held["bytes_done"] <= full + BATCH, held
    assert held["rows_done"] * WIDTH > parallel * PART, held

    release(store)
    assert_whole(service, minio, task, database.wide_csv(ROWS, WIDTH))


def test_a_part_that_is_held_up_holds_up_no_other(make_service, minio, store):
    service = make_service(types=["wide"], environment={
        **minio.service(store.url), "ROWFERRY_S3_PART": str(PART), "ROWFERRY_S3_PARALLEL": "2"})
    store.script(Rule(s3_moods.stalled(HELD_SECONDS, at=0), operation="UploadPart", query={"partNumber": "1"}))
    task = service.request("wide", params={"rows": ROWS, "width": WIDTH})

    content = database.wide_csv(ROWS, WIDTH)
    parts = -(-len(content) // PART)
    processes.until(lambda: sum(part.whole for part in store.of("UploadPart")) == parts - 1, 25,
                    lambda: f"{service.status(task)}\n{[str(part) for part in store.of('UploadPart')]}")
    assert service.status(task)["status"] == "processing" and not store.of("CompleteMultipartUpload")

    release(store)
    assert_whole(service, minio, task, content)
