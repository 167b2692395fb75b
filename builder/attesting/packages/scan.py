"""Scans an image's layer tars for packages: reads the headers once, and the databases in place.

Memory: that of ``images.flatten``, and one file's content at a time. An rpm database is copied to a file first.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from builder.attesting.packages import apk, dpkg, npm, python, rpm
from builder.attesting.packages.model import OperatingSystem, Package
from core.digests import DiffID
from images.flatten import MergedEntry, flatten
from images.stacking import topmost_of_each
from images.store import Store
from images.tarheaders import FILE
from images.tarreader import Content

_MAX_TEXT_BYTES: Final = 64 << 20
_MAX_DATABASE_BYTES: Final = 2 << 30
_CHUNK: Final = 1 << 20
_OS_RELEASE: Final = (b"etc/os-release", b"usr/lib/os-release")
_RPM: Final = re.compile(rb"(?:var/lib/rpm|usr/lib/sysimage/rpm)/rpmdb\.sqlite(-wal)?")
_DPKG: Final = re.compile(rb"var/lib/dpkg/(?:status|status\.d/[^/]+)")
_APK: Final = re.compile(rb"(?:usr/)?lib/apk/db/installed")
_PYTHON: Final = re.compile(rb".*\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
_NPM: Final = re.compile(rb"(?:.*/)?node_modules/(?:@[^/]+/)?[^/@.][^/]*/package\.json")
_NOT_A_PACKAGE: Final = b".md5sums"  # beside those of status.d


class Contents(msgspec.Struct, frozen=True):
    """What was found.

    packages: sorted, each once.
    unreadable: files that list packages and could not be read.
    """

    system: OperatingSystem
    packages: tuple[Package, ...]
    unreadable: tuple[str, ...] = ()


def scan(store: Store, diff_ids: Sequence[DiffID]) -> Contents:
    """Find the packages of the image with these layers, base first. Raises InvalidLayerError, MissingBlobError."""
    with contextlib.ExitStack() as stack:
        layers = [stack.enter_context(store.layers.open(each)) for each in topmost_of_each(diff_ids)]
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="packages-", dir=store.tmp)))
        return _Scan(scratch).run(layers)


class _Scan:
    """The scan of one image. Databases that come before the operating system is known are kept as text until it is."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._release: dict[bytes, str] = {}
        self._texts: list[tuple[bytes, str]] = []
        self._databases: list[tuple[bytes, Path]] = []
        self._found: set[Package] = set()
        self._unreadable: list[str] = []

    def run(self, layers: Sequence[BinaryIO]) -> Contents:
        for merged in flatten(layers):
            if merged.entry.kind == FILE:
                self._look_at(merged)
        release = next((self._release[name] for name in _OS_RELEASE if name in self._release), "")
        system = OperatingSystem.parse(release)
        for name, text in self._texts:
            read = dpkg.packages if _DPKG.fullmatch(name) else apk.packages
            self._found.update(read(text, _shown(name), system))
        for name, database in self._databases:
            self._add(name, rpm.packages(database, _shown(name), system))
        return Contents(system, tuple(sorted(self._found)), tuple(sorted(self._unreadable)))

    def _look_at(self, merged: MergedEntry) -> None:
        name = merged.entry.name
        if name in _OS_RELEASE:
            self._release[name] = self._text(merged)
        elif (_DPKG.fullmatch(name) and not name.endswith(_NOT_A_PACKAGE)) or _APK.fullmatch(name):
            self._texts.append((name, self._text(merged)))
        elif match := _RPM.fullmatch(name):
            copy = self._copied(merged)
            if not match[1]:  # the -wal beside it is SQLite's affair
                self._databases.append((name, copy))
        elif _PYTHON.fullmatch(name):
            self._add(name, python.packages(self._text(merged), _shown(name)))
        elif _NPM.fullmatch(name):
            self._add(name, npm.packages(self._text(merged), _shown(name)))

    def _add(self, name: bytes, packages: Iterator[Package]) -> None:
        try:
            self._found.update(packages)
        except ValueError:
            self._unreadable.append(_shown(name))

    def _text(self, merged: MergedEntry) -> str:
        """The content of a file. One too large to be a real database counts as empty, and is noted as unreadable."""
        size = merged.entry.size
        if size > _MAX_TEXT_BYTES:
            self._unreadable.append(_shown(merged.entry.name))
            return ""
        return Content(merged.chunks, size).read(size).decode("utf-8", "replace")

    def _copied(self, merged: MergedEntry) -> Path:
        """A copy that SQLite can open, with the name that SQLite looks for."""
        directory = self._scratch / os.path.dirname(os.fsdecode(merged.entry.name)).replace("/", "_")
        directory.mkdir(exist_ok=True)
        path = directory / os.path.basename(os.fsdecode(merged.entry.name))
        if merged.entry.size > _MAX_DATABASE_BYTES:
            path.touch()
        else:
            content = Content(merged.chunks, merged.entry.size)
            with path.open("wb") as file:
                while data := content.read(_CHUNK):
                    file.write(data)
        return path


def _shown(name: bytes) -> str:
    return "/" + name.decode("utf-8", "backslashreplace")
