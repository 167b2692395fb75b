"""This side of a shell in a job at a server, without the server. With one: tests/worker/test_worker_shells.py."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from cli.remote import shell
from cli.remote.errors import UnreachableServerError
from core.websocket import frame


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[shell.Terminal]:
    """One that reads nothing, and whose output nobody reads."""
    read, write = os.pipe()
    os.close(read)
    null = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(shell, "_STDOUT", write)
    monkeypatch.setattr(shell, "_STDIN", null)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield shell.Terminal(ours)
    os.close(write)
    os.close(null)


def test_who_has_seen_enough_is_told_of_no_broken_connection(terminal: shell.Terminal) -> None:
    """``shiplap runs shell 12 job cat file | head -1``"""
    with pytest.raises(BrokenPipeError):
        terminal.run(frame("binary", b"a line\n", is_masked=False))


def test_server_that_says_what_is_no_json_is_told_of(terminal: shell.Terminal) -> None:
    with pytest.raises(UnreachableServerError, match="no JSON"):
        terminal.run(frame("text", b"{", is_masked=False))
