"""Which pipeline files a directory has: ``.shiplap.yml``, or those in ``.shiplap/``."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ci.document import MAX_BYTES
from ci.errors import CiError
from ci.parsing import DIRECTORY, FILE

MAX_FILES: Final = 50
"""Of one repository."""


def pipeline_files(directory: Path) -> list[str]:
    """Paths of the pipeline files, relative to the directory, sorted; empty: there are none.

    Raises CiError when there are both kinds, or too many.
    """
    return chosen(
        os.path.lexists(directory / FILE), [f"{DIRECTORY}/{name}" for name in _names_in(directory / DIRECTORY)]
    )


def chosen(has_one: bool, paths: Iterable[str]) -> list[str]:
    """As ``pipeline_files``, of what there is. has_one: FILE. paths: of all that is in DIRECTORY."""
    several = sorted(path for path in paths if path.endswith(".yml") and not path.startswith(f"{DIRECTORY}/."))
    if has_one and several:
        hint = f"move {FILE} to {DIRECTORY}/main.yml"
        raise CiError(f"there are both {FILE} and {several[0]}: pipelines are in one or the other", hint=hint)
    if len(several) > MAX_FILES:
        raise CiError(f"{DIRECTORY} has {len(several)} pipelines; at most {MAX_FILES} are possible")
    return [FILE] if has_one else several


def read_pipeline_file(path: Path) -> bytes:
    """What is in a file, with a byte more than a pipeline may have when it has more. Raises CiError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not hold us up
    except FileNotFoundError:
        raise CiError(f"there is no file {path}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CiError(f"{path} is no file")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)


def _names_in(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
