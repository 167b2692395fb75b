"""docs/dockerfile.md claims nothing that no test shows: each row links to its tests, and each link leads to one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.claims import claims, links, shown_in

PAGE = Path(__file__).parents[2] / "docs" / "dockerfile.md"
LINKS = links(PAGE)


@pytest.mark.parametrize("path", sorted(LINKS))
def test_links_lead_to_tests(path: str) -> None:
    assert LINKS[path] - {"how"} <= shown_in(path)


def test_every_row_is_shown_by_a_test() -> None:
    found = claims(PAGE)
    assert len(found.names) == len(set(found.names)) > 100
    assert found.unshown == found.unknown == found.loose == []
