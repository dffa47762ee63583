"""Free loopback ports."""

import random
import socket
from pathlib import Path

_FIRST = 15_000
_given: set[int] = set()
"""Ports given out by this process: whoever got one may not listen on it yet."""


def free_port() -> int:
    """A loopback port that nobody listens on.

    It lies below the kernel's range for outgoing connections: a service that is killed and
    started again must find its port free, and no client may have borrowed it meanwhile.
    """
    past = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if past - _FIRST < 1_000:
        return _port_from_kernel()
    while True:
        port = random.randrange(_FIRST, past)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port


def _port_from_kernel() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
