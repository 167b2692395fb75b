"""Files named on the command line, where ``-`` is standard input or output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cli.errors import CommandError
from core.files import storage_errors


@contextlib.contextmanager
def input_stream(source: str, what: str, instead: str) -> Iterator[BinaryIO]:
    """Open ``source`` for reading.

    what: what is expected there.
    instead: how to name a file instead of ``-``.
    """
    if source != "-":
        with open(source, "rb") as file:
            yield file
        return
    if sys.stdin.isatty():
        raise CommandError(
            f"standard input is a terminal, expected {what}", hint=f"redirect it: < FILE, or give {instead}"
        )
    yield sys.stdin.buffer


@contextlib.contextmanager
def output_stream(target: str, instead: str) -> Iterator[BinaryIO]:
    """Open ``target`` for writing. A file appears there only when it is complete."""
    if target == "-":
        if sys.stdout.isatty():
            raise CommandError("a tar is not written to a terminal", hint=f"redirect it: > FILE, or give {instead}")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    if path.exists() and not path.is_file():  # a pipe, a device: nothing to rename
        with open(path, "wb") as file:
            yield file
        return
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with storage_errors(target):
            with open(partial, "wb") as file:
                yield file
            partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
