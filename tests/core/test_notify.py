"""What the service manager hears, and who may speak for a process."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from core.notify import ServiceManager


@pytest.mark.parametrize("abstract", [False, True])
def test_manager_hears_ready_and_ending(tmp_path: Path, *, abstract: bool) -> None:
    address = f"@{tmp_path}/notify" if abstract else f"{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0"))
        environ = {"NOTIFY_SOCKET": address}
        manager = ServiceManager.from_environ(environ)
        assert environ == {}  # what we start does not speak for us
        manager.ready()
        manager.ending()
        assert [listener.recv(100), listener.recv(100)] == [b"READY=1", b"STOPPING=1"]


def test_without_a_manager_nothing_is_said() -> None:
    manager = ServiceManager.from_environ({})
    manager.ready()
    manager.ending()
