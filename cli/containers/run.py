"""``run`` without click: its options, and what it does."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from cli.containers.options import CREATE_OPTIONS, needs_engine
from cli.declared import Argument, Command, Option
from cli.errors import CommandError, describe, is_users
from cli.guarding import say
from cli.registry import INSECURE
from core.errors import ShiplapError

DETACH: Final = Option(("-d", "--detach"), "Leave it running, and print its ID.", flag=True)


def run(
    root: str | None,
    /,
    *,
    image: str,
    arguments: Sequence[str],
    detach: bool,
    insecure: Sequence[str],
    sig_proxy: bool = True,
    **options: Any,
) -> int:
    """Run a command in a new container; the exit code is docker's. sig_proxy: our signals are passed on.

    options: values by name, of ``CREATE_OPTIONS``.
    """
    try:
        if options["tty"] and options["interactive"] and not detach and not sys.stdin.isatty():
            raise CommandError("-t with -i needs a terminal on standard input", hint="leave out -t")
        if detach and options["attach"]:
            say("error: Conflicting options: -a and -d")
            return 1  # as docker
        if detach or needs_engine(options) or not sig_proxy:
            from cli.containers.running import run_attached, run_detached

            if detach:
                return run_detached(root, image, arguments, options, insecure)
            return run_attached(root, image, arguments, options, insecure, passes_signals=sig_proxy)
        from cli.containers.foreground import run_and_forget

        return run_and_forget(root, image, arguments, options, insecure)
    except (ShiplapError, OSError) as error:
        if not is_users(error):
            raise
        say(describe(error))
        return _exit_code(error)


def _exit_code(error: BaseException) -> int:
    """docker's: 125 for a container that never started, 126 and 127 for a command that could not be executed."""
    from containers.errors import NotExecutedError

    return error.code if isinstance(error, NotExecutedError) else 125


declared_command: Final = Command(
    "run", (Argument("image", "IMAGE"),), (DETACH, *CREATE_OPTIONS, INSECURE), run, rest="arguments"
)
