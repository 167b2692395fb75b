"""Directories of clients that are kept from build to build, so that only what changed crosses.

    ROOT/contexts/<key>/tree/    the directory as the last transfer left it
    ROOT/contexts/<key>/listing  what it is: see ``listing``
    ROOT/contexts/<key>/boot     the boot that it was written in: what another boot wrote may not be whole
    ROOT/contexts/<key>.lock     held by the build that uses it, and by who removes both

A key is of the client's session and of the directory's name in it. Where another build holds the lock, or a client
says no key, the directory is made for one build.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from core.files import try_lock

_MOST_KEPT: Final = 32


class Place(NamedTuple):
    """A directory that one build receives into.

    path: of the directory.
    listing: of the file that says what it was last, of one that is kept: the next build sees its files. "" otherwise.
    """

    path: str
    listing: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether it may have an earlier build's files, and the next sees it."""
        return bool(self.listing)


@contextlib.contextmanager
def place_for(root: Path, scratch: Path, session_key: str, name: str) -> Iterator[Place]:
    """The place for a client's directory, for this build alone within the block.

    root: of the caller's engine. scratch: a directory of the build's own.
    """
    kept = (
        root / "contexts" / hashlib.sha256(f"{session_key}\0{name}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    )
    lock = _locked(kept) if session_key else None
    if lock is None:
        with tempfile.TemporaryDirectory(dir=scratch, prefix="context-") as made:
            yield Place(made)
        return
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        written = kept / "boot"
        if not written.exists() or written.read_text() != boot:
            shutil.rmtree(kept, ignore_errors=True)
            (kept / "tree").mkdir(parents=True, mode=0o700)
            written.write_text(boot)
            _forget_oldest(kept.parent)
        os.utime(kept)
        yield Place(str(kept / "tree"), str(kept / "listing"))
    finally:
        os.close(lock)


def _locked(kept: Path) -> int | None:
    """The lock of a place; None where another build has it."""
    kept.parent.mkdir(mode=0o700, exist_ok=True)
    path = Path(f"{kept}.lock")
    while (fd := try_lock(path)) is not None:
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        os.close(fd)  # somebody removed it before we had it
    return None


def prune(root: Path, most: int = 0, stopped: Callable[[], bool] = lambda: False) -> int:
    """Remove kept directories that no build uses, but for the ``most`` newest. Returns how many bytes they took.

    stopped: asked before each; ends it.
    """
    freed = 0
    for kept in _oldest_first(root / "contexts")[: -most or None]:
        if stopped():
            break
        lock = _locked(kept)
        if lock is None:
            continue
        try:
            freed += sum(entry.lstat().st_blocks * 512 for entry in kept.rglob("*"))
            (kept / "listing").unlink(missing_ok=True)  # first: who is killed here may leave the rest of a tree
            shutil.rmtree(kept, ignore_errors=True)
            if not kept.exists():
                os.unlink(f"{kept}.lock")
        finally:
            os.close(lock)
    return freed


def _forget_oldest(folder: Path) -> None:
    prune(folder.parent, _MOST_KEPT)


def _oldest_first(folder: Path) -> list[Path]:
    """The kept directories. A lock without its directory, which a killed process left, comes first."""
    if not folder.is_dir():
        return []
    found = {}
    for kept in {entry.with_suffix("") for entry in folder.iterdir()}:
        try:
            found[kept] = kept.stat().st_mtime_ns
        except FileNotFoundError:
            found[kept] = 0
    return sorted(found, key=lambda kept: (found[kept], kept))
