"""Who comes to a keeper: at a full table of descriptors nobody is let in for a moment, and nothing spins."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from containers.errors import ContainerError
from containers.keeper import nursery_client
from containers.keeper.loop import Loop
from containers.keeper.peers import Door, Peer
from core import packets
from core.files import lock_within
from tests.toolkit.bounds import eventually


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED])
def test_a_door_without_descriptors_to_spare_waits_and_opens_again(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    loop, come = Loop(), list[Peer]()
    door = Door(loop, str(short_path / "door"), come.append)
    tries = 0

    def refused(_listener: object) -> socket.socket:
        nonlocal tries
        tries += 1
        raise OSError(number, os.strerror(number))

    stepping = [True]
    loop.later(0.05, stepping.clear)
    with monkeypatch.context() as patched, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.connect(str(short_path / "door"))
        patched.setattr(packets, "accept", refused)
        while stepping:
            loop.step()
        assert tries == 1
        patched.undo()

        def has_come() -> bool:
            loop.step()
            return bool(come)

        eventually(has_come)
        assert b"hello" in sock.recv(1 << 16)
    come[0].close()
    assert door.is_there()
    door.close()
    door.close()
    assert not (short_path / "door").exists()


def test_a_door_takes_away_no_path_that_is_anothers(short_path: Path) -> None:
    loop = Loop()
    first = Door(loop, str(short_path / "door"), lambda _peer: None)
    second = Door(loop, str(short_path / "door"), lambda _peer: None)
    assert (first.is_there(), second.is_there()) == (False, True)
    first.close()
    assert second.is_there()
    second.close()


def test_a_nursery_that_somebody_starts_and_never_does_is_told(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nursery_client, "STARTING_S", 0.05)
    run = str(short_path)
    held = os.open(f"{run}/nursery.lock", os.O_RDWR | os.O_CREAT, 0o600)
    assert lock_within(held, 0.0)
    with pytest.raises(ContainerError, match=r"nursery\.lock for over") as caught:
        nursery_client.keeper(str(short_path / "root"), run, "0" * 64, finish=())
    assert "fuser" in (caught.value.hint or "")
    os.close(held)
