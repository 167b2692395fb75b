"""A bounded run of each fuzz target, with a seed that differs from day to day and is said when something is found."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.fuzz.run import fuzz
from tests.fuzz.targets import TARGETS

_ROUNDS = {"grammar": 2000, "ignore": 3000, "tar-reader": 8000, "tar-apply": 1500}


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_nothing_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    seed = int(time.time()) // 86400
    assert fuzz(TARGETS[name], seed=seed, rounds=_ROUNDS[name]) == _ROUNDS[name]
