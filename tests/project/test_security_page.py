"""docs/security.md promises nothing that no test tries to break."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toolkit.claims import links, rows, shown_in, unshown

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
LINKS = links(PAGE)


@pytest.mark.parametrize("path", sorted(LINKS))
def test_links_lead_to_tests(path: str) -> None:
    assert LINKS[path] <= shown_in(path)


def test_every_promise_is_shown_by_a_test() -> None:
    assert len(rows(PAGE)) > 35
    assert unshown(PAGE) == []
