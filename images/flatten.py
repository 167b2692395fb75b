"""The merged view of several layer tars, without a file system: for ``-o type=tar`` and ``-o type=local``.

Two passes. The first reads the headers of every layer, base first, into a tree of what is visible in the end. For each
file the tree has the place of its content. The second pass gives the entries in order. Memory: some 500 bytes per
visible entry. Symbolic links among the parents of a name are followed, inside the root, as when layers are unpacked one
on another.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

from core.cancellation import check
from images.apply import Unpacker
from images.errors import InvalidLayerError
from images.tarcopy import write_entry
from images.tarheaders import CHARACTER_DEVICE, DIRECTORY, FILE, HARDLINK, SYMLINK, normalise
from images.tarreader import Content, TarEntry, TarReader
from images.tarwriter import TarWriter
from images.whiteouts import OPAQUE_NAME, WHITEOUT_PREFIX, hidden_name

_MAX_LINKS = 40  # as the kernel
_CHUNK = 256 * 1024


class MergedEntry(NamedTuple):
    """One entry of the merged view. Its name is normalised; ``b""`` is the root.

    chunks: a file's content as (offset, bytes), holes left out; to be read before the next entry is asked for.
    """

    entry: TarEntry
    chunks: Iterator[tuple[int, bytes]]


class _Node:
    """What a name stands for.

    entry: None for a directory that no layer has an entry for.
    layer, offset: where the entry and its content are.
    touched: the last layer that has an entry for it or in it.
    inode: the node with a hard-linked file's content, often this node itself.
    path: in such a node, the first name that it was given out by.
    """

    __slots__ = ("children", "entry", "inode", "layer", "offset", "path", "touched")

    def __init__(self, entry: TarEntry | None, layer: int, offset: int) -> None:
        self.entry = entry
        self.layer = self.touched = layer
        self.offset = offset
        self.path: bytes | None = None
        self.inode = self
        is_directory = entry is None or entry.kind == DIRECTORY
        self.children: dict[bytes, _Node] | None = {} if is_directory else None


def flatten(layers: Sequence[BinaryIO]) -> Iterator[MergedEntry]:
    """The entries that remain of ``layers``, tars that can seek, each at its start, base first.

    Directories come before what is in them, names in the order of their bytes; the first name of a hard-linked file is
    the file. A directory without an entry of its own is 0755 root. Raises InvalidLayerError.
    """
    tree = _Tree()
    for layer in layers:
        tree.add(layer)
    pending: list[tuple[bytes, _Node]] = [(b"", tree.root)]
    while pending:
        check()
        path, node = pending.pop()
        entry = node.entry or TarEntry(path, DIRECTORY, 0o755, 0, 0, 0, 0, b"", 0, {}, None)
        if node.children is not None:
            prefix = path + b"/" if path else b""
            pending += [(prefix + name, child) for name, child in sorted(node.children.items(), reverse=True)]
            if path or node.entry:
                yield MergedEntry(entry._replace(name=path), iter(()))
        elif node.inode.path is not None:
            link = entry._replace(name=path, kind=HARDLINK, link=node.inode.path, size=0, xattrs={}, extents=None)
            yield MergedEntry(link, iter(()))
        else:
            inode = node.inode
            inode.path = path
            yield MergedEntry(entry._replace(name=path), _chunks(layers[inode.layer], inode.offset, entry))


def write_merged(
    layers: Sequence[BinaryIO], writer: TarWriter, *, prefix: bytes = b"", mtime: int | None = None
) -> None:
    """Write the merged view of ``layers`` into a tar. The writer is not closed. Raises InvalidLayerError.

    prefix: put before every name, ``b"directory/"``. mtime: of every entry, in place of its own.
    """
    for entry, chunks in flatten(layers):
        name = prefix + entry.name
        link = prefix + entry.link if entry.kind == HARDLINK else entry.link
        written = entry._replace(name=name, link=link, mtime=entry.mtime if mtime is None else mtime)
        write_entry(writer, written, Content(chunks, entry.size))


def unpack_merged(
    layers: Sequence[BinaryIO], root: int, *, owners: bool = True, devices: bool = True, mtime: int | None = None
) -> None:
    """Unpack the merged view of ``layers`` into the directory ``root`` (a descriptor), over what is there already.

    Nothing in ``root`` is removed but what is in the way of an entry. mtime: of every entry, in place of its own.
    owners, devices, and errors: as ``apply_layer``.
    """
    unpacker = Unpacker(root, owners=owners, devices=devices)
    with contextlib.closing(unpacker):
        for entry, chunks in flatten(layers):
            unpacker.add(entry if mtime is None else entry._replace(mtime=mtime), chunks)
        unpacker.finish()


class _Tree:
    """The merged view so far."""

    def __init__(self) -> None:
        self.root = _Node(None, -1, 0)
        self._layer = -1
        self._parent_path: bytes | None = None
        self._parent = self.root

    def add(self, layer: BinaryIO) -> None:
        self._layer += 1
        self._parent_path = None
        reader = TarReader(layer, seekable=True)
        base = layer.tell()
        for entry in reader:
            path = normalise(entry.name)
            if not path:
                if entry.kind == DIRECTORY:
                    self.root.entry = entry
                continue
            parent_path, _, name = path.rpartition(b"/")
            if name.startswith(WHITEOUT_PREFIX):
                self._whiteout(parent_path, name)
            elif not (entry.kind == CHARACTER_DEVICE and entry.rdev == 0):
                if parent_path != self._parent_path:
                    parent = self._directory(parent_path, make=True)
                    assert parent is not None, "it was made"
                    self._parent, self._parent_path = parent, parent_path
                self._put(self._parent, name, entry, base + reader.offset)

    def _put(self, parent: _Node, name: bytes, entry: TarEntry, offset: int) -> None:
        siblings = _children(parent)
        there = siblings.get(name)
        if there is not None and there.children is not None and entry.kind == DIRECTORY:
            there.entry, there.layer, there.touched = entry, self._layer, self._layer
            return
        if entry.kind == HARDLINK:
            target = self._link_target(entry)
            siblings[name] = link = _Node(target.entry, self._layer, 0)
            link.inode = target.inode
        else:
            siblings[name] = _Node(entry, self._layer, offset)
        if there is not None:
            self._parent_path = None  # it may have been reached through what was replaced

    def _link_target(self, entry: TarEntry) -> _Node:
        parent_path, _, name = normalise(entry.link).rpartition(b"/")
        parent = self._directory(parent_path, make=False)
        target = _children(parent).get(name) if parent else None
        if target is None or target.children is not None:
            raise InvalidLayerError(
                f"the layer has a hard link to a file that it does not have: {os.fsdecode(entry.name)!r} to "
                f"{os.fsdecode(entry.link)!r}"
            )
        return target

    def _whiteout(self, parent_path: bytes, name: bytes) -> None:
        hidden = hidden_name(name)
        parent = self._directory(parent_path, make=False)
        if parent is None:
            return
        siblings = _children(parent)
        if hidden:
            if hidden in siblings and not self._hide(siblings[hidden]):
                del siblings[hidden]
        elif name == OPAQUE_NAME:
            self._hide_inside(parent)
        self._parent_path = None

    def _hide(self, node: _Node) -> bool:
        """Take away what the layers below have of ``node``; False when nothing is left then."""
        if node.touched < self._layer:
            return False
        if node.children is not None:
            self._hide_inside(node)
        return True

    def _hide_inside(self, directory: _Node) -> None:
        pending = [directory]
        while pending:
            check()
            node = pending.pop()
            children = _children(node)
            for name, child in list(children.items()):
                if child.touched < self._layer:
                    del children[name]
                elif child.children is not None:
                    pending.append(child)
            if node is not directory and node.layer < self._layer:
                node.entry = None  # this layer has entries in it only

    def _directory(self, path: bytes, *, make: bool) -> _Node | None:
        """The directory ``path``, through symbolic links.

        make: make what is missing, and note that this layer has something in it; otherwise None where there is none.
        """
        way = [self.root]
        left = path.split(b"/")[::-1] if path else []
        links = 0
        while left:
            name = left.pop()
            if name in (b"", b"."):
                continue
            if name == b"..":
                if len(way) > 1:
                    way.pop()
                continue
            siblings = _children(way[-1])
            node = siblings.get(name)
            if node is None:
                if not make:
                    return None
                node = siblings[name] = _Node(None, self._layer, 0)
            if node.children is not None:
                way.append(node)
                continue
            if node.entry is None or node.entry.kind != SYMLINK or links == _MAX_LINKS:
                if not make:
                    return None
                raise InvalidLayerError(f"the layer has entries in what is no directory: {os.fsdecode(path)!r}")
            links += 1
            target = node.entry.link
            if target.startswith(b"/"):
                del way[1:]
            left += target.split(b"/")[::-1]
        if make:
            for node in way:
                node.touched = self._layer
        return way[-1]


def _children(node: _Node) -> dict[bytes, _Node]:
    assert node.children is not None, "only directories are asked for their children"
    return node.children


def _chunks(layer: BinaryIO, start: int, entry: TarEntry) -> Iterator[tuple[int, bytes]]:
    if entry.kind != FILE:
        return
    for begin, length in ((0, entry.size),) if entry.extents is None else entry.extents:
        offset = begin
        while offset < begin + length:
            check()
            layer.seek(start)
            data = layer.read(min(begin + length - offset, _CHUNK))
            if not data:
                raise InvalidLayerError("damaged tar: it ends in the middle of a file")
            yield offset, data
            offset += len(data)
            start += len(data)
