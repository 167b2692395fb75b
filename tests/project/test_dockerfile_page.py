"""docs/dockerfile.md claims nothing that no test shows: each row links to its tests, and each link leads to one."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests.differential.casefile import parse_cases

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "dockerfile.md"
LINK = re.compile(r"\[([^\]]+)\]\(\.\./(tests/[^)]+)\)")
LINKS = sorted(set(LINK.findall(PAGE.read_text())))


@pytest.mark.parametrize("path", sorted({path for _, path in LINKS}))
def test_links_lead_to_tests(path: str) -> None:
    names = {name for name, of in LINKS if of == path}
    target = ROOT / path
    assert target.exists()
    if target.suffix == ".case":
        there = {f"{case.theme}: {case.name}" for case in parse_cases(target.stem, target.read_text())}
    elif target.is_dir():
        there = {f"golden {target.name}"}
    else:
        there = set(re.findall(r"^def (test_\w+)", target.read_text(), re.MULTILINE)) or {"how"}
    assert names - {"how"} <= there


def test_every_row_is_shown_by_a_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    heads = {row for row, below in itertools.pairwise(rows) if set(below) <= set("| -")}
    claims = [row for row in rows if row not in heads and not set(row) <= set("| -")]
    assert len(claims) > 100
    assert not [row for row in claims if not LINK.search(row)]
