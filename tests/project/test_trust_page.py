"""docs/trust.md has no rule that no test tries."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.claims import claims, links, shown_in

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"
LINKS = links(PAGE)


@pytest.mark.parametrize("path", sorted(LINKS))
def test_links_lead_to_tests(path: str) -> None:
    assert LINKS[path] <= shown_in(path)


def test_every_rule_is_shown_by_a_test() -> None:
    """Tables further down say more of a rule: they have no tests of their own."""
    found = claims(PAGE)
    numbered = [int(name[0]) for name in found.names if name[0].isdigit()]
    assert numbered == list(range(1, 10))
    assert len(found.names) == len(set(found.names)) > 13
    assert found.unshown == found.unknown == []
