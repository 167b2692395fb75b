"""When a container that ended is started again: docker's policies, and docker's patience."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 60.0
_CALM_S = 10.0
"""Who ran that long begins with the shortest pause again."""


def wanted(policy: dict[str, Any], exit_code: int, restarts: int, *, stopped_by_hand: bool) -> bool:
    """Whether the policy wants it started again. restarts: how often it was. Source: moby restartmanager."""
    name = policy.get("policy") or "no"
    if stopped_by_hand or name == "no":
        return False
    if name in ("always", "unless-stopped"):
        return True
    maximum = policy.get("maximum") or 0
    return bool(exit_code != 0 and (not maximum or restarts < maximum))


def next_pause(last_s: float, ran_s: float) -> float:
    """How long to wait before the next start. last_s: the last pause, 0 for none. ran_s: how long it ran."""
    if not last_s or ran_s >= _CALM_S:
        return FIRST_PAUSE_S
    return min(2 * last_s, LONGEST_PAUSE_S)
