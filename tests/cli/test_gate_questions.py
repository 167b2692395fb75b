"""Questions of gates on the terminal: what is asked, what counts as an answer, and what ends the waiting."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from ci.local.gates import Answer
from ci.model import Gate
from cli.errors import CommandError
from cli.jobs import gates
from tests.toolkit.bounds import stretched


class Terminal:
    """Standard input and error; what is written is seen only when it was flushed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        reading, self.writing = os.pipe()
        self.input = os.fdopen(reading)
        self.raw = io.BytesIO()
        self.requests: Any = types.SimpleNamespace(stop=False)
        self.error = io.TextIOWrapper(self.raw, line_buffering=True)
        self._monkeypatch = monkeypatch
        self.aside = 0

    def ask(self, asked: str = "deploy\nto all", timeout_s: float | None = None) -> Answer | None:
        @contextlib.contextmanager
        def aside() -> Iterator[None]:
            self.aside += 1
            yield
            self.aside -= 1

        self._monkeypatch.setattr(sys, "stdin", self.input)
        self._monkeypatch.setattr(sys, "stderr", self.error)  # here: pytest sets its own before each test
        report: Any = types.SimpleNamespace(aside=aside)
        gate = Gate("", timeout_s=stretched(60) if timeout_s is None else timeout_s)
        found = gates._Terminal(report, self.requests).ask("job\x1b[2J", asked, gate)
        assert self.aside == 0
        return found

    def types(self, text: bytes) -> None:
        os.write(self.writing, text)

    @property
    def seen(self) -> str:
        return self.raw.getvalue().decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal(monkeypatch)
    yield made
    made.input.close()
    with contextlib.suppress(OSError):
        os.close(made.writing)


@pytest.mark.parametrize(
    ("typed", "approved"),
    [(b"y\n", True), (b"YES\n", True), (b" yes \n", True), (b"n\n", False), (b"no\n", False), (b"\n", False)],
)
def test_answers(terminal: Terminal, typed: bytes, approved: bool) -> None:
    terminal.types(typed)
    found = terminal.ask()
    assert found == Answer(approved, "approved here" if approved else "refused here")
    assert terminal.seen == "job: deploy\njob: to all\nGo on? [y/N] "


def test_what_is_no_answer_is_asked_again(terminal: Terminal) -> None:
    reads = iter([b"maybe\n", b"yep\n", b"y\n"])
    terminal.types(b"x")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "read", lambda _fd, _size: next(reads))
        found = terminal.ask()
    assert found == Answer(True, "approved here")
    assert terminal.seen.count("Go on? [y/N] ") == 3


def test_end_of_the_terminal_is_a_no(terminal: Terminal) -> None:
    os.close(terminal.writing)
    assert terminal.ask() == Answer(False, "refused here")


def test_nobody_waits_for_an_answer_for_ever(terminal: Terminal) -> None:
    found = terminal.ask(timeout_s=0.0)
    assert found is not None
    assert not found.is_yes
    assert terminal.seen.endswith("Go on? [y/N] \n")
    terminal.requests.stop = True
    assert terminal.ask() is None


def test_run_whose_gates_nobody_can_answer_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    requests: Any = types.SimpleNamespace(stop=False)
    with pytest.raises(CommandError, match=r"^a asks whether the run may go on, and there is no terminal"):
        gates.deciding(["a"], requests, is_yes=False)
    with pytest.raises(CommandError, match=r"^a, b ask whether"):
        gates.deciding(["a", "b"], requests, is_yes=False)
    report: Any = None
    gates.deciding([], requests, is_yes=False)
    yes = gates.deciding(["a"], requests, is_yes=True)(report)
    assert yes("a", "asked", Gate("")) == Answer(True, "approved by --yes")
