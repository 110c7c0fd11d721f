"""A real S3 server whose sessions end within seconds: Ceph's RADOS Gateway, over a store in memory.

    with Rgw() as server:
        keys = server.session(seconds=3)
        server.client(access_key=keys["AccessKeyId"], secret_key=keys["SecretAccessKey"], token=keys["SessionToken"])

Its programs come from the distribution's packages, which are unpacked into the cache outside the checkout and not
installed: that needs no root, starts no service, and leaves out the disk tools that the packages want beside them.
A monitor, one store and the gateway, all on 127.0.0.1: a second to start, 140 MB.

Laxer than AWS: takes any region, ignores checksum headers, and If-None-Match when an upload is completed. What a session
that has ended asks for is 403 AccessDenied, without a word of why.
"""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import uuid
from pathlib import Path

import daemon
import packages
from s3 import START_SECONDS, STOP_SECONDS, Server, scratch_folder, tell

PACKAGES = ("ceph-mon", "ceph-osd", "radosgw")
UNPACKED = re.compile(r"(ceph-|radosgw|lib)")  # of these and what they need: not the tools for disks
PROGRAMS = ("ceph-mon", "ceph-osd", "monmaptool", "osdmaptool", "radosgw", "radosgw-admin")
APT_SECONDS = 300
MEMORY_BYTES = 1 << 30  # most that the store holds
SESSION_SECONDS = 3  # the shortest session that can be had
ROLE = "exporter"

CONFIG = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{monitor_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
keyring = /dev/null
run dir = {folder}
crash dir = {folder}
admin socket =
pid file =
log file =
log to stderr = true
mon cluster log file = /dev/null
plugin dir = {libraries}/ceph
erasure code dir = {libraries}/ceph/erasure-code
osd class dir = {libraries}/rados-classes

# One copy of everything, in memory.
mon initial members = a
mon allow pool size one = true
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = {memory_bytes}
osd crush chooseleaf type = 0
# It stands in the map from the beginning; telling the monitor where it is would be a race for the cluster's name.
osd crush update on start = false
osd class update on start = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pg autoscale mode = off

# What it decides upon waits for nobody else; each new pool would take two seconds.
paxos propose interval = 0.02
paxos min wait = 0.01

rgw s3 auth use sts = true
rgw sts key = {sts_key}
rgw sts min session duration = {session_seconds}

[mon.a]
mon data = {folder}/monitor
mon addr = [v1:127.0.0.1:{monitor_port}]
[osd.0]
osd data = {folder}/data
"""


def _policy(**statement):
    # No blanks: the gateway does not read a "+" in a form as one.
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", **statement}]}, separators=(",", ":"))


def _unpack(scratch, to):
    """Has the packages fetched, checked by apt against its keys, and unpacked. The lists are our own: the machine's may
    be old or not there, and are not ours to renew."""
    state = scratch / "apt"
    (state / "lists" / "partial").mkdir(parents=True)
    words = [f"-oDir::State::lists={state}/lists", f"-oDir::Cache={state}", "-oDebug::NoLocking=true",
             "-oAPT::Sandbox::User=root", "-oAcquire::Languages=none", "-qq"]

    def apt(*more):
        done = subprocess.run(["apt-get", *words, *more], cwd=scratch, capture_output=True, text=True, timeout=APT_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(f"servers: apt-get {more[0]} ended with {done.returncode}\n{done.stderr[-2000:]}")
        return done.stdout

    apt("update")
    wanted = re.findall(r"^Inst (\S+)", apt("install", "--simulate", "--no-install-recommends", *PACKAGES), re.MULTILINE)
    apt("download", *filter(UNPACKED.match, wanted))
    whole, kept = scratch / "whole", scratch / "kept"
    for package in scratch.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, whole], check=True, timeout=60)
    for program in PROGRAMS:
        (kept / "bin").mkdir(parents=True, exist_ok=True)
        os.rename(whole / "usr" / "bin" / program, kept / "bin" / program)
    for libraries in (*whole.glob("lib/*-linux-gnu*"), *whole.glob("usr/lib/*-linux-gnu*")):
        shutil.copytree(libraries, kept / "lib", symlinks=True, dirs_exist_ok=True)
    os.rename(kept, to)


class Rgw(Server):
    name = "radosgw"
    probe = "/"

    @classmethod
    def home(cls):
        """Its programs and libraries. Each release of the distribution has its own."""
        release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE))
        return packages.cache().parent / "servers" / f"radosgw-{release['ID']}-{release.get('VERSION_ID', 'sid')}"

    @classmethod
    def program(cls, name="radosgw"):
        return cls.home() / "bin" / name

    @classmethod
    def have(cls):
        """FileNotFoundError where packages are not Debian's."""
        if not cls.program().exists() and not shutil.which("apt-get"):
            raise FileNotFoundError(f"{' '.join(PACKAGES)} are unpacked from Debian's packages, and here is no apt-get")
        with scratch_folder(lambda: not cls.program().exists()) as scratch:
            if scratch:
                tell("unpacking", *PACKAGES, "once from the distribution's packages, 60 MB")
                _unpack(scratch, cls.home())

    def __init__(self, *words, **named):
        super().__init__(*words, **named)
        self.daemons = {}

    # --- its life ---

    def _prepare(self):
        deadline = time.monotonic() + START_SECONDS
        while not self._monitor(daemon.free_port(), deadline):
            pass  # the port was taken meanwhile
        self._run("ceph-osd", "-i", "0", "--mkfs")
        self._daemon("ceph-osd", "-i", "0")
        self._admin("user", "create", "--uid=owner", "--display-name=owner", f"--access-key={self.access_key}",
                    f"--secret-key={self.secret_key}")
        self._admin("role", "create", f"--role-name={ROLE}", "--assume-role-policy-doc=" + _policy(
            Principal={"AWS": ["arn:aws:iam:::user/owner"]}, Action=["sts:AssumeRole"]))
        self._admin("role-policy", "put", f"--role-name={ROLE}", "--policy-name=all", "--policy-doc=" + _policy(
            Action=["s3:*"], Resource=["arn:aws:s3:::*"]))

    def _monitor(self, port, deadline):
        """Makes a monitor that knows of one store, and waits until it listens; False if the port is another's."""
        shutil.rmtree(self.folder / "monitor", ignore_errors=True)
        (self.folder / "monitor").mkdir()
        fsid = str(uuid.uuid4())
        (self.folder / "ceph.conf").write_text(CONFIG.format(
            fsid=fsid, monitor_port=port, folder=self.folder, libraries=self.home() / "lib", memory_bytes=MEMORY_BYTES,
            sts_key=secrets.token_hex(8), session_seconds=SESSION_SECONDS), encoding="ascii")
        self._run("monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", f"[v1:127.0.0.1:{port}]", "monmap")
        self._run("osdmaptool", "--createsimple", "1", "--clobber", "osdmap")
        self._run("ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap", "--osdmap", "osdmap")
        began = len(self.log())
        monitor = self._daemon("ceph-mon", "-i", "a")
        while monitor.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return True
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        if "already in use" in self.log()[began:] and time.monotonic() < deadline:
            return False
        raise RuntimeError(f"ceph-mon did not start\n{self.tail()}")

    def _daemon(self, name, *words):
        self.daemons[name] = daemon.launch([self.program(name), "-f", *words], self.log_path, **self._how())
        return self.daemons[name]

    def _run(self, name, *words):
        try:
            done = subprocess.run([self.program(name), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                  timeout=START_SECONDS, **self._how())
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"{name} did not end within {START_SECONDS} s\n{self.tail(100)}") from None
        if done.returncode != 0:
            raise RuntimeError(f"{name} ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}\n{self.tail()}")
        return done.stdout

    def _admin(self, *words):
        return self._run("radosgw-admin", *words)

    def _how(self):
        return {"cwd": self.folder, "env": {**self._settings(), "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
                                            "HOME": str(self.folder), "LANG": "C.UTF-8"}}

    def _settings(self):
        libraries = self.home() / "lib"
        return {"CEPH_CONF": str(self.folder / "ceph.conf"), "LD_LIBRARY_PATH": f"{libraries}:{libraries}/ceph"}

    def _words(self):
        address = f"127.0.0.1:{self.port}"
        front = (f"beast ssl_endpoint={address} ssl_certificate={self.tls[0]} ssl_private_key={self.tls[1]}"
                 if self.tls else f"beast endpoint={address}")
        return ["-f", "-n", "client.rgw", "--rgw-frontends", front]

    def close(self):
        for process in self.daemons.values():
            process.kill()
            process.wait(STOP_SECONDS)
        self.daemons = {}
        super().close()

    # --- using it ---

    def session(self, seconds=SESSION_SECONDS):
        """Keys of a new session that may do all with objects: AccessKeyId, SecretAccessKey, SessionToken, Expiration."""
        sts = self.client("sts", parameter_validation=False)  # AWS itself has none below 900 s
        return sts.assume_role(RoleArn=f"arn:aws:iam:::role/{ROLE}", RoleSessionName="story",
                               DurationSeconds=seconds)["Credentials"]

    def unfinished(self):
        return {upload for _, upload in self.uploads()}
