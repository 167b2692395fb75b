"""``--health-*`` as docker's ``Healthcheck``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cli.containers.times import duration_ns
from cli.errors import CommandError

_DURATIONS: Final = {
    "health_interval": "Interval",
    "health_timeout": "Timeout",
    "health_start_period": "StartPeriod",
    "health_start_interval": "StartInterval",
}


def healthcheck(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The Healthcheck that the options ask for, durations in nanoseconds; None: the image's. Raises CommandError."""
    found: dict[str, Any] = {}
    for option, member in _DURATIONS.items():
        if options[option]:
            found[member] = duration_ns(options[option], _name(option))
            if found[member] < 0:
                raise CommandError(f"{_name(option)} cannot be negative")
    if options["health_retries"]:
        if options["health_retries"] < 0:
            raise CommandError("--health-retries cannot be negative")
        found["Retries"] = options["health_retries"]
    if options["health_cmd"]:
        found["Test"] = ["CMD-SHELL", options["health_cmd"]]
    if not options["no_healthcheck"]:
        return found or None
    if found:
        raise CommandError("--no-healthcheck conflicts with --health-* options")
    return {"Test": ["NONE"]}


def _name(option: str) -> str:
    return "--" + option.replace("_", "-")
