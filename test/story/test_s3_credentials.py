"""Whose keys: the whole service on a real store, with keys from wherever AWS's tools take them. Whatever it was, no
secret is seen outside: not in the log, not on a command line, not in the environment of a process of ours."""

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

import database
import processes
from session_sources import InstanceMetadata, WebIdentity

ROWS = 400_000  # three parts
PART = "5MiB"
URL_SECRET = "a-secret-that-no-helper-may-see-in-its-environment"


@pytest.fixture
def session(minio):
    """Makes a session of the store's own STS: 15 minutes are its shortest."""
    def make():
        made = minio.client("sts").assume_role(RoleArn="arn:minio:iam:::role/any", RoleSessionName="story",
                                               DurationSeconds=900)["Credentials"]
        return {name: made[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")}

    return make


@pytest.fixture
def store(minio):
    """Where the store is, without its keys."""
    return {name: value for name, value in minio.service().items() if not name.endswith("_KEY")}


def write(path, text, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def ini(section, **values):
    return f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in values.items())


def keys_ini(section, keys, **more):
    return ini(section, aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
               aws_session_token=keys["SessionToken"], **more)


def key_of(url):
    return parse_qs(urlsplit(url).query)["X-Amz-Credential"][0].partition("/")[0]


def check_hidden(service, secrets):
    """No secret is seen outside, of any process that runs now."""
    assert len(service.processes()) >= 5
    seen = {"log": service.text().encode()}
    for process in service.processes():
        for name in ("cmdline", "environ"):
            try:
                seen[f"{name} of {process.role}"] = Path(f"/proc/{process.pid}/{name}").read_bytes()
            except PermissionError:  # of processes that are not dumpable only root sees the environment
                assert os.geteuid() != 0
    for secret in secrets:
        assert len(secret) > 10
        assert [where for where, text in seen.items() if secret.encode() in text] == []


def check_export(service, minio, secrets):
    """A file of several parts, there and downloaded, in one attempt. Gives back whose keys signed its link."""
    user = f"keys_{service.folder.parent.name}"  # the store is everybody's
    done = service.export("numbers", user, params={"rows": ROWS})
    assert (done["row_count"], done["attempt"]) == (ROWS, 1)
    wanted = database.numbers_csv(ROWS)
    assert minio.client().get_object(Bucket=minio.bucket, Key=done["key"])["Body"].read() == wanted
    assert httpx.get(done["download_url"], trust_env=False, timeout=60).content == wanted
    listed = service.http("GET", f"/api/exports/user/{user}").json()
    assert [one["key"] for one in listed["exports"]] == [done["key"]]
    check_hidden(service, secrets)
    assert service.http("DELETE", f"/api/exports/{done['key']}").status_code == 200
    return key_of(done["download_url"])


@pytest.fixture
def run(make_service, store):
    """A service on the store that has what these variables say."""
    def make(environment, **more):
        return make_service("--loglevel", "debug", types=["numbers"],
                            environment={**store, "ROWFERRY_S3_PART": PART, **environment}, **more)

    return make


# --- each source ---

def test_variables(run, minio, session):
    keys = session()
    service = run({"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
                   "AWS_SESSION_TOKEN": keys["SessionToken"]})
    assert check_export(service, minio, [keys["SecretAccessKey"], keys["SessionToken"]]) == keys["AccessKeyId"]


def test_our_variables_come_first(run, minio, session):
    keys = session()
    service = run({"AWS_ACCESS_KEY_ID": "AKIAOTHER", "AWS_SECRET_ACCESS_KEY": "another-secret-key",
                   "AWS_SESSION_TOKEN": "another-session-token", "S3_ACCESS_KEY": keys["AccessKeyId"],
                   "S3_SECRET_KEY": keys["SecretAccessKey"], "S3_SESSION_TOKEN": keys["SessionToken"]})
    assert check_export(service, minio, [keys["SecretAccessKey"], keys["SessionToken"]]) == keys["AccessKeyId"]


def test_a_profile_at_home(run, make_service, minio, session):
    keys = session()
    service = run({"AWS_PROFILE": "exports"}, start=False)
    write(service.folder / ".aws" / "credentials", ini("default", aws_access_key_id="AKIAOTHER",
                                                       aws_secret_access_key="x") + keys_ini("exports", keys))
    service.start()
    assert check_export(service, minio, [keys["SecretAccessKey"], keys["SessionToken"]]) == keys["AccessKeyId"]


def test_a_profile_that_names_the_store(run, store, minio, tmp_path):
    """Region and endpoint are the profile's; its STS, too, is there."""
    config = write(tmp_path / "config", ini("profile exports", role_arn="arn:minio:iam:::role/any", source_profile="root",
                                            region=store.pop("S3_REGION"), endpoint_url=store.pop("S3_ENDPOINT")))
    credentials = write(tmp_path / "credentials", ini("root", aws_access_key_id=minio.access_key,
                                                      aws_secret_access_key=minio.secret_key))
    service = run({"AWS_PROFILE": "exports", "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials)})
    assert check_export(service, minio, [minio.secret_key]) not in ("", minio.access_key)


def test_a_role_of_a_profile(run, minio, tmp_path):
    """The store's own STS checks what we sign."""
    config = write(tmp_path / "config", ini("profile exports", role_arn="arn:minio:iam:::role/any", source_profile="root",
                                            role_session_name="rowferry-story", duration_seconds=900))
    credentials = write(tmp_path / "credentials", ini("root", aws_access_key_id=minio.access_key,
                                                      aws_secret_access_key=minio.secret_key))
    service = run({"AWS_PROFILE": "exports", "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": str(credentials),
                   "AWS_ENDPOINT_URL_STS": minio.endpoint})
    signed_by = check_export(service, minio, [minio.secret_key])
    assert signed_by not in ("", minio.access_key)


def test_a_process(run, minio, session, tmp_path):
    keys = {**session(), "Version": 1}
    keys["Expiration"] = keys["Expiration"].isoformat()
    answer = write(tmp_path / "answer with a blank.json", json.dumps(keys))
    helper = write(tmp_path / "helper", f"#!/bin/sh\nenv >> '{tmp_path}/env'\necho asked >&2\n"
                   "[ \"$1\" = 'a;b $HOME' ] && exec cat \"$2\"\n", 0o700)
    config = write(tmp_path / "config", ini("default", credential_process=f"{helper} 'a;b $HOME' \"{answer}\""))
    service = run({"AWS_CONFIG_FILE": str(config), "ROWFERRY_URL_SECRET": URL_SECRET})
    assert check_export(service, minio, [keys["SecretAccessKey"], keys["SessionToken"]]) == keys["AccessKeyId"]
    seen = (tmp_path / "env").read_text()
    assert "HOME=" in seen
    assert URL_SECRET not in seen
    assert "_SECRET" not in seen
    assert {line["text"] for line in service.lines("credentials.process_said")} == {"asked\n"}


def test_instance_metadata(run, minio, session):
    with InstanceMetadata(session) as source:
        service = run(source.environment())
        signed_by = check_export(service, minio, source.secrets())
        assert signed_by in [keys["AccessKeyId"] for keys in source.given]
        check_hidden(service, source.secrets())


def test_web_identity(run, minio, session, tmp_path):
    with WebIdentity(session, tmp_path / "token") as source:
        service = run(source.environment())
        signed_by = check_export(service, minio, source.secrets())
        assert signed_by in [keys["AccessKeyId"] for keys in source.given]
        # One question for each process, not for each request.
        assert len(source.given) <= len(service.processes())
        # Another token by the time that another process asks.
        source.renew()
        service.restart()
        check_export(service, minio, source.secrets())
        assert "InvalidIdentityToken" not in service.text()


def test_a_token_that_is_refused(run, session, tmp_path):
    """The export fails with a sentence; what the STS quotes is not passed on."""
    with WebIdentity(session, tmp_path / "token") as source:
        source.tokens.append("no-such-token-at-all")
        service = run(source.environment())
        task = service.request("numbers", params={"rows": 5})
        failed = service.wait(task, status="failed")
        assert failed["error_code"] == "storage-denied"
        assert "STS answers 400 InvalidIdentityToken" in service.text()
        check_hidden(service, source.secrets())


def test_keys_that_the_store_does_not_know_any_more(run, minio, session):
    """They are asked for anew, once, and the export goes on."""
    handed_out = []

    def first_a_forgery():
        keys = session()
        handed_out.append(keys)
        # The api asks when it starts, the child with its first export.
        return {**keys, "SessionToken": keys["SessionToken"][:-8] + "AAAAAAAA"} if len(handed_out) <= 2 else keys

    with InstanceMetadata(first_a_forgery) as source:
        service = run({**source.environment(), "ROWFERRY_CONCURRENCY": "1"})
        processes.until(lambda: handed_out, 20, "the api has no keys")
        done = service.export("numbers", params={"rows": 5}, seconds=60)
        assert done["attempt"] == 1
        assert len(handed_out) >= 3


# --- at the start ---

@pytest.fixture
def refuse(program, store, tmp_path):
    """What `serve` says when it does not even begin."""
    def refuse(environment):
        done = subprocess.run([program, "serve", "--data-dir", tmp_path / "data", "--port", "0", "--log-format", "text"],
                              capture_output=True, text=True, timeout=30,
                              env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **store, **environment})
        assert done.returncode == 2, done.stderr
        return done.stderr

    return refuse


SECRET = "very-secret-and-long"


@pytest.mark.parametrize("environment,sentence", [
    ({"S3_ACCESS_KEY": "AKIA1"}, "s3_secret_key is missing"),
    ({"S3_SECRET_KEY": SECRET}, "s3_access_key is missing"),
    ({"AWS_ACCESS_KEY_ID": "AKIA1"}, "aws_secret_access_key is missing"),
    ({"AWS_WEB_IDENTITY_TOKEN_FILE": "/run/token"}, "AWS_ROLE_ARN is missing"),
    ({"AWS_PROFILE": "nobody"}, "there is no profile nobody"),
    ({}, "no credentials for the storage: set S3_ACCESS_KEY and S3_SECRET_KEY"),
    ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://credentials.example/x"}, "must be https"),
    ({"S3_ACCESS_KEY": "AKIA1", "S3_SECRET_KEY": SECRET + " x"}, "cannot be keys"),
])
def test_refused_at_the_start(refuse, environment, sentence):
    said = refuse(environment)
    assert sentence in said
    assert SECRET not in said


@pytest.mark.parametrize("config,sentence", [
    ("[default]\naws_access_key_id = AKIA1\n", "profile default: aws_access_key_id and aws_secret_access_key go together"),
    (f"[default]\naws_secret_access_key {SECRET}\n", "config:2: neither [section] nor key = value"),
    ("[default]\nsso_session = mine\n", "use credential_process with the AWS CLI"),
    ("[default]\nrole_arn = a\nsource_profile = b\n[profile b]\nrole_arn = c\nsource_profile = default\n", "in a circle"),
])
def test_profiles_refused_at_the_start(refuse, tmp_path, config, sentence):
    path = write(tmp_path / "config", config)
    said = refuse({"AWS_CONFIG_FILE": str(path)})
    assert sentence in said
    assert SECRET not in said


def test_config_show_names_the_source(program, store, tmp_path, session):
    keys = session()
    write(tmp_path / ".aws" / "credentials", keys_ini("default", keys))
    done = subprocess.run([program, "config", "show", "--data-dir", tmp_path / "data"], capture_output=True, text=True,
                          timeout=30, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **store})
    assert done.returncode == 0, done.stderr
    assert "profile default" in done.stdout
    for secret in (keys["SecretAccessKey"], keys["SessionToken"]):
        assert secret not in done.stdout + done.stderr
