"""Which display is chosen, on a real pseudo-terminal too; and what Ctrl-C does to a build."""

from __future__ import annotations

import fcntl
import io
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pytest

from cli.progress.choose import choose_mode, open_display
from cli.progress.pump import Pump
from cli.signals import cancelling
from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from tests.cli.terminal import Terminal
from tests.toolkit.bounds import stretched

_CHECKOUT = Path(__file__).resolve().parents[2]


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "sink", "term", "quiet", "mode"),
    [
        ("auto", Tty(), "xterm", False, "tty"),
        ("auto", Tty(), "dumb", False, "plain"),
        ("auto", io.StringIO(), "xterm", False, "plain"),
        ("tty", io.StringIO(), "xterm", False, "tty"),
        ("plain", Tty(), "xterm", False, "plain"),
        ("json", Tty(), "xterm", False, "json"),
        ("tty", Tty(), "xterm", True, "quiet"),
    ],
)
def test_mode(asked: str, sink: io.StringIO, term: str, quiet: bool, mode: str) -> None:
    assert choose_mode(asked, sink, quiet=quiet, environ={"TERM": term}) == mode


def test_quiet_shows_nothing() -> None:
    assert open_display("quiet", io.StringIO()) is None


def test_display_on_a_pseudo_terminal_is_as_wide_as_it() -> None:
    user, program = os.openpty()
    fcntl.ioctl(user, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 40, 0, 0))
    with os.fdopen(program, "w") as sink:
        display = open_display("tty", sink, environ={"NO_COLOR": "1"})
        assert display is not None
        with Pump(display) as pump:
            pump.emit(BuildPlanned((StepInfo(0, "[1/1] RUN " + "x" * 100, line=2),)))
            pump.emit(StepStarted(0, 0.0))
            pump.emit(StepOutput(0, 1, b"working\n", 0.0))
            pump.emit(StepFinished(0, "done", 61.26, 61.26))
        terminal = Terminal(40, 12)
        terminal.write(os.read(user, 65536).decode().replace("\r\n", "\n"))
    os.close(user)
    header, row = terminal.text.splitlines()
    assert header.startswith("[+] Building ")
    assert header.endswith("s (1/1) FINISHED")
    assert row == " => [1/1] RUN " + "x" * 18 + "… 61.3s"


def test_first_signal_cancels_and_is_remembered() -> None:
    cancelled = threading.Event()
    before = signal.getsignal(signal.SIGTERM)
    with cancelling(cancelled, at_once=lambda: None) as received:
        os.kill(os.getpid(), signal.SIGTERM)
        assert cancelled.is_set()
    assert received.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal, threading, time\n"
        "from cli.signals import cancelling\n"
        "with cancelling(threading.Event(), at_once=lambda: print('closed', flush=True)):\n"
        "    os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=_CHECKOUT, timeout=stretched(30), check=False
    )
    assert result.returncode == 130
    assert result.stdout == "closed\n"


def test_as_many_signals_ask_as_may_and_the_next_ends_at_once() -> None:
    program = (
        "import signal\n"
        "from cli.signals import asking_to_end\n"
        "say = lambda text: lambda: print(text, flush=True)\n"
        "with asking_to_end(say('asked'), times=2, at_once=say('closed')):\n"
        "    while True:\n"
        "        signal.raise_signal(signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=stretched(60))
    assert (done.returncode, done.stdout) == (143, "asked\nasked\nclosed\n")
