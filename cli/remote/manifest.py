"""The manifest of a build context for a server: every file with its digest, and where its bytes are."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Final

from builder.contexts.filetree import SelectedFile, SourceTree
from builder.contexts.opening import BuildSource
from builder.copying.digesting import hash_files
from builder.copying.selecting import Selection, Source
from builder.copying.statcache import StatCache
from builder.errors import ContextError
from builder.graph.copyspec import CopySpec
from core.files import write_atomically

ELSEWHERE: Final = ".shiplap.Dockerfile"
"""The server's name of a Dockerfile outside of the context: on standard input, or in another directory."""


@dataclass(frozen=True, slots=True)
class Blob:
    """Content that the server may lack. open: from its first byte."""

    size_bytes: int
    open: Callable[[], BinaryIO]


@dataclass(slots=True)
class Manifest:
    """The content of a context, for a service.

    entries: in the API's form.
    blobs: by digest.
    dockerfile: its path in the context.
    """

    dockerfile: str
    entries: list[dict[str, Any]] = field(default_factory=list)
    blobs: dict[str, Blob] = field(default_factory=dict)

    def add_bytes(self, path: str, data: bytes) -> None:
        """Add a file that is made up here."""
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        self.entries.append(_file(path, 0o644, int(time.time()), len(data), digest))
        self.blobs[digest] = Blob(len(data), lambda: BytesIO(data))


def describe(source: BuildSource, context: str, file: str | None, *, cache: Path | None) -> Manifest:
    """Describe what ``builder.contexts.opening.open_source`` opened for ``context`` and ``file``.

    cache: a directory that remembers the hashes of unchanged files.
    The manifest always has the Dockerfile and its ignore file, since the server needs them. Ignore patterns apply to
    COPY there as they do here.
    Raises ContextError when a file changes or cannot be read.
    """
    tree = source.context.tree()
    looked_at_ns = time.time_ns()
    entries = tree.walk("")
    selection = Selection(tree, CopySpec((".",), "/"), (Source(".", "", "", None, entries),), looked_at_ns)
    stat_file = cache / hashlib.sha256(os.fsencode(source.context.key)).hexdigest() if cache is not None else None
    stats = StatCache.load(_read(stat_file))
    hash_files(selection, stats)
    _remember(stat_file, stats)
    place = _place(source, context, file)
    manifest = Manifest(place or ELSEWHERE)
    for entry in entries:
        _add(manifest, tree, entry)
    _add_needed(manifest, source, place, file, {entry.path for entry in entries})
    return manifest


def _add(manifest: Manifest, tree: SourceTree, entry: SelectedFile) -> None:
    mode, kind, mtime = stat.S_IMODE(entry.mode), stat.S_IFMT(entry.mode), max(0, entry.mtime)
    for name in (entry.path, entry.target):
        if not name.isascii() and name.encode("utf-8", "replace") != os.fsencode(name):
            raise ContextError(
                f"{name!r} is not UTF-8: such names cannot be sent to a server",
                hint="rename it, list it in .dockerignore, or build on this machine: --host local",
            )
    if kind == stat.S_IFDIR:
        manifest.entries.append({"path": entry.path, "type": "directory", "mode": mode, "mtime": mtime})
    elif kind == stat.S_IFLNK:
        manifest.entries.append(
            {"path": entry.path, "type": "link", "mode": mode, "mtime": mtime, "target": entry.target}
        )
    elif kind == stat.S_IFREG:
        sha = (entry.leader or entry).sha
        assert sha is not None, "hash_files has been there"
        digest = f"sha256:{sha.hex()}"
        manifest.entries.append(_file(entry.path, mode, mtime, entry.size, digest))
        manifest.blobs.setdefault(digest, Blob(entry.size, lambda: _open(tree, entry)))


def _file(path: str, mode: int, mtime: int, size: int, digest: str) -> dict[str, Any]:
    return {"path": path, "type": "file", "mode": mode, "mtime": mtime, "size": size, "digest": digest}


def _open(tree: SourceTree, entry: SelectedFile) -> BinaryIO:
    directory_fd = tree.open_directory(entry.directory.tree_path)
    try:
        return open(tree.open_file(entry, directory_fd), "rb")
    finally:
        os.close(directory_fd)


def _place(source: BuildSource, context: str, file: str | None) -> str | None:
    """The Dockerfile's path in the context; None when it is outside."""
    if source.dockerfile_name == "-":
        return None
    if file is None or context == "-":
        return source.dockerfile_name
    path = os.path.relpath(os.path.realpath(file), os.path.realpath(context))
    return None if path == ".." or path.startswith("../") else path


def _add_needed(manifest: Manifest, source: BuildSource, place: str | None, file: str | None, known: set[str]) -> None:
    """Add the Dockerfile and the ignore files, even if they are ignored."""
    if place is None:
        patterns = _read(Path(f"{file}.dockerignore")) if file not in (None, "-") else None
        patterns = source.context.read(".dockerignore") if patterns is None else patterns
        own = f"\n/{ELSEWHERE}\n/{ELSEWHERE}.dockerignore\n"
        manifest.add_bytes(ELSEWHERE, source.dockerfile)
        manifest.add_bytes(f"{ELSEWHERE}.dockerignore", (patterns or b"") + own.encode())
        return
    beside = f"{place}.dockerignore"
    for name in (place, beside, ".dockerignore"):
        data = source.dockerfile if name == place else source.context.read(name)
        if data is not None and name not in known:
            _add_parents(manifest, name, known)
            manifest.add_bytes(name, data)


def _add_parents(manifest: Manifest, path: str, known: set[str]) -> None:
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        directory = "/".join(parts[:depth])
        if directory not in known:
            known.add(directory)
            manifest.entries.append({"path": directory, "type": "directory", "mode": 0o755, "mtime": 0})


def _read(path: Path | None) -> bytes | None:
    try:
        return path.read_bytes() if path is not None else None
    except OSError:
        return None


def _remember(path: Path | None, stats: StatCache) -> None:
    data = stats.dump()
    if path is None or data is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(path, data, mode=0o600)
    except OSError:
        return  # only a cache
