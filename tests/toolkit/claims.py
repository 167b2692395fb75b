"""Pages that name the tests which show what they claim: ``[name](../tests/path)``."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from tests.differential.casefile import parse_cases

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\[([^\]]+)\]\(\.\./(tests/[^)]+)\)")


def links(page: Path) -> dict[str, set[str]]:
    """The names that a page links to, by the path that they are said to be in."""
    found: dict[str, set[str]] = {}
    for name, path in _LINK.findall(page.read_text()):
        found.setdefault(path, set()).add(name)
    return found


def shown_in(path: str) -> set[str]:
    """What a test file, a file of differential cases, or a directory of golden files shows. Raises OSError."""
    target = _ROOT / path
    if target.suffix == ".case":
        return {f"{case.theme}: {case.name}" for case in parse_cases(target.stem, target.read_text())}
    if target.is_dir():
        return {f"golden {target.name}"}
    return set(re.findall(r"^def (test_\w+)", target.read_text(), re.MULTILINE))


def rows(page: Path) -> list[str]:
    """The rows of a page's tables, without their heads."""
    lines = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    heads = {row for row, below in itertools.pairwise(lines) if set(below) <= set("| -")}
    return [row for row in lines if row not in heads and not set(row) <= set("| -")]


def unshown(page: Path) -> list[str]:
    """The rows that link to no test."""
    return [row for row in rows(page) if not _LINK.search(row)]
