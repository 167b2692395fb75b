"""Makes layers of URLs and git repositories: asks the server in every build, fetches when something has changed.

The server is asked whether a file still has its ETag, or which commit a branch is at. It is not asked at all for what a
checksum or a whole commit hash names, once that is here. Layers are remembered as cache records, so pruning takes them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from builder.errors import FetchError
from builder.graph.vertices import FetchOp, GitOp, HttpOp
from builder.remotes.git import Git
from builder.remotes.gitserver import Found
from builder.remotes.giturls import redacted
from builder.remotes.http import HttpFiles, Progress, Response
from core.digests import DiffID
from core.files import storage_errors
from core.trust import Privacy, scoped
from images.records import CacheRecord
from images.store import Store
from images.tarwriter import TarWriter

if TYPE_CHECKING:
    from typing import BinaryIO

    from builder.request.request import BuildRequest

_OP: Final = "source"
_CREDENTIALS: Final = ("GIT_AUTH_", "HTTP_AUTH_")
"""Secrets whose names begin so are sent to servers; see ``builder.remotes.access``."""
_MODE: Final = stat.S_IFREG | 0o600


class FetchedLayer(msgspec.Struct, frozen=True):
    """A layer made of what was fetched.

    created_at: when it was fetched, seconds since the epoch.
    cached: the layer was here already, and still is what the server has.
    pinned: its identity for good: the file's ``sha256:…``, or the commit's hash.
    privacy: how far the layer may go.
    """

    diff_id: DiffID
    created_at: float
    cached: bool
    pinned: str
    privacy: Privacy = Privacy.COMMON


class Fetcher:
    """Fetches for one build, ``request``; several threads may use it. stopped: asked every now and then."""

    def __init__(self, store: Store, request: BuildRequest, stopped: Callable[[], bool]) -> None:
        self._store = store
        self._request = request
        self._access = request.access
        self._secrets = request.secrets
        self._stopped = stopped

    def layer(self, op: FetchOp, progress: Progress) -> FetchedLayer:
        """The layer with what the server has now. progress: as in ``HttpFiles.fetch``.

        An earlier layer answers only those for whom it counts: naming a URL, a checksum or a commit proves no right to
        its content. Raises FetchError, InvalidUrlError, BuildCancelledError.
        """
        given = _privacy(op, self._request)
        if isinstance(op, HttpOp):
            return self._http(op, progress, given)
        return self._git(op, given)

    def _known(self, key: str, given: Privacy) -> tuple[CacheRecord, Privacy] | None:
        """The record that has this key for this build, and how far it may go.

        given: the privacy of the credentials that take part. A record from a fetch without a credential does not
        answer a fetch with one.
        """
        for privacy in Privacy:
            if privacy < given:
                continue
            for scope in self._request.domain.asks(privacy):
                record = self._store.cache.get(scoped(key, scope))
                if record is not None:
                    return record, privacy
        return None

    def _put(self, record: CacheRecord, privacy: Privacy) -> None:
        domain = self._request.domain
        scope = domain.writes(privacy)
        owned = record._replace(key=scoped(record.key, scope), scope=scope, owner=domain.project_scope)
        self._store.cache.put(owned)

    # Files

    def _http(self, op: HttpOp, progress: Progress, given: Privacy) -> FetchedLayer:
        by_checksum = _key("checksum", op.name, op.checksum)
        by_url = _key("url", op.name, op.url)
        if op.checksum and (known := self._known(by_checksum, given)) is not None:
            return _of(*known)
        files = HttpFiles(self._access.http(self._secrets), self._stopped)
        known = None if op.checksum else self._known(by_url, given)
        if known is not None and files.is_unchanged(op.url, json.loads(known[0].detail)["etag"]):
            return _of(*known)
        start = time.monotonic()
        with storage_errors(redacted(op.url)), tempfile.TemporaryFile(dir=self._store.tmp) as content:
            sink = _Hashing(content)
            said = files.fetch(op.url, sink, progress)
            checksum = f"sha256:{sink.hash.hexdigest()}"
            if op.checksum and checksum != op.checksum:
                raise FetchError(
                    f"{redacted(op.url)} has the checksum {checksum}, not {op.checksum}",
                    hint="if that is what you want, put its checksum into the Dockerfile",
                )
            diff_id = self._write_file(op, content, said)
        detail = json.dumps({"etag": said.etag, "checksum": checksum}).encode()
        made = CacheRecord(by_checksum, _OP, diff_id, time.time(), time.monotonic() - start, redacted(op.url), detail)
        privacy = max(given, Privacy.COMMON if files.is_public else Privacy.PROJECT)
        self._put(made._replace(key=_key("checksum", op.name, checksum)), privacy)
        if said.etag:
            self._put(made._replace(key=by_url), privacy)
        return FetchedLayer(diff_id, made.created_at, False, checksum, privacy)

    def _write_file(self, op: HttpOp, content: BinaryIO, said: Response) -> DiffID:
        content.flush()
        content.seek(0)
        with self._layer_writer() as (writer, commit):
            size = os.fstat(content.fileno()).st_size
            writer.file(os.fsencode(op.name), _MODE, 0, 0, said.modified_at or 0, size, content.fileno(), None)
            return commit()

    # Repositories

    def _git(self, op: GitOp, given: Privacy) -> FetchedLayer:
        reference = op.reference
        directory = Path(tempfile.mkdtemp(prefix="git-", dir=self._store.tmp))
        try:
            with contextlib.ExitStack() as stack:

                def connect() -> Git:
                    return stack.enter_context(
                        Git(reference.remote, directory / "repository", self._access.git(self._secrets), self._stopped)
                    )

                git, found = None, Found.of_commit(reference.ref)
                if found is None:
                    git = connect()
                    found = git.find(reference.ref)
                found.check(reference)
                key = _key("git", reference.remote.url, found.name if op.keep_git_dir else "", found.commit, repr(op))
                known = self._known(key, given)
                return _of(*known) if known is not None else self._checkout(op, key, git or connect(), found, given)
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def _checkout(self, op: GitOp, key: str, git: Git, found: Found, given: Privacy) -> FetchedLayer:
        start = time.monotonic()
        checkout = git.checkout(
            found,
            subdirectory=op.reference.subdirectory,
            keep=op.keep_git_dir,
            submodules=op.reference.submodules is not False,
        )
        checkout.check(found)
        diff_id = self._write_tree(checkout.tree, checkout.committed_at)
        name = redacted(op.reference.remote.url)
        record = CacheRecord(
            key, _OP, diff_id, time.time(), time.monotonic() - start, f"{name}#{checkout.commit}",
            json.dumps({"commit": checkout.commit}).encode(),
        )  # fmt: skip
        privacy = max(given, Privacy.COMMON if git.is_public else Privacy.PROJECT)
        self._put(record, privacy)
        return FetchedLayer(diff_id, record.created_at, False, checkout.commit, privacy)

    def _write_tree(self, tree: Path, timestamp: int) -> DiffID:
        """Write the whole tree, with the commit's time: the same commit is the same layer, whoever fetches it when."""
        from builder.contexts.privatetree import PrivateTree
        from builder.copying.planner import CopySpec, select, write_layer

        fd = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            selection = select(PrivateTree(fd, "the repository"), CopySpec(("/",), "/", link=True))
            with self._layer_writer() as (writer, commit):
                write_layer(selection, None, writer, created_at=timestamp, timestamp=timestamp)
                return commit()
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _layer_writer(self) -> Iterator[tuple[TarWriter, Callable[[], DiffID]]]:
        with self._store.layers.writer(sync=False) as blob:
            writer = TarWriter(blob)

            def commit() -> DiffID:
                writer.close()
                return blob.commit()

            yield writer, commit


class _Hashing:
    """Writes to a file, and hashes what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self._file.write(data)
        self.hash.update(data)


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join((_OP, *parts)).encode("utf-8", "surrogateescape")).hexdigest()


def _privacy(op: FetchOp, request: BuildRequest) -> Privacy:
    """The privacy of fetched files. With a credential they stay with its owners; those of the host stay with it."""
    if request.domain.is_host:
        return Privacy.PROJECT  # it reaches more than runs do
    given = [name for name in request.secrets if name.startswith(_CREDENTIALS)]
    if not request.own_secrets.isdisjoint(given):
        return Privacy.DOMAIN
    if isinstance(op, GitOp):
        by_url = bool(op.reference.remote.credentials) or (op.reference.remote.scheme == "ssh" and request.access.ssh)
    else:
        by_url = urlsplit(op.url).username is not None
    return Privacy.PROJECT if given or by_url else Privacy.COMMON


def _of(record: CacheRecord, privacy: Privacy) -> FetchedLayer:
    assert record.diff_id is not None
    detail = json.loads(record.detail)
    return FetchedLayer(record.diff_id, record.created_at, True, detail.get("checksum") or detail["commit"], privacy)
