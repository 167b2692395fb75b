"""Build contexts that clients upload: only what the server lacks.

    ROOT/serve/contexts/
      blobs/<hex>        file contents by sha256. Write: temp file, hash, fsync, rename
      manifests/<hex>    a context: the canonical JSON of its entries, by sha256
      tmp/               what is being written; locked, so that what a killed process left is known and removed

A client sends the entries, gets the digests that are missing, sends those files, and submits a run of the context's
digest. Files that only others sent count as missing: a digest is no right to a file, and no answer shows what others
have. A worker makes the tree. Files in it are hard links to the blobs where mode and time fit (nobody writes through
these), else copies. A worker with another root first fetches what it lacks from the web process
(``pipelines.sources.upstream``).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal

import msgspec
from sqlalchemy import delete, insert, select, update

from core.cancellation import check
from core.digests import Digest
from core.errors import InvalidReferenceError
from core.files import (
    fsync_directory,
    make_directory,
    reclaim_scratch,
    scratch_directory,
    storage_errors,
    write_atomically,
)
from core.kernel import sync_filesystem
from pipelines.database import Database
from pipelines.errors import DatabaseUnreachableError, InvalidRequestError, NotFoundError, UpstreamError
from pipelines.schema import contexts
from pipelines.sources.blobstream import SupportsRead
from pipelines.sources.senders import Senders
from pipelines.sources.upstream import Upstream

_log = logging.getLogger(__name__)
_SCRATCH: Final = "tmp"
_CHUNK_BYTES: Final = 1 << 20
_LOCK_PAUSE_S: Final = 0.02
_SYNCED_ALONE: Final = 16  # more files than these are synced by way of their file system
_MAX_ENTRIES: Final = 2_000_000
_MAX_NAME_BYTES: Final = 255
_MAX_PATH_BYTES: Final = 4096
_MODE_BITS: Final = 0o7777
_MAX_TIME_S: Final = 1 << 40


class ContextEntry(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One file of a context.

    path: ``a/b``.
    mode: permission bits.
    mtime: whole seconds.
    digest, size: of files.
    target: of links.

    Owners are left out: what COPY copies belongs to root whoever owned it.
    """

    path: str
    type: Literal["file", "directory", "link"]
    mode: int = 0o755
    mtime: int = 0
    size: int = 0
    digest: str = ""
    target: str = ""


_manifests = msgspec.json.Decoder(list[ContextEntry])


class Contexts:
    """All contexts below ``directory``. Thread-safe, and several processes may share it.

    upstream: the service with the contexts that are not here.
    """

    def __init__(
        self,
        database: Database,
        directory: Path,
        *,
        upstream: Upstream | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._senders = Senders(database)
        self._upstream = upstream
        self._clock = clock
        self._blobs = directory / "blobs"
        self._manifests = directory / "manifests"
        self._tmp = directory / "tmp"
        for made in (self._blobs, self._manifests, self._tmp):
            make_directory(made, mode=0o700)
        reclaim_scratch(self._tmp, _SCRATCH)

    def begin(self, entries: Sequence[ContextEntry], sender: str = "") -> tuple[str, list[str]]:
        """Take a context's entries, in any order; returns its digest, and the digests of files that are not here yet.

        sender: has to send each file that this sender has not sent before, whoever else did; empty: the service itself.
        Raises InvalidRequestError for entries that make no tree.
        """
        ordered = sorted(entries, key=lambda entry: entry.path.split("/"))
        _check(ordered)
        data = msgspec.json.encode(ordered)
        digest = Digest.of(data)
        for entry in ordered:  # so that retention sees that these files are wanted
            if entry.type == "file":
                with contextlib.suppress(FileNotFoundError):
                    os.utime(self._used(entry.digest))
        write_atomically(self._manifests / digest.hex, data, mode=0o600)
        self._touch(digest, sum(entry.size for entry in ordered))
        self._senders.note([str(digest)], sender)
        return str(digest), self._missing(ordered, sender)

    def put_blob(self, digest: str, stream: SupportsRead, sender: str = "") -> None:
        """Take a file's content. Raises StorageFullError, and InvalidRequestError when ``digest`` does not fit it."""
        self.put_blobs([(digest, stream)], sender)

    def put_blobs(self, blobs: Iterable[tuple[str, SupportsRead]], sender: str = "") -> int:
        """Take many files' contents, and make them durable together; returns how many. Raises as ``put_blob``."""
        taken: set[str] = set()
        count = 0
        with storage_errors("a build context"), scratch_directory(self._tmp, _SCRATCH) as directory:
            for digest, stream in blobs:
                wanted = _digest(digest)
                _write(f"{directory}/{wanted.hex}", wanted, stream)
                taken.add(wanted.hex)
                count += 1
            if len(taken) > _SYNCED_ALONE:
                sync_filesystem(directory)
            else:
                for name in taken:
                    _fsync(f"{directory}/{name}")
            for name in taken:
                os.rename(f"{directory}/{name}", self._blobs / name)
            fsync_directory(self._blobs)
        self._senders.note([f"sha256:{name}" for name in taken], sender)
        return count

    def manifest(self, context: str) -> bytes:
        """A context's entries, byte for byte as they are hashed. Raises NotFoundError."""
        return self._manifest(_digest(context))

    def blobs(self, digests: Iterable[str]) -> list[tuple[str, Path]]:
        """The paths of these files' contents. Raises NotFoundError when one is not here."""
        found = [(digest, self._used(_digest(digest))) for digest in digests]
        for digest, path in found:
            if not path.exists():
                raise NotFoundError(f"the file {digest[:19]} of a build context is not here", hint="upload it again")
        return found

    def has(self, context: str, sender: str = "") -> bool:
        """Whether the context and all its files are here, and this sender has sent them."""
        digest = _digest(context)
        if not self._senders.sent([str(digest)], sender):
            return False
        try:
            return not self._missing(self._entries(digest), sender)
        except NotFoundError:
            return False

    def materialise(self, context: str, directory: Path) -> dict[str, bytes]:
        """Make ``directory``, and the context's tree in it. Nobody may write to the tree.

        Returns the sha256 of each file by path. The files are hard links to blobs that other trees share: their stat
        data may change at any time, their content does not. Raises NotFoundError and StorageFullError; UpstreamError
        when the context has to be fetched and cannot be.
        """
        digest = _digest(context)
        entries = self._fetched(digest)
        with contextlib.suppress(DatabaseUnreachableError):  # retention already knows that the run wants it
            self._touch(digest, sum(entry.size for entry in entries))
        directory.mkdir(mode=0o755)
        root = str(directory)
        with storage_errors("a build context"), self._locked():
            for entry in entries:
                check()
                path = f"{root}/{entry.path}"
                if entry.type == "directory":
                    os.mkdir(path)
                elif entry.type == "link":
                    os.symlink(entry.target, path)
                    os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
                else:
                    self._file(entry, path)
            for entry in reversed(entries):
                if entry.type == "directory":
                    os.chmod(f"{root}/{entry.path}", entry.mode)
                    os.utime(f"{root}/{entry.path}", (entry.mtime, entry.mtime))
        return {entry.path: bytes.fromhex(Digest(entry.digest).hex) for entry in entries if entry.type == "file"}

    def drop_damaged(self, digest_hex: str) -> None:
        """Forget a file's content that does not fit its sha256: it counts as never sent, and is sent anew."""
        (self._blobs / digest_hex).unlink(missing_ok=True)
        _log.error("the file %s of a build context was damaged on disk, and is removed", digest_hex)

    def files(self, context: str) -> Iterator[tuple[str, Path]]:
        """Everything of a context that is here, for backups: names like ``blobs/<hex>``, and the files' paths."""
        digest = _digest(context)
        manifest = self._manifests / digest.hex
        if not manifest.exists():
            return
        yield f"manifests/{digest.hex}", manifest
        for entry in self._entries(digest):
            if entry.type == "file" and self._used(entry.digest).exists():
                yield f"blobs/{Digest(entry.digest).hex}", self._used(entry.digest)

    def sweep(self, keep_s: float, wanted: frozenset[str]) -> int:
        """Remove contexts that nobody used for ``keep_s``, except ``wanted``, and files that no other context has."""
        reclaim_scratch(self._tmp, _SCRATCH)
        before = self._clock() - keep_s
        with self._database.write() as connection:
            old = [
                row.digest
                for row in connection.execute(select(contexts.c.digest).where(contexts.c.used_at < before))
                if row.digest not in wanted
            ]
            for digest in old:
                connection.execute(delete(contexts).where(contexts.c.digest == digest))
                self._senders.forget(connection, [digest])
                (self._manifests / Digest(digest).hex).unlink(missing_ok=True)
            known = {Digest(row.digest).hex for row in connection.execute(select(contexts.c.digest))}
        for name in os.listdir(self._manifests):  # manifests of contexts that a process with another root swept
            path = self._manifests / name
            if name not in known and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)
        used = {
            Digest(entry.digest).hex
            for manifest in os.listdir(self._manifests)
            if not manifest.startswith(".")  # a file with a dot was being written by a process that was killed
            for entry in _manifests.decode((self._manifests / manifest).read_bytes())
            if entry.digest
        }
        gone = []
        for name in os.listdir(self._blobs):
            path = self._blobs / name
            if name not in used and path.stat().st_atime < before:
                path.unlink(missing_ok=True)
                gone.append(f"sha256:{name}")
        with self._database.write() as connection:
            self._senders.forget(connection, gone)
        return len(old)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Until the end of the block, nobody else links blobs, or changes the modes of blobs that no tree has."""
        fd = os.open(self._tmp, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    check()
                    time.sleep(_LOCK_PAUSE_S)
            yield
        finally:
            os.close(fd)

    def _used(self, digest: str) -> Path:
        return self._blobs / Digest(digest).hex

    def _missing(self, entries: Sequence[ContextEntry], sender: str = "") -> list[str]:
        wanted = list(dict.fromkeys(entry.digest for entry in entries if entry.type == "file"))
        sent = self._senders.sent(wanted, sender)
        return [digest for digest in wanted if digest not in sent or not self._used(digest).exists()]

    def _fetched(self, digest: Digest) -> list[ContextEntry]:
        """The entries of a context, after everything of it that upstream has was fetched."""
        if self._upstream is None:
            return self._entries(digest)
        try:
            entries = self._entries(digest)
        except NotFoundError:
            data = self._upstream.manifest(str(digest))
            if Digest.of(data) != digest:
                raise UpstreamError(f"the build context {digest.short} came with another digest") from None
            write_atomically(self._manifests / digest.hex, data, mode=0o600)
            entries = _manifests.decode(data)
        missing = self._missing(entries)
        if missing:
            self.put_blobs(self._upstream.blobs(missing))
        return entries

    def _entries(self, digest: Digest) -> list[ContextEntry]:
        return _manifests.decode(self._manifest(digest))

    def _manifest(self, digest: Digest) -> bytes:
        try:
            return (self._manifests / digest.hex).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no build context {digest.short}", hint=_NOT_HERE) from error

    def _touch(self, digest: Digest, size: int) -> None:
        with self._database.write() as connection:
            changed = connection.execute(
                update(contexts).where(contexts.c.digest == digest).values(used_at=self._clock())
            )
            if not changed.rowcount:
                connection.execute(insert(contexts).values(digest=digest, size=size, used_at=self._clock()))

    def _file(self, entry: ContextEntry, path: str) -> None:
        blob = self._used(entry.digest)
        try:
            found = blob.stat()
            if found.st_nlink == 1 and (found.st_mode & _MODE_BITS, int(found.st_mtime)) != (entry.mode, entry.mtime):
                os.chmod(blob, entry.mode)  # the first use decides what its inode is like
                os.utime(blob, (time.time(), entry.mtime))
                found = blob.stat()
            if (stat.S_IMODE(found.st_mode), int(found.st_mtime)) == (entry.mode, entry.mtime):
                with contextlib.suppress(OSError):  # another file system, or too many links
                    os.link(blob, path)
                    return
            shutil.copyfile(blob, path)
        except FileNotFoundError as error:
            raise NotFoundError(f"{entry.path} of the build context was not uploaded", hint=_NOT_HERE) from error
        os.chmod(path, entry.mode)
        os.utime(path, (entry.mtime, entry.mtime))


def _check(entries: Sequence[ContextEntry]) -> None:
    if len(entries) > _MAX_ENTRIES:
        raise InvalidRequestError(f"a context of {len(entries)} files, at most {_MAX_ENTRIES} are possible")
    kinds: dict[str, str] = {"": "directory"}
    for entry in entries:
        path = entry.path
        parts = path.split("/")
        if not all(_is_name(part) for part in parts) or len(path.encode("utf-8", "replace")) > _MAX_PATH_BYTES:
            raise InvalidRequestError(f"invalid path in a context: {path[:200]!r}")
        if path in kinds:
            raise InvalidRequestError(f"{path!r} is in the context twice")
        if kinds.get("/".join(parts[:-1])) != "directory":
            raise InvalidRequestError(f"{path!r} is in no directory of the context")
        kinds[path] = entry.type
        if not 0 <= entry.mode <= _MODE_BITS or not 0 <= entry.mtime < _MAX_TIME_S or entry.size < 0:
            raise InvalidRequestError(f"{path!r} has an impossible mode, time or size")
        if entry.type == "file":
            _digest(entry.digest)
        elif entry.digest:
            raise InvalidRequestError(f"{path!r} is no file, but has a digest")
        if (entry.type == "link") != bool(entry.target) or "\0" in entry.target or len(entry.target) > _MAX_PATH_BYTES:
            raise InvalidRequestError(f"{path!r} has an impossible link target")


def _is_name(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part and len(part.encode("utf-8", "replace")) <= _MAX_NAME_BYTES


def _digest(text: str) -> Digest:
    try:
        digest = Digest.parse(text)
    except InvalidReferenceError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
    if digest.algorithm != "sha256":
        raise InvalidRequestError(f"contexts have sha256 digests, not {digest.algorithm}")
    return digest


def _write(path: str, wanted: Digest, stream: SupportsRead) -> None:
    hashed = hashlib.sha256()
    with open(path, "wb", buffering=0) as file:
        while data := stream.read(_CHUNK_BYTES):
            hashed.update(data)
            file.write(data)
    if hashed.hexdigest() != wanted.hex:
        raise InvalidRequestError(
            f"the content sent for {wanted.short} has digest {hashed.hexdigest()[:12]}",
            hint="the file changed while it was sent: start again",
        )


def _fsync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


_NOT_HERE: Final = "upload it again; a worker that shares no directory with the web process needs SHIPLAP_WEB_URL"
