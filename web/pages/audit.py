"""The audit trail, with filters in the address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from flask import Blueprint, g, render_template, request

from web.backing import service
from web.errors import InvalidRequestError
from web.guard import require

blueprint: Final = Blueprint("audit", __name__, url_prefix="/audit")

_PAGE: Final = 100
_MAX_ID: Final = 2**53


@blueprint.get("")
@require("maintainer")
def list_entries() -> str:
    """The newest first. since, until: days, both included, in UTC."""
    filters = {name: request.args.get(name, "").strip() for name in ("actor", "action", "subject", "since", "until")}
    since, until = _day(filters["since"]), _day(filters["until"])
    entries = service().audit.list(
        actor=filters["actor"],
        action=filters["action"],
        subject=filters["subject"],
        since=since.timestamp() if since else None,
        until=(until + timedelta(days=1)).timestamp() if until else None,
        before=_number(request.args.get("before", "")),
        projects=g.rights.where("maintain"),
        limit=_PAGE + 1,
    )
    given = {name: value for name, value in filters.items() if value}
    following = urlencode({**given, "before": entries[_PAGE - 1].id}) if len(entries) > _PAGE else ""
    return render_template(
        "audit.html",
        entries=entries[:_PAGE],
        actions=service().audit.actions(),
        filters=filters,
        filtered=bool(given),
        following=following,
        later=bool(request.args.get("before")),
        first=urlencode(given),
    )


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidRequestError(f"{text[:40]!r} is no day", hint="write it as 2026-11-24") from error


def _number(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MAX_ID):
        raise InvalidRequestError("before is no number of an entry")
    return int(text)
