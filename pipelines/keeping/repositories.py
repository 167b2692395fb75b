"""The repositories below ROOT/git in a backup: members ``git/…``, each repository whole, also while somebody pushes.

All that may lead to an object is read before the objects: the repository's own files and reflogs, loose refs, packed
refs. git writes in the opposite order. Objects are there before a ref names them. A new pack is there before the loose
objects and packs that it replaces go, and packed refs before the loose refs go. So a backup is whole. Files that git
makes again by itself are left out: the index over several packs and the graph of commits, which name packs.

git is never run: a repository's owner decides by its configuration which programs git starts, and this may be root.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import stat
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Final

from core.files import names_in, reclaim_scratch, scratch_directory, storage_errors
from core.kernel import exchange, sync_filesystem
from pipelines.errors import BackupError

MEMBERS: Final = "git/"
_RESTORING: Final = ".restoring-"
_SMALL_BYTES: Final = 4 << 20  # smaller files are read at once: others may write them while they are saved
_PACK_PASSES: Final = 20
_PACK_PAUSE_S: Final = 0.01
_LOOSE: Final = re.compile(r"[0-9a-f]{2}")
_BESIDE_PACKS: Final = ("rev", "bitmap", "keep", "promisor", "mtimes")
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_repositories(archive: tarfile.TarFile, top: Path) -> None:
    """Add what is below ``top``. A link there is saved as a link only. Raises BackupError."""
    if top.is_dir():
        with _opened(top) as fd:
            _Saving(archive, top).tree(fd, MEMBERS.rstrip("/"))


def _nothing(_: str) -> bool:
    return False


class _Saving:
    """Adds directories to an archive by descriptors, so that no link leads out of them. ``top``: for messages."""

    def __init__(self, archive: tarfile.TarFile, top: Path) -> None:
        self._archive = archive
        self._top = top
        self._saved: set[str] = set()

    def tree(self, fd: int, name: str, skip: Callable[[str], bool] = _nothing) -> None:
        """A directory and what is below it; a repository in its own order. skip: names to leave out, at any depth."""
        self._add(_member(name, os.fstat(fd), tarfile.DIRTYPE))
        if _is_repository(fd):
            self._repository(fd, name)
            return
        for entry in sorted(names_in(fd)):
            if not skip(entry) and not entry.startswith(_RESTORING):
                self._entry(fd, entry, name, skip)

    def _repository(self, fd: int, name: str) -> None:
        for entry in sorted(names_in(fd)):
            if entry not in ("objects", "refs", "packed-refs", "reftable") and not entry.endswith(".lock"):
                self._entry(fd, entry, name)
        self._reftable(fd, name)
        with _below(fd, "refs") as refs:
            if refs is not None:
                self.tree(refs, f"{name}/refs", skip=lambda entry: entry.endswith(".lock"))
        self._entry(fd, "packed-refs", name)
        with _below(fd, "objects") as objects:
            if objects is None:
                raise BackupError(f"{self._top.parent}/{name} has no objects any more", hint="save again")
            self._objects(objects, f"{name}/objects")

    def _reftable(self, fd: int, name: str) -> None:
        """Refs in tables: those that ``tables.list`` names. git writes that file anew before a table goes."""
        with _below(fd, "reftable") as tables:
            if tables is None:
                return
            self._add(_member(f"{name}/reftable", os.fstat(tables), tarfile.DIRTYPE))
            for _ in range(_PACK_PASSES):
                listed = _read(tables, "tables.list")
                contents = {table: _read(tables, table) for table in (listed or b"").decode().split()}
                if listed is not None and all(content is not None for content in contents.values()):
                    for entry, data in {**contents, "tables.list": listed}.items():
                        assert data is not None
                        self._add(_member(f"{name}/reftable/{entry}", os.fstat(tables), tarfile.REGTYPE), data)
                    return
            raise BackupError(f"the refs of {self._top.parent}/{name} changed all the time", hint="save again")

    def _objects(self, fd: int, name: str) -> None:
        self._add(_member(name, os.fstat(fd), tarfile.DIRTYPE))
        with _below(fd, "info") as info:
            if info is not None:
                self._alternates(info, name)
        for entry in sorted(names_in(fd)):
            if _LOOSE.fullmatch(entry):
                with _below(fd, entry) as loose:
                    if loose is not None:
                        self.tree(loose, f"{name}/{entry}", skip=lambda found: found.startswith("tmp_"))
        with _below(fd, "pack") as packs:
            if packs is not None:
                self._add(_member(f"{name}/pack", os.fstat(packs), tarfile.DIRTYPE))
                self._packs(packs, f"{name}/pack")

    def _alternates(self, info: int, name: str) -> None:
        """Save where objects are borrowed: from repositories that are saved, too. Raises BackupError for others."""
        borrowed = _read(info, "alternates")
        if borrowed is None:
            return
        objects = self._top.parent / name
        for line in os.fsdecode(borrowed).splitlines():
            place = (objects / line).resolve()
            if line and not line.startswith("#") and not place.is_relative_to(self._top.resolve()):
                raise BackupError(
                    f"{objects.parent} borrows objects of {place}, which is not below {self._top}",
                    hint="let it have its own: git repack -a -d, then remove objects/info/alternates",
                )
        self._add(_member(f"{name}/info", os.fstat(info), tarfile.DIRTYPE))
        self._entry(info, "alternates", f"{name}/info")

    def _packs(self, fd: int, name: str) -> None:
        """Packs with their indexes, listed again as long as one goes: a new pack then has its objects."""
        for number in range(_PACK_PASSES):
            gone = False
            for index in sorted(entry for entry in names_in(fd) if entry.endswith(".idx")):
                if self._entry(fd, f"{index[:-4]}.pack", name) and self._entry(fd, index, name):
                    for ending in _BESIDE_PACKS:
                        self._entry(fd, f"{index[:-4]}.{ending}", name)
                else:
                    gone = True
            if not gone:
                return
            time.sleep(_PACK_PAUSE_S * number)
        raise BackupError(f"{self._top.parent}/{name} was packed again and again", hint="save again")

    def _entry(self, fd: int, entry: str, directory: str, skip: Callable[[str], bool] = _nothing) -> bool:
        """Save ``entry``, with what is below it except for ``skip``; False: it is not there (any more)."""
        name = f"{directory}/{entry}"
        try:
            found = os.stat(entry, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                self._add(_member(name, found, tarfile.SYMTYPE, os.readlink(entry, dir_fd=fd)))
            elif stat.S_ISDIR(found.st_mode):
                with _below(fd, entry) as below:
                    if below is not None:
                        self.tree(below, name, skip)
            elif stat.S_ISREG(found.st_mode):
                with open(os.open(entry, _FILE_FLAGS, dir_fd=fd), "rb", buffering=0) as file:
                    self._file(file, name)
        except FileNotFoundError:
            return False
        return True

    def _file(self, file: io.FileIO, name: str) -> None:
        found = os.fstat(file.fileno())
        member = _member(name, found, tarfile.REGTYPE)
        if found.st_size <= _SMALL_BYTES:
            self._add(member, file.read(_SMALL_BYTES))
            return
        member.size = found.st_size
        try:
            self._add(member, file)
        except OSError as error:
            if error.errno is not None:
                raise
            told = f"{self._top.parent}/{name} became shorter while it was saved"
            raise BackupError(told, hint="save again") from error

    def _add(self, member: tarfile.TarInfo, content: bytes | IO[bytes] | None = None) -> None:
        if member.name in self._saved:
            return
        self._saved.add(member.name)
        if isinstance(content, bytes):
            member.size = len(content)
            content = io.BytesIO(content)
        self._archive.addfile(member, content)


@contextlib.contextmanager
def staged_repositories(
    archive: tarfile.TarFile, members: Iterable[tarfile.TarInfo], top: Path
) -> Iterator[Callable[[], list[Path]]]:
    """Unpack the repositories of a backup beside the existing ones. Yields a function that puts them in place.

    The function returns where repositories are now that had other refs. They are moved aside, for nobody else may have
    what was pushed since the backup. Repositories that the backup lacks stay as they are.
    Raises BackupError, StorageFullError.
    """
    wanted = list(members)
    if not wanted:
        yield list
        return
    with storage_errors(str(top)):
        top.mkdir(mode=0o755, parents=True, exist_ok=True)
        reclaim_scratch(top, _RESTORING)
        with scratch_directory(top, _RESTORING) as directory:
            _unpack(archive, wanted, directory)
            sync_filesystem(directory)
            yield lambda: _put_in_place(directory, top)


def _unpack(archive: tarfile.TarFile, members: list[tarfile.TarInfo], directory: Path) -> None:
    """Unpack files and directories before links, so that no member is written through a link."""
    later = []
    for member in members:
        path = directory / _inside(member.name)
        if member.isdir():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            later.append((member, path))
        elif member.isreg():
            stream = archive.extractfile(member)
            assert stream is not None, "a regular file"
            with path.open("xb") as file:
                shutil.copyfileobj(stream, file, 1 << 20)
            _take_after(member, path)
        elif member.issym():
            later.append((member, path))
        else:
            raise BackupError(f"{member.name} in the backup is neither file, directory nor link")
    for member, path in reversed(later):
        if member.issym():
            path.symlink_to(member.linkname)
        else:
            _take_after(member, path)


def _inside(name: str) -> str:
    parts = name.removeprefix(MEMBERS).split("/")
    if any(part in ("", ".", "..") for part in parts) and name != MEMBERS.rstrip("/"):
        raise BackupError(f"{name[:200]!r} in the backup is no path of a repository")
    return "/".join(parts) if name.startswith(MEMBERS) else "."


def _take_after(member: tarfile.TarInfo, path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, member.uid, member.gid, follow_symlinks=False)
    path.chmod(member.mode & 0o7777)
    os.utime(path, (member.mtime, member.mtime))


def _put_in_place(staged: Path, top: Path) -> list[Path]:
    aside = top / time.strftime("before-restore-%Y%m%d-%H%M%S")
    moved = []
    for name in _units(staged):
        new, place = staged / name, top / name
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not os.path.lexists(place):
            os.rename(new, place)
        elif refs_of(new) == refs_of(place) and place.is_symlink() == new.is_symlink():
            exchange(new, place)
        else:
            kept = aside / name
            kept.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            os.rename(new, kept)
            exchange(kept, place)
            moved.append(kept)
    sync_filesystem(top)
    return moved


def _units(directory: Path, below: str = "") -> Iterator[str]:
    """The units that are put in place at once: repositories, and files and links outside of them."""
    for entry in sorted(os.listdir(directory / below)):
        name = f"{below}/{entry}" if below else entry
        path = directory / name
        if path.is_symlink() or not path.is_dir():
            yield name
            continue
        with _opened(path) as fd:
            is_unit = _is_repository(fd)
        if is_unit:
            yield name
        else:
            yield from _units(directory, name)


def refs_of(repository: Path) -> dict[str, bytes]:
    """The files that hold a repository's refs; at any other path, the one file or link there."""
    if repository.is_symlink():
        return {"": os.fsencode(os.readlink(repository))}
    if repository.is_file():
        return {"": repository.read_bytes()}
    found = [repository / "packed-refs", *(repository / "refs").rglob("*"), *(repository / "reftable").glob("*")]
    return {str(path.relative_to(repository)): path.read_bytes() for path in found if path.is_file()}


def _is_repository(fd: int) -> bool:
    """Whether git would take the directory for a repository."""
    try:
        directories = [os.stat(name, dir_fd=fd, follow_symlinks=False) for name in ("objects", "refs")]
        os.stat("HEAD", dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return all(stat.S_ISDIR(found.st_mode) for found in directories)


def _member(name: str, found: os.stat_result, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    member.mode, member.mtime = stat.S_IMODE(found.st_mode), int(found.st_mtime)
    member.uid, member.gid = found.st_uid, found.st_gid
    return member


def _read(fd: int, name: str) -> bytes | None:
    """A small file's content; None: it is not there."""
    try:
        with open(os.open(name, _FILE_FLAGS, dir_fd=fd), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _below(fd: int, name: str) -> Iterator[int | None]:
    """A directory in another one; None: it is not there (any more)."""
    try:
        opened = os.open(name, _DIRECTORY_FLAGS, dir_fd=fd)
    except FileNotFoundError:
        yield None
        return
    try:
        yield opened
    finally:
        os.close(opened)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def member_refs(archive: tarfile.TarFile) -> dict[str, dict[str, bytes]]:
    """What ``refs_of`` would give for each unit of a backup after unpacking, by the unit's path."""
    members = {member.name: member for member in archive if member.name.startswith(MEMBERS)}
    tops = {name for name in members if all(f"{name}/{part}" in members for part in ("objects", "refs", "HEAD"))}
    units: dict[str, dict[str, bytes]] = {}
    for name, member in members.items():
        parts = name.split("/")
        above = ("/".join(parts[:length]) for length in range(1, len(parts) + 1))
        top = next((path for path in above if path in tops), None)
        if top is None:
            if member.issym():
                units[_inside(name)] = {"": os.fsencode(member.linkname)}
            elif member.isreg():
                units[_inside(name)] = {"": _content(archive, member)}
            continue
        refs = units.setdefault(_inside(top), {})
        inside = name[len(top) + 1 :]
        if member.isreg() and (inside == "packed-refs" or inside.startswith(("refs/", "reftable/"))):
            refs[inside] = _content(archive, member)
    return units


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    assert stream is not None, "a regular file"
    return stream.read()
