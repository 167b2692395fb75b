"""A stamp of the code: results that code made are kept only while its stamp stays the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


def code_stamp(*packages: ModuleType) -> bytes:
    """Names, times and sizes of all files of these packages, without those that Python compiled.

    A version number would not do: developers of Shiplap change its files, and not its version.
    """
    directories = [str(Path(package.__file__ or "").parent) for package in packages]
    return repr(sorted(stamp for directory in directories for stamp in _stamps(directory, ""))).encode()


def _stamps(directory: str, below: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir():
                if entry.name != "__pycache__":
                    yield from _stamps(entry.path, f"{below}{entry.name}/")
            else:
                status = entry.stat()
                yield f"{below}{entry.name}", status.st_mtime_ns, status.st_size
