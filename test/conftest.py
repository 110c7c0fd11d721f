"""What every story has: the program, and services that are started, looked after and ended."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import database
import pg_exports
import s3 as s3_servers
from maker import Maker
from namespace import Namespace
from postgres import Server
from rgw import Rgw

S3_FIXTURES = {"s3", "minio", "versitygw", "s3_kind"}


def _program():
    path = os.environ.get("ROWFERRY_PROGRAM")
    if not path or not os.access(path, os.X_OK):
        pytest.exit("ROWFERRY_PROGRAM does not name the program; tools/story.sh does", returncode=2)
    return os.path.abspath(path)


def pytest_collection_modifyitems(config, items):
    """Stories that move the clock are chosen only where the clock can be moved."""
    if b"ROWFERRY_TEST_CLOCK_OFFSET_MS" in Path(_program()).read_bytes():
        return
    left_out = [item for item in items if item.get_closest_marker("testbuild")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("testbuild")]


def pytest_collection_finish(session):
    """Building servers takes longer than any story may, so it is done before the first one."""
    wanted = {name for item in session.items for name in item.fixturenames}
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        if wanted & S3_FIXTURES:
            s3_servers.build()
        if "rgw" in wanted and shutil.which("apt-get"):
            Rgw.have()


@pytest.fixture(scope="session")
def program():
    return _program()


@pytest.fixture
def make_service(tmp_path, program):
    maker = Maker(tmp_path, program)
    yield maker
    maker.finish()


@pytest.fixture
def service(make_service):
    """A service of one's own."""
    return make_service(types=database.TYPES)


@pytest.fixture(scope="module")
def shared(tmp_path_factory, program, request):
    """One service for a whole file of stories that leave it as it was."""
    maker = Maker(tmp_path_factory.mktemp("shared"), program)
    yield maker(types=database.TYPES)
    maker.finish()


@pytest.fixture(scope="session")
def postgres():
    """One PostgreSQL server for all stories: each makes databases and roles of its own in it, and leaves it running."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def minio():
    """One MinIO for all stories: each has keys of its own in it, and leaves it running."""
    with s3_servers.Minio() as server:
        yield server


@pytest.fixture(scope="session")
def versitygw():
    """The same of another maker."""
    with s3_servers.Versitygw() as server:
        yield server


@pytest.fixture(params=["minio", "versitygw"])
def s3(request):
    """Each of the two in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=s3_servers.SERVERS, ids=lambda kind: kind.name)
def s3_kind(request):
    """The class of each of the two in turn, for stories that start and stop one of their own."""
    return request.param


@pytest.fixture(scope="module")
def rgw():
    """A Ceph gateway, whose sessions end within seconds."""
    try:
        Rgw.have()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with Rgw() as server:
        yield server


@pytest.fixture(scope="module")
def shop_server():
    """A PostgreSQL server for a file of stories that stop and break it."""
    with Server(max_connections="30") as server:
        pg_exports.make_shop(server)
        yield server


@pytest.fixture
def server(shop_server):
    """That server, which runs."""
    if not shop_server.running():
        shop_server.start()
    yield shop_server
    if not shop_server.running():
        shop_server.start()


@pytest.fixture
def make(make_service, tmp_path, server):
    """Makes services over that server."""
    return pg_exports.Maker(make_service, tmp_path, server)


@pytest.fixture
def namespace():
    """A network of one's own; with a public address on its loopback."""
    try:
        made = Namespace("203.0.113.5", "10.1.2.3")
    except OSError as error:
        pytest.skip(f"needs root for a network namespace: {error}")
    yield made
    made.close()


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a tiny file system on a folder; gives back a function that does so."""
    mounted = []

    def mount(folder, size="1m"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "none", str(folder)],
                              capture_output=True, text=True, timeout=10)
        if done.returncode != 0:
            pytest.skip(f"needs root to mount a small disk: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "-l", str(folder)], timeout=10, check=True)
