"""Opening the engine for a command, and doing one thing to many containers, as docker does."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from cli.errors import describe
from cli.guarding import say, tell
from cli.store import as_root
from core.errors import ShiplapError
from core.settings import Settings

if TYPE_CHECKING:
    from engine.engine import Engine
    from images.store import Store

_AT_ONCE = 50  # as docker


@contextlib.contextmanager
def opened(root: str | None, *, store: Store | None = None) -> Iterator[Engine]:
    """The engine of a root. root: the value of ``--root``. store: one that is open already."""
    from engine.engine import Engine

    settings = Settings.from_environ(root=root)
    if os.geteuid() != 0:
        from containers.keeper.anchor import join
        from engine.places import Places

        if not join(str(Places.of(settings.root).run)):
            as_root()
    with Engine.open(settings, store=store) as engine:
        yield engine


@contextlib.contextmanager
def opened_to_start(root: str | None) -> Iterator[Engine]:
    """The same for a command that starts something: without root, it makes the namespaces in which that is to live."""
    gather(root)
    with opened(root) as engine:
        yield engine


def gather(root: str | None) -> None:
    """Be where the user's containers are, or will be. Nothing for root. To be called before a store is opened."""
    if os.geteuid() != 0:
        from containers.keeper.anchor import enter
        from engine.places import Places

        places = Places.of(Settings.from_environ(root=root).root)
        places.make()
        enter(str(places.run))


class NoMatterError(Exception):
    """What ``for_all`` is to say of a name without counting it as failed. error: what was wrong; None: nothing."""

    def __init__(self, error: ShiplapError | None) -> None:
        super().__init__(error.message if error else "")
        self.error = error


def for_all(names: Sequence[str], act: Callable[[str], object]) -> int:
    """Call ``act`` with each name, all at once; print the names, in order, for which it worked, and what went wrong.

    Returns the exit code: 1 when any failed.
    """
    if len(names) == 1:
        return _told(names[0], _tried(act, names[0]))
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(len(names), _AT_ONCE)) as pool:
        outcomes = pool.map(lambda name: _tried(act, name), names)
        return max(_told(name, outcome) for name, outcome in zip(names, outcomes, strict=True))


def _tried(act: Callable[[str], object], name: str) -> ShiplapError | NoMatterError | None:
    try:
        act(name)
    except (ShiplapError, NoMatterError) as error:
        return error
    return None


def _told(name: str, error: ShiplapError | NoMatterError | None) -> int:
    if error is None:
        tell(name)
        return 0
    if isinstance(error, NoMatterError):
        if error.error is not None:
            say(describe(error.error))
        return 0
    say(describe(error))
    return 1


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Within: what is already as asked for is no error, as in docker's ``start`` and ``stop``."""
    from engine.errors import UnchangedError

    with contextlib.suppress(UnchangedError):
        yield


def confirm(warning: str, *, force: bool) -> None:
    """Ask as docker's ``prune`` does. Raises Abort for a no, CommandError where nobody can answer."""
    import sys

    import click

    from cli.errors import CommandError

    if force:
        return
    if not sys.stdin.isatty():
        raise CommandError("this removes something and cannot ask", hint="say --force to do it unasked")
    click.confirm(f"WARNING! {warning}\nAre you sure you want to continue?", abort=True, err=True)


def echo_lines(lines: Iterable[str]) -> None:
    """Print lines, if there are any."""
    for line in lines:
        tell(line)
