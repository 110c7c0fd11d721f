"""What becomes of a file when the store's word is lost: what was done is found out, and no file is there whose export
failed."""

import uuid

import pytest

import database
import processes
import s3_moods
from http_proxy import ANSWER, Answer, Mood, Rule

PARTS = {"ROWFERRY_S3_PART": "5MiB"}
SOME_PARTS = 400000  # rows of `numbers`: three parts
NOTHING = Mood("404", answer=Answer(404))  # no document, as of stores that forget an upload once it is complete


@pytest.fixture
def behind(make_service, s3):
    """A service whose store is behind a proxy of these rules, and a bucket of its own."""
    proxies = []

    def start(*rules, **environment):
        bucket = f"lost-{uuid.uuid4().hex[:12]}"
        s3.make_bucket(bucket)
        proxy = s3_moods.proxy(s3.endpoint, *rules).__enter__()
        proxies.append(proxy)
        service = make_service("--retry-delays", "200ms", types=["numbers"], environment={
            **s3.service(proxy.url), "S3_BUCKET": bucket, **PARTS, **environment})
        return service, bucket

    yield start
    for proxy in proxies:
        proxy.__exit__(None, None, None)


def the_file(s3, bucket, done):
    """The only object there is, and no upload beside it."""
    assert s3.objects(bucket=bucket) == {done["key"]: done["file_size"]}
    assert not s3.uploads(done["key"], bucket=bucket)
    return s3.client().get_object(Bucket=bucket, Key=done["key"])["Body"].read()


def test_complete_is_done_and_the_store_has_forgotten_the_upload(behind, s3):
    """Not every store says NoSuchUpload when it is asked again."""
    service, bucket = behind(Rule(s3_moods.done_and_lost(), operation="CompleteMultipartUpload", calls=1),
                             Rule(NOTHING, operation="CompleteMultipartUpload"))
    done = service.wait(service.request("numbers", "lost", params={"rows": SOME_PARTS}))
    assert the_file(s3, bucket, done) == database.numbers_csv(SOME_PARTS)


@pytest.mark.parametrize("rows", [10, SOME_PARTS])
def test_an_earlier_run_of_the_task_has_left_its_file(behind, s3, rows):
    """The answer of its write was lost, and the file was not there yet when somebody looked: the next run puts its own
    file in its place."""
    services = []

    def first_run(_):
        return not any(line["event"] == "export.unprepared" for line in services[0].lines())

    service, bucket = behind(Rule(s3_moods.done_and_lost(), operation="PutObject", calls=1),
                             Rule(s3_moods.done_and_lost(), operation="CompleteMultipartUpload", calls=1),
                             Rule(s3_moods.says(404, "NoSuchUpload"), operation="CompleteMultipartUpload", match=first_run),
                             Rule(NOTHING, operation="HeadObject", match=first_run),
                             ROWFERRY_S3_TRIES="1")
    services.append(service)
    done = service.wait(service.request("numbers", "lost", params={"rows": rows}))
    assert not first_run(None)
    assert the_file(s3, bucket, done) == database.numbers_csv(rows)


def test_an_upload_that_somebody_ended_is_made_again(behind, s3):
    service, bucket = behind(Rule(s3_moods.says(404, "NoSuchUpload"), operation="UploadPart", times=1))
    done = service.wait(service.request("numbers", "lost", params={"rows": SOME_PARTS}))
    assert the_file(s3, bucket, done) == database.numbers_csv(SOME_PARTS)


@pytest.mark.parametrize("rows", [10, SOME_PARTS])
def test_a_store_that_does_not_encrypt_keeps_nothing(make_service, versitygw, rows):
    """It takes the order, says nothing of it, and does not follow it."""
    bucket = f"plain-{uuid.uuid4().hex[:12]}"
    versitygw.make_bucket(bucket)
    service = make_service(types=["numbers"], environment={
        **versitygw.service(), "S3_BUCKET": bucket, **PARTS, "ROWFERRY_S3_SSE": "AES256"})
    service.wait(service.request("numbers", "plain", params={"rows": rows}), status="failed")
    assert versitygw.objects(bucket=bucket) == {} \
        and not versitygw.client().list_multipart_uploads(Bucket=bucket).get("Uploads")


def test_cancelled_while_an_upload_begins(behind, s3):
    """The store has made the upload, and its name has not come yet."""
    service, bucket = behind(Rule(s3_moods.stalled(10, of=ANSWER, at=0), operation="CreateMultipartUpload"))

    def uploads():  # without a prefix, which MinIO takes for a key
        return s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads")

    task = service.request("numbers", "lost", params={"rows": SOME_PARTS})
    processes.until(uploads, 20, lambda: f"no upload\n{service.tail()}")
    assert service.cancel(task).status_code in (200, 202)
    service.wait(task, state="cancelled")
    processes.until(lambda: not uploads(), 5, lambda: f"an upload is left\n{service.tail()}")


@pytest.mark.parametrize("rows", [10, SOME_PARTS])
def test_a_store_that_knows_no_conditions(behind, s3, rows):
    """As OpenStack Swift says it."""
    conditional = {"match": lambda request: request.header("if-none-match")}
    service, bucket = behind(
        Rule(s3_moods.says(501, "NotImplemented"), operation="PutObject", **conditional),
        Rule(s3_moods.says(412, "InvalidRequest"), operation="CompleteMultipartUpload", **conditional))
    for _ in range(2):
        done = service.wait(service.request("numbers", "lost", params={"rows": rows}))
        assert the_file(s3, bucket, done) == database.numbers_csv(rows)
        s3.client().delete_object(Bucket=bucket, Key=done["key"])
