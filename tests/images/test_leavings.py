"""Directories that a session removes beside its work."""

from __future__ import annotations

from pathlib import Path

from images.leavings import Leavings


def test_what_was_left_is_gone_when_it_is_closed(tmp_path: Path) -> None:
    leavings = Leavings()
    for name in ("one", "two"):
        (tmp_path / name / "below").mkdir(parents=True)
        (tmp_path / name / "below" / "file").write_text("x")
        leavings.add(str(tmp_path / name))
    leavings.add(str(tmp_path / "never there"))
    leavings.close()
    assert list(tmp_path.iterdir()) == []
    leavings.close()  # there is nothing to wait for
