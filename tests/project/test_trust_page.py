"""docs/trust.md has no rule that no test tries."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.toolkit.claims import links, rows, shown_in, unshown

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"
LINKS = links(PAGE)
RULES = [row for row in rows(PAGE) if re.match(r"\| \d\. ", row)]


@pytest.mark.parametrize("path", sorted(LINKS))
def test_links_lead_to_tests(path: str) -> None:
    assert LINKS[path] <= shown_in(path)


def test_every_rule_is_shown_by_a_test() -> None:
    assert [int(row[2]) for row in RULES] == sorted({int(row[2]) for row in RULES})
    assert {1, 2, 3, 7, 8, 9} <= {int(row[2]) for row in RULES}
    assert not set(RULES) & set(unshown(PAGE))
