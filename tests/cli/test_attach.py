"""A container's terminal relayed to ours, with a pseudo-terminal on each side."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import stat
import struct
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.attach import SignalForwarder, output_for, relayed_terminal, window_size
from tests.toolkit.bounds import stretched


class Pty:
    """A pseudo-terminal: ``user`` is where the person types and looks, ``program`` what the program has."""

    def __init__(self) -> None:
        self.user, self.program = os.openpty()

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.user, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, until: bytes) -> bytes:
        found = b""
        deadline = time.monotonic() + stretched(10)
        while until not in found:
            assert select.select([self.user], [], [], max(0, deadline - time.monotonic()))[0], f"only {found!r} came"
            found += os.read(self.user, 4096)
        return found


@pytest.fixture
def ours() -> Iterator[Pty]:
    pty = Pty()
    yield pty
    os.close(pty.user)
    os.close(pty.program)


@pytest.fixture
def theirs() -> Iterator[Pty]:
    pty = Pty()
    tty.setraw(pty.program)
    yield pty
    os.close(pty.user)


def test_bytes_go_both_ways_and_the_terminal_is_raw_meanwhile(ours: Pty, theirs: Pty) -> None:
    before = termios.tcgetattr(ours.program)
    with relayed_terminal(theirs.user, stdin=ours.program, stdout=ours.program):
        assert not termios.tcgetattr(ours.program)[3] & (termios.ECHO | termios.ICANON | termios.ISIG)
        os.write(ours.user, b"typed\x03")
        assert os.read(theirs.program, 100) == b"typed\x03"
        os.write(theirs.program, b"printed\n")
        ours.read(b"printed")
        os.write(theirs.program, b"last words")
        os.close(theirs.program)
    assert b"last words" in ours.read(b"words")
    assert termios.tcgetattr(ours.program) == before


def test_what_was_typed_ahead_reaches_the_program(ours: Pty, theirs: Pty) -> None:
    os.write(ours.user, b"typed ahead\n")
    with relayed_terminal(theirs.user, stdin=ours.program, stdout=ours.program):
        assert select.select([theirs.program], [], [], stretched(10))[0]
        assert os.read(theirs.program, 100) == b"typed ahead\n"
        os.close(theirs.program)


def test_terminal_is_restored_after_an_exception(ours: Pty, theirs: Pty) -> None:
    before = termios.tcgetattr(ours.program)
    os.close(theirs.program)
    with pytest.raises(ZeroDivisionError), relayed_terminal(theirs.user, stdin=ours.program, stdout=ours.program):
        raise ZeroDivisionError
    assert termios.tcgetattr(ours.program) == before


def test_window_size_is_taken_over_and_followed(ours: Pty, theirs: Pty) -> None:
    ours.resize(33, 99)
    with relayed_terminal(theirs.user, stdin=ours.program, stdout=ours.program):
        assert window_size(theirs.program) == (33, 99)
        ours.resize(20, 40)
        os.kill(os.getpid(), signal.SIGWINCH)
        assert window_size(theirs.program) == (20, 40)
        os.close(theirs.program)


def test_no_descriptor_stays(ours: Pty, theirs: Pty) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with relayed_terminal(theirs.user, stdin=ours.program, stdout=ours.program):
        os.close(theirs.program)
    assert len(os.listdir("/proc/self/fd")) == before - 1


def test_output_only_leaves_our_terminal_alone(ours: Pty, theirs: Pty) -> None:
    before = termios.tcgetattr(ours.program)
    with relayed_terminal(theirs.user, stdin=None, stdout=ours.program):
        assert termios.tcgetattr(ours.program) == before
        os.write(theirs.program, b"hello")
        ours.read(b"hello")
        os.close(theirs.program)


def test_what_is_no_terminal_has_no_size() -> None:
    read, write = os.pipe()
    assert window_size(read) is None
    os.close(read)
    os.close(write)


def test_output_to_a_file_goes_through_a_pipe_and_is_complete(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        with output_for(file.fileno()) as given:
            assert stat.S_ISFIFO(os.fstat(given).st_mode)
            for _ in range(1000):
                os.write(given, b"x" * 1000)
        assert (tmp_path / "out").stat().st_size == 1_000_000


def test_output_to_a_pipe_is_given_as_it_is() -> None:
    read, write = os.pipe()
    with output_for(write) as given:
        assert given == write
    os.close(read)
    os.close(write)


class Asked:
    """Stands in for a container: remembers what it was sent."""

    def __init__(self) -> None:
        self.sent: list[int | str] = []

    def signal(self, number: int) -> None:
        self.sent.append(number)

    def kill(self) -> None:
        self.sent.append("kill")


def test_signals_are_passed_on_and_the_second_request_to_end_kills() -> None:
    container = Asked()
    before = signal.getsignal(signal.SIGINT)
    with SignalForwarder() as forwarder:
        forwarder.attach(container)
        for number in (signal.SIGUSR1, signal.SIGINT, signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
    assert container.sent == [signal.SIGUSR1, signal.SIGINT, signal.SIGUSR2, "kill"]
    assert signal.getsignal(signal.SIGINT) is before


def test_signal_that_comes_before_the_container_waits_for_it() -> None:
    container = Asked()
    with SignalForwarder() as forwarder:
        os.kill(os.getpid(), signal.SIGTERM)
        forwarder.attach(container)
        assert container.sent == [signal.SIGTERM]


def test_second_request_to_end_before_there_is_a_container_gives_up() -> None:
    with SignalForwarder():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
