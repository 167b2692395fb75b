"""The resident's own program: imports all that commands may need, then forks for each (docs/decisions/0042).

``core.forking`` is the mechanism, ``cli.resident`` what asks it. A module that is not imported here is imported by the
command that needs it: nothing depends on this list but time.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Final

from cli.main import end_with
from cli.resident import COMMANDS
from containers.syscalls import keyctl_join_session_keyring
from core import forking

_PACKAGES: Final = (
    "core", "images", "dockerfile_grammar", "containers", "registry.client", "builder", "engine", "cli",
)  # fmt: skip
_OTHERS: Final = ("cli.commands", "cli.completion", "cli.jobs", "cli.service", "cli.examination")
"""Below these, what is for commands that run by themselves, or follows."""


def main(arguments: list[str], ready: Callable[[], None]) -> None:
    """The resident's life. arguments: its socket, and how many seconds it waits for somebody to ask."""
    path, idle_s = arguments
    for package in _PACKAGES:
        _import_all(package)
    for name in _commands():
        _import_all(f"cli.commands.{name}")
    keyctl_join_session_keyring()  # an empty one: it lends nobody keys
    forking.serve(path, end_with, float(idle_s), ready)


def _import_all(name: str) -> None:
    """Import a module, and all that are below it."""
    module = importlib.import_module(name)
    for found in pkgutil.iter_modules(getattr(module, "__path__", ()), f"{name}."):
        if found.name not in _OTHERS and not found.name.endswith("__main__"):
            _import_all(found.name)


def _commands() -> list[str]:
    """The modules of the commands that it runs. docker's other words for them have none of their own."""
    there = {found.name for found in pkgutil.iter_modules(importlib.import_module("cli.commands").__path__)}
    return sorted(there & {*filter(None, COMMANDS), *COMMANDS[""].split()})
