"""What a person reads of the machine's own errors, and on which of them there is something to do."""

from __future__ import annotations

import errno
import io
import os
import sys

import pytest

from cli import registry
from cli.errors import describe, is_users
from cli.progress.choose import choose_mode, open_display
from cli.progress.jsonlines import JsonDisplay
from cli.progress.plain import PlainDisplay
from cli.progress.screen import Row, styled
from cli.progress.tty import TtyDisplay


@pytest.fixture(params=[0, 1000])
def user(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    number: int = request.param
    monkeypatch.setattr(os, "geteuid", lambda: number)
    monkeypatch.delenv("SHIPLAP_DEBUG", raising=False)
    return number


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_says_what_frees_space(user: int, number: int) -> None:
    assert "hint: free some space" in describe(OSError(number, "full"))
    assert is_users(OSError(number, "full"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_what_is_not_permitted_is_for_those_who_are_not_root(user: int, number: int) -> None:
    said = describe(PermissionError(number, "no", "/a"))
    assert said.splitlines()[0] == "error: no: /a"
    assert ("hint: not run as root" in said) is (user != 0)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_files_say_how_more_are_allowed(user: int, number: int) -> None:
    assert "hint: allow more open files than" in describe(OSError(number, "many"))


def test_other_errors_have_no_hint_and_name_their_files(user: int) -> None:
    assert describe(FileNotFoundError(errno.ENOENT, "none", "/a")) == "error: none: /a"
    assert describe(OSError(errno.EXDEV, "links", b"/a", None, "/b")) == "error: links: /a -> /b"
    assert "hint: that file system is read-only" in describe(OSError(errno.EROFS, "read-only", "/a"))
    assert not is_users(OSError(errno.EIO, "broken"))
    assert is_users(OSError(errno.EIO, "broken", "/a"))
    assert not is_users(ValueError("ours"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("asked", "sink", "term", "mode"),
    [
        ("auto", Terminal(), "xterm", "tty"), ("auto", Terminal(), "dumb", "plain"),
        ("auto", Terminal(), None, "plain"),
        ("auto", io.StringIO(), "xterm", "plain"), ("plain", Terminal(), "xterm", "plain"),
        ("tty", io.StringIO(), None, "tty"), ("json", Terminal(), "xterm", "json"),
    ],
)  # fmt: skip
def test_display_fits_its_place(asked: str, sink: io.StringIO, term: str | None, mode: str) -> None:
    environ = {} if term is None else {"TERM": term}
    assert choose_mode(asked, sink, quiet=False, environ=environ) == mode
    assert choose_mode(asked, sink, quiet=True, environ=environ) == "quiet"


def test_each_mode_has_its_display() -> None:
    kinds = {"plain": PlainDisplay, "json": JsonDisplay, "tty": TtyDisplay}
    for mode, kind in kinds.items():
        assert type(open_display(mode, Terminal(), environ={})) is kind  # type: ignore[arg-type]
    assert open_display("quiet", Terminal()) is None


@pytest.mark.parametrize("no_colour", [None, "", "1"])
def test_nobody_gets_colours_who_wants_none(no_colour: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    if no_colour is not None:
        monkeypatch.setenv("NO_COLOR", no_colour)
    sink = Terminal()
    monkeypatch.setattr(sys, "stderr", sink)
    with registry.transfers_on_stderr() as display:
        from registry.client.monitor import LayerProgress

        display.layer(LayerProgress("a", "Pushed"))
    assert ("\x1b[34m" in sink.getvalue()) is (no_colour != "1")
    environ = {} if no_colour is None else {"NO_COLOR": no_colour}
    build = open_display("tty", sink, environ=environ)
    assert isinstance(build, TtyDisplay)
    assert build._screen._colours is (no_colour != "1")


def test_rows_fit_and_have_styles() -> None:
    assert styled("x", "bad") == "\x1b[31mx\x1b[0m"
    assert styled("x", "plain") == "x"
    assert Row("abcdef").fit(4) == "abc…"
    assert Row("abcdef").fit(6) == "abcdef"
    assert Row("abc", "12").fit(7) == "abc  12"
    assert Row("abcdef", "12").fit(7) == "abc… 12"
    assert Row("日本", "1").fit(6) == "日本 1"
