"""``cp``: files out of a container and into one, by docker's rules for names.

What comes out of a container is a stranger's: it is unpacked here as a layer is, below the directory that was asked
for, and no link leads out of that. Names that would be a layer's whiteouts, and remove something, are refused.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from cli.errors import CommandError
from core.files import storage_errors

if TYPE_CHECKING:
    from engine.files import Files

_STAT_LINKS: Final = 10  # as many links one after the other are followed
_DIRECTORY: Final = 1 << 31
_LINK: Final = 1 << 27
_WHITEOUT: Final = ".wh."
_NAMES: Final = ("path", "linkpath")


class Place(NamedTuple):
    """One side of ``cp``. container: empty for this machine. path: ``-`` is a tar on a standard stream."""

    container: str
    path: str

    @classmethod
    def read(cls, text: str) -> Place:
        """``CONTAINER:PATH`` or a path; what begins with / or . is a path, whatever colons it has."""
        name, colon, path = text.partition(":")
        if text == "-" or text.startswith(("/", ".")) or not colon or "/" in name:
            return cls("", text)
        return cls(name, path or "/")

    @property
    def contents(self) -> bool:
        """Whether what is in the directory is meant, without the directory."""
        return self.path.endswith("/.") or self.path == "."


def copy_out(files: Files, origin: Place, target: Place, *, keeps_owners: bool, follows: bool, out: BinaryIO) -> None:
    """Copy what is at ``origin`` to this machine, or as a tar to ``out``. Raises ShiplapErrors, OSError."""
    path = _followed(files, origin) if follows else origin.path
    if target.path == "-":
        if out.isatty():
            raise CommandError("a tar is not written to a terminal", hint="redirect it: > FILE")
        out.flush()
        files.copy_out(origin.container, path, out.fileno())
        return
    with tempfile.TemporaryFile() as raw, tempfile.TemporaryFile() as named:
        found = files.copy_out(origin.container, path, raw.fileno())
        is_directory = bool(found["mode"] & _DIRECTORY)
        directory, name = _placed(target.path, found["name"], is_directory=is_directory, contents=origin.contents)
        raw.seek(0)
        _renamed(raw, named, name)
        named.seek(0)
        _unpack_here(directory, named, keeps_owners=keeps_owners)


def copy_in(files: Files, origin: Place, target: Place, *, keeps_owners: bool, follows: bool, source: BinaryIO) -> None:
    """Copy what is at ``origin`` of this machine, or a tar of ``source``, into a container. As ``copy_out``."""
    if origin.path == "-":
        files.copy_in(target.container, target.path, source, owners=keeps_owners)
        return
    path = os.path.realpath(origin.path) if follows else origin.path.rstrip("/") or "/"
    is_directory = os.path.isdir(path) and (origin.contents or not os.path.islink(path))
    if not os.path.lexists(path):
        raise CommandError(f"lstat {os.path.abspath(path)}: no such file or directory")
    base = os.path.basename(os.path.abspath(origin.path.rstrip("/") or "/")) if not origin.contents else ""
    directory, name = _placed_inside(files, target, base, is_directory=is_directory, contents=origin.contents)
    with tempfile.TemporaryFile() as tar:
        with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as writer, storage_errors("cp"):
            writer.add(path, name or ".", filter=None if keeps_owners else _roots)
        tar.seek(0)
        files.copy_in(target.container, directory, tar, owners=keeps_owners)


def _placed(path: str, name: str, *, is_directory: bool, contents: bool) -> tuple[str, str]:
    """Into which directory of this machine, and under which name ("" for the contents alone), something goes."""
    if os.path.isdir(path):
        return path, "" if contents and is_directory else name
    if os.path.lexists(path) and is_directory:
        raise CommandError("cannot copy directory", hint=f"{path} is a file")
    parent, last = os.path.split(path.rstrip("/"))
    if (path.endswith("/") and not is_directory) or not os.path.isdir(parent or "."):
        raise CommandError(f"invalid output path: directory {os.path.abspath(parent or path)!r} does not exist")
    return parent or ".", last


def _placed_inside(files: Files, target: Place, name: str, *, is_directory: bool, contents: bool) -> tuple[str, str]:
    """As ``_placed``, in a container."""
    from engine.errors import NotFoundError

    try:
        found: dict[str, Any] | None = files.stat(target.container, _followed(files, target))
    except NotFoundError:
        files.stat(target.container, "/")  # raises when it is the container that is not there
        found = None
    if found is not None and found["mode"] & _DIRECTORY:
        return target.path, "" if contents and is_directory else name
    if found is not None and is_directory:
        raise CommandError("cannot copy directory", hint=f"{target.path} is a file")
    parent, last = os.path.split(target.path.rstrip("/"))
    return parent or "/", last


def _followed(files: Files, place: Place) -> str:
    """The path to which the links at a place lead, in its container."""
    path = place.path
    for _ in range(_STAT_LINKS):
        found = files.stat(place.container, path)
        if not found["mode"] & _LINK or not found["linkTarget"]:
            return path
        path = os.path.join(os.path.dirname(path), found["linkTarget"])
    raise CommandError(f"{place.path}: too many links")


def _renamed(source: BinaryIO, sink: BinaryIO, name: str) -> None:
    """Write a tar again with another name at its top; ``""`` is the directory itself."""
    top: str | None = None
    with (
        tarfile.open(fileobj=source, mode="r|") as reader,
        tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as writer,
        storage_errors("cp"),
    ):
        for member in reader:
            if top is None:
                top = member.name
            if os.path.basename(member.name).startswith(_WHITEOUT):
                raise CommandError(
                    f"{member.name!r} cannot be copied", hint=f"its name begins with {_WHITEOUT}; cp … - can"
                )
            member.name = _under(member.name, top, name)
            member.pax_headers = {key: text for key, text in member.pax_headers.items() if key not in _NAMES}
            if member.islnk():
                member.linkname = _under(member.linkname, top, name)
            if member.name != ".":  # the directory itself is there, and stays as it is
                writer.addfile(member, reader.extractfile(member) if member.isreg() else None)


def _under(path: str, top: str, name: str) -> str:
    rest = path[len(top) :].lstrip("/")
    return "/".join(part for part in (name, rest) if part) or "."


def _unpack_here(directory: str, tar: BinaryIO, *, keeps_owners: bool) -> None:
    from images.apply import apply_layer

    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        apply_layer(tar, root, overlay=False, owners=keeps_owners, devices=False)
    finally:
        os.close(root)


def _roots(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
