"""Docker's rules of health checks, without a clock: what is run how often, and what a result makes of a container.

``starting`` until the first success, or until ``retries`` failures in a row after the start period; failures within the
start period do not count.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    Status = Literal["starting", "healthy", "unhealthy"]

MOST_BYTES = 4096
"""Of a check's output that are kept."""

_INTERVAL_S, _TIMEOUT_S, _RETRIES = 30.0, 30.0, 3
_START_INTERVAL_S = 5.0


class Rules:
    """How one container is checked.

    wanted: as in a keeper's spec: ``test``, and durations in seconds; what is missing or 0 is docker's default.
    command: the arguments.
    """

    def __init__(self, wanted: dict[str, Any]) -> None:
        self.command = _command(wanted["test"])
        self.interval_s = float(wanted.get("interval_s") or _INTERVAL_S)
        self.timeout_s = float(wanted.get("timeout_s") or _TIMEOUT_S)
        self.start_period_s = float(wanted.get("start_period_s") or 0)
        self.start_interval_s = float(wanted.get("start_interval_s") or _START_INTERVAL_S)
        self.retries = int(wanted.get("retries") or _RETRIES)

    def judged(self, before: Status, streak: int, exit_code: int, *, is_starting_up: bool) -> tuple[Status, int]:
        """What a result makes of a container: its status, and how many failures in a row there are.

        before, streak: the same before it. is_starting_up: its start period goes on.
        """
        if exit_code == 0:
            return "healthy", 0
        if is_starting_up and before == "starting":
            return before, streak
        return ("unhealthy" if streak + 1 >= self.retries else before), streak + 1


def _command(test: list[str]) -> list[str]:
    """The arguments of docker's ``CMD`` and ``CMD-SHELL`` forms."""
    if test[0] == "CMD-SHELL":
        return ["/bin/sh", "-c", *test[1:]]
    return test[1:]
