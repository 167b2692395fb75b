"""docs/security.md promises nothing that no test tries to break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.claims import claims, links, shown_in

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
LINKS = links(PAGE)


@pytest.mark.parametrize("path", sorted(LINKS))
def test_links_lead_to_tests(path: str) -> None:
    assert LINKS[path] <= shown_in(path)


def test_every_promise_is_shown_by_a_test() -> None:
    found = claims(PAGE)
    assert len(found.names) == len(set(found.names)) > 35
    assert found.unshown == found.unknown == found.loose == []
