"""The process starts here. It imports little before it knows the command: even ``typing`` takes time."""

from __future__ import annotations

import gc
import sys

from core.release import described

TYPE_CHECKING = False  # type checkers take the name for typing.TYPE_CHECKING
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``shiplap`` and return its exit code. None: use the process's own arguments, and end the process."""
    asked = sys.argv[1:] if arguments is None else list(arguments)
    if asked == ["--version"]:  # scripts ask for it often: answered before click is imported
        sys.stdout.write(f"shiplap {described()}\n")
        return 0
    # Imports make many objects and no garbage. Looking for cycles every 700 objects takes a tenth of a short command.
    gc.set_threshold(50_000, 20, 20)
    try:
        if arguments is not None:
            return _run(asked)
        sys.excepthook = _report_bug
        code = _run(asked)
        from core.leaving import leave

        leave(code)
    except KeyboardInterrupt:  # while importing; later it is handled where something must be ended
        return 130


def _run(asked: Sequence[str]) -> int:
    from cli.declared import read_plain

    plain = read_plain(asked, {"build": "cli.commands.build"})
    if plain is None:
        from cli.app import run

        return run(asked)
    from cli.guarding import guarded

    return guarded(plain.run)


def _report_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.__excepthook__(kind, error, trace)
    sys.stderr.write(
        "error: Shiplap failed unexpectedly: this is its fault, not yours\n"
        "hint: please report it with the lines above and what these print: shiplap version; shiplap doctor\n"
    )
