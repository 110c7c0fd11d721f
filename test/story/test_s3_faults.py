"""The store fails, lies, or goes away in the middle of an export: the right file, or a clear reason; and nothing is
left lying there. Every story is told of MinIO and of versitygw."""

import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

import database
import processes
import s3_exports
import s3_moods
from http_proxy import Mood, Rule
from maker import Maker
from pg_exports import causes
from proxy import ANSWER, REQUEST
from s3_exports import MIDDLE, ONCE, PATIENT, SMALL, Line, is_whole, keys_of, request

CREATE, PART, COMPLETE = "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"
PUT, HEAD, ABORT = "PutObject", "HeadObject", "AbortMultipartUpload"


@pytest.fixture(scope="module")
def server(s3_kind):
    """A server of this file's own: whatever is unfinished in it is ours."""
    with s3_kind() as one:
        yield one


@pytest.fixture
def line(server, make_service):
    one = Line(server, make_service)
    one.begin()
    yield one
    one.close()
    if not server.running():
        server.start()


# --- what a request's own tries mend ---

def early(mood, how):
    return replace(mood, name=f"{mood.name}, early", early=how)


MENDED = {
    "create-500": Rule(s3_moods.internal_error(), CREATE, calls=1),
    "create-501": Rule(s3_moods.says(501, "NotImplemented"), CREATE, calls=1),  # it knows no checksums
    "create-400": Rule(s3_moods.says(400, "InvalidArgument"), CREATE, calls=1),
    "create-503": Rule(s3_moods.slow_down(), CREATE, calls=1),
    "create-cut": Rule(s3_moods.cut("reset", REQUEST, 0.5), CREATE, calls=1),
    "create-lost": Rule(s3_moods.done_and_lost(), CREATE, calls=1),
    "create-truncated": Rule(s3_moods.truncated(), CREATE, calls=1),
    "create-html": Rule(s3_moods.html(200), CREATE, calls=1),
    "part-500": Rule(s3_moods.internal_error(), PART, query={"partNumber": "2"}, times=4),
    "part-502-html": Rule(s3_moods.html(502), PART, calls=(1, 3)),
    "part-503": Rule(s3_moods.slow_down(), PART, calls=(1, 2)),
    "part-503-later": Rule(s3_moods.slow_down(retry_after=1), PART, calls=1),
    "part-429": Rule(s3_moods.says(429, "TooManyRequests"), PART, calls=1),
    "part-early-503": Rule(early(s3_moods.slow_down(), "reset"), PART, calls=2),
    "part-early-500": Rule(early(s3_moods.internal_error(), "close"), PART, calls=2),
    "part-request-reset": Rule(s3_moods.cut("reset", REQUEST, 0.4), PART, calls=(1, 2)),
    "part-request-closed": Rule(s3_moods.cut("close", REQUEST, 0.9), PART, calls=(1, 3)),
    "part-answer-reset": Rule(s3_moods.cut("reset", ANSWER, 30), PART, calls=2),
    "part-answer-closed": Rule(s3_moods.cut("close", ANSWER, -2), PART, calls=2),
    "part-lost": Rule(s3_moods.done_and_lost(), PART, calls=(1, 2, 3)),
    "part-stalls": Rule(s3_moods.stalled(60, REQUEST, 0.5), PART, calls=2),
    "part-answer-stalls": Rule(s3_moods.stalled(60, ANSWER, 0), PART, calls=2),
    "part-slow": Rule(s3_moods.slow(8 << 20), PART),
    "part-corrupted": Rule(s3_moods.corrupted(), PART, calls=(1, 2)),
    "part-no-etag": Rule(s3_moods.etag(None), PART, calls=1),
    "part-expired": Rule(s3_moods.says(400, "RequestTimeout", "Your socket connection was not read"), PART, calls=2),
    "part-skewed": Rule(s3_moods.skewed(), PART, calls=1),
    "date-off-once": Rule(s3_moods.date_off(1800), PART, calls=2),
    "complete-500": Rule(s3_moods.internal_error(), COMPLETE, times=3),
    "complete-503": Rule(s3_moods.slow_down(), COMPLETE, calls=1),
    "complete-200-error": Rule(s3_moods.error_in_200(), COMPLETE, times=2),
    "complete-200-slow-down": Rule(s3_moods.error_in_200("SlowDown"), COMPLETE, times=1),
    "complete-cut": Rule(s3_moods.cut("close", REQUEST, 0.5), COMPLETE, calls=1),
    "complete-never-sent": Rule(s3_moods.cut("reset", REQUEST, 0), COMPLETE, calls=(1, 2)),
    "complete-lost": Rule(s3_moods.done_and_lost(), COMPLETE, calls=1),
    "complete-lost-by-fin": Rule(s3_moods.done_and_lost("close"), COMPLETE, calls=1),
    "complete-lost-thrice": Rule(s3_moods.done_and_lost(), COMPLETE, calls=(1, 2, 3)),
    "complete-half-an-answer": Rule(s3_moods.cut("reset", ANSWER, 0.6), COMPLETE, calls=1),
    "complete-truncated": Rule(s3_moods.truncated(), COMPLETE, calls=1),
    "complete-done-yet-500": Rule(s3_moods.error_in_200_after_all(), COMPLETE, calls=1),
    "complete-white-space": Rule(s3_moods.white_space(4), COMPLETE, calls=1),
    "all-is-slow": Rule(s3_moods.slow(100000, ANSWER)),
}


SMALL_MENDED = {
    "500": Rule(s3_moods.internal_error(), PUT, calls=(1, 2)),
    "503": Rule(s3_moods.slow_down(), PUT, calls=1),
    "cut": Rule(s3_moods.cut("reset", REQUEST, 0.7), PUT, calls=1),
    "lost": Rule(s3_moods.done_and_lost(), PUT, calls=1),
    "lost-by-fin": Rule(s3_moods.done_and_lost("close"), PUT, calls=1),
    "done-yet-500": Rule(Mood("500, done", head=lambda answer: replace(answer, status=500)), PUT, calls=1),
    "corrupted": Rule(s3_moods.corrupted(at=-5), PUT, calls=1),
    "early": Rule(early(s3_moods.slow_down(), "close"), PUT, calls=1),
    "conflict": Rule(s3_moods.says(409, "ConditionalRequestConflict"), PUT, calls=1),
}


def of_user(name, rule):
    """The same, for what this user exports."""
    return replace(rule, path=f"*/{name}/*")


class Exports:
    """One export of a user of its own for each fault, all on their way at once."""

    def __init__(self, server, maker, faults, *options, **settings):
        self.line = Line(server, maker)
        self.line.begin(*[of_user(name, rule) for name, (rule, _) in faults.items()])
        self.service = self.line.service("--concurrency", "6", *options, environment=settings)
        self.tasks = {name: request(self.service, params, user_id=name) for name, (_, params) in faults.items()}
        self.maker = maker

    def met(self, name):
        return [one for one in self.line.proxy.of(mood="?*") if f"/{name}/" in one.request.path]

    def close(self):
        self.line.close()
        self.maker.finish()


@pytest.fixture(scope="module")
def mended(server, tmp_path_factory, program):
    faults = {**{name: (rule, MIDDLE) for name, rule in MENDED.items()},
              **{f"small-{name}": (rule, SMALL) for name, rule in SMALL_MENDED.items()}}
    exports = Exports(server, Maker(tmp_path_factory.mktemp("mended"), program), faults, *ONCE)
    yield exports
    exports.close()


@pytest.mark.asan
@pytest.mark.parametrize("name", [*MENDED, *(f"small-{name}" for name in SMALL_MENDED)])
def test_what_costs_no_attempt(mended, name):
    done = mended.service.wait(mended.tasks[name], seconds=100)
    assert mended.met(name), "nobody met that mood"
    assert done["attempt"] == 1
    is_whole(mended.line.server, done, SMALL if name.startswith("small-") else MIDDLE)
    assert keys_of(mended.line.server, name) == [done["key"]]


def test_what_was_mended_leaves_nothing(mended):
    """What the server began without being able to say so is gone after the sweep."""
    for task in mended.tasks.values():
        mended.service.wait(task, seconds=100)
    known = mended.line.unfinished()
    mended.line.calm()
    swept = s3_exports.sweep(mended.service)
    assert swept["uploads_removed"] >= len(known)
    mended.line.await_clean()


def test_the_file_is_what_dump_writes(line, program, tmp_path):
    """The same request, with and without a server, by way of a store that stumbles."""
    service = line.service(*ONCE)
    line.begin(Rule(s3_moods.internal_error(), PART, calls=(1, 4)))
    done = service.export("wide", "dump", params=MIDDLE)
    dumped = subprocess.run(
        [program, "dump", "wide", "--types", service.folder / "types", "--data-dir", tmp_path / "data", "-p",
         f"rows:={MIDDLE['rows']}"], capture_output=True, timeout=60, check=True,
        env={"PATH": os.environ["PATH"], "GRAPH_DB_URL": f"sqlite:{service.source}", "HOME": str(tmp_path)}).stdout
    assert database.sha256(dumped) == done["checksum"]["sha256"]
    assert s3_exports.read(line.server, done["key"]) == dumped


def test_links_go_by_the_proxy(line):
    """The signature covers the host that rowferry was told, which the proxy leaves as it is."""
    service = line.service(*ONCE)
    done = service.export("wide", "links", params=SMALL)
    assert done["download_url"].startswith(line.proxy.url)
    assert len(service.fetch(done["download_url"])) == done["file_size"]
    assert [one.status for one in line.proxy.of("GetObject")] == [200]


# --- what ends an attempt, or the export ---

DENIED = ("storage-denied", "The storage refused access")
FULL = ("storage-full", "The storage is full")
AWAY = ("storage-unavailable", "The storage cannot be reached")

# Which rule; code and sentence; attempts of two; what the operator reads.
ENDED = {
    "create-denied": (Rule(s3_moods.says(403, "AccessDenied", "Access Denied."), CREATE), DENIED, 1, "AccessDenied"),
    "part-denied": (Rule(s3_moods.says(403, "AccessDenied", "Access Denied."), PART, query={"partNumber": "2"}),
                    DENIED, 1, "AccessDenied"),
    "part-denied-early": (Rule(early(s3_moods.says(403, "AccessDenied", "Access Denied."), "reset"), PART,
                               query={"partNumber": "2"}), DENIED, 1, "AccessDenied"),
    "complete-denied": (Rule(s3_moods.says(403, "AccessDenied", "Access Denied."), COMPLETE), DENIED, 1,
                        "AccessDenied"),
    "kms": (Rule(s3_moods.says(400, "KMS.DisabledException", "the key is disabled"), CREATE), DENIED, 1,
            "KMS.DisabledException"),
    "no-bucket": (Rule(s3_moods.says(404, "NoSuchBucket", "The specified bucket does not exist"), CREATE), DENIED, 1,
                  "NoSuchBucket"),
    "quota": (Rule(s3_moods.says(403, "QuotaExceeded"), PART, query={"partNumber": "2"}), FULL, 1, "QuotaExceeded"),
    "full": (Rule(s3_moods.says(507, "XMinioStorageFull", "Storage backend has reached its minimum free drive "
                                "threshold."), PART), FULL, 1, "XMinioStorageFull"),
    "always-500": (Rule(s3_moods.internal_error(), PART, query={"partNumber": "2"}), AWAY, 2, "InternalError"),
    "always-cut": (Rule(s3_moods.cut("reset", REQUEST, 0.5), PART, query={"partNumber": "1"}), AWAY, 2, "UploadPart"),
    "always-corrupted": (Rule(s3_moods.corrupted(), PART, query={"partNumber": "1"}), AWAY, 2,
                         "match"),  # MinIO and versitygw name it differently
    "upload-gone": (Rule(s3_moods.says(404, "NoSuchUpload", "The upload does not exist"), PART,
                         query={"partNumber": "3"}), AWAY, 2, "NoSuchUpload"),
}


@pytest.fixture(scope="module")
def ended(server, tmp_path_factory, program):
    exports = Exports(server, Maker(tmp_path_factory.mktemp("ended"), program),
                      {name: (ended[0], MIDDLE) for name, ended in ENDED.items()}, "--max-attempts", "2",
                      ROWFERRY_S3_TRIES="3")
    yield exports
    exports.close()


@pytest.mark.asan
@pytest.mark.parametrize("name", ENDED)
def test_what_ends_an_export(ended, name):
    _, expected, attempts, word = ENDED[name]
    task = ended.tasks[name]
    failed = ended.service.wait(task, status="failed", seconds=100)
    assert (failed["error_code"], failed["error"]) == expected, failed
    assert failed["attempt"] == attempts, failed
    lines = causes(ended.service, task)
    assert word in str(lines[-1]), lines
    assert "pipe" not in str(lines).lower()
    for inside in (word, str(ended.line.proxy.port), "127.0.0.1", ended.line.server.access_key):
        assert inside not in str(failed), failed
    assert keys_of(ended.line.server, name) == []


def test_what_ended_leaves_nothing(ended):
    """Without a sweep."""
    for task in ended.tasks.values():
        ended.service.wait(task, status="failed", seconds=100)
    ended.line.await_clean()


def test_a_refusal_in_the_middle_of_a_part_is_heard(line, server):
    """The server itself says 403 long before it has read the part, and closes."""
    service = line.service(*ONCE, environment={"S3_SECRET_KEY": "not-the-secret-at-all"})
    task = request(service)
    failed = service.wait(task, status="failed")
    assert (failed["error_code"], failed["attempt"]) == ("storage-denied", 1)
    assert "SignatureDoesNotMatch" in str(causes(service, task))


@pytest.mark.parametrize("variable,value,word", [
    ("S3_ACCESS_KEY", "NOBODYHASTHISKEY1234", "InvalidAccessKeyId"),
    ("S3_SECRET_KEY", "not-the-secret-of-that-key", "SignatureDoesNotMatch"),
    ("S3_BUCKET", "no-such-bucket-here", "NoSuchBucket"),
])
@pytest.mark.parametrize("params", [SMALL, MIDDLE], ids=["small", "parts"])
def test_what_is_configured_wrong(line, server, variable, value, word, params):
    service = line.service("--max-attempts", "3", endpoint=server.endpoint, environment={variable: value})
    task = request(service, params)
    failed = service.wait(task, status="failed")
    assert (failed["error_code"], failed["attempt"], failed["retryable"]) == ("storage-denied", 1, False)
    assert word in str(causes(service, task))
    assert value not in str(failed)


def test_a_server_that_is_away(line, server):
    service = line.service(*PATIENT, endpoint=server.endpoint, environment={"ROWFERRY_S3_TRIES": "2"})
    server.stop()
    small, middle = request(service, SMALL), request(service)
    service.wait(middle, state="retrying", seconds=30)
    assert "storage-unavailable" in str(causes(service, middle))
    # All of a small file is in memory, so it is published again and again.
    service.await_line("export.publish_failed", 20)
    assert service.status(small)["state"] == "finishing"
    server.start()
    done = service.wait(small, seconds=60)
    assert done["attempt"] == 1
    is_whole(server, done, SMALL)
    done = service.wait(middle, seconds=60)
    assert done["attempt"] > 1
    is_whole(server, done)


def test_a_store_that_completes_nothing_for_a_while(line, server):
    """What is prepared stays so, and no row is read twice."""
    line.begin(Rule(s3_moods.error_in_200(), COMPLETE))
    service = line.service("--max-attempts", "2", environment={"ROWFERRY_S3_TRIES": "2"})
    task = request(service, user_id="patience")
    lines = [service.await_line("export.publish_failed", 20, lambda one: one["task_id"] == task)]
    assert "InternalError" in str(lines)
    assert keys_of(server, "patience") == []
    line.calm()
    done = service.wait(task, seconds=30)
    assert done["attempt"] == 1 and len(line.proxy.of(CREATE)) == 0
    is_whole(server, done)
    line.await_clean()


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_server_that_is_restarted_in_the_middle(line, server, how):
    service = line.service(*PATIENT)
    line.begin(Rule(s3_moods.slow(2 << 20), PART))
    task = request(service, user_id=f"restart-{how}")
    processes.until(lambda: line.proxy.of(PART), 10, "no part is on its way")
    getattr(server, how)()
    server.start()
    line.calm()
    done = service.wait(task, seconds=60)
    is_whole(server, done)
    s3_exports.sweep(service)
    assert keys_of(server, f"restart-{how}") == [done["key"]]


def test_a_list_that_never_ends(line):
    """It is not followed for ever, and nobody is told half of it."""
    service = line.service(*ONCE)
    done = service.export("wide", "lists", params=SMALL)
    line.begin(Rule(s3_moods.goes_on_for_ever(), "ListObjectsV2", query={"prefix": "exports/lists/"}))
    answer = service.http("GET", "/api/exports/user/lists")
    assert answer.status_code == 503 and "storage-unavailable" in answer.text
    assert len(line.proxy.of("ListObjectsV2", "goes*")) < 10
    line.calm()
    listed = service.http("GET", "/api/exports/user/lists").json()["exports"]
    assert [one["key"] for one in listed] == [done["key"]]


def test_an_abort_that_leaves_something_is_made_again(line, server):
    service = line.service(*ONCE)
    line.begin(Rule(s3_moods.says(403, "AccessDenied"), PART, query={"partNumber": "2"}),
               Rule(s3_moods.part_is_still_there(), "ListParts", times=2))
    failed = service.wait(request(service), status="failed")
    assert failed["error_code"] == "storage-denied"
    processes.until(lambda: len(line.proxy.of(ABORT)) >= 3, 5, lambda: f"{line.proxy.counts()}")
    line.await_clean()


# --- regions ---

def warnings(service, event):
    return [line for line in service.lines(event) if line.get("level") in (None, "warning")]


@pytest.mark.parametrize("params", [SMALL, MIDDLE], ids=["small", "parts"])
def test_another_region(line, server, params):
    """Configured wrong: learnt from the answer, said once by each process, and links work, too."""
    service = line.service(*ONCE, "--concurrency", "1", endpoint=server.endpoint,
                           environment={"S3_REGION": "eu-west-7"})
    for _ in range(2):
        done = service.export("wide", params=params)
        assert done["attempt"] == 1
        is_whole(server, done, params)
    said = service.lines("storage.region")
    assert said and {(one["configured"], one["region"]) for one in said} == {("eu-west-7", server.region)}
    assert len({one["pid"] for one in said}) == len(said), "a process says it once"
    assert service.fetch(done["download_url"]) == s3_exports.read(server, done["key"])


@pytest.mark.parametrize("name", ["400", "400-without-header", "301", "307"])
def test_regions_are_learnt_from_every_kind_of_answer(line, server, name):
    """The proxy says so to signatures for another region; the server never sees those."""
    wrong = "eu-west-7"

    def signed_for_another(one):
        return f"/{wrong}/" in one.header("authorization")

    moods = {"400": s3_moods.another_region(server.region),
             "400-without-header": s3_moods.another_region(server.region, with_header=False),
             "301": s3_moods.moved(301, f"{line.proxy.url}/", server.region),
             "307": s3_moods.moved(307, f"{line.proxy.url}/", server.region)}
    line.begin(Rule(moods[name], match=signed_for_another))
    service = line.service(*ONCE, "--concurrency", "1", environment={"S3_REGION": wrong})
    done = service.export("wide", params=MIDDLE)
    assert done["attempt"] == 1
    is_whole(server, done)
    assert line.proxy.of(mood="?*") and not line.proxy.exchanges[-1].mood.name
    assert len(service.lines("storage.region")) >= 1


def test_a_region_that_is_no_name(line, server):
    """What an answer says goes into no request unless it looks like a region."""
    line.begin(Rule(s3_moods.another_region("evil/../x.example.com:80", with_header=True)))
    service = line.service(*ONCE)
    failed = service.wait(request(service), status="failed")
    assert failed["error_code"] in ("storage-denied", "storage-unavailable")
    assert not any("evil" in one.header("authorization") for one in (one.request for one in line.proxy.exchanges))


# --- clocks ---

@pytest.mark.asan
@pytest.mark.testbuild
@pytest.mark.parametrize("minutes", [-20, 20])
def test_a_clock_that_is_off(line, server, minutes):
    service = line.service(*ONCE, "--concurrency", "1", endpoint=server.endpoint,
                           environment={"ROWFERRY_TEST_CLOCK_OFFSET_MS": str(minutes * 60000)})
    for params in (SMALL, MIDDLE):
        done = service.export("wide", params=params)
        assert done["attempt"] == 1
        is_whole(server, done, params)
        assert len(service.fetch(done["download_url"])) == done["file_size"], "links are signed by the store's clock"
    said = service.lines("storage.clock")
    assert said and len({one["pid"] for one in said}) == len(said), "a process says it once in an hour"
    assert all(abs(one["offset_s"] + minutes * 60) < 30 for one in said)


# --- credentials ---

def test_credentials_that_end_in_the_middle(line, server, tmp_path):
    """Refreshed, and the upload goes on."""
    count = tmp_path / "count"
    script = tmp_path / "keys"
    script.write_text(f"#!/bin/sh\necho x >>{count}\n"
                      f'echo \'{{"Version":1,"AccessKeyId":"{server.access_key}",'
                      f'"SecretAccessKey":"{server.secret_key}"}}\'\n')
    script.chmod(0o700)
    config = tmp_path / "aws-config"
    config.write_text(f"[default]\ncredential_process = {script}\n")
    service = line.service(*ONCE, "--concurrency", "1", environment={
        "S3_ACCESS_KEY": "", "S3_SECRET_KEY": "", "AWS_CONFIG_FILE": str(config)})
    line.begin(Rule(s3_moods.expired_token(), PART, calls=2))
    before = len(count.read_text().split()) if count.exists() else 0
    done = service.export("wide", params=MIDDLE)
    assert done["attempt"] == 1 and line.proxy.of(mood="ExpiredToken")
    is_whole(server, done)
    assert len(count.read_text().split()) > before


# --- kill -9, and cancel ---

def on_its_way(line):
    """An upload is there, and some of it has arrived."""
    processes.until(lambda: line.unfinished() and [one for one in line.proxy.of(PART) if one.sent[REQUEST]],
                    10, "no upload begins")


@pytest.mark.parametrize("victim", ["child", "worker", "serve", "all"])
def test_killed_in_the_middle_of_an_upload(line, server, victim):
    service = line.service(*PATIENT, "--concurrency", "1")
    line.begin(Rule(s3_moods.slow(3 << 20), PART))
    user = f"killed-{victim}"
    task = request(service, user_id=user)
    on_its_way(line)
    if victim == "all":
        service.kill_all()
        line.calm()
        service.start()
    elif victim == "serve":
        service.kill("serve")
        service.process.wait(10)
        processes.until(lambda: not service.processes(), 10, "they live on")
        line.calm()
        service.start()
    else:
        service.kill(victim)
        line.calm()
    assert keys_of(server, user) == []
    done = service.wait(task, seconds=60, patient=True)
    assert done["attempt"] == 2
    is_whole(server, done)
    s3_exports.sweep(service)
    assert keys_of(server, user) == [done["key"]]
    line.await_clean()


@pytest.mark.parametrize("way", [REQUEST, ANSWER])
@pytest.mark.parametrize("operation,params", [(CREATE, MIDDLE), (PART, MIDDLE), (COMPLETE, MIDDLE), (PUT, SMALL)])
def test_killed_at_a_step(line, server, operation, params, way):
    """Everything dies while one request stands still: not yet with the server, or done and not told."""
    service = line.service(*PATIENT, "--concurrency", "1", environment={"ROWFERRY_S3_IDLE_TIMEOUT": "60s"})
    line.begin(Rule(s3_moods.stalled(3600, way, 0), operation, calls=1))
    user = f"step-{operation}-{way}"
    task = request(service, params, user_id=user)

    def stands():
        there = line.proxy.of(operation, "stall")
        return there and (way == REQUEST or there[0].server_status)

    processes.until(stands, 15, "it does not come so far")
    time.sleep(0.1)
    service.kill_all()
    line.proxy.end_all()
    service.start()
    done = service.wait(task, seconds=60)
    is_whole(server, done, params)
    if operation == COMPLETE or (operation, way) == (PUT, ANSWER):
        assert done["attempt"] == 1, "it was prepared: nothing is read again"
        assert len(line.proxy.of(CREATE)) == (params is MIDDLE)
    s3_exports.sweep(service)
    assert keys_of(server, user) == [done["key"]]
    line.await_clean()


def test_killed_at_every_complete(line, server):
    """Thrice in a row, each time before anybody hears that it was done."""
    service = line.service(*PATIENT, "--concurrency", "1", environment={"ROWFERRY_S3_IDLE_TIMEOUT": "60s"})
    line.begin(*[Rule(s3_moods.stalled(3600, ANSWER, 0), one, times=3) for one in (COMPLETE, HEAD)])
    task = request(service, user_id="thrice")
    for struck in range(1, 4):
        processes.until(lambda: len(line.proxy.of(mood="stall")) >= struck, 15, lambda: f"{line.proxy.counts()}")
        service.kill_all()
        line.proxy.end_all()
        service.start()
    line.calm()
    done = service.wait(task, seconds=60)
    assert done["attempt"] == 1
    is_whole(server, done)
    assert keys_of(server, "thrice") == [done["key"]]
    line.await_clean()


def test_cancelled_in_the_middle_of_an_upload(line, server):
    service = line.service(*PATIENT)
    line.begin(Rule(s3_moods.slow(1 << 20), PART))
    tasks = [request(service, user_id="cancelled") for _ in range(2)]
    processes.until(lambda: len(line.unfinished()) == 2, 10, "no uploads begin")
    began = time.monotonic()
    for task in tasks:
        assert service.cancel(task).status_code in (200, 202)
    for task in tasks:
        service.wait(task, state="cancelled", seconds=10)
    line.await_clean()
    assert time.monotonic() - began < 8
    assert keys_of(server, "cancelled") == []
    line.calm()
    is_whole(server, service.export("wide", params=MIDDLE))


def test_cancelled_while_the_upload_begins(line, server):
    """The answer that names the upload is on its way: it is waited for, since nobody else knows what to abort."""
    service = line.service(*PATIENT)
    line.begin(Rule(s3_moods.stalled(1, ANSWER, 0), CREATE))
    task = request(service, user_id="early-cancel")
    processes.until(lambda: line.unfinished(), 10, "no upload begins")
    assert service.cancel(task).status_code in (200, 202)
    service.wait(task, state="cancelled", seconds=10)
    line.await_clean(3)
    assert len(line.proxy.of(ABORT)) >= 1


def test_a_worker_that_is_stopped_gives_its_uploads_back(line, server):
    """SIGTERM in the middle: no attempt is lost, nothing lies there."""
    service = line.service(*ONCE, "--drain", "1s")
    line.begin(Rule(s3_moods.slow(1 << 20), PART))
    task = request(service, user_id="stopped")
    on_its_way(line)
    assert service.stop() == 0
    line.await_clean()
    line.calm()
    service.start()
    done = service.wait(task)
    assert done["attempt"] == 1
    is_whole(server, done)


def test_a_frozen_child_cannot_publish_what_another_has(line, server):
    """It wakes up after its task was run by another: the file of the other stands."""
    service = line.service(*PATIENT, "--concurrency", "1")
    line.begin(Rule(s3_moods.stalled(3600, REQUEST, 0), COMPLETE, calls=1))
    task = request(service, user_id="frozen")
    processes.until(lambda: line.proxy.of(COMPLETE), 10, "it does not come so far")
    child = service.pids("child")
    for pid in child:
        os.kill(pid, signal.SIGSTOP)
    service.kill("worker")  # which its children do not outlive
    line.proxy.end_all()
    line.calm()
    done = service.wait(task, seconds=60, patient=True)
    is_whole(server, done)
    assert keys_of(server, "frozen") == [done["key"]]
    line.await_clean()
