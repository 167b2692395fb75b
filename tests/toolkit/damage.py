"""What a disk does to files, done by hand."""

from __future__ import annotations

from pathlib import Path


def flip_byte(path: Path, offset: int | None = None) -> None:
    """Change one byte, in the middle unless ``offset`` says where; a second call changes it back."""
    with path.open("r+b") as file:
        at = path.stat().st_size // 2 if offset is None else offset
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))
