"""The notes of requests in the audit trail.

The hook in ``gate`` notes every page action that succeeded, with the view's name and the arguments of its address,
unless the view itself noted more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flask import Response, g, request

if TYPE_CHECKING:
    from pipelines.changes import Change
    from pipelines.service import Service

_NOTED: Final = "noted"
_FIRST_FAILURE: Final = 400


def note(
    service: Service,
    action: str,
    subject: str = "",
    detail: str = "",
    *,
    actor: str | None = None,
    changes: Sequence[Change] = (),
) -> None:
    """Add an entry about the current request. actor: the session's user, unless given."""
    setattr(g, _NOTED, True)
    if actor is None:
        user = g.get("user")
        actor = user.name if user is not None else "(nobody)"
    service.audit.add(
        actor, action, subject, detail,
        address=request.remote_addr or "", project=g.get("project", ""), changes=changes,
    )  # fmt: skip


def leave_unnoted() -> None:
    """Add no entry about the current request: what it did has noted itself."""
    setattr(g, _NOTED, True)


def has_noted() -> bool:
    """Whether ``note`` was called for this request."""
    return _NOTED in g


def note_action(service: Service, response: Response) -> None:
    """Note what a page's view did, by its name; nothing when it failed or when nobody is signed in."""
    if has_noted() or response.status_code >= _FIRST_FAILURE or g.get("user") is None:
        return
    endpoint = (request.endpoint or "").rpartition(".")
    note(service, f"{endpoint[2]} {endpoint[0]}".replace("_", " ").strip(), subject_of(request.view_args))


def subject_of(arguments: Mapping[str, Any] | None) -> str:
    """The arguments of an address as text: ``project=web secret=TOKEN``."""
    return " ".join(f"{name}={value}" for name, value in (arguments or {}).items())
