"""What the pages of runs and of jobs say of a log: where it is, how a failed step ended, and answers to its script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from flask import Response, request

from pipelines.errors import InvalidRequestError
from pipelines.logs.lines import LogLine, decode_line
from pipelines.logs.tail import last_output
from pipelines.model import Step
from web.backing import service
from web.pages.frame import number_argument

_TAIL_LINES: Final = 1000


class ShownLog(msgspec.Struct, frozen=True):
    """A log as its panel shows it.

    api: where its lines are. pages: where its matches and marks are. address: of the page that shows it.
    lines: how many are stored. is_live: more may come.
    failed: the last line of the step that failed, 0 where none did; None: the job has not failed.
    file: its name when it is taken along.
    place: of its job; 0: it is those of several ``jobs``, of each its place, its name and how many lines it has.
    steps: the indexes of those that are shown; empty: all.
    began: when its job did, in seconds since the epoch.
    ended: what is said when no more will come; empty: that of a job, or a run.
    """

    api: str
    pages: str
    address: str
    lines: int
    is_live: bool
    failed: int | None
    file: str
    place: int = 0
    steps: list[int] = []
    began: float = 0.0
    jobs: list[list[Any]] = []
    ended: str = ""

    @property
    def after(self) -> int:
        """The line behind which a follower begins."""
        return max(0, self.lines - _TAIL_LINES)


def failure(job: int, steps: Sequence[Step], *, with_tail: bool) -> dict[str, Any]:
    """The failed step: its line in the log (0 for none), its name, and the last lines that it printed.

    job: its number among those of all runs.
    """
    failed = next((step for step in steps if step.state == "failed"), None)
    if failed is None:
        return {"failed_line": 0, "failed_step": "", "tail": []}

    def read(first: int, limit: int) -> list[LogLine]:
        return [decode_line(data) for _, data in service().logs.read(job, first, limit)]

    tail = last_output(read, step=failed.index, first_line=failed.first_line, last_line=failed.last_line)
    return {"failed_line": failed.last_line, "failed_step": failed.name, "tail": tail if with_tail else []}


def matches(job: int) -> Response:
    """The numbers of all lines of a job's log that contain the request's text, as JSON."""
    text = request.args.get("text", "")[:1000]
    if not text:
        raise InvalidRequestError("there is no text to look for")
    return _json({"lines": service().logs.matches(job, text)})


def marks(job: int) -> Response:
    """What stands out in a job's log after the request's line, and the step of each line there, as JSON."""
    return _json(service().logs.marks(job, number_argument("after") or 0))


def spans(job: int) -> Response:
    """The step of each line of a job's log, as JSON: pairs of a step (-1: none) and its number of lines there."""
    return _json({"spans": service().logs.marks(job).spans})


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), mimetype="application/json")
