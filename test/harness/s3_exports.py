"""Exports into real S3 servers, most of them by a proxy with moods: services that have one, and what is left there."""

import functools
from dataclasses import replace

import database
import processes
import s3_moods

PART = 5 << 20  # the smallest part that is no last one
ROW = 1000  # about so wide is a row of `wide`
MIDDLE = {"rows": 11000}  # three parts
SMALL = {"rows": 100}  # one PUT

# One attempt: whatever happens inside a request's tries costs none.
ONCE = ("--max-attempts", "1")
PATIENT = ("--max-attempts", "10", "--retry-delays", "50ms")

SETTINGS = {"ROWFERRY_S3_PART": "5MiB", "ROWFERRY_S3_IDLE_TIMEOUT": "2s"}


class Line:
    """A server, the proxy before it, and a maker of services that know only the proxy."""

    def __init__(self, server, make_service):
        self.server, self.make_service = server, make_service
        self.left = set()
        self.proxy = s3_moods.proxy(server.endpoint)

    def service(self, *options, environment=None, endpoint=None, types=("wide",), **more):
        return self.make_service(*options, types=list(types), **more, environment={
            **self.server.service(endpoint or self.proxy.url), **SETTINGS, **(environment or {})})

    def calm(self):
        """No moods, and nothing remembered of what was."""
        self.proxy.script()

    def begin(self, *rules):
        """A story: in these moods, on new connections; what others left unfinished is theirs."""
        self.proxy.end_all()
        self.proxy.script(*[replace(rule, fitting=0, struck=0) for rule in rules])
        self.left = self.server.unfinished()

    def unfinished(self):
        return self.server.unfinished() - self.left

    def await_clean(self, seconds=5):
        processes.until(lambda: not self.unfinished(), seconds, lambda: f"unfinished uploads: {self.unfinished()}")

    def close(self):
        self.proxy.close()


def request(service, params=None, **members):
    return service.request("wide", params=params or MIDDLE, **members)


@functools.cache
def client(server):
    """boto3's, past every proxy; to make one takes it a tenth of a second."""
    return server.client()


def read(server, key):
    return client(server).get_object(Bucket=server.bucket, Key=key)["Body"].read()


@functools.cache
def expected(rows):
    """Size and SHA-256 of the file."""
    content = database.wide_csv(rows)
    return len(content), database.sha256(content)


def is_whole(server, done, params=None):
    """What the API says of the file is so, and the file is what its rows are."""
    size, digest = expected((params or MIDDLE)["rows"])
    assert (done["file_size"], done["checksum"]["sha256"]) == (size, digest), done
    assert database.sha256(read(server, done["key"])) == digest, f"{done['key']} is another file"


def keys_of(server, user):
    """Keys of everything that this user can see."""
    pages = client(server).list_objects_v2(Bucket=server.bucket, Prefix=f"exports/{user}/")
    return sorted(entry["Key"] for entry in pages.get("Contents", ()))


def sweep(service):
    """A sweep that is due at once: the last one was missed."""
    assert service.stop() == 0
    if "--cleanup-schedule" not in service.options:
        service.options += ["--cleanup-schedule", "* * * * *"]
    service.start()
    return service.await_line("cleanup.done", 30)
