"""What runs, as /proc tells it: every process of one service belongs to one session."""

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    role: str  # "serve", "api", "worker", "child" …


def _stat(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        state, parent, _group, session = file.read().rpartition(")")[2].split()[:4]
    return state, int(parent), int(session)


def of_session(session):
    """All processes of a session that still run; zombies have ended."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            state, parent, its_session = _stat(name)
            if its_session != session or state in "ZX":
                continue
            with open(f"/proc/{name}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append(Process(int(name), parent, words[1].decode() if len(words) > 1 else "?"))
    return sorted(found, key=lambda process: process.pid)


def is_alive(pid):
    try:
        return _stat(pid)[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition, seconds, what):
    """Asks again until it is true; gives back what it said. Fails at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        said = condition()
        if said:
            return said
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what() if callable(what) else what}")
        time.sleep(0.01)
