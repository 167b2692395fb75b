"""What is left of an engine whose root is gone: RUN with the pin of its switch, and the anchor of its user.

    RUN/root    the path of the root, written by whoever makes RUN (``places``)

A boot clears RUN, but a root may go before: a test's, or one that somebody has removed by hand. Nobody asks for its
switch any more, whose namespace and pin would stay. The nursery sees that, and becomes ``finishing``, which ends what
is left. Where the nursery has ended before, ``shiplap system prune`` of another root does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from containers.errors import KeeperError, NetworkError
from containers.keeper import anchor, protocol
from containers.switch import remove_switch
from core.files import lock_within
from engine.places import Places

_PATIENCE_S = 1.0
_GONE = ".gone"


def root_of(run: Path) -> str:
    """Whose RUN it is; "" when nobody has written that down."""
    try:
        return os.fsdecode((run / "root").read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def end_all(places: Places) -> list[str]:
    """End what is left of this user's other engines whose roots are gone; the paths of those roots."""
    ended = []
    for run in sorted(places.run.parent.iterdir()) if places.run.parent.is_dir() else []:
        if run.suffix == _GONE:  # whoever renamed it was killed over it
            shutil.rmtree(run, ignore_errors=True)
            continue
        root = root_of(run)
        with contextlib.suppress(OSError, NetworkError):  # somebody is at it: the next prune will see
            if run != places.run and end_if_abandoned(run):
                ended.append(root)
    return ended


def end_if_abandoned(run: Path) -> bool:
    """End what is left of an engine, if its root is gone and nobody of it is there. Raises OSError, NetworkError.

    Containers that still run keep it. So does whoever starts a nursery at this moment.
    """
    root = root_of(run)
    if not root or os.path.lexists(root):
        return False
    try:
        lock = os.open(run / "nursery.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return False  # another one has ended it
    try:
        if not lock_within(lock, _PATIENCE_S) or any(map(_answers, _sockets(run))) or os.path.lexists(root):
            return False
        if (run / "switch").exists():
            remove_switch(str(run))
        anchor.end(str(run))
        gone = run.with_name(f"{run.name}{_GONE}")
        shutil.rmtree(gone, ignore_errors=True)
        run.rename(gone)  # whoever comes meanwhile finds all of it, or nothing
        shutil.rmtree(gone)
        return True
    finally:
        os.close(lock)


def _sockets(run: Path) -> Iterator[Path]:
    """Where somebody of this engine may listen."""
    yield run / "nursery.sock"
    with contextlib.suppress(FileNotFoundError):
        yield from (run / "k").iterdir()


def _answers(path: Path) -> bool:
    try:
        protocol.connect(str(path), _PATIENCE_S).close()
    except KeeperError:
        return False
    except TimeoutError:
        return True  # it is there, and busy
    return True
