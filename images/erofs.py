"""Layer tars as EROFS file systems, without unpacking: ``mkfs.erofs --tar=i`` writes an index whose data is the tar.

The index that erofs-utils 1.8 makes is wrong for us in two points. They are put right in place, so this file knows the
format a little:

- the marks of whiteouts and opaque directories are ``trusted.overlay.*``. An overlay mounted with ``userxattr`` ignores
  them: files from below shine through, and the name of a whiteout that hides nothing is listed. They become ``user.``;
- directories that the tar implies but does not contain get mode 0777: they get the metadata that they should have.

Format: Linux, fs/erofs/erofs_fs.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import mmap
import os
import select
import signal
import struct
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from core.cancellation import check
from core.latelog import LateLogger
from images.errors import SnapshotError

_SYS_FSOPEN, _SYS_FSCONFIG = 430, 431  # the same numbers on every architecture (Linux 5.2)
_FSCONFIG_SET_FLAG, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 0, 1, 6

_MKFS = "mkfs.erofs"
_ASK_EACH_MS: Final = 200
_MAGIC: Final = 0xE0F5E1E2
_SUPERBLOCK: Final = 1024
_CHECKSUM, _XATTR_FILTER = 1, 4  # features
_DIRENT: Final = struct.Struct("<QHBB")  # nid, offset of the name, type, reserved
_EXTENDED_INODE: Final = struct.Struct("<HHHHQIIIIQI")  # to the mtime's nanoseconds
_MTIME_AT: Final = 32  # in an inode
_DIRECTORY: Final = 2  # a type in a directory's entry
_FLAT_PLAIN, _FLAT_INLINE = 0, 2
_XATTR_USER, _XATTR_TRUSTED = 1, 4
_S_IFDIR: Final = 0o040000

# These say that no layer can be indexed and mounted here; other errors are about one layer.
_NEVER: Final = frozenset({errno.ENODEV, errno.ENOSYS, errno.EPERM, errno.ENOTBLK, errno.EACCES})

_NO_ROOM: Final = frozenset({errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE})  # for any process at all
# The loader's or a shell's word for a program that cannot run here, and a processor's for one that is not for it.
_NOT_STARTED: Final = frozenset({126, 127, -signal.SIGILL, -signal.SIGSYS})

_libc = ctypes.CDLL(None, use_errno=True)
_log = LateLogger(__name__)
_told: set[str] = set()


class ErofsError(SnapshotError):
    """This layer cannot be indexed, or its index not mounted. ``final``: nor can any other on this host."""

    def __init__(self, message: str, *, final: bool = False, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.final = final


class BrokenProgramError(ErofsError):
    """The host has a program of that name, and it does not start: somebody is to look at it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"mkfs.erofs cannot be executed ({reason}): layers are unpacked instead of indexed, which is slower",
            final=True,
            hint="install erofs-utils for this machine and its C library, or remove the file",
        )


def warn_once(error: BrokenProgramError) -> None:
    """Warn once in each process: it would be the same for every layer of every build."""
    if error.message not in _told:
        _told.add(error.message)
        _log.warning("%s; %s", error.message, error.hint)


class DirectoryMetadata(NamedTuple):
    """What a directory that a layer merely implies is to look like. mtime: seconds since the epoch."""

    mode: int
    uid: int
    gid: int
    mtime: int
    xattrs: tuple[tuple[str, bytes], ...] = ()


class Indexer:
    """A running ``mkfs.erofs``. Raises ErofsError when it is not installed or does not start."""

    def __init__(self, tar: str, image: str, *, fed_by: int | None = None) -> None:
        """Begin to index ``tar`` into the new file ``image``. Messages go to ``image`` with ``.log`` added.

        fed_by: a descriptor from which the tar is read while it is being written; None: the file has all of it.
        """
        self._tar = tar
        self._log = image + ".log"
        # All inodes extended: only these have room for any owner, and for a time.
        options = ["--quiet", "--tar=i", "--aufs", "-T0", "--mkfs-time", "-Eforce-inode-extended"]
        # Opened here and not by the new process, so that what fails there is the program and not our disk.
        words = [_MKFS, *options, image, *([tar] if fed_by is None else [])]
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            actions += [] if fed_by is None else [(os.POSIX_SPAWN_DUP2, fed_by, 0)]
            self._pid = os.posix_spawnp(_MKFS, words, os.environ, file_actions=actions)
        except OSError as error:
            import shutil

            if error.errno in _NO_ROOM:
                raise
            if error.errno == errno.ENOENT and shutil.which(_MKFS) is None:
                raise ErofsError("mkfs.erofs is not installed (erofs-utils)", final=True) from None
            # An interpreter or loader that is missing is ENOENT, too.
            raise BrokenProgramError(error.strerror or str(error)) from None
        finally:
            os.close(log)

    def wait(self) -> None:
        """Wait until the index is written, however long that takes for this tar. Raises ErofsError."""
        ended = select.poll()
        pidfd = os.pidfd_open(self._pid)
        try:
            ended.register(pidfd, select.POLLIN)
            while not ended.poll(_ASK_EACH_MS):
                try:
                    check()
                except BaseException:
                    self.stop()
                    raise
        finally:
            os.close(pidfd)
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            with open(self._log, "rb") as file:
                lines = file.read(4000).decode(errors="replace").split("\n")
            if code in _NOT_STARTED:
                said = signal.strsignal(-code) if code < 0 else f"exit status {code}"
                raise BrokenProgramError(lines[0] or str(said))
            raise ErofsError(f"mkfs.erofs on {self._tar}: exit status {code}: {lines[0]}")
        os.unlink(self._log)

    def stop(self) -> None:
        """Stop indexing: the index is not wanted after all."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def correct(image: str, *, marks: bool, directories: Iterable[tuple[bytes, DirectoryMetadata]]) -> None:
    """Put an index right. marks: it has whiteouts or opaque directories. directories: paths of the implied ones.

    Raises ErofsError when the index is not as expected.
    """
    with open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        index = _Index(memory)
        index.drop_checks()
        if marks:
            index.make_marks_user()
        for path, metadata in directories:
            index.set_directory(path, metadata)


def retime(image: str, mtime_ns: int) -> None:
    """Give every file and directory of an index one time, in nanoseconds since the epoch.

    Raises ErofsError when the index is not as expected.
    """
    with open(image, "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        index = _Index(memory)
        index.drop_checks()
        index.set_times(*divmod(mtime_ns, 1_000_000_000))


def root_metadata(image: str) -> DirectoryMetadata:
    """What the root directory of an index looks like. Raises ErofsError, OSError."""
    with open(image, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        return _Index(memory).root()


def check_mountable(image: str, tar: str) -> None:
    """Let the kernel open the file system, attached nowhere. Raises ErofsError, OSError."""
    with open(image, "rb") as index, open(tar, "rb") as data:
        # By their descriptors: the kernel takes no longer path than 255 bytes here.
        files = [f"/proc/self/fd/{file.fileno()}".encode() for file in (index, data)]
        fd = _libc.syscall(_SYS_FSOPEN, b"erofs", 1)  # FSOPEN_CLOEXEC
        if fd < 0:
            raise _kernel_error("fsopen erofs")
        try:
            steps = (
                (_FSCONFIG_SET_STRING, b"source", files[0]),
                (_FSCONFIG_SET_STRING, b"device", files[1]),
                (_FSCONFIG_SET_FLAG, b"ro", None),
                (_FSCONFIG_CMD_CREATE, None, None),
            )
            for command, key, value in steps:
                if _libc.syscall(_SYS_FSCONFIG, fd, command, key, value, 0) < 0:
                    raise _kernel_error(f"mounting {image}")
        finally:
            os.close(fd)


def works(path: str) -> bool:
    """Whether this host indexes layers and mounts the index. path: for files, removed again, to try it with."""
    tar, image = f"{path}.tar", f"{path}.erofs"
    try:
        _try(tar, image)
    except (ErofsError, OSError) as error:  # a full disk is one, too
        _log.info("layers cannot be indexed here: %s", error)
        return False
    finally:
        for each in (tar, image, f"{image}.log"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(each)
    return True


def _try(tar: str, image: str) -> None:
    """Index a layer of one file. Raises ErofsError, OSError."""
    import io
    import tarfile

    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("tried")
        member.size = 1
        archive.addfile(member, io.BytesIO(b"x"))
    Indexer(tar, image).wait()
    correct(image, marks=False, directories=())
    check_mountable(image, tar)


def _kernel_error(what: str) -> ErofsError:
    number = ctypes.get_errno()
    return ErofsError(f"{what}: {os.strerror(number)}", final=number in _NEVER)


class _Index:
    """The metadata of an EROFS image, in memory that writes through to it."""

    def __init__(self, memory: mmap.mmap) -> None:
        self._memory = memory
        magic, compatible, block_bits = struct.unpack_from("<I4xIB", memory, _SUPERBLOCK)
        if magic != _MAGIC:
            raise ErofsError("mkfs.erofs wrote something that is not EROFS")
        self._block = 1 << block_bits
        (self._root,) = struct.unpack_from("<H", memory, _SUPERBLOCK + 14)
        (metadata_block,) = struct.unpack_from("<I", memory, _SUPERBLOCK + 40)
        self._inodes = metadata_block * self._block
        self._compatible = compatible

    def drop_checks(self) -> None:
        """Before changes, drop what is not to be looked at any more.

        That is the checksum of the superblock's block, which may hold inodes; and the filters that tell which
        attributes an inode lacks, by hashes that we do not compute.
        """
        struct.pack_into("<I", self._memory, _SUPERBLOCK + 8, self._compatible & ~(_CHECKSUM | _XATTR_FILTER))

    def root(self) -> DirectoryMetadata:
        fields = _EXTENDED_INODE.unpack_from(self._memory, self._inodes + self._root * 32)
        return DirectoryMetadata(fields[2] & 0o7777, fields[7], fields[8], fields[9])

    def make_marks_user(self) -> None:
        for name, value in ((b"overlay.opaque", b"y"), (b"overlay.origin", b"")):
            tail = struct.pack("<H", len(value)) + name + value
            entry = bytes([len(name), _XATTR_TRUSTED]) + tail
            at = self._memory.find(entry)
            while at >= 0:
                self._memory[at + 1] = _XATTR_USER
                at = self._memory.find(entry, at + len(entry))

    def set_directory(self, path: bytes, metadata: DirectoryMetadata) -> None:
        nid = self._root
        for name in path.split(b"/") if path else ():
            nid = self._look_up(nid, name)
        at = self._inodes + nid * 32
        fields = list(_EXTENDED_INODE.unpack_from(self._memory, at))
        if not fields[0] & 1 or fields[2] & 0o170000 != _S_IFDIR:
            raise ErofsError(f"no directory with an extended inode: {os.fsdecode(path)!r}")
        fields[2] = _S_IFDIR | metadata.mode
        fields[7:11] = [metadata.uid, metadata.gid, metadata.mtime, 0]
        _EXTENDED_INODE.pack_into(self._memory, at, *fields)

    def set_times(self, seconds: int, nanoseconds: int) -> None:
        time = struct.pack("<QI", seconds, nanoseconds)
        pending, known = [self._root], {self._root}
        while pending:
            check()
            for start, end in self._blocks(pending.pop()):
                names_at = _DIRENT.unpack_from(self._memory, start)[1]
                if not 0 < names_at <= end - start:
                    raise ErofsError("a directory in a form that is not known")
                for nid, _, kind, _ in _DIRENT.iter_unpack(self._memory[start : start + names_at]):
                    if nid not in known:
                        known.add(nid)
                        if kind == _DIRECTORY:
                            pending.append(nid)
        for nid in known:
            at = self._inodes + nid * 32
            if not self._memory[at] & 1:
                raise ErofsError("an inode that is not extended")
            self._memory[at + _MTIME_AT : at + _MTIME_AT + len(time)] = time

    def _look_up(self, nid: int, wanted: bytes) -> int:
        for start, end in self._blocks(nid):
            found = self._look_up_in_block(start, end, wanted)
            if found is not None:
                return found
        raise ErofsError(f"the index lacks {os.fsdecode(wanted)!r}")

    def _blocks(self, nid: int) -> Iterator[tuple[int, int]]:
        """Where the entries of a directory are."""
        at = self._inodes + nid * 32
        layout_bits, xattr_count, mode, _, size, first_block = struct.unpack_from("<HHHHQI", self._memory, at)
        layout = layout_bits >> 1 & 7
        if mode & 0o170000 != _S_IFDIR or not layout_bits & 1 or layout not in (_FLAT_PLAIN, _FLAT_INLINE):
            raise ErofsError("a directory in a layout that is not known")
        count = -(-size // self._block)
        for number in range(count):
            start = (first_block + number) * self._block
            if layout == _FLAT_INLINE and number == count - 1:
                start = at + 64 + (12 + 4 * (xattr_count - 1) if xattr_count else 0)
            yield start, start + min(self._block, size - number * self._block)

    def _look_up_in_block(self, start: int, end: int, wanted: bytes) -> int | None:
        block = self._memory[start:end]
        names_at = _DIRENT.unpack_from(block)[1]
        entries = [_DIRENT.unpack_from(block, at) for at in range(0, names_at, _DIRENT.size)]
        ends = [entry[1] for entry in entries[1:]] + [len(block)]
        for entry, name_end in zip(entries, ends, strict=True):
            if block[entry[1] : name_end].rstrip(b"\0") == wanted:
                return int(entry[0])
        return None
