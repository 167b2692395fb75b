"""The container spec of ``shiplap run``, from an image's config and the options, by docker's rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cli.errors import CommandError

if TYPE_CHECKING:
    from images.oci import ContainerConfig


def command_line(config: ContainerConfig, entrypoint: str | None, command: Sequence[str]) -> tuple[str, ...]:
    """What to execute: the entrypoint, then the command.

    entrypoint: replaces the image's, which then gives no default command either; "" removes it; None keeps it.
    command: replaces the image's CMD unless empty.  Raises CommandError when nothing is left to execute.
    """
    if entrypoint is None:
        first, default = config.entrypoint, config.cmd
    else:
        first, default = ((entrypoint,) if entrypoint else ()), ()
    whole = (*first, *(tuple(command) or default))
    if not whole:
        raise CommandError(
            "no command: the image has neither CMD nor ENTRYPOINT", hint="add one: shiplap run IMAGE CMD"
        )
    return whole


def environment(
    config: ContainerConfig, overrides: Mapping[str, str], *, hostname: str, terminal: bool
) -> tuple[tuple[str, str], ...]:
    """HOSTNAME, and TERM on a terminal. The image's ENV beats them, ``overrides`` beats ENV. The launcher adds PATH."""
    result = {"HOSTNAME": hostname}
    if terminal:
        result["TERM"] = "xterm"
    for entry in config.env:
        name, _, value = entry.partition("=")
        result[name] = value
    result.update(overrides)
    return tuple(result.items())


def working_directory(config: ContainerConfig, option: str | None) -> str:
    """``-w`` or the image's WORKDIR or ``/``. Raises CommandError when it is not absolute."""
    chosen = option or config.working_dir or "/"
    if not chosen.startswith("/"):
        raise CommandError(f"the working directory {chosen!r} is not an absolute path")
    return chosen
