"""doctor on real stores: each way in which S3 can be set up wrongly has a sentence of its own, and what mends it."""

import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import uuid

import httpx
import pytest

import database
import processes

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROGRAM = os.path.abspath(os.environ.get("ROWFERRY_PROGRAM", os.path.join(ROOT, "build", "rowferry")))

# The rights of docs/s3.md, and what doctor calls them.
RIGHTS = {
    "s3:ListBucket": "list",
    "s3:PutObject": "write",
    "s3:GetObject": "read",
    "s3:DeleteObject": "delete",
    "s3:ListBucketMultipartUploads": "list uploads",
    "s3:ListMultipartUploadParts": "list parts",
    "s3:AbortMultipartUpload": "abort uploads",
}
OF_BUCKET = {"s3:ListBucket", "s3:ListBucketMultipartUploads"}


class Report:
    """What doctor says of the storage."""

    def __init__(self, done):
        self.done = done
        self.checks = [check for check in json.loads(done.stdout)["checks"] if check["name"].startswith("storage")]

    def of(self, about, verdict=None):
        """All lines about this; "" is the storage itself."""
        name = f"storage {about}".strip()
        return [check for check in self.checks if check["name"] == name and verdict in (None, check["verdict"])]

    def failed(self):
        return [check for check in self.checks if check["verdict"] == "failed"]

    def only_failure(self, about):
        """The one thing that is wrong; its sentence and its fix in one text."""
        failed = self.failed()
        assert [check["name"] for check in failed] == [f"storage {about}".strip()], self.checks
        assert self.done.returncode != 0
        return f"{failed[0]['detail']} -> {failed[0]['fix']}"


@pytest.fixture
def run(tmp_path):
    def call(settings, *words):
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LANG": "C.UTF-8", **settings}
        done = subprocess.run([PROGRAM, *words, "--data-dir", str(tmp_path / "data")], capture_output=True, text=True,
                              timeout=120, env=environment, cwd=tmp_path)
        for name, value in settings.items():
            if "SECRET" in name or "TOKEN" in name:
                assert not value or value not in done.stdout + done.stderr, f"{name} is shown"
        return done

    return call


@pytest.fixture
def doctor(run):
    return lambda settings, *words: Report(run(settings, "doctor", "--json", *words))


def leftovers(server, bucket=None):
    return server.objects("exports/rowferry-doctor/", bucket=bucket)


def test_all_is_well(s3, doctor):
    before = s3.unfinished()
    report = doctor(s3.service())

    assert not report.failed(), report.failed()
    assert s3.endpoint in report.of("")[0]["detail"] and "S3_ACCESS_KEY" in report.of("")[0]["detail"]
    assert report.of("rights", "good")[0]["detail"] == "may " + ", ".join(RIGHTS.values())
    assert report.of("conditional writes", "good") and report.of("checksums", "good")
    assert "refuses a wrong CRC32C" in report.of("checksums")[0]["detail"]
    assert report.of("clock", "good")
    assert "after 9 days" in report.of("lifecycle")[0]["detail"]
    assert report.of("links", "warning"), "these links lead to loopback"
    assert "written, signed" in report.of("")[-1]["detail"]
    assert report.done.stderr == ""
    assert not leftovers(s3) and s3.unfinished() == before


def test_a_key_that_the_store_does_not_know(s3, doctor):
    said = doctor({**s3.service(), "S3_ACCESS_KEY": "NOSUCHKEY"}).only_failure("access key")
    assert "InvalidAccessKeyId" in said and "S3_ACCESS_KEY" in said


def test_a_secret_of_another_key(s3, doctor):
    said = doctor({**s3.service(), "S3_SECRET_KEY": secrets.token_hex(20)}).only_failure("secret key")
    assert "SignatureDoesNotMatch" in said and "S3_SECRET_KEY" in said


def test_no_such_bucket(s3, doctor):
    said = doctor({**s3.service(), "S3_BUCKET": "nowhere-at-all"}).only_failure("bucket")
    assert "NoSuchBucket" in said and "--create-bucket" in said


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_doctor_makes_the_bucket(s3_kind, region, doctor):
    name = f"made-{uuid.uuid4()}"
    with s3_kind(region=region) as server:
        report = doctor({**server.service(), "S3_BUCKET": name}, "--create-bucket")
        assert not report.failed(), report.failed()
        assert f"{name} was made" in report.of("bucket", "good")[0]["detail"]
        assert not leftovers(server, name)
        assert not doctor({**server.service(), "S3_BUCKET": name}, "--create-bucket").of("bucket"), "it is there now"


def test_another_region(s3, doctor):
    report = doctor({**s3.service(), "S3_REGION": "eu-north-1"})
    assert not report.failed(), report.failed()
    said = report.of("region", "warning")[0]
    assert said["detail"] == f"the bucket is in {s3.region}, not in eu-north-1" and "S3_REGION" in said["fix"]


def test_nobody_there(s3, doctor):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = f"http://127.0.0.1:{probe.getsockname()[1]}"
        said = doctor({**s3.service(), "S3_ENDPOINT": endpoint}).only_failure("connection")
    assert "connect" in said and "S3_ENDPOINT" in said


def test_a_port_that_says_nothing(s3, doctor):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = {**s3.service(), "S3_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
                    "ROWFERRY_S3_IDLE_TIMEOUT": "1s"}
        said = doctor(settings).only_failure("connection")
    assert "S3_ENDPOINT" in said


def test_a_host_that_no_name_server_knows(s3, doctor):
    said = doctor({**s3.service(), "S3_ENDPOINT": "http://no-such-host.invalid:9000"}).only_failure("connection")
    assert "no-such-host.invalid" in said


# --- rights ---


class Limited:
    """Keys for everything in the policy of docs/s3.md but one action: at MinIO a session of the root key, at versitygw a
    user and the bucket's policy."""

    def __init__(self, server, bucket, without):
        self.server, self.bucket, self.without = server, bucket, without

    def statements(self, **principal):
        of_bucket = sorted(OF_BUCKET - {self.without})
        of_objects = sorted(set(RIGHTS) - OF_BUCKET - {self.without})
        return {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", **principal, "Action": of_bucket, "Resource": f"arn:aws:s3:::{self.bucket}"},
            {"Effect": "Allow", **principal, "Action": of_objects, "Resource": f"arn:aws:s3:::{self.bucket}/exports/*"}]}

    def settings(self):
        return {**self.server.service(), "S3_BUCKET": self.bucket, **getattr(self, self.server.name)()}

    def minio(self):
        keys = self.server.client("sts").assume_role(
            RoleArn="arn:minio:iam:::role/any", RoleSessionName="limited", DurationSeconds=900,
            Policy=json.dumps(self.statements()))["Credentials"]
        return {"S3_ACCESS_KEY": keys["AccessKeyId"], "S3_SECRET_KEY": keys["SecretAccessKey"],
                "S3_SESSION_TOKEN": keys["SessionToken"]}

    def versitygw(self):
        access, secret = f"user{secrets.token_hex(6)}", secrets.token_hex(20)
        subprocess.run([self.server.program(), "admin", "-a", self.server.access_key, "-s", self.server.secret_key,
                        "-r", self.server.region, "--endpoint-url", self.server.endpoint, "create-user", "-a", access,
                        "-s", secret, "-r", "user"], check=True, capture_output=True, timeout=30)
        self.server.client().put_bucket_policy(
            Bucket=self.bucket, Policy=json.dumps(self.statements(Principal={"AWS": [access]})))
        return {"S3_ACCESS_KEY": access, "S3_SECRET_KEY": secret}


@pytest.fixture
def limited(s3):
    before, bucket = s3.unfinished(), f"limited-{uuid.uuid4()}"
    s3.make_bucket(bucket)
    yield lambda without: Limited(s3, bucket, without).settings()
    # Who may not delete, or not abort, leaves something behind.
    client = s3.client()
    for key, upload in s3.uploads(bucket=bucket):
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    for key in s3.objects(bucket=bucket):
        client.delete_object(Bucket=bucket, Key=key)
    client.delete_bucket(Bucket=bucket)
    assert s3.unfinished() == before


def test_the_policy_of_the_documents_is_enough(limited, doctor, s3):
    settings = limited(None)
    report = doctor(settings)
    assert not report.failed(), report.failed()
    assert report.of("rights", "good")[0]["detail"] == "may " + ", ".join(RIGHTS.values())
    assert not leftovers(s3, settings["S3_BUCKET"])


@pytest.mark.parametrize("action", RIGHTS)
def test_a_missing_right_is_named(limited, doctor, action):
    report = doctor(limited(action))
    missing = report.of("rights", "failed")

    assert missing, report.checks
    assert missing[0]["detail"].startswith(f"may not {RIGHTS[action]}: ")
    assert f"allow {action} on" in missing[0]["fix"]
    assert len(missing) == 1, missing
    assert report.done.returncode != 0


# --- what a store can ---


def test_links_that_end_with_their_credentials(minio, doctor):
    minio.make_bucket(bucket := f"session-{uuid.uuid4()}")
    settings = Limited(minio, bucket, None).settings()
    said = [check for check in doctor(settings).of("links", "warning") if "end with the credentials" in check["detail"]]
    assert said and "ROWFERRY_SIGN_ACCESS_KEY" in said[0]["fix"]

    lasting = {"ROWFERRY_SIGN_ACCESS_KEY": minio.access_key, "ROWFERRY_SIGN_SECRET_KEY": minio.secret_key}
    assert not any("end with" in check["detail"] for check in doctor({**settings, **lasting}).of("links"))


def test_encryption_that_is_only_promised(minio, versitygw, doctor):
    wanted = {"ROWFERRY_S3_SSE": "AES256"}
    report = doctor({**minio.service(), **wanted})
    assert not report.failed(), report.failed()
    report = doctor({**versitygw.service(), **wanted})
    assert report.of("encryption", "failed")[0]["detail"] == "ROWFERRY_S3_SSE is AES256, and the store does not encrypt"


def test_versions_hide_what_is_deleted(minio, doctor):
    minio.make_bucket(bucket := f"versions-{uuid.uuid4()}")
    minio.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    report = doctor({**minio.service(), "S3_BUCKET": bucket})
    assert not report.failed(), report.failed()
    assert "only hidden" in report.of("versions", "warning")[0]["detail"]


def test_new_keys_without_a_new_start(s3, make_service, tmp_path):
    """A secret that was wrong, or has been replaced: SIGHUP brings the new one to all who use it."""
    secret = tmp_path / "secret"
    secret.write_text("not-this-one\n")
    secret.chmod(0o600)
    settings = {name: value for name, value in s3.service().items() if name != "S3_SECRET_KEY"}
    service = make_service(environment={**settings, "S3_SECRET_KEY_FILE": str(secret)})
    answer = service.http("GET", "/readyz")
    assert answer.status_code == 503 and not answer.json()["checks"]["storage"]["ok"]
    task = service.request()
    failed = service.wait(task, status="failed")
    assert "storage-denied" in str(failed), failed

    for value in (s3.secret_key, "not-this-one", s3.secret_key):
        secret.write_text(f"{value}\n")
        loaded = len(service.lines("config.loaded"))
        service.process.send_signal(signal.SIGHUP)
        processes.until(lambda: len(service.lines("config.loaded")) >= loaded + 3, 10, service.tail)
        assert (service.http("GET", "/readyz").status_code == 200) == (value == s3.secret_key)
    assert service.file_of()


# --- TLS ---


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Makes certificates of a private authority: (certificate, key, authority)."""
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder, timeout=60)

    def make_authority(name):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
                f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", f"{name}.key", "-out", f"{name}.pem")
        return folder / f"{name}.pem"

    def make(name, addresses):
        (folder / f"{name}.ext").write_text(f"subjectAltName={addresses}\nextendedKeyUsage=serverAuth\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}", "-keyout",
                f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ours.pem", "-CAkey", "ours.key", "-CAcreateserial", "-days",
                "2", "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        return folder / f"{name}.pem", folder / f"{name}.key", folder / "ours.pem"

    make_authority("ours")
    make.other = make_authority("another")
    return make


@pytest.fixture(scope="module")
def certificate(authority):
    return authority("store", "IP:127.0.0.1")


def test_a_private_authority(s3_kind, certificate, authority, doctor):
    with s3_kind(tls=certificate) as server:
        report = doctor(server.service())
        assert not report.failed(), report.failed()
        assert any("must trust the authority" in check["detail"] for check in report.of("links", "warning"))

        for settings in ({"ROWFERRY_S3_CA_FILE": ""}, {"ROWFERRY_S3_CA_FILE": str(authority.other)}):
            said = doctor({**server.service(), **settings}).only_failure("TLS")
            assert "certificate" in said and "ROWFERRY_S3_CA_FILE" in said

        # The certificate is good, and for another name.
        endpoint = server.endpoint.replace("127.0.0.1", "localhost")
        said = doctor({**server.service(), "S3_ENDPOINT": endpoint}).only_failure("TLS")
        assert "localhost" in said

        # http to a port that speaks TLS.
        report = doctor({**server.service(), "S3_ENDPOINT": server.endpoint.replace("https", "http")})
        assert len(report.failed()) == 1 and "scheme" in report.failed()[0]["fix"], report.failed()


@pytest.mark.parametrize("payload", ["auto", "signed", "unsigned"])
def test_exports_over_tls(s3_kind, certificate, make_service, payload):
    """A file of several parts, whose bytes are not hashed for the signature but have a checksum instead."""
    with s3_kind(tls=certificate) as server:
        service = make_service(types=["numbers"], environment={
            **server.service(), "ROWFERRY_S3_PAYLOAD": payload, "ROWFERRY_S3_PART": "5MiB"})
        done = service.export("numbers", params={"rows": 500_000})
        assert done["download_url"].startswith(server.endpoint + "/")
        context = ssl.create_default_context(cafile=certificate[2])
        content = httpx.get(done["download_url"], verify=context, trust_env=False).content
        assert len(content) > 2 * 5 * 2**20
        assert content == database.numbers_csv(500_000)


def test_readiness_goes_with_the_store(s3_kind, make_service):
    with s3_kind() as server:
        service = make_service(environment=server.service())
        assert service.http("GET", "/readyz").status_code == 200
        server.stop()
        answer = service.http("GET", "/readyz")
        assert answer.status_code == 503 and not answer.json()["checks"]["storage"]["ok"]
        server.start()
        processes.until(lambda: service.http("GET", "/readyz").status_code == 200, 20, lambda: "it stays unready")


def test_a_port_without_tls(s3, doctor):
    said = doctor({**s3.service(), "S3_ENDPOINT": s3.endpoint.replace("http", "https")}).only_failure("TLS")
    assert "http://" in said


# --- the configuration alone ---


def test_half_a_pair_is_refused_at_start(s3, run):
    half = {**s3.service(), "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    half.pop("S3_SECRET_KEY")
    done = run(half, "serve", "--port", "0")
    assert done.returncode == 2
    assert "s3_access_key and s3_secret_key go together: s3_secret_key is missing" in done.stderr


@pytest.mark.parametrize("settings, says", [
    ({"S3_ENDPOINT": "127.0.0.1:9000"}, "S3_ENDPOINT has no scheme"),
    ({"S3_BUCKET": "s3://exports"}, "S3_BUCKET must be the bare name of the bucket"),
    ({"S3_ENDPOINT": "http://store.example", "ROWFERRY_S3_PAYLOAD": "unsigned"}, "ROWFERRY_S3_PAYLOAD=unsigned"),
    ({"S3_ACCESS_KEY": "", "S3_SECRET_KEY": ""}, "no credentials for the storage"),
    ({"ROWFERRY_S3_CHECKSUM": "crc64nvmee"}, "did you mean crc64nvme?"),
    ({"ROWFERRY_S3_CA_FILE": "/no/such/file"}, "ROWFERRY_S3_CA_FILE: cannot read /no/such/file"),
])
def test_nonsense_is_refused_at_start(run, settings, says):
    base = {"S3_BUCKET": "exports", "S3_ENDPOINT": "http://127.0.0.1:9", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "secret-word"}
    for role in ("serve", "api", "worker", "beat"):
        done = run({**base, **settings}, role, "--port", "0") if role in ("serve", "api") else run({**base, **settings}, role)
        assert done.returncode == 2 and says in done.stderr, (role, done.stderr)


def test_config_show_names_the_source_of_keys(s3, run, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text(
        f"[reports]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n", encoding="ascii")
    theirs = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    bare = {name: value for name, value in s3.service().items() if "KEY" not in name}
    for settings, source in ((s3.service(), "S3_ACCESS_KEY"), ({**s3.service(), **theirs}, "S3_ACCESS_KEY"),
                             ({**bare, **theirs}, "AWS_ACCESS_KEY_ID"), ({**bare, "AWS_PROFILE": "reports"}, "profile reports")):
        shown = json.loads(run(settings, "config", "show", "--json").stdout)
        assert shown["storage"].startswith(f"s3: bucket {s3.bucket} at {s3.endpoint}")
        assert shown["storage"].endswith(f"keys: {source}"), shown["storage"]


def test_an_option_without_a_bucket(run):
    done = run({"S3_ENDPOINT": "http://127.0.0.1:9", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "secret-word"}, "doctor", "--json")
    warned = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "configuration" and check["verdict"] == "warning"]
    assert "S3_BUCKET is not" in warned[0]["detail"]
