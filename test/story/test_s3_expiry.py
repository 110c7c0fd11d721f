"""Credentials that end in mid-upload: real sessions of a few seconds, from Ceph's gateway, handed out by an endpoint such
as containers have. An export outlives several of them in one attempt; a link says when it truly ends."""

import subprocess
import sys
import time
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import database
import processes
import s3_moods
from http_proxy import REQUEST, Mood, Rule
from s3_moods import access_key, signed_at
from session_sources import ContainerCredentials

SESSION_SECONDS = 4
ROWS = 1_300_000
SLOW = Mood("slow", of=REQUEST, rate=1_700_000)  # two parts at a time: 14 seconds for all rows
FEW = 1000  # one request


@pytest.fixture(scope="module")
def numbers():
    return database.numbers_csv(ROWS)


@pytest.fixture
def sessions(rgw):
    """Hands out sessions of the gateway."""
    with ContainerCredentials(lambda: rgw.session(SESSION_SECONDS)) as source:
        yield source


@pytest.fixture
def link_up(rgw):
    """The way to the gateway, slow for parts."""
    with s3_moods.proxy(rgw.endpoint, Rule(SLOW, operation="UploadPart")) as proxy:
        yield proxy


@pytest.fixture
def service(rgw, sessions, link_up, make_service):
    """A service that has no keys but those of the endpoint."""
    store = {name: value for name, value in rgw.service(link_up.url).items() if not name.endswith("_KEY")}
    made = make_service(types=["numbers"], environment={
        **store, **sessions.environment(), "ROWFERRY_S3_PART": "5MiB", "ROWFERRY_S3_PARALLEL": "2"})
    yield made
    for secret in sessions.secrets():
        assert secret not in made.text()


def request(service, rows=ROWS):
    return service.request("numbers", params={"rows": rows})


def get(status):
    return httpx.get(status["download_url"], trust_env=False, timeout=60)


def end_of(session):
    return session["Expiration"].timestamp()


def link_key(status):
    """Whose signature the link has."""
    return parse_qs(urlsplit(status["download_url"]).query)["X-Amz-Credential"][0].partition("/")[0]


def check_signatures(proxy, sessions):
    """Every request was signed with keys that were good at the time."""
    for exchange in proxy.of():
        session = sessions.of(access_key(exchange.request))
        assert session and signed_at(exchange.request) < end_of(session), exchange


def check_object(rgw, done, numbers):
    assert rgw.client().get_object(Bucket=rgw.bucket, Key=done["key"])["Body"].read() == numbers
    assert rgw.unfinished() == set()


def test_the_clients_of_aws_take_keys_from_the_endpoint(rgw, sessions):
    environment = {name: value for name, value in rgw.aws_environment().items()
                   if name not in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    rgw.client().put_object(Bucket=rgw.bucket, Key="clients/one", Body=b"1")
    done = subprocess.run([sys.executable, "-m", "awscli", "s3", "ls", f"s3://{rgw.bucket}/clients/"], capture_output=True,
                          text=True, timeout=60, env={**environment, **sessions.environment()})
    assert done.stdout.endswith(" one\n"), done.stderr
    assert sessions.given


def test_an_export_outlives_its_sessions(service, rgw, sessions, link_up, numbers):
    task = request(service)
    done = service.wait(task, seconds=100)
    assert (done["attempt"], done["row_count"]) == (1, ROWS)
    check_object(rgw, done, numbers)

    parts = link_up.of("UploadPart")
    signed_by = [access_key(part.request) for part in parts]
    assert len(set(signed_by)) >= 4, "the upload was over too soon"
    # No more of them than a life of theirs allows: they are asked for when a third of it is left.
    lasted = parts[-1].ended - parts[0].began
    assert len(set(signed_by)) <= lasted / (SESSION_SECONDS / 2) + 2
    check_signatures(link_up, sessions)
    # A connection that the gateway has closed meanwhile makes a request come twice.
    begun, completed = link_up.of("CreateMultipartUpload")[0], link_up.of("CompleteMultipartUpload")[-1]
    assert access_key(begun.request) != access_key(completed.request)


def test_a_link_says_when_its_session_ends_and_is_over_then(service, sessions):
    task = request(service, FEW)
    service.wait(task)

    def fetched():  # a session may end between the status and the download
        status = service.status(task)
        answer = get(status)
        return (status, answer) if answer.status_code == 200 else None

    for _ in range(2):
        status, answer = processes.until(fetched, 20, "a link that leads to the file")
        assert answer.content == database.numbers_csv(FEW)
        assert status["expires_reason"] == "credentials"
        assert 0 < status["expires_in"] <= SESSION_SECONDS
        ends = datetime.fromisoformat(status["expires_at"]).replace(tzinfo=timezone.utc).timestamp()
        assert ends == int(end_of(sessions.of(link_key(status))))
        # Nobody asks for a while: there is a new link nevertheless, at once.
        processes.until(lambda: time.time() > ends + SESSION_SECONDS, 20, "its end, and more")
        assert get(status).status_code == 403


def test_an_endpoint_that_is_away_while_a_session_ends_is_waited_for(service, rgw, sessions, link_up, numbers):
    task = request(service)
    processes.until(lambda: len(link_up.of("UploadPart")) >= 3, 30, "some parts")
    sessions.status = 503
    processes.until(lambda: time.time() > end_of(sessions.given[-1]) + 2, 20, "nobody has good keys any more")
    assert len(sessions.asked) > len(sessions.given)
    before = len(link_up.of())
    sessions.status = 200
    done = service.wait(task, seconds=100)
    assert done["attempt"] == 1
    check_object(rgw, done, numbers)
    check_signatures(link_up, sessions)
    assert len(link_up.of()) > before
