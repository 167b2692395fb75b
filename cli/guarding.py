"""Ends a command: gives its exit code, and prints errors that a user can cause as messages.

Every command imports this module, so it does not import click.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from cli.errors import CommandEnded, clicks_errors, describe, is_users, silence_output
from core.errors import ShiplapError


def guarded(command: Callable[[], object]) -> int:
    """Run ``command`` and return the exit code. Prints errors; raises nothing that a user can cause."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a file name that is no text must not cause a crash
    try:
        result = command()
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CommandEnded as end:
        return end.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `shiplap image ls | head`: whoever read has seen enough
        silence_output()
        return 141
    except _reportable() as error:
        if not is_users(error):
            raise
        say(describe(error))
        return _click_code(error) or 1


def _reportable() -> tuple[type[Exception], ...]:
    return (ShiplapError, OSError, *clicks_errors())


def _click_code(error: BaseException) -> int:
    """The exit code of an error of click's; 0 for others."""
    return int(getattr(error, "exit_code", 0)) if isinstance(error, clicks_errors()) else 0


def for_each(names: Iterable[str], act: Callable[[str], None]) -> int:
    """Call ``act`` with each name, and go on after one that failed, as docker does. Prints errors.

    Returns the exit code: 1 when any failed.
    """
    code = 0
    for name in names:
        try:
            act(name)
        except ShiplapError as error:
            say(describe(error))
            code = 1
    return code


def tell(text: str) -> None:
    """A line on standard output."""
    sys.stdout.write(f"{text}\n")


def say(text: str) -> None:
    """A line on standard error."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        silence_output()
