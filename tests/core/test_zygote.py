"""Processes to fork from: how they are started. Those that serve others are in tests/security/test_forking.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from core import zygote


def test_what_does_not_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(zygote.ZygoteError, match=r"No module named 'core\.no_such_module'"):
        zygote.start("core.no_such_module", [], str(tmp_path / "log"))


def test_a_stamp_sees_what_changed_and_what_has_gone(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("x = 1\n")
    stamp = zygote.Stamp([str(tmp_path / "archive.zip" / "other.py"), str(file)])
    assert not stamp.is_outdated()
    file.write_text("x = 12\n")
    assert stamp.is_outdated()
    file.unlink()
    assert stamp.is_outdated()
