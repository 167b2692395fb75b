"""Turns exceptions into what a person reads: ``error: …`` and ``hint: …`` on standard error.

Errors that users can cause have no traceback, unless ``SHIPLAP_DEBUG=1`` asks for it.

(ShiplapError)
└── CommandError
CommandEnded
"""

from __future__ import annotations

import errno
import os
import re
import sys

from core.errors import ShiplapError
from core.openfiles import OUT_OF_FILES, how_to_allow_more

_PLACED = re.compile(r"error|.*: (error|warning): ")
"""How a message begins that says by itself what it is, with its place in front."""
_OUT_OF_SPACE = (errno.ENOSPC, errno.EDQUOT)


class CommandError(ShiplapError):
    """A command cannot do what its arguments ask."""


class CommandEnded(Exception):
    """The command ends now, with this exit code, and has nothing to say: whoever asked for it knows why."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def is_users(error: BaseException) -> bool:
    """Whether ``error`` comes from input or from the machine. All other errors are our bugs."""
    if isinstance(error, OSError):
        return error.filename is not None or error.errno in (*_OUT_OF_SPACE, *OUT_OF_FILES)
    return isinstance(error, (ShiplapError, *clicks_errors()))


def describe(error: BaseException) -> str:
    """The whole message of an error for which ``is_users`` holds: with place, hint and, when debugging, traceback."""
    from cli.progress.text import harmless

    text = _message(error)
    if os.environ.get("SHIPLAP_DEBUG") == "1":
        text = _traceback(error) + text
    return harmless(text)


def _message(error: BaseException) -> str:
    render = getattr(error, "render", None)
    if render is not None:
        text = str(render())
        return text if _PLACED.match(text) else f"error: {text}"
    if isinstance(error, ShiplapError):
        return f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else "")
    if isinstance(error, OSError):
        return _os_error(error)
    import click

    assert isinstance(error, click.ClickException)
    return f"error: {error.format_message()}"


def clicks_errors() -> tuple[type[Exception], ...]:
    """The kinds of errors that click has for users; none where click is not loaded, and nobody can have raised one."""
    if "click" not in sys.modules:
        return ()
    import click

    return (click.ClickException,)


def _os_error(error: OSError) -> str:
    names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    text = f"error: {error.strerror or error}" + (f": {' -> '.join(names)}" if names else "")
    if error.errno in _OUT_OF_SPACE:
        text += "\nhint: free some space (shiplap image prune removes what nothing uses) and run the same command again"
    elif error.errno in OUT_OF_FILES:
        text += f"\nhint: {how_to_allow_more()}"
    elif error.errno == errno.EROFS:
        text += "\nhint: that file system is read-only; --root DIR or SHIPLAP_ROOT choose another place for images"
    elif error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        text += "\nhint: not run as root; --root DIR or SHIPLAP_ROOT choose another place for images"
    return text


def _traceback(error: BaseException) -> str:
    import traceback

    return "".join(traceback.format_exception(error))


def silence_output() -> None:
    """Let the interpreter's last flush go nowhere, since nobody reads standard output or error any more."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(null, stream.fileno())
    os.close(null)
