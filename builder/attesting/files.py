"""Attestations of ``local`` and ``tar`` outputs: statements about files, written beside these files.

They have BuildKit's names: ``provenance.json``, ``sbom.spdx.json`` and, for the stage build, ``sbom-build.spdx.json``.
Only root may read them.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from typing import BinaryIO, Final

from builder.attesting import provenance, spdx
from builder.attesting.statements import Statement
from images.flatten import flatten
from images.tarheaders import FILE
from images.tarreader import Content
from images.tarwriter import TarWriter

_NAMES: Final = {provenance.PREDICATE_TYPE: "provenance{}", spdx.PREDICATE_TYPE: "sbom{}.spdx"}
_MODE: Final = 0o600
_CHUNK: Final = 256 * 1024


def digests(layers: Sequence[BinaryIO]) -> dict[str, str]:
    """The sha256, in hexadecimal, of every file of the merged view of ``layers``."""
    found: dict[str, str] = {}
    for entry, chunks in flatten(layers):
        if entry.kind == FILE:
            digest, content = hashlib.sha256(), Content(chunks, entry.size)
            while data := content.read(_CHUNK):
                digest.update(data)
            found[os.fsdecode(entry.name).encode("utf-8", "backslashreplace").decode()] = digest.hexdigest()
    return found


def layer(statements: Sequence[Statement], *, suffix: str, mtime: int) -> BinaryIO:
    """A layer that has the statements as files.

    suffix: a part of their names, which differ by it where several platforms share a directory.
    """
    files: Mapping[str, bytes] = {f"{_file_name(statement)}{suffix}.json": statement.data for statement in statements}
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for name, data in files.items():
        writer.file(name.encode(), _MODE, 0, 0, mtime, len(data), data)
    writer.close()
    sink.seek(0)
    return sink


def _file_name(statement: Statement) -> str:
    return _NAMES[statement.predicate_type].format(f"-{statement.about}" if statement.about else "")
