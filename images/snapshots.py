"""Snapshots: root filesystems derived from layers, as data to mount; dropped at will, and by every reboot.

    snapshots/<session>-N/fs, work       a step's upper directory, later the snapshot of the layer it became ("upper");
                                         overlayfs's work directory just stays: taking away its five takes longer than
                                         writing a small layer, and ext4 shuns what was freed in the last seconds
    snapshots/<session>-N/index          EROFS index of a layer's tar: nothing is unpacked ("erofs")
    snapshots/<session>-N/fs             an unpacked layer, where that does not work ("tree"), or many in one ("flat")
    snapshots/.locks                     byte-range locks by key: each snapshot is made once

A directory belongs to the session in its name until a row mentions it. A row's key is the layer's diff ID. ``+`` and a
fingerprint follow when the layer implies directories (the root directory is one) that look different on this base.
Other keys are ``upper:`` or ``flat:`` and a chain ID.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from core.digests import ChainID, DiffID, chain_id
from core.files import storage_errors
from core.latelog import LateLogger
from core.namespaces import is_initial
from core.rootfs import DirectoryLayer, ErofsLayer, RootLayer
from core.smallhash import sha256
from images.database import Database
from images.erofs import (
    BrokenProgramError,
    DirectoryMetadata,
    ErofsError,
    Indexer,
    check_mountable,
    correct,
    root_metadata,
    warn_once,
)
from images.errors import InvalidLayerError, SnapshotError
from images.feeding import Begun, Feed, SupportsWrite
from images.layers import LayerStore
from images.leavings import Leavings
from images.locks import named
from images.parents import ParentDirectories, implied_directories, set_metadata
from images.records import CacheRecords
from images.sessions import Session
from images.stacking import chains_of, topmost_of_each
from images.survey import Survey, survey
from images.trees import remove_tree

_MAX_LAYERS: Final = 100  # overlayfs stacks 500, and users add their own on top
_FLAT_STEP: Final = 50
_MODE: Final = 0o755  # of a root directory, whatever the umask
_PLAIN_ROOT: Final = DirectoryMetadata(_MODE, 0, 0, 0)
_ROOT: Final = b"/"  # stands for the root directory among the paths of a row

_log = LateLogger(__name__)


class Upper(NamedTuple):
    """A directory for one step's changes: ``path``/fs and ``path``/work, both empty at first.

    ``fs`` has the mode and owner that the root directory has below it (``root``): overlayfs shows the topmost one's.
    """

    path: str
    root: tuple[int, int, int] = (_MODE, 0, 0)


class _Row(NamedTuple):
    kind: str
    path: str | None


class Snapshots:
    """Makes and finds snapshots; each is made once, however many threads and processes ask at the same time.

    heir: of another session, which removes what is left to it; None: this session does.
    """

    def __init__(
        self, root: Path, database: Database, session: Session, layers: LayerStore, cache: CacheRecords
    ) -> None:
        self._directory = str(root / "snapshots")
        self._locks = root / "snapshots" / ".locks"
        self._database = database
        self._session = session
        self._layers = layers
        self._parents = ParentDirectories(layers, cache)
        self._no_erofs: str | None = None  # why not; found out once
        self._surveys: dict[DiffID, Survey] = {}  # of layers that this process has written
        self._begun: dict[DiffID, Begun] = {}  # directories where an index is on its way
        self._leavings = Leavings()
        self.heir: Snapshots | None = None
        self._known: dict[ChainID, RootLayer | None] = {}  # this session's: what was found once is leased, and stays

    def lowers(self, diff_ids: Sequence[DiffID]) -> tuple[RootLayer, ...]:
        """What to mount, read-only, for these layers, base first; it stays for as long as the session.

        To be mounted by overlayfs with ``userxattr``. Layers without entries give nothing; equal layers give one; of
        more than a hundred the first are merged into one. Layers that are away are fetched.
        Raises MissingBlobError, InvalidLayerError, SnapshotError, StorageFullError, and what fetching raises.
        """
        diff_ids = topmost_of_each(diff_ids)
        chains = list(chains_of(diff_ids))
        unknown = [diff_id for diff_id, chain in zip(diff_ids, chains, strict=True) if chain not in self._known]
        self._layers.fetch(unknown)
        flat = _merged(diff_ids)
        found = [self._flat(diff_ids[:flat])] if flat else []
        for at in range(flat, len(diff_ids)):
            if chains[at] not in self._known or not _is_there(self._known[chains[at]]):
                base = next((layer for layer in reversed(found) if layer is not None), None)
                self._known[chains[at]] = self._lower(diff_ids[at], diff_ids[:at], chains[at], base)
            found.append(self._known[chains[at]])
        return tuple(layer for layer in found if layer is not None)

    def new_upper(self, below: Sequence[RootLayer] = ()) -> Upper:
        """A new directory for a step to write to, above ``below``. It is removed with the session unless adopted."""
        with storage_errors("a snapshot"):
            return fill_upper(self._new_directory(), below)

    def adopt(self, upper: Upper, diff_id: DiffID, below: Sequence[DiffID]) -> None:
        """Let ``upper``, whose content the layer's tar holds, be the layer's snapshot on ``below``, unless it has one
        already.

        It serves on ``below`` alone: overlayfs marks new directories opaque, and over other layers they would hide what
        the tar does not. ``upper.path``/fs stays for this session in either case.
        """
        with os.scandir(f"{upper.path}/fs") as entries:
            empty = next(entries, None) is None
        empty = empty and survey(str(self._layers.path(diff_id))).entries == 0  # else the root directory is changed
        self._session.lease((diff_id,))
        if empty:
            self._insert(diff_id, diff_id, _Row("empty", None))
        else:
            row = _Row("upper", os.path.basename(upper.path))
            self._insert(_upper_key(chain_id(topmost_of_each((*below, diff_id)))), diff_id, row)

    def note_survey(self, diff_id: DiffID, found: Survey) -> None:
        """Spare a look at a tar that was just written. found: what ``survey`` would say of it."""
        self._surveys[diff_id] = found

    def begin(self, diff_id: DiffID) -> None:
        """Start to index a layer in the background: this process is going to ask ``lowers`` for it."""
        known = self._surveys.get(diff_id)
        if (known is not None and known.entries == 0) or diff_id in self._begun or self._row(diff_id) is not None:
            return
        tar = str(self._layers.path(diff_id))
        with storage_errors("a snapshot"):
            directory = self._new_directory()
        indexer = self._indexer(tar, directory)
        if indexer is not None:
            self._begun[diff_id] = Begun(directory, indexer)

    def feed(self, sink: SupportsWrite) -> Feed:
        """A sink for a layer that is mounted as soon as it is written. ``fed`` takes what it has indexed."""

        def begin(descriptor: int) -> Begun | None:
            with storage_errors("a snapshot"):
                directory = self._new_directory()
            indexer = self._indexer("what is being written", directory, fed_by=descriptor)
            return None if indexer is None else Begun(directory, indexer)

        return Feed(sink, begin)

    def fed(self, diff_id: DiffID, feed: Feed) -> bool:
        """Let what a feed has indexed be the layer's, as after ``begin``. False: it has indexed nothing."""
        begun = feed.end()
        if begun is not None:
            self._begun[diff_id] = begun
        return begun is not None

    def close(self) -> None:
        """Stop what was begun and not asked for; the directories go with the session."""
        self._leavings.close()
        while self._begun:
            _, (_, indexer) = self._begun.popitem()
            indexer.stop()

    def discard(self, upper: Upper) -> None:
        """Remove an upper directory that was not adopted."""
        remove_tree(upper.path)

    def leave(self, upper: Upper) -> None:
        """Have an upper directory removed that was not adopted, and wait for that only at the heir's end."""
        owner = self.heir or self
        path = f"{self._directory}/{owner._session.new_name()}"
        os.rename(upper.path, path)
        owner._leavings.add(path)

    def _lower(
        self, diff_id: DiffID, below: Sequence[DiffID], chain: ChainID, base: RootLayer | None
    ) -> RootLayer | None:
        """base: the topmost of the layers ``below`` that has anything in it."""
        row = self._row(_upper_key(chain)) or self._find(diff_id, below, base)
        if row is None:
            with named(self._locks, diff_id):
                row = self._find(diff_id, below, base) or self._make(diff_id, below, base)
        return self._as_layer(row, diff_id)

    def _flat(self, diff_ids: Sequence[DiffID]) -> RootLayer | None:
        from images.apply import apply_layer

        key = _flat_key(diff_ids)
        self._session.lease((key,))
        row = self._row(key)
        if row is None:
            with named(self._locks, key):
                row = self._row(key)
                if row is None:
                    directory = self._new_directory()
                    with storage_errors("a snapshot"), _Root(f"{directory}/fs") as root:
                        for diff_id in diff_ids:
                            with _naming(diff_id), self._layers.open(diff_id) as tar:
                                apply_layer(tar, root, overlay=False, owners=_is_root(), devices=_may_make_devices())
                    row = _Row("flat", os.path.basename(directory))
                    self._insert(key, None, row)
        return self._as_layer(row, diff_ids[0])

    def _find(self, diff_id: DiffID, below: Sequence[DiffID], base: RootLayer | None) -> _Row | None:
        row = self._row(diff_id)
        if row is not None and row.kind == "empty":
            return row
        known = self._database.one("SELECT implied FROM layers WHERE diff_id = ?", (diff_id,))
        if known is None or known[0] is None:
            return None
        if not known[0]:
            return row
        # The times are not part of the key, so that 0 does.
        implied = dict.fromkeys((b"" if path == _ROOT else path for path in bytes(known[0]).split(b"\0")), 0)
        key = _key(diff_id, self._resolve(diff_id, implied, below, base))
        return row if key == diff_id else self._row(key)

    def _resolve(
        self, diff_id: DiffID, implied: Mapping[bytes, int], below: Sequence[DiffID], base: RootLayer | None
    ) -> dict[bytes, DirectoryMetadata]:
        """How the directories that the layer implies look on ``below``; the root, ``b""``, as ``base`` has it.

        The layer itself is asked first: what it hides of those below is not what it implies.
        """
        found = self._parents.resolve({path: mtime for path, mtime in implied.items() if path}, (*below, diff_id))
        if b"" in implied:
            found[b""] = _PLAIN_ROOT if base is None else _root_of(base)
        return found

    def _make(self, diff_id: DiffID, below: Sequence[DiffID], base: RootLayer | None) -> _Row:
        """Make the layer's snapshot. The caller holds the layer's lock."""
        tar = str(self._layers.path(diff_id))
        with storage_errors("a snapshot"):
            begun = self._begun.pop(diff_id, None)
            directory = begun.directory if begun is not None else self._new_directory()
            indexer = begun.indexer if begun is not None else self._indexer(tar, directory)
            try:
                row, key = self._index_or_unpack(diff_id, tar, directory, indexer, below, base)
            except BaseException:
                remove_tree(directory)
                raise
        if row.path is None:
            remove_tree(directory)
        self._insert(key, diff_id, row)
        return row

    def _index_or_unpack(
        self,
        diff_id: DiffID,
        tar: str,
        directory: str,
        indexer: Indexer | None,
        below: Sequence[DiffID],
        base: RootLayer | None,
    ) -> tuple[_Row, str]:
        """indexer: already at work on the tar, if it can be used."""
        name = os.path.basename(directory)
        try:
            found = self._surveys.get(diff_id) or survey(tar)
        except BaseException:
            if indexer is not None:
                indexer.stop()
            raise
        if found.entries == 0:
            if indexer is not None:
                indexer.stop()
            self._note_implied(diff_id, {})
            return _Row("empty", None), diff_id
        implied = found.implied if found.has_root else {b"": 0, **found.implied}
        if found.unusual is not None:
            _log.info("layer %s is unpacked: %s", diff_id, found.unusual)
            if indexer is not None:
                indexer.stop()
            indexer = None
            implied = implied_directories(tar)
        self._note_implied(diff_id, implied)
        parents = self._resolve(diff_id, implied, below, base)
        key = _key(diff_id, parents)
        # EROFS cannot be given attributes afterwards; directories that have some are rare enough to unpack for.
        if indexer is not None and any(metadata.xattrs for metadata in parents.values()):
            indexer.stop()
            indexer = None
        if indexer is not None:
            try:
                indexer.wait()
                correct(f"{directory}/index", marks=found.marks, directories=parents.items())
                check_mountable(f"{directory}/index", tar)
                return _Row("erofs", name), key
            except ErofsError as error:
                self._note_failure(error)
        remove_tree(directory)
        os.mkdir(directory, 0o755)
        self._unpack(diff_id, directory, parents)
        return _Row("tree", name), key

    def _indexer(self, tar: str, directory: str, *, fed_by: int | None = None) -> Indexer | None:
        """mkfs.erofs at work, if it can be used."""
        if self._no_erofs is None:
            try:
                return Indexer(tar, f"{directory}/index", fed_by=fed_by)
            except ErofsError as error:
                self._note_failure(error)
        return None

    def _unpack(self, diff_id: DiffID, directory: str, parents: Mapping[bytes, DirectoryMetadata]) -> None:
        from images.apply import apply_layer

        with _Root(f"{directory}/fs") as root:
            with _naming(diff_id), self._layers.open(diff_id) as tar:
                apply_layer(tar, root, overlay=True, owners=_is_root(), devices=_may_make_devices())
            for path, metadata in sorted(parents.items(), reverse=True):  # deepest first: times stay
                try:
                    set_metadata(root, path, metadata)
                except OSError as error:
                    raise SnapshotError(f"cannot set up {os.fsdecode(path)!r} of layer {diff_id}: {error}") from error

    def _note_failure(self, error: ErofsError) -> None:
        if isinstance(error, BrokenProgramError):
            warn_once(error)
        else:
            _log.info("unpacking instead of indexing: %s", error)
        if error.final:
            self._no_erofs = error.message

    def _note_implied(self, diff_id: DiffID, implied: Mapping[bytes, int]) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE layers SET implied = ? WHERE diff_id = ?",
                (b"\0".join(sorted(path or _ROOT for path in implied)), diff_id),
            )

    def _row(self, key: str) -> _Row | None:
        found = self._database.one("SELECT kind, path FROM snapshots WHERE key = ?", (key,))
        if found is None:
            return None
        if found[1] is not None and not os.path.isdir(f"{self._directory}/{found[1]}"):
            with self._database.transaction() as connection:  # removed by hand: make it again
                connection.execute("DELETE FROM snapshots WHERE key = ? AND path = ?", (key, found[1]))
            return None
        return _Row(*found)

    def _insert(self, key: str, diff_id: DiffID | None, row: _Row) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO snapshots VALUES (?, ?, ?, ?, ?)",
                (key, diff_id, row.kind, row.path, time.time()),
            )

    def _as_layer(self, row: _Row, diff_id: DiffID) -> RootLayer | None:
        if row.path is None:
            return None
        if row.kind == "erofs":
            return ErofsLayer(f"{self._directory}/{row.path}/index", str(self._layers.path(diff_id)))
        return DirectoryLayer(f"{self._directory}/{row.path}/fs")

    def _new_directory(self) -> str:
        path = f"{self._directory}/{self._session.new_name()}"
        os.mkdir(path, 0o755)
        return path


def fill_upper(path: str, below: Sequence[RootLayer] = ()) -> Upper:
    """Make ``fs`` and ``work`` in an empty directory, for what is written above ``below``."""
    root = _root_of(below[-1]) if below else _PLAIN_ROOT
    for name, mode in (("fs", root.mode), ("work", _MODE)):
        os.mkdir(f"{path}/{name}")
        if name == "fs" and (root.uid or root.gid) and _is_root():
            os.chown(f"{path}/fs", root.uid, root.gid)
        os.chmod(f"{path}/{name}", mode)
    return Upper(path, (root.mode, root.uid, root.gid))


def merged_key(diff_ids: Sequence[DiffID]) -> str | None:
    """The key of the snapshot that ``lowers`` merges the first of these layers into; None: they are few enough."""
    diff_ids = topmost_of_each(diff_ids)
    merged = _merged(diff_ids)
    return _flat_key(diff_ids[:merged]) if merged else None


def _merged(diff_ids: Sequence[DiffID]) -> int:
    """How many of the first layers are merged into one."""
    return 0 if len(diff_ids) <= _MAX_LAYERS else -(-(len(diff_ids) - _MAX_LAYERS + 1) // _FLAT_STEP) * _FLAT_STEP


def _flat_key(diff_ids: Sequence[DiffID]) -> str:
    return f"flat:{chain_id(diff_ids)}"


def _make_root(path: str) -> None:
    """Make a directory with the mode of a root directory, whatever the umask."""
    os.mkdir(path, _MODE)
    if os.stat(path).st_mode & 0o7777 != _MODE:  # to say so all the same would be one more change for the disk
        os.chmod(path, _MODE)


class _Root:
    """A new directory, as a descriptor for the time of the context."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> int:
        _make_root(self._path)
        self._fd = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _root_of(layer: RootLayer) -> DirectoryMetadata:
    """Mode and owner of a layer's root directory; its time means nothing, and is not part of any key."""
    if isinstance(layer, DirectoryLayer):
        info = os.stat(layer.path)
        return DirectoryMetadata(stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, 0)
    return root_metadata(layer.image)._replace(mtime=0)


def _key(diff_id: DiffID, parents: Mapping[bytes, DirectoryMetadata]) -> str:
    special = [
        (path, m.mode, m.uid, m.gid, m.xattrs)
        for path, m in sorted(parents.items())
        if (m.mode, m.uid, m.gid, m.xattrs) != (0o755, 0, 0, ())
    ]
    return f"{diff_id}+{sha256(repr(special).encode()).hexdigest()[:16]}" if special else diff_id


def _is_there(layer: RootLayer | None) -> bool:
    """Whether nobody has removed it by hand."""
    return layer is None or os.path.exists(layer.path if isinstance(layer, DirectoryLayer) else layer.image)


def _upper_key(chain: ChainID) -> str:
    return f"upper:{chain}"


def _is_root() -> bool:
    return os.geteuid() == 0


def _may_make_devices() -> bool:
    """Not in a user namespace. Containers see no device of an image anyway: their /dev is their own."""
    return _is_root() and is_initial()


@contextlib.contextmanager
def _naming(diff_id: DiffID) -> Iterator[None]:
    """Let errors about a layer's content name the layer."""
    try:
        yield
    except InvalidLayerError as error:
        raise InvalidLayerError(f"layer {diff_id}: {error.message}", hint=error.hint) from error
