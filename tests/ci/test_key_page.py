"""docs/pipelines.md: its tables are the language's own, and its examples are in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from ci.keypage import with_tables

Lint = Callable[[str], str]

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipelines.md"


def test_tables_are_made_from_the_language() -> None:
    page = _PAGE.read_text()
    assert page == with_tables(page), "run scripts/pipelines-document"
    assert page.count("| `inputs` |") == 1


def test_each_file_on_the_page_is_in_order(lint: Lint) -> None:
    files = re.findall(r"```yaml\n(.*?)```", _PAGE.read_text(), re.DOTALL)
    assert files
    for text in files:
        assert ": error: " not in lint(text)


def test_error_that_the_page_shows_is_the_one_that_is_printed(lint: Lint) -> None:
    page = _PAGE.read_text()
    file = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[1]
    shown = re.findall(r"```\n(\.shiplap.*?)\n```", page, re.DOTALL)[0]
    assert shown in lint(file.replace("[lint, test]", "[lnit, test]"))
