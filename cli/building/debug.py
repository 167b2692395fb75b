"""``--debug``: a command that repeats the failed step, and a shell in it with its files, environment, user, mounts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from cli.declared import Option
from cli.errors import CommandError
from cli.guarding import say
from core.errors import ShiplapError
from core.settings import Settings

if TYPE_CHECKING:
    from builder.running.failures import HeldStep
    from cli.building.report import BuildReport
    from containers.launcher import Launcher
    from images.store import Store

_SHELL = "/bin/sh"

DEBUG_OPTIONS: Final = (
    Option(
        ("--debug",),
        "When a RUN fails, print it as a shiplap run command, and open a shell in it: with its files, environment, user"
        " and mounts.",
        flag=True,
    ),
    Option(
        ("--invoke",),
        "With --debug: run this in the failed step instead of a shell.",
        metavar="COMMAND",
        default="",
    ),
)


class FailureShownError(Exception):
    """A step has failed, and everything about it has been printed."""


class DebugOptions(NamedTuple):
    """What ``shiplap build`` does about a RUN that failed.

    wanted: whether to enter a failed step.
    invoke: what to run in the step in place of a shell.
    """

    wanted: bool
    invoke: str


def read_debug_options(debug: bool, invoke: str, *, context: str, file: str | None) -> DebugOptions:
    """Read the options, and check that the shell will have an input. Raises CommandError."""
    if invoke and not debug:
        raise CommandError("--invoke says what --debug runs", hint="write --debug too")
    if debug and not invoke and "-" in (context, file):
        raise CommandError(
            "--debug reads from standard input, where the context or the Dockerfile comes from",
            hint="give them as files, or --invoke a command",
        )
    return DebugOptions(debug, invoke)


@contextlib.contextmanager
def entering_failures(
    options: DebugOptions, launcher: Launcher, report: BuildReport, store: Store, secrets: Mapping[str, bytes]
) -> Iterator[None]:
    """Within: a RUN that fails is shown, and entered if that is wanted. Then raises FailureShownError.

    secrets: the build's. Their values are not in the printed command, which repeats the RUN from ``store``.
    """
    if not options.wanted:
        yield
        return
    from builder.running.failures import StepFailedError

    try:
        yield
    except StepFailedError as error:
        if error.held is None:
            raise
        report.close()
        report.failed(error)
        try:
            _tell_how_to_run_again(error.held, store, secrets)
            _enter(error.held, launcher, options.invoke)
        finally:
            error.held.close()
        raise FailureShownError from error


def _tell_how_to_run_again(held: HeldStep, store: Store, secrets: Mapping[str, bytes]) -> None:
    from cli.building.runcommand import keep_image, run_command

    looked_for = Settings.from_environ().root
    try:
        image = keep_image(held, store)
    except (ShiplapError, OSError) as error:  # for example a full disk; the shell may still be of use
        say(f"debug: the files that the step began with cannot be kept: {error}")
        return
    again = run_command(held, image, secrets, root="" if store.root == looked_for else str(store.root))
    say(f"debug: to run the step again, by itself:\n\n    {again.text}\n")
    if again.unset:
        say(f"debug: set first, as the values are not shown: {', '.join(again.unset)}")
    if again.left_out:
        say(f"debug: not carried over: {'; '.join(again.left_out)}")


def _enter(held: HeldStep, launcher: Launcher, invoke: str) -> None:
    from cli.attach import entered, in_foreground

    step = held.spec
    shell = step.args[0] if len(step.args) > 2 and step.args[-2] == "-c" else _SHELL
    args = (shell, "-c", invoke) if invoke else (shell,)
    spec = entered(step, args)
    say(f"debug: {' '.join(args)} in the failed step; it is thrown away when this ends")
    status = in_foreground(launcher, spec, interactive=not invoke or spec.terminal)
    if status.message:
        say(f"debug: {status.message}")
