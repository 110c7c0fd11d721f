"""The S3 servers that other stories stand on are what they say they are."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

import certificates
import daemon
import processes
import s3 as s3_servers

HARNESS = Path(s3_servers.__file__)
MEBIBYTE = 1 << 20
BODY = hashlib.shake_256(b"rowferry").digest(11 * MEBIBYTE + 3)


def refused(call, **arguments):
    """The code of a request that the server must not do."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def test_what_boto3_puts_the_command_line_gets_and_the_other_way_round(s3, tmp_path):
    key, there = f"{tmp_path.name}/a b+c%20d'é.bin", f"s3://{s3.bucket}/{tmp_path.name}"
    s3.client().put_object(Bucket=s3.bucket, Key=key, Body=BODY)
    assert s3.aws("s3", "cp", f"s3://{s3.bucket}/{key}", "-") == BODY

    s3.aws("s3", "cp", "-", f"{there}/piped", stdin=BODY)  # of unknown size: parts
    answer = s3.client().get_object(Bucket=s3.bucket, Key=f"{tmp_path.name}/piped")
    assert answer["Body"].read() == BODY
    assert answer["ETag"].endswith('-2"')
    assert s3.objects(tmp_path.name + "/") == {key: len(BODY), f"{tmp_path.name}/piped": len(BODY)}
    assert b" piped\n" in s3.aws("s3", "ls", f"{there}/")


def test_a_link_of_either_client_is_served_and_an_altered_one_is_not(s3, tmp_path):
    s3.client().put_object(Bucket=s3.bucket, Key=tmp_path.name, Body=b"linked")
    theirs = s3.aws("s3", "presign", f"s3://{s3.bucket}/{tmp_path.name}", "--expires-in", "60").decode().strip()
    ours = s3.client().generate_presigned_url("get_object", {"Bucket": s3.bucket, "Key": tmp_path.name}, ExpiresIn=60)
    for url in (theirs, ours):
        assert urllib.request.urlopen(url, timeout=10).read() == b"linked"
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(url.replace("X-Amz-Expires=60", "X-Amz-Expires=61"), timeout=10)


def test_what_is_signed_is_checked(s3):
    right = {"Bucket": s3.bucket, "Key": "nobody", "Body": b"x"}
    assert refused(s3.client(secret_key="wrong").put_object, **right) == "SignatureDoesNotMatch"
    assert refused(s3.client(access_key="nobody-at-all").put_object, **right) == "InvalidAccessKeyId"
    other = s3.client()
    other.meta.events.register("before-sign.s3", lambda request, **_: request.context["signing"].update(region="mars-1"))
    assert refused(other.put_object, **right) == "AuthorizationHeaderMalformed"
    assert refused(s3.client().head_object, Bucket=s3.bucket, Key="nobody") == "404"


def test_a_restart_and_a_kill_keep_what_was_stored_and_a_wipe_does_not(s3_kind):
    with s3_kind() as server:
        before = server.endpoint, server.access_key
        server.client().put_object(Bucket=server.bucket, Key="kept", Body=b"1")
        server.restart()
        server.kill()
        assert not server.running()
        server.start()
        assert (server.endpoint, server.access_key) == before
        assert server.objects() == {"kept": 1}
        server.wipe()
        assert (server.endpoint, server.objects()) == (before[0], {})
        folder, pid = server.folder, server.process.pid
    assert not folder.exists() and not processes.is_alive(pid)


def test_unfinished_uploads_are_seen(s3_kind):
    with s3_kind() as server:
        client = server.client()
        begun = {}
        for key in ("exports/one", "exports/two"):
            upload = client.create_multipart_upload(Bucket=server.bucket, Key=key)["UploadId"]
            client.upload_part(Bucket=server.bucket, Key=key, UploadId=upload, PartNumber=1, Body=BODY[:5 * MEBIBYTE])
            begun[key] = upload
        assert server.uploads() == set(begun.items())
        assert len(server.unfinished()) == 2
        server.restart()
        assert server.uploads(*begun) == set(begun.items())
        assert len(server.unfinished()) == 2
        client.abort_multipart_upload(Bucket=server.bucket, Key="exports/one", UploadId=begun.pop("exports/one"))
        assert server.uploads("exports/one", "exports/two") == set(begun.items())
        part = client.list_parts(Bucket=server.bucket, Key="exports/two", UploadId=begun["exports/two"])["Parts"][0]
        client.complete_multipart_upload(Bucket=server.bucket, Key="exports/two", UploadId=begun["exports/two"],
                                         MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
        assert (server.uploads("exports/two"), server.unfinished()) == (set(), set())


def test_over_tls_with_a_certificate_of_ones_own(s3_kind, tmp_path):
    with s3_kind(tls=certificates.self_signed(tmp_path), region="eu-west-7", bucket="other") as server:
        assert server.endpoint.startswith("https://")
        server.client().put_object(Bucket="other", Key="kept", Body=b"1")
        assert server.aws("s3", "cp", "s3://other/kept", "-") == b"1"
        # MinIO encrypts as asked; versitygw takes the header and does nothing.
        server.client().put_object(Bucket="other", Key="secret", Body=b"2", ServerSideEncryption="AES256")
        assert server.objects() == {"kept": 1, "secret": 1}


def test_a_gateway_of_ceph_hands_out_sessions_that_end(rgw):
    key = "exports/a b+c%20d'é.bin"
    rgw.client().put_object(Bucket=rgw.bucket, Key=key, Body=BODY)
    assert rgw.aws("s3", "cp", f"s3://{rgw.bucket}/{key}", "-") == BODY
    rgw.restart()
    session = rgw.session()
    client = rgw.client(access_key=session["AccessKeyId"], secret_key=session["SecretAccessKey"],
                        token=session["SessionToken"])
    upload = client.create_multipart_upload(Bucket=rgw.bucket, Key="exports/two")["UploadId"]
    assert rgw.uploads() == {("exports/two", upload)} and rgw.unfinished() == {upload}
    assert rgw.objects("exports/") == {key: len(BODY)}
    processes.until(lambda: time.time() > session["Expiration"].timestamp(), 10, "the session goes on")
    assert refused(client.list_objects_v2, Bucket=rgw.bucket) == "AccessDenied"
    rgw.client().abort_multipart_upload(Bucket=rgw.bucket, Key="exports/two", UploadId=upload)
    assert rgw.unfinished() == set()


def test_a_port_that_is_taken_meanwhile_is_given_up(s3_kind, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr(daemon, "free_port", lambda free_port=daemon.free_port: ports.pop() if ports else free_port())
        with s3_kind() as server:
            assert not ports
            assert server.port != taken.getsockname()[1]


def test_a_command_runs_beside_both_and_they_end_with_it(tmp_path):
    script = 'for server in "$ROWFERRY_TEST_S3_MINIO" "$ROWFERRY_TEST_S3_VERSITYGW"; do set -- $server; echo "$1 $2 $3 $#"; done; exit 7'
    done = subprocess.run([sys.executable, HARNESS, "--", "sh", "-c", script], capture_output=True, text=True, timeout=60)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert (done.returncode, [line[1:] for line in lines]) == (7, [["exports", "us-east-1", "5"]] * 2)
    for endpoint, *_ in lines:
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(endpoint, timeout=5)


def test_a_server_ends_with_the_program_that_started_it(s3_kind, tmp_path):
    script = (f"import os, s3, signal\nwith s3.{s3_kind.__name__}() as server:\n"
              "    print(server.process.pid, server.folder, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=HARNESS.parent,
                          env={**os.environ, "TMPDIR": str(tmp_path)})
    assert done.returncode == -signal.SIGKILL, done.stderr
    pid, folder = done.stdout.split()
    processes.until(lambda: not processes.is_alive(int(pid)), 20, "the server runs on")
    assert Path(folder).parent == tmp_path
