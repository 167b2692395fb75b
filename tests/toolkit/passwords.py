"""Passwords whose hashes cost nothing, for tests that are about something else."""

from __future__ import annotations

import pytest

_LOG_N = 4
_DECOY = f"scrypt${_LOG_N}${'A' * 22}==${'A' * 43}="


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash a thousand times quicker than in earnest: the cost is scrypt's matter, and ``tests/core`` has it.

    A conftest imports it for the tests below its directory.
    """
    monkeypatch.setattr("core.passwords._LOG_N", _LOG_N)
    for users in ("registry.server.users", "pipelines.accounts.users"):
        monkeypatch.setattr(f"{users}.DECOY", _DECOY)
