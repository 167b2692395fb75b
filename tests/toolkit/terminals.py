"""What a program writes to a terminal whose other end a test holds."""

from __future__ import annotations

import os
import select
import time

from tests.toolkit.bounds import stretched


def read_until(fd: int, wanted: bytes) -> bytes:
    """All that comes until ``wanted`` has come. Fails the test when it does not."""
    found = b""
    deadline = time.monotonic() + stretched(60)
    while wanted not in found:
        assert select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0], f"only {found!r} came"
        found += os.read(fd, 4096)
    return found
