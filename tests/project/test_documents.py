"""The documents can be read where they are shown, and as text: no wide prose, no paragraphs in tables."""

from __future__ import annotations

import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolkit.documents import CELL, WIDTH, cells, long_cells, too_wide, wrapped

_CHECKOUT = Path(__file__).resolve().parents[2]
_LONGER = {"CHANGELOG.md"}
_DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "*/README.md")
    for path in _CHECKOUT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
_DECISIONS = sorted((_CHECKOUT / "docs" / "decisions").glob("*.md"))
_DATED = re.compile(
    r"Date: (\d{4}-\d\d-\d\d)(?:, changed (\d{4}-\d\d-\d\d))?\. Status: (?:accepted|superseded by \d+)\."
)
_HEADINGS = ("Context", "Decision", "Consequences")
_SENTENCE = "who reads this page on a screen, " * 4


def _name(path: Path) -> str:
    return str(path.relative_to(_CHECKOUT))


@pytest.mark.parametrize("document", _DOCUMENTS, ids=_name)
def test_prose_is_wrapped(document: Path) -> None:
    assert too_wide(document.read_text()) == [], f"scripts/wrap-documents {_name(document)}"


@pytest.mark.parametrize("document", _DOCUMENTS, ids=_name)
def test_cells_of_tables_are_phrases(document: Path) -> None:
    assert list(long_cells(document.read_text())) == []


@pytest.mark.parametrize(
    ("text", "first"),
    [
        (_SENTENCE, "who reads this page on a screen,"),
        (f"- {_SENTENCE}", "- who reads"),
        (f"  1. {_SENTENCE}", "  1. who reads"),
        (f"short\n{_SENTENCE}", "short who reads"),
    ],
)
def test_wide_prose_is_found_and_wrapped(text: str, first: str) -> None:
    assert too_wide(f"# Title\n\n{text}\n") == [3 + text.count("\n")]
    lines = wrapped(text).splitlines()
    assert lines[0].startswith(first)
    assert len(lines) == 2
    assert max(map(len, lines)) <= WIDTH
    assert " ".join(line.strip() for line in lines) == " ".join(text.split()) or text.startswith("short")
    assert too_wide("\n".join(lines)) == []


@pytest.mark.parametrize(
    "text",
    [
        f"    {_SENTENCE}",
        f"```\n{_SENTENCE}\n```",
        f"| {_SENTENCE}|",
        f"# {_SENTENCE}",
        f"<!-- {_SENTENCE}-->",
        f"[name](https://example.org/{'long/' * 20})",
        "narrow",
    ],
)
def test_code_tables_headings_and_addresses_stay_as_they_are(text: str) -> None:
    assert too_wide(text) == []
    assert wrapped(text) == f"{text}\n"


def test_no_line_begins_with_what_would_be_markup() -> None:
    words = "word " * 19  # one more fits
    assert [line[:2] for line in wrapped(f"{words}word - {words}").splitlines()] == ["wo", "wo"]
    assert [line[:2] for line in wrapped(f"{words}word 12. {words}").splitlines()] == ["wo", "wo"]


def test_code_in_a_sentence_is_not_broken() -> None:
    text = f"{'word ' * 17}`shiplap build -t app .` and so on"
    assert wrapped(text).splitlines()[1].startswith("`shiplap build -t app .`")


def test_cell_is_as_long_as_what_is_read_of_it() -> None:
    address = f"[page](https://example.org/{'long/' * 30})"
    assert list(long_cells(f"| {address} | {'x' * CELL} |")) == []
    assert list(long_cells(f"| {address} | {'x' * (CELL + 1)} |")) == [(1, "x" * (CELL + 1))]
    assert cells(r"| `a\|b` |  |") == ["`a|b`", ""]


def _parts(decision: Path) -> tuple[str, list[str]]:
    """The line below the title, and the headings; those of the second level."""
    lines = decision.read_text().splitlines()
    assert re.fullmatch(rf"# {int(decision.name[:4])}\. \S.*", lines[0]), lines[0]
    return lines[2], [line[3:] for line in lines if line.startswith("## ")]


@pytest.mark.parametrize("decision", _DECISIONS, ids=lambda path: path.stem)
def test_decision_has_date_status_context_decision_and_consequences(decision: Path) -> None:
    dated, headings = _parts(decision)
    found = _DATED.fullmatch(dated)
    assert found, dated
    dates = [date for date in found.groups() if date]
    assert dates == sorted({str(datetime.date.fromisoformat(date)) for date in dates})
    assert [heading for heading in headings if heading in _HEADINGS] == list(_HEADINGS)


def test_decisions_are_counted_as_they_were_made() -> None:
    assert [int(decision.name[:4]) for decision in _DECISIONS] == list(range(1, len(_DECISIONS) + 1))
    dates = [_parts(decision)[0][6:16] for decision in _DECISIONS]
    assert dates == sorted(dates)


def test_script_wraps_what_it_is_given_and_checks_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{_SENTENCE}\n")
    run = [sys.executable, "-m", "tests.toolkit.documents", str(page)]

    def said(*options: str) -> tuple[int, str]:
        done = subprocess.run([*run, *options], cwd=_CHECKOUT, capture_output=True, text=True)
        return done.returncode, done.stdout

    assert said("--check") == (1, f"{page}:1: wider than 100 columns: scripts/wrap-documents {page}\n")
    assert said() == (0, f"{page}\n")
    assert said() == said("--check") == (0, "")
    assert too_wide(page.read_text()) == []
