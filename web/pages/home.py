"""Home: projects as cards, what runs and waits and why, the service's health; and the first steps of a new one."""

from __future__ import annotations

import time
from typing import Any, Final, get_args

import msgspec
from flask import Blueprint, current_app, g, request
from werkzeug.wrappers import Response

from pipelines.accounts.users import User
from pipelines.runs.rollups import DAY_S, days
from pipelines.runs.strips import Strip
from web.addresses import public_url
from web.backing import service
from web.guard.rights import visible
from web.pages.frame import fresh, number_argument, page
from web.pages.overview import SPAN, Failing, Show, asked, cards, going, health, sums
from web.pages.strip import draw_strip, sparkline
from web.pages.trends import SPANS, Trends, as_csv, columns

blueprint: Final = Blueprint("home_pages", __name__)

_MOST_CARDS: Final = 60
_FAILING: Final = "shiplap-failing"
_WELL: Final = ("succeeded", "warnings")


@blueprint.get("/")
def home() -> Response:
    """All that somebody may want to know at first; for htmx, only the part that changes."""
    shown = _shown()
    if request.headers.get("HX-Request"):
        members = ("cards", "groups", "gates", "blocked", "running", "waiting", "sums", "show", "views")
        basis = {name: shown[name] for name in members}
        found = shown["health"]  # without the disk's bytes, which change all the time
        return fresh("home_parts.html", (basis, found.is_well, found.slots, found.taken, found.waiting), **shown)
    return page("home.html", **shown)


@blueprint.get("/trends.csv")
def save_trends_csv() -> Response:
    """The last days of all projects that may be seen, together: a line a day."""
    return Response(as_csv(_trends()), mimetype="text/csv")


@blueprint.get("/trends.json")
def save_trends_json() -> Response:
    """The same days in columns."""
    return Response(msgspec.json.encode(_trends()), mimetype="application/json")


def _trends() -> Trends:
    wanted = number_argument("days")
    span = wanted if wanted in SPANS else SPANS[0]
    today = int(time.time() // DAY_S)
    return columns(days(service().database, today - span + 1, projects=visible(g.rights)), today, span)


def failing_projects() -> int:
    """For templates: how many projects fail of those that the request's sender may see."""
    if g.get("rights") is None:
        return 0
    found: Failing | None = current_app.extensions.get(_FAILING)
    if found is None:
        found = current_app.extensions[_FAILING] = Failing(service())
    return found.count(g.rights)


def _shown() -> dict[str, Any]:
    user: User = g.user
    seen = visible(g.rights)
    now = time.time()
    names = [each.name for each in service().projects.current() if seen is None or each.name in seen]
    gates = asked(service(), g.rights, user.name)
    every = cards(service(), user.name, names, gates)
    show = _show()
    groups = {
        "": every,
        "failing": [card for card in every if card.strip.is_failing],
        "mine": [card for card in every if card.is_mine],
        "asks": [card for card in every if card.asks],
    }
    blocked, running, waiting = going(service(), seen)
    found = sums(service(), seen, now)
    views = [view for view in service().preferences.get(user.name).views if view.path.startswith("/?")]
    return {
        "show": show,
        "groups": {name: len(each) for name, each in groups.items()},
        "cards": groups[show],
        "as_table": len(every) > _MOST_CARDS,
        "gates": gates,
        "blocked": [run for run in blocked if run.number not in {gate.run for gate in gates}],
        "running": running,
        "waiting": waiting,
        "usual": {card.name: card.strip.usual_s for card in every},
        "sums": found,
        "span": SPAN,
        "lines": {name: sparkline(values) for name, values in found.lines.items()},
        "health": health(service(), g.rights, with_disk=user.role != "guest"),
        "draw": lambda strip: draw_strip(strip, now),
        "is_new": user.role != "guest" and not found.succeeded and not any(_went_well(card.strip) for card in every),
        "views": views,
        "view": next((view for view in views if view.path == f"/?show={show}"), None),
        "address": public_url(service()),
    }


def _show() -> Show:
    wanted = request.args.get("show", "")
    return wanted if wanted in get_args(Show) else ""  # type: ignore[return-value]  # it is one of them


def _went_well(strip: Strip) -> bool:
    return any(run.state in _WELL for run in strip.runs)
