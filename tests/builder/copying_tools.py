"""What the tests of COPY, ADD and WORKDIR share: trees from dictionaries, and layers as dictionaries."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest

from builder.contexts.context import Context
from builder.contexts.filetree import SelectedFile, SourceTree
from builder.copying.planner import CopySpec, Selection, Written, select, write_layer
from dockerfile_grammar.ignore import IgnorePatterns
from images.survey import survey
from images.tarwriter import TarWriter

CREATED_AT = 1_000_000_000
OLD = 1_234_567_890

File: TypeAlias = str | bytes | Callable[[str], None] | None
Tree: TypeAlias = Mapping[str, File]
"""Path to content; ``-> target`` makes a link, ``= name`` a hard link, a trailing slash or None a directory, a callable
whatever it does. Modes are 0644 and 0755 unless ``:mode`` follows the path."""


def make_tree(root: Path, tree: Tree) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    modes: list[tuple[str, int]] = []
    for key, content in tree.items():
        name, _, mode = key.partition(":")
        path = os.path.join(root, name.rstrip("/"))
        os.makedirs(path if name.endswith("/") or content is None else os.path.dirname(path), exist_ok=True)
        if callable(content):
            content(path)
        elif content is None or name.endswith("/"):
            modes.append((path, int(mode or "755", 8)))
        elif isinstance(content, str) and content.startswith("-> "):
            os.symlink(content[3:], path)
        elif isinstance(content, str) and content.startswith("= "):
            os.link(os.path.join(root, content[2:]), path)
        else:
            with open(path, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
            os.chmod(path, int(mode or "644", 8))
            os.utime(path, (OLD, OLD))
    for path, number in reversed(modes):
        os.chmod(path, number)
        os.utime(path, (OLD, OLD))
    return root


def make_socket(path: str) -> None:
    here = os.getcwd()
    os.chdir(os.path.dirname(path))  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.basename(path))
    finally:
        os.chdir(here)


@contextmanager
def directory_fd(path: Path | None) -> Iterator[int | None]:
    if path is None:
        yield None
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


class Layer(dict[str, tarfile.TarInfo]):
    """Entries by name, no trailing slashes; ``content`` of the files."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
        self.content: dict[str, str] = {}
        with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
            for member in archive:
                assert member.name not in self, f"{member.name} is in the layer twice"
                self[member.name] = member
                if member.isreg():
                    file = archive.extractfile(member)
                    assert file is not None
                    self.content[member.name] = file.read().decode("utf-8", "replace")

    def owner(self, name: str) -> tuple[int, int]:
        return self[name].uid, self[name].gid

    def names(self) -> list[str]:
        return sorted(self)


def note_opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of files of trees whose content is opened from now on."""
    opened: list[str] = []
    open_file = SourceTree.open_file

    def noted(tree: SourceTree, entry: SelectedFile, directory_fd: int) -> int:
        opened.append(entry.tree_path)
        return open_file(tree, entry, directory_fd)

    monkeypatch.setattr(SourceTree, "open_file", noted)
    return opened


def check_written(written: Written, data: bytes, path: Path) -> None:
    """What is said of every layer that tests write, without a look at its tar, is what a look at it says."""
    path.write_bytes(data)
    assert written.survey is None or written.survey == survey(str(path))
    contents = {hashlib.sha256(file).digest() for file in _contents(data)}
    for sha, offset in written.places:
        assert sha in contents
        assert sha == hashlib.sha256(_content_at(data, offset)).digest()


def _contents(data: bytes) -> Iterator[bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        for member in archive:
            if member.isreg() and (file := archive.extractfile(member)) is not None:
                yield file.read()


def _content_at(data: bytes, offset: int) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        return next(data[offset:][: member.size] for member in archive if member.offset_data == offset)


class Bench:
    """A context and an image so far; runs one instruction after another on them."""

    def __init__(self, tmp_path: Path) -> None:
        self.base = tmp_path
        self.context_path = make_tree(tmp_path / "context", {})
        self.rootfs_path: Path | None = None
        self.ignore: IgnorePatterns | None = None

    def context(self, tree: Tree) -> None:
        make_tree(self.context_path, tree)

    def rootfs(self, tree: Tree) -> None:
        self.rootfs_path = make_tree(self.base / "rootfs", tree)

    def select(self, spec: CopySpec, source: SourceTree | None = None) -> Selection:
        if source is not None:
            return select(source, spec)
        with Context.open_directory(str(self.context_path), self.ignore) as context:
            fd = os.dup(context.fd)
            tree = context.tree()
        tree.fd = fd
        return select(tree, spec)

    def write(self, selection: Selection, *, timestamp: int | None = None) -> Layer:
        sink = io.BytesIO()
        with directory_fd(self.rootfs_path) as rootfs_fd:
            writer = TarWriter(sink)
            written = write_layer(selection, rootfs_fd, writer, created_at=CREATED_AT, timestamp=timestamp)
            writer.close()
        check_written(written, sink.getvalue(), self.base / "written.tar")
        return Layer(sink.getvalue())

    def run(self, spec: CopySpec, *, timestamp: int | None = None) -> Layer:
        selection = self.select(spec)
        try:
            return self.write(selection, timestamp=timestamp)
        finally:
            os.close(selection.tree.fd)

    def copy(self, *words: str, timestamp: int | None = None, **options: object) -> Layer:
        """``copy("a", "b", "/c/")`` is ``COPY a b /c/``."""
        *sources, destination = words
        return self.run(CopySpec(tuple(sources), destination, **options), timestamp=timestamp)  # type: ignore[arg-type]

    def add(self, *words: str, **options: object) -> Layer:
        return self.copy(*words, extract_archives=True, **options)  # type: ignore[arg-type]

    def copy_from(self, stage: Path, *words: str, **options: object) -> Layer:
        *sources, destination = words
        spec = CopySpec(tuple(sources), destination, from_context=False, **options)  # type: ignore[arg-type]
        with directory_fd(stage) as fd:
            assert fd is not None
            return self.write(self.select(spec, SourceTree(fd, 'stage "build"')))
