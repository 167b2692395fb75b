"""The page of a commit: the runs that are of it, what they made, and what they left for people."""

from __future__ import annotations

from typing import Final

from flask import Blueprint, redirect
from werkzeug.wrappers import Response

from web.backing import service
from web.pages.frame import number_argument, page
from web.pages.jobwords import mark_of, marks_in_words
from web.pages.projects import frame_of
from web.pages.trail import image_chips, trail_of_commit

blueprint: Final = Blueprint("commit_pages", __name__, url_prefix="/projects")

_LIMIT: Final = 30
_OUTPUTS: Final = 10
"""Of so many of the newest runs outputs are listed."""


@blueprint.get("/<name>/commits/<commit>")
def show_commit(name: str, commit: str) -> Response:
    """All that is known of a commit. Its beginning, from seven digits on, leads to its page."""
    project = service().projects.get(name)
    whole = service().trails.commit(name, commit)
    if whole != commit:
        return redirect(f"/projects/{name}/commits/{whole}", 302)
    before = number_argument("before")
    found = service().trails.runs_of(name, whole, before=before, limit=_LIMIT + 1)
    shown, is_more = found[:_LIMIT], len(found) > _LIMIT
    numbers = [run.number for run in shown]
    made = service().trails.images_of(numbers)
    images = [each for number in numbers for each in made.get(number, ())]
    outputs = {number: service().outputs.of_run(number) for number in numbers[:_OUTPUTS]}
    return page(
        "commit.html",
        **frame_of(project),
        commit=whole,
        runs=service().runs.explain(shown),
        newest=next((run for run in shown if run.trigger.title), None),
        older=shown[-1].number if is_more else None,
        marks=service().jobs.marks(numbers),
        mark_of=mark_of,
        in_words=marks_in_words,
        images={number: image_chips(its) for number, its in made.items()},
        outputs=[(n, place, each) for n, its in outputs.items() for place, several in its.items() for each in several],
        trail=trail_of_commit(name, whole, shown, images),
    )
