"""ADD of local archives: told by its content, unpacked straight into the layer.

A tar may be plain or compressed with gzip, bzip2, xz or zstd. It is read twice: once to plan (members may replace each
other and files of the image), once to write. Names are read as after chroot into the destination: ``..`` stops there,
and absolute names start there. So do the links that a name leads through. Nothing is ever written to a disk here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from builder.contexts.filetree import SelectedFile, SourceTree, ships
from builder.copying.destination import ArchiveMember, Destination, PlannedEntry
from builder.copying.digesting import hash_descriptor
from builder.errors import ArchiveError
from builder.paths import check_length, clean, join, resolve, split
from images import tarheaders
from images.compression import DecompressingReader
from images.errors import CompressedDataError, InvalidLayerError, LayerSourceError, UnsupportedCompressionError
from images.survey import ImpliedBytes
from images.tarreader import TarEntry, TarReader
from images.tarwriter import TarWriter

_MAX_BYTES: Final = 64 << 30
_MAX_RATIO: Final = 1000
_FREE_BYTES: Final = 1 << 30
"""An archive may unpack to this much plus a thousand times its own size, but never to more than _MAX_BYTES."""
_MAX_MEMBERS: Final = 4_000_000
_CREATED: Final = 0o755
_TYPES: Final = {
    tarheaders.FILE: stat.S_IFREG,
    tarheaders.DIRECTORY: stat.S_IFDIR,
    tarheaders.SYMLINK: stat.S_IFLNK,
    tarheaders.CHARACTER_DEVICE: stat.S_IFCHR,
    tarheaders.BLOCK_DEVICE: stat.S_IFBLK,
    tarheaders.FIFO: stat.S_IFIFO,
}
_UNREADABLE = (CompressedDataError, InvalidLayerError, UnsupportedCompressionError)


def open_archive(tree: SourceTree, entry: SelectedFile, looked_at_ns: int) -> Archive | None:
    """The file ``entry`` as an archive to unpack. None when its content is no tar, so that it is copied as it is."""
    directory_fd = tree.open_directory(entry.directory.tree_path)
    try:
        fd = tree.open_file(entry, directory_fd)
    finally:
        os.close(directory_fd)
    try:
        if not _begins_as_tar(fd):
            os.close(fd)
            return None
        if entry.sha is None or not tree.is_proven(entry, looked_at_ns):
            os.lseek(fd, 0, os.SEEK_SET)
            sha = hash_descriptor(fd).digest()
            tree.check_unchanged(entry, fd)
            if entry.sha is not None and entry.sha != sha:
                raise tree.is_another(entry)
            entry.sha = sha
        return Archive(tree, entry, fd)
    except BaseException:
        os.close(fd)
        raise


def _begins_as_tar(fd: int) -> bool:
    """Whether the file, decompressed if need be, begins with the header of a first member."""
    with open(fd, "rb", buffering=0, closefd=False) as file:
        try:
            return TarReader(DecompressingReader(file)).next() is not None
        except _UNREADABLE:
            return False


class Archive:
    """An archive that ADD unpacks. Owns ``fd``."""

    def __init__(self, tree: SourceTree, entry: SelectedFile, fd: int) -> None:
        self._tree = tree
        self._entry = entry
        self._fd = fd
        self._name = f"ADD {entry.tree_path}"

    def close(self) -> None:
        os.close(self._fd)

    def plan(
        self,
        destination: Destination,
        target: str,
        number: int,
        *,
        owner: tuple[int, int] | None,
        timestamp: int | None,
        created_at: int,
    ) -> None:
        """Plan every member below the directory ``target``.

        number: which archive of the instruction this is.
        owner, timestamp: of everything, where given.
        created_at: mtime of directories that the archive does not name. Root owns these directories.
        Raises ArchiveError and CopyConflictError.
        """
        inside = _Inside(destination, target, self._name)
        inodes: dict[int, list[PlannedEntry]] = {}  # by the identity of each of its names
        for index, (member, _) in enumerate(self._members()):
            path = clean(os.fsdecode(member.name))
            if not path:
                continue  # "./": the destination is there, and stays as it is
            check_length(path, self._name)
            check_length(os.fsdecode(member.link), self._name)
            place = self._place(inside, path, created_at)
            if member.kind == tarheaders.HARDLINK:
                linked = self._linked(inside, member)
                node = linked.twin()
                names = inodes.setdefault(id(linked), [linked])
                names.append(node)
                inodes[id(node)] = names
                self._describe(names, member, owner, timestamp)
            else:
                node = self._node(member, ArchiveMember(number, index, member.size), owner, timestamp)
            kind = destination.kind(place)
            if kind == "directory" and stat.S_ISDIR(node.mode):
                destination.merge_directory(place, node)
                continue
            destination.replace(place, node)
            if kind is not None or stat.S_ISLNK(node.mode):
                inside.forget_parent()  # names may lead elsewhere now

    def write(self, wanted: Mapping[int, Sequence[tuple[bytes, PlannedEntry]]], writer: TarWriter) -> None:
        """Write the regular files that are left. wanted: by member, the names (and nodes) that it has in the layer.

        Raises ContextChangedError when the archive is no longer the one that was planned.
        """
        if wanted:
            for index, (member, content) in enumerate(self._members()):
                names = wanted.get(index)
                if names is not None:
                    self._write_member(member, content, names, writer)
        self._tree.check_unchanged(self._entry, self._fd)

    def _write_member(
        self, member: TarEntry, content: TarReader, names: Sequence[tuple[bytes, PlannedEntry]], writer: TarWriter
    ) -> None:
        (first, node), *links = names
        if not isinstance(node.content, ArchiveMember) or node.content.size != member.size:
            raise self._tree.is_another(self._entry)
        try:
            writer.file(first, node.mode, node.uid, node.gid, node.mtime, member.size, content, node.xattrs)
        except LayerSourceError as error:
            raise self._tree.is_another(self._entry) from error
        for name, link in links:
            writer.hardlink(name, first, link.mode, link.uid, link.gid, link.mtime)

    def _members(self) -> Iterator[tuple[TarEntry, TarReader]]:
        """Every member, in order, from the start. Raises ArchiveError when the archive is damaged or too big."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        limit = min(_MAX_BYTES, _FREE_BYTES + _MAX_RATIO * self._entry.size)
        unpacked = 0
        with open(self._fd, "rb", buffering=0, closefd=False) as file:
            try:
                reader = TarReader(DecompressingReader(file, limit_bytes=limit))
                for count, member in enumerate(reader):
                    unpacked += member.size  # for a sparse file: its unpacked size
                    if count >= _MAX_MEMBERS or unpacked > limit:
                        raise ArchiveError(
                            f"{self._name}: the archive unpacks to more than {limit} bytes or {_MAX_MEMBERS} files",
                            hint="this looks like an archive bomb; unpack it yourself, and COPY the result",
                        )
                    yield member, reader
            except _UNREADABLE as error:
                raise ArchiveError(
                    f"{self._name}: cannot unpack the archive: {error}",
                    hint="test it with tar -t; to copy the file as it is, use COPY",
                ) from error

    def _place(self, inside: _Inside, path: str, created_at: int) -> str:
        """The path at which a member goes. Follows its parents, and makes missing ones."""
        parent, name = split(path)
        real = inside.real_parent(parent)
        if not inside.is_directory(real):
            self._refuse_dangling(inside, path, parent)
            inside.make_directories(real, created_at, path)
        place = join(inside.target, join(real, name))
        check_length(place, self._name)
        return place

    def _refuse_dangling(self, inside: _Inside, path: str, parent: str) -> None:
        """A name that leads through a link to nowhere is an error, as it is for BuildKit."""
        real = ""
        for name in parent.split("/"):
            candidate = join(real, name)
            mode = inside.mode(candidate)
            if mode is None:
                return  # nor is there anything further down
            real = resolve(inside, candidate) if stat.S_ISLNK(mode) else candidate
            if real != candidate and inside.mode(real) is None:
                raise ArchiveError(
                    f"{self._name}: {path} is behind the symbolic link {candidate}, which leads to nothing "
                    f"below /{inside.target}",
                    hint="links in an archive are followed inside the destination only",
                )

    def _linked(self, inside: _Inside, member: TarEntry) -> PlannedEntry:
        """The file that a hard link names. This instruction has already unpacked it."""
        parent, name = split(clean(os.fsdecode(member.link)))
        node = inside.node(join(resolve(inside, parent), name))
        if node is None or stat.S_ISDIR(node.mode):
            raise ArchiveError(
                f"{self._name}: {os.fsdecode(member.name)} is a hard link to {os.fsdecode(member.link)}, "
                "which the archive does not have",
                hint="a hard link can only lead to a file that comes before it in the same archive",
            )
        return node

    def _describe(
        self, names: Sequence[PlannedEntry], member: TarEntry, owner: tuple[int, int] | None, timestamp: int | None
    ) -> None:
        """Give all names of an inode what a hard link's header says: whoever unpacks a tar sets these once more.

        The mode and time of a symbolic link stay, since setting them would change the file that the link leads to.
        """
        uid, gid = owner or (member.uid, member.gid)
        mtime = member.mtime if timestamp is None else timestamp
        for node in names:
            node.uid, node.gid = uid, gid
            if not stat.S_ISLNK(node.mode):
                node.mode = stat.S_IFMT(node.mode) | member.mode
                node.mtime = mtime

    def _node(
        self, member: TarEntry, content: ArchiveMember, owner: tuple[int, int] | None, timestamp: int | None
    ) -> PlannedEntry:
        kind = _TYPES[member.kind]
        uid, gid = owner or (member.uid, member.gid)
        mtime = member.mtime if timestamp is None else timestamp
        xattrs = {name: value for name, value in member.xattrs.items() if ships(name)}
        node = PlannedEntry(kind | member.mode, uid, gid, mtime, xattrs=xattrs or None)
        if kind != stat.S_IFDIR:
            node.content = content
        if kind == stat.S_IFLNK:
            node.target = os.fsdecode(member.link)
        node.rdev = member.rdev
        if kind == stat.S_IFCHR and node.rdev == 0:
            raise ArchiveError(
                f"{self._name}: {os.fsdecode(member.name)} is the character device 0/0, which marks deleted files",
                hint="take it out of the archive",
            )
        return node


class _Inside:
    """A ``Destination`` seen from one of its directories, as after chroot.

    target: the directory.
    what: the instruction and its archive, for messages.
    """

    def __init__(self, destination: Destination, target: str, what: str) -> None:
        self._destination = destination
        self._what = what
        self._parent: tuple[str, str] | None = None
        self._implied = ImpliedBytes()
        self.target = target

    def real_parent(self, path: str) -> str:
        """Where the directory ``path`` really is; members that follow each other mostly have the same one."""
        if self._parent is None or self._parent[0] != path:
            self._parent = path, resolve(self, path)
        return self._parent[1]

    def forget_parent(self) -> None:
        self._parent = None

    def mode(self, path: str) -> int | None:
        return self._destination.mode(join(self.target, path))

    def link_target(self, path: str) -> str:
        return self._destination.link_target(join(self.target, path))

    def node(self, path: str) -> PlannedEntry | None:
        return self._destination.nodes.get(join(self.target, path))

    def is_directory(self, path: str) -> bool:
        return self._destination.is_directory(join(self.target, path))

    def make_directories(self, path: str, created_at: int, member: str) -> None:
        """Make the directories that ``member`` implies. Raises ArchiveError when a layer implies too many."""
        place = join(self.target, path)
        check_length(place, self._what)
        made = self._destination.make_directories(
            place, mode=_CREATED, uid=0, gid=0, mtime=created_at, what=f"{self._what}: {member}"
        )
        try:
            for directory in made:
                self._implied.add(os.fsencode(directory))
        except InvalidLayerError as error:
            raise ArchiveError(f"{self._what}: {error}".replace("the layer", "the archive")) from error
