"""What ``shiplap doctor`` finds of the containers that there are. It starts none, and makes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.containers.opening import opened
from core.errors import ShiplapError
from core.settings import Settings

if TYPE_CHECKING:
    from containers.doctor import Finding

_MOST_NAMES = 5


def keepers(root: str | None) -> list[Finding]:
    """The containers that a keeper of another release has, as one finding; nothing where all is well.

    root: the value of ``--root``.
    """
    from containers.doctor import Finding

    if not (Settings.from_environ(root=root).root / "engine.db").exists():
        return []
    try:
        with opened(root) as engine:
            names = [found["Names"][0].removeprefix("/") for found in engine.containers(filters={"keeper": ["old"]})]
    except ShiplapError as error:
        return [Finding("containers", False, error.message, error.hint or "", essential=False)]
    if not names:
        return []
    shown = ", ".join(names[:_MOST_NAMES]) + (", …" if len(names) > _MOST_NAMES else "")
    remedy = "shiplap restart NAME gives one this release's keeper; shiplap ps --filter keeper=old lists them"
    return [Finding("keepers", False, f"{len(names)} of another release: {shown}", remedy, essential=False)]
