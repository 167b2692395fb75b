"""The options of a policy: which runs get a secret, or a login. Each is a member of the API's ``Policy``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
_MEMBERS: Final = ("branches", "events", "pipelines")
_SILENT: Final = "protected branches and tags"

_OPTIONS: Final = (
    click.option(
        "--branches", multiple=True, metavar="PATTERN", help="For runs of these branches; '**': all.  [protected ones]"
    ),
    click.option(
        "--events", multiple=True, metavar="NAME,...",
        help="For these: push, tag, pull_request, manual, cron; sent: what people send.  [all but sent]",
    ),
    click.option("--pipelines", multiple=True, metavar="NAME,...", help="For runs of these pipelines.  [all]"),
)  # fmt: skip


def policy_options(command: _Decorated) -> _Decorated:
    """Add the options. Each may be there several times, and hold several values between commas."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def policy_of(given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The API's policy. given: the values of the options."""
    found = {}
    for member in _MEMBERS:
        values = [value.strip() for text in given[member] for value in text.split(",") if value.strip()]
        if values:
            found[member] = values
    return found


def policy_text(policy: Mapping[str, Sequence[str]]) -> str:
    """A policy as tables show it."""
    if not policy:
        return _SILENT
    said = [f"{member} {' '.join(policy[member])}" for member in _MEMBERS if policy.get(member)]
    if "branches" not in policy and list(policy.get("events", ())) != ["sent"]:
        said.insert(0, _SILENT)
    return "; ".join(said)
