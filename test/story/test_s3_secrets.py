"""Who knows which keys of the store: what stands in environments, command lines, logs and memory (security.md 6)."""

import secrets
from pathlib import Path

import pytest


def block(process, name):
    with open(f"/proc/{process.pid}/{name}", "rb") as file:
        return file.read()


def memory(process):
    """All that the process could write to: its heap, its stacks, its data."""
    found = []
    with open(f"/proc/{process.pid}/maps", encoding="ascii") as maps, open(f"/proc/{process.pid}/mem", "rb", 0) as mem:
        for line in maps:
            place, rights = line.split()[:2]
            start, end = (int(number, 16) for number in place.split("-"))
            if rights.startswith("rw"):
                mem.seek(start)
                try:
                    found.append(mem.read(end - start))
                except OSError:
                    pass  # the kernel's own pages
    return b"".join(found)


@pytest.fixture
def readable(program):
    if b"__asan_init" in Path(program).read_bytes():
        pytest.skip("a sanitizer keeps what was freed, and terabytes of shadow")


def test_keys_stay_where_they_belong(make_service, s3):
    signs, foreign = secrets.token_hex(20), secrets.token_hex(20)
    service = make_service(environment={
        **s3.service(), "ROWFERRY_SIGN_ACCESS_KEY": "signer", "ROWFERRY_SIGN_SECRET_KEY": signs,
        "AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": foreign})
    service.export()

    everybody = service.processes()
    assert {process.role for process in everybody} >= {"serve", "api", "worker", "beat", "child"}
    for process in everybody:
        for secret in (s3.secret_key, signs, foreign):
            for name in ("environ", "cmdline"):
                assert secret.encode() not in block(process, name), (process.role, name)


def test_what_a_process_must_not_know_is_not_in_its_memory(make_service, s3, readable):
    signs = secrets.token_hex(20)
    service = make_service(environment={
        **s3.service(), "ROWFERRY_SIGN_ACCESS_KEY": "signer", "ROWFERRY_SIGN_SECRET_KEY": signs})
    service.export()

    everybody = service.processes()
    assert {process.role for process in everybody} >= {"beat", "child"}
    for process in everybody:
        if process.role == "child":
            assert s3.secret_key.encode() in memory(process), "it opens the store"
            assert signs.encode() not in memory(process), "it signs no link"
        elif process.role == "beat":
            assert s3.secret_key.encode() not in memory(process), "it opens no store"
            assert signs.encode() in memory(process), "this test sees what is there"


def test_a_child_knows_no_key_of_a_store_that_is_not_used(make_service, readable):
    foreign = secrets.token_hex(20)
    service = make_service(environment={"AWS_ACCESS_KEY_ID": "theirs", "AWS_SECRET_ACCESS_KEY": foreign})
    service.export()
    children = [process for process in service.processes() if process.role == "child"]
    assert children
    for process in children:
        assert foreign.encode() not in memory(process)
