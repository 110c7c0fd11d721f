"""What starting any server of a test has in common."""

import ctypes
import os
import signal
import socket
import subprocess
import threading

PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


def free_port():
    """A port of 127.0.0.1 that nobody has now; somebody may have it in a moment, so be ready to try another."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(command, log, death=signal.SIGTERM, **how):
    """Starts a server in a session of its own; what it says is added to the file `log`. `how` is Popen's.

    The server gets the signal `death` when the program that started it ends, however that ended. A thread's end would
    count as the program's (prctl(2)), so only the main one asks for that.
    """
    bound = threading.current_thread() is threading.main_thread()
    with open(log, "ab") as file:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            preexec_fn=(lambda: _libc.prctl(PR_SET_PDEATHSIG, death)) if bound else None, **how)


def run(command, **environment):
    """Runs a command beside servers, with more variables; passes signals on. Its exit status, as a shell tells it."""
    process = subprocess.Popen(command, env={**os.environ, **environment})
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.send_signal(number))
    status = process.wait()
    return status if status >= 0 else 128 - status
