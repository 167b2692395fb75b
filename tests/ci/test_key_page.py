"""docs/pipelines.md: its tables are the language's own. Its examples are run by ``tests/examples/``."""

from __future__ import annotations

from pathlib import Path

from ci.keypage import with_tables

_PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipelines.md"


def test_tables_are_made_from_the_language() -> None:
    page = _PAGE.read_text()
    assert page == with_tables(page), "run scripts/pipelines-document"
    assert page.count("| `inputs` | a pattern of files ") == 1
