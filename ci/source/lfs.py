"""Git LFS: files whose commit has a pointer, and whose content is elsewhere; a layer of them is laid over the tree's.

A stranger may have written a pointer, and the server says where its content is: every address is checked as a run's
own, and what comes has to have the size and the digest that the pointer tells. Nothing of git-lfs itself is run.
Source: the specification of git-lfs, "The Pointer" and "Batch API".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple, TypeAlias

from builder.remotes.gitroute import GitAccess, basic
from builder.remotes.giturls import GitRemote
from builder.remotes.http import HttpAccess, HttpFiles
from ci.errors import RepositoryError
from ci.source.discovery import open_of
from ci.source.objects import Entry, Objects
from ci.source.treewriter import TreeLayer, paths_with
from core.cancellation import check
from core.digests import DiffID
from core.files import make_directory, replacing
from core.trust import Privacy, scoped
from images.records import CacheRecord
from images.store import Store
from images.tarwriter import TarWriter

_VERSION: Final = "1"
_OP: Final = hashlib.sha256(b"lfs").hexdigest()
_POINTER: Final = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize (\d{1,15})\n"
)
_LONGEST_POINTER: Final = 1024
_AT_ONCE: Final = 100  # objects of one question
_LONGEST_ANSWER: Final = 4 << 20
_TYPE: Final = "application/vnd.git-lfs+json"
_HEADER: Final = re.compile(r"(?i)authorization|x-[a-z0-9-]+")
_CHUNK: Final = 1 << 20


class Pointer(NamedTuple):
    """A file of a tree whose content is elsewhere. oid: sha256 in hexadecimal. size: bytes."""

    entry: Entry
    oid: str
    size: int


Finding: TypeAlias = Callable[[Sequence[Pointer]], Mapping[str, Path]]
"""Gives files with the contents of pointers, by ``oid``; their content was checked."""


def lfs_layer(store: Store, key: str, objects: Objects, tree: str, find: Finding) -> DiffID | None:
    """The layer with the contents of a tree's pointers; None: it has none. Raises RepositoryError, and as ``find``."""
    pointers = pointers_of(objects, tree)
    if not pointers:
        return None
    listed = b"\0".join(b"%s %s %s" % (each.entry.mode, each.oid.encode(), each.entry.path) for each in pointers)
    scope = store.holdings.domain.writes(Privacy.PROJECT)
    name = scoped(hashlib.sha256(f"lfs {_VERSION} {key} ".encode() + listed).hexdigest(), scope)
    known = store.cache.get(name)
    if known is not None and known.diff_id is not None:
        return known.diff_id
    began = time.time()
    files = find(pointers)
    with store.layers.writer(sync=False) as sink:
        writer = TarWriter(sink)
        layer = TreeLayer(writer, objects, tree, "")
        layer.directories_above()
        layer.write_files([(each.entry, files[each.oid], each.size) for each in pointers])
        writer.close()
        diff_id = sink.commit()
    owner = store.holdings.domain.project_scope
    store.cache.put(
        CacheRecord(name, _OP, diff_id, began, time.time() - began, "source: files of Git LFS", b"{}", scope, owner)
    )
    return diff_id


def pointers_of(objects: Objects, tree: str) -> list[Pointer]:
    """The files of a tree of which its .gitattributes say that LFS has them, and which are pointers."""
    entries = objects.entries(tree)
    named = paths_with(objects, tree, entries, ("filter",), lambda value: value == b"lfs")
    of_lfs = [entry for entry in entries if entry.path in named]
    sizes = objects.sizes([entry.id for entry in of_lfs])
    small = [entry for entry, size in zip(of_lfs, sizes, strict=True) if size <= _LONGEST_POINTER]
    found = []
    with objects.contents([entry.id for entry in small]) as contents:
        for entry, (size, source) in zip(small, contents, strict=True):
            if told := _POINTER.fullmatch(source.read(size)):
                found.append(Pointer(entry, told[1].decode(), int(told[2])))
    return found


def fetching(objects: Objects, remote: GitRemote, access: GitAccess, stopped: Callable[[], bool]) -> Finding:
    """Contents from the server that the repository is from; what came is kept beside the mirror."""

    def find(pointers: Sequence[Pointer]) -> Mapping[str, Path]:
        found, missing = _kept(objects, pointers)
        if missing:
            server = _Server(remote, access, stopped)
            for at in range(0, len(missing), _AT_ONCE):
                server.fetch(missing[at : at + _AT_ONCE], _directory(objects))
        return found

    return find


def from_repository(objects: Objects, common: Path, owner: int) -> Finding:
    """Contents that the user's own git-lfs has fetched. common: of the repository. owner: whose they have to be."""

    def find(pointers: Sequence[Pointer]) -> Mapping[str, Path]:
        found, missing = _kept(objects, pointers)
        for each in missing:
            check()
            path = common / "lfs" / "objects" / each.oid[:2] / each.oid[2:4] / each.oid
            fd = open_of(path, owner)
            if fd is None:
                shown = os.fsdecode(each.entry.path)
                raise RepositoryError(f"the content of {shown} is not here", hint="git lfs pull fetches it")
            with open(fd, "rb") as file, _taking(each, _directory(objects)) as sink:
                while data := file.read(_CHUNK):
                    sink.write(data)
        return found

    return find


def _directory(objects: Objects) -> Path:
    return objects.directory / "lfs"


def _kept(objects: Objects, pointers: Sequence[Pointer]) -> tuple[dict[str, Path], list[Pointer]]:
    """Where contents are kept, and those that are not there yet."""
    directory = _directory(objects)
    make_directory(directory, mode=0o700)
    found = {each.oid: directory / each.oid for each in pointers}
    missing = {each.oid: each for each in pointers if not found[each.oid].exists()}
    return found, list(missing.values())


@contextlib.contextmanager
def _taking(pointer: Pointer, directory: Path) -> Iterator[_Checked]:
    """Keep what is written, unless it is something else than the pointer tells. Raises RepositoryError."""
    with replacing(directory / pointer.oid, mode=0o600) as file:
        checked = _Checked(file, pointer)
        yield checked
        checked.check()


class _Server:
    """An LFS server, beside the repository's own."""

    def __init__(self, remote: GitRemote, access: GitAccess, stopped: Callable[[], bool]) -> None:
        if remote.scheme not in ("http", "https"):
            raise RepositoryError(
                f"what Git LFS keeps is fetched by https only, and the repository comes from {remote.url}",
                hint="give its https URL, or leave source.lfs out",
            )
        url = remote.url.rstrip("/")
        self._url = f"{url if url.endswith('.git') else f'{url}.git'}/info/lfs/objects/batch"
        self._bounds = access.bounds

        def header(host: str) -> str | None:
            """Credentials are for the repository's own host: the server says where the rest is."""
            if host != remote.host:
                return None
            return basic(remote.credentials) if remote.credentials else access.header and access.header(host)

        self._files = HttpFiles(HttpAccess(access.reach, header, access.proxies), stopped)

    def fetch(self, pointers: Sequence[Pointer], directory: Path) -> None:
        """Have these in the directory."""
        by_oid = {each.oid: each for each in pointers}
        for each in pointers:
            if each.size > self._bounds.file_bytes:
                raise RepositoryError(
                    f"{os.fsdecode(each.entry.path)} has {each.size} bytes, and {self._bounds.file_bytes} are the most",
                    hint="SHIPLAP_FETCH_FILE_MAX is how big a file may be",
                )
        for oid, (url, headers) in self._places(pointers).items():
            if oid in by_oid:
                self._download(by_oid.pop(oid), url, headers, directory)
        if by_oid:
            names = ", ".join(sorted(os.fsdecode(each.entry.path) for each in by_oid.values())[:3])
            raise RepositoryError(f"the LFS server of the repository does not have {names}")

    def _places(self, pointers: Sequence[Pointer]) -> dict[str, tuple[str, dict[str, str]]]:
        """Where the server says that they are."""
        asked = [{"oid": each.oid, "size": each.size} for each in pointers]
        document = {"operation": "download", "transfers": ["basic"], "hash_algo": "sha256", "objects": asked}
        headers = {"Accept": _TYPE, "Content-Type": _TYPE}
        answer = self._files.ask(self._url, json.dumps(document).encode(), headers, _LONGEST_ANSWER)
        try:
            return dict(place for told in json.loads(answer)["objects"] if (place := _place(told)) is not None)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RepositoryError(f"{self._url} gave an answer that is none: {answer[:100]!r}") from error

    def _download(self, pointer: Pointer, url: str, headers: Mapping[str, str], directory: Path) -> None:
        with _taking(pointer, directory) as sink:
            self._files.fetch(url, sink, headers=headers)


class _Checked:
    """A sink that takes what a pointer tells, and nothing else."""

    def __init__(self, file: BinaryIO, pointer: Pointer) -> None:
        self._file = file
        self._pointer = pointer
        self._hash = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes, /) -> object:
        self._size += len(data)
        if self._size > self._pointer.size:
            raise self._other()
        self._hash.update(data)
        return self._file.write(data)

    def check(self) -> None:
        """Raises RepositoryError unless all of it came."""
        if self._size != self._pointer.size or self._hash.hexdigest() != self._pointer.oid:
            raise self._other()

    def _other(self) -> RepositoryError:
        shown = os.fsdecode(self._pointer.entry.path)
        return RepositoryError(f"what Git LFS has for {shown} is not what its pointer tells")


def _place(told: dict[str, Any]) -> tuple[str, tuple[str, dict[str, str]]] | None:
    """Where one object is; None where the server has it not."""
    if "actions" not in told or "download" not in told["actions"]:
        return None
    action = told["actions"]["download"]
    headers = {
        str(name): str(value)
        for name, value in (action.get("header") or {}).items()
        if _HEADER.fullmatch(str(name)) and str(value).isprintable()
    }
    return str(told["oid"]), (str(action["href"]), headers)
