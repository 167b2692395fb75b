"""The process starts here. It imports little before it knows the command: even ``typing`` takes time."""

from __future__ import annotations

import gc
import os
import sys

from core.release import described

TYPE_CHECKING = False  # type checkers take the name for typing.TYPE_CHECKING
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import NoReturn

_PLAIN = {
    "build": "cli.commands.build",
    "exec": "cli.containers.execing",
    "run": "cli.containers.run",
    "push": "cli.commands.push",
    "pull": "cli.commands.pull",
    "image ls": "cli.commands.image.ls",
    "image rm": "cli.commands.image.rm",
    "image tag": "cli.commands.image.tag",
    "images": "cli.commands.image.ls",
    "rmi": "cli.commands.image.rm",
    "tag": "cli.commands.image.tag",
}
"""Commands that take no click for a plain line: modules with a ``declared_command``, by the command's words."""

_SHORT = frozenset({"create", "exec", "images", "kill", "ps", "rm", "rmi", "run", "start", "stop", "tag"})
"""Commands that open databases once, at most."""

_WITHOUT_DOCUMENTS = ("build", "exec")
"""Those of them that may have no need of msgspec."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``shiplap`` and return its exit code. None: use the process's own arguments, and end the process."""
    asked = sys.argv[1:] if arguments is None else list(arguments)
    if asked == ["--version"]:  # scripts ask for it often: answered before click is imported
        sys.stdout.write(f"shiplap {described()}\n")
        return 0
    if arguments is not None:
        return _caught(asked)
    then = None
    if "SHIPLAP_RESIDENT" in os.environ:
        from cli.resident import resident_for

        try:
            resident = resident_for(asked)
            if resident is not None:
                then = resident.start
                code = resident.run(sys.argv)
                if code is not None:
                    os._exit(code)
        except KeyboardInterrupt:
            return 130
    return end_with(asked, then)


def end_with(asked: Sequence[str], then: Callable[[], None] | None = None) -> NoReturn:
    """Run the command line in this process, and end with its exit code. then: called at the very end."""
    from core import leaving

    sys.excepthook = _report_bug
    leaving.is_near = any(word in _SHORT for word in (asked[2:3] if asked[:1] == ["--root"] else asked[:1]))
    leaving.leave(_caught(asked), then)


def _caught(asked: Sequence[str]) -> int:
    # Imports make many objects and no garbage. Looking for cycles every 700 objects takes a tenth of a short command.
    gc.set_threshold(50_000, 20, 20)
    try:
        return _run(asked)
    except KeyboardInterrupt:  # while importing; later it is handled where something must be ended
        return 130


def _run(asked: Sequence[str]) -> int:
    from cli.declared import read_plain

    plain = read_plain(asked, _PLAIN)
    if plain is None or not _is_for_here(plain.words):
        from cli.app import run

        return run(asked)
    from cli.guarding import guarded

    if plain.words not in _WITHOUT_DOCUMENTS:
        _spare_loading()
    return guarded(plain.run)


def _is_for_here(words: str) -> bool:
    """Whether nothing chooses a service, for which the command may be refused (``cli.places``). A build asks itself."""
    if words == "build":
        return True
    from cli.remote.choice import may_be_chosen

    return not may_be_chosen()


def _spare_loading() -> None:
    """Load msgspec so that it takes from ``typing`` what it asks ``typing_extensions`` for first.

    That has been in ``typing`` since Python 3.11, and the other takes longer to load than msgspec itself. To be called
    before there is any other thread: who else wants ``typing_extensions`` then gets it.
    """
    if "typing_extensions" in sys.modules or "msgspec" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # "there is none", to an import
    try:
        import msgspec
    finally:
        del sys.modules["typing_extensions"]
    assert msgspec


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    sys.stderr.write(
        "error: Shiplap failed unexpectedly: this is its fault, not yours\n"
        "hint: please report it with the lines above and what these print: shiplap version; shiplap doctor\n"
    )
