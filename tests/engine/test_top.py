"""The host's ``ps``, as it runs for a caller."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.callers import Caller
from engine.top import top


def test_ps_is_the_callers_process_and_has_nothing_of_the_engines_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ps").write_text(f"#!/bin/sh\necho PID SEEN\necho {os.getpid()} $(env)\n")
    (tmp_path / "ps").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("A_TOKEN_OF_ROOTS", "hidden")
    ((number, seen),) = top(os.getpid(), "", Caller.own())["Processes"]
    assert number == str(os.getpid())
    assert "PATH=" in seen
    assert "hidden" not in seen
