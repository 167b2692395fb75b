"""Ports of the loopback for programs that tests start."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path


def free_port() -> int:
    """A port that nothing on the machine listens at, below those that the kernel gives to whoever asks for any.

    So what other tests open meanwhile does not take it before the program that it is for has.
    """
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.SystemRandom().randrange(max(2048, lowest - 20_000), lowest)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
