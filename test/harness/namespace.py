"""A network of one's own: port 8000 is free there, and loopback may carry a public address."""

import ctypes
import fcntl
import os
import socket
import struct
import threading

CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, SIOCSIFADDR = 0x8914, 0x8916
IFF_UP, IFF_LOOPBACK, IFF_RUNNING = 0x1, 0x8, 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def _call(function, *args):
    if function(*args) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Namespace:
    """Namespaces belong to threads: each visit is a thread that enters, does its work and ends."""

    def __init__(self, *addresses):
        self.fd = -1
        self._thread(lambda: self._make(addresses), enter=False)

    def _make(self, addresses):
        _call(_libc.unshare, CLONE_NEWNET)
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS,
                        struct.pack("16sh14x", b"lo", IFF_UP | IFF_LOOPBACK | IFF_RUNNING))
            for i, address in enumerate(addresses, 1):
                fcntl.ioctl(any_socket, SIOCSIFADDR, struct.pack(
                    "16sH2s4s8x", f"lo:{i}".encode(), socket.AF_INET, b"\0\0", socket.inet_aton(address)))

    def _thread(self, work, enter=True):
        result = {}

        def run():
            try:
                if enter:
                    _call(_libc.setns, self.fd, CLONE_NEWNET)
                result["value"] = work()
            except BaseException as error:  # carried over to the thread that asked
                result["error"] = error

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if "error" in result:
            raise result["error"]
        return result["value"]

    def run(self, work):
        """Calls `work` inside; what it starts and the sockets that it makes belong there."""
        return self._thread(work)

    def close(self):
        os.close(self.fd)
