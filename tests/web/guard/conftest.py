"""What all tests of the guard share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords are hashed a thousand times quicker than in earnest: the cost is scrypt's matter, not these tests'."""
    monkeypatch.setattr("core.passwords._LOG_N", 4)
