"""Tables: as wide as the terminal, in colours where it has some, and safe from whoever chose the words in them."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from cli.progress.text import cell_width
from cli.remote.rows import RUNS, run_row
from cli.table import PLAIN, Looks, looks_of, print_json, table

_HEADER = ("NAME", "STATE", "WHAT")
_HOSTILE = "Fix \x1b[2J\x1b]0;owned\x07\u202eevil\u2066 \x9b31m\tand\nmore \ud83d"
_SAFE = "Fix evil 31m and more "


def run(title: str, number: int = 7) -> dict[str, Any]:
    return {
        "number": number, "project": "app", "state": "failed", "reason": "", "cancel_requested": False,
        "created_at": 0.0, "started_at": 1.0, "finished_at": 3.0, "options": {}, "source": {},
        "trigger": {"title": title, "branch": "b\x1b[31m\u202e", "by": "ana"},
    }  # fmt: skip


def test_what_does_not_fit_is_cut_off_the_widest_column_and_never_off_a_name() -> None:
    rows = [("a-name-of-some-length", "failed", "x" * 200), ("b", "succeeded: " + "y" * 50, "short")]
    lines = table(_HEADER, rows, looks=Looks(60)).splitlines()
    assert [cell_width(line) for line in lines if "x" in line] == [60]
    assert all(cell_width(line) <= 60 for line in lines)
    assert lines[1].startswith("a-name-of-some-length   failed")
    assert lines[1].endswith("x…")
    assert "…   short" in lines[2]
    assert table(_HEADER, rows, looks=Looks(10)).splitlines()[1].startswith("a-name-of-some-length "), "names stay"
    assert "x" * 200 in table(_HEADER, rows), "a file gets all of it"


def test_wide_and_combining_characters_are_counted_in_cells() -> None:
    rows = [("日本語", "ok", "漢" * 60), ("é" * 3, "ok", "plain"), ("e\u0301" * 3, "ok", "plain")]
    lines = table(_HEADER, rows, looks=Looks(40)).splitlines()
    assert max(map(cell_width, lines)) in (39, 40)
    assert len({cell_width(line[: line.index("ok")]) for line in lines[1:]}) == 1


def test_colours_are_of_states_and_change_no_width() -> None:
    rows = [("a", "succeeded", "failed"), ("b", "failed: why", "x"), ("c", "Exited (1) now", ""), ("d", "odd", "y")]
    coloured, plain = table(_HEADER, rows, looks=Looks(None, colours=True)), table(_HEADER, rows)
    assert "\x1b[32msucceeded\x1b[0m" in coloured
    assert "\x1b[31mfailed: why\x1b[0m" in coloured
    assert "\x1b[31mExited (1) now\x1b[0m" in coloured
    assert "\x1b[31mfailed\x1b[0m" not in coloured, "that is no state"
    for code in ("2", "0", "31", "32"):
        coloured = coloured.replace(f"\x1b[{code}m", "")
    assert [line.rstrip() for line in coloured.splitlines()] == plain.splitlines()
    cut = table(_HEADER, [("name", "failed since then", "x" * 100)], looks=Looks(30, colours=True))
    assert "\x1b[31mfailed si…\x1b[0m" in cut, "its colour is that of the whole"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "looks"),
    [
        ({"TERM": "xterm"}, Looks(None, colours=True)),
        ({"TERM": "xterm", "NO_COLOR": "1"}, PLAIN),
        ({"TERM": "dumb"}, PLAIN),
        ({}, PLAIN),
    ],
)
def test_terminals_that_can_little_get_plain_tables(environ: dict[str, str], looks: Looks) -> None:
    assert looks_of(_Terminal(), environ) == looks
    assert looks_of(io.StringIO(), environ) == PLAIN


@pytest.mark.parametrize(
    "form", ["", "table {{.Title}}\\t{{.Branch}}", "{{.Title}}|{{.Branch}}", "json", "{{json .Title}}"]
)
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_title_of_a_fork_gives_no_orders_to_a_terminal(form: str, term: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    RUNS.print([run_row(run(_HOSTILE), 5.0, "http://ci")], form)
    printed = terminal.getvalue()
    assert "evil" in printed
    assert printed.replace("\n", "").isprintable()


def test_pipe_gets_what_the_title_is_and_a_table_is_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    row = {**run_row(run("a"), 5.0, "http://ci"), "Title": _HOSTILE}
    assert RUNS.lines([row], looks=Looks(200)).splitlines()[1].endswith(_SAFE.rstrip())
    assert RUNS.lines([row]).splitlines()[1].endswith(_SAFE.rstrip())
    assert RUNS.lines([row], "{{.Title}}") == f"{_HOSTILE}\n"
    print_json({"title": _HOSTILE})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"title": _HOSTILE}
    assert printed.replace("\n", "").isprintable()
