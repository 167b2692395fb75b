"""The language of a whole pipeline file: what it says beside its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ci.cron import CronError, parse_cron, zone_of
from ci.document import Node, Scalar
from ci.language.jobs import DEFAULTS, JOB_SHAPE
from ci.language.limits import MAX_JOBS, MAX_SCHEDULES
from ci.language.names import ANY, CONCURRENCY, ENV, JOB_NAME, PATTERNS, SETTABLE
from ci.language.scalars import Choice, Duration, Flag, Whole, Words
from ci.language.services import DEFINITIONS
from ci.language.shapes import Deferred, Either, Fields, Key, ListOf, Made, MapOf, Reading, Schema, Shape, misplaced
from ci.model import Param, Refs, Schedule, SourceOptions
from ci.reports.coverage import expression_fault


class _History(Shape[int | None]):
    """``all``, or how many commits."""

    what = "`all`, or a number of commits"

    def __init__(self) -> None:
        self._number = Whole(0, 1_000_000)

    def read(self, node: Node, reading: Reading) -> int | None:
        if not isinstance(node, Scalar):
            raise misplaced(node, self.what, reading)
        return None if node.text == "all" else self._number.read(node, reading)

    def schema(self) -> Schema:
        return {"anyOf": [{"const": "all"}, self._number.schema()]}


def _event(fields: Mapping[str, Key]) -> Shape[Refs]:
    return Fields("an event", Refs, fields)


def _cron_fault(text: str) -> str | None:
    try:
        parse_cron(text)
    except CronError as error:
        return str(error)
    return None


def _zone_fault(text: str) -> str | None:
    try:
        zone_of(text)
    except CronError as error:
        return str(error)
    return None


_SCHEDULE: Final = Fields("a time", Schedule, {
    "at": Key(Words("five fields as cron has them", fault=_cron_fault, is_verbatim=True),
              "minute, hour, day of the month, month, day of the week", is_required=True),
    "branch": Key(Words("the name of a branch", r"[^\s]{1,200}", is_verbatim=True),
                  "the branch that is run; without it, the default one"),
    "zone": Key(Words("a time zone", fault=_zone_fault, is_verbatim=True), "whose clock counts: UTC, Europe/Berlin"),
})  # fmt: skip
_TIMES: Final = Made(
    ListOf(_SCHEDULE, or_one=True, least=1, most=MAX_SCHEDULES), lambda found: Refs(schedules=tuple(found))
)

_BRANCHES: Final = Key(PATTERNS, "branches that are meant; of a pull request, the target's")
_CHANGED: Final = Key(PATTERNS, "files of which one has to have changed")
ON: Final[dict[str, Key]] = {
    "push": Key(_event({"branches": _BRANCHES, "paths": _CHANGED}), "commits on a branch"),
    "tag": Key(_event({"tags": Key(PATTERNS, "tags that are meant")}), "a new tag"),
    "pull_request": Key(_event({"branches": _BRANCHES, "paths": _CHANGED}), "a pull request's head"),
    "manual": Key(_event({}), "somebody asks for a run"),
    "cron": Key(_TIMES, "at certain times"),
}

_BY_DEFAULT: Final = ("push", "tag", "pull_request", "manual")
_ON_NAMES: Final = Choice(*_BY_DEFAULT)


def _all_of(names: tuple[str, ...]) -> Mapping[str, Refs]:
    return {name: Refs() for name in names}


EVERYTHING: Final[Mapping[str, Refs]] = _all_of(_BY_DEFAULT)
"""What a pipeline without ``on`` listens to."""

_ON: Final = Either(
    scalar=Made(_ON_NAMES, lambda name: _all_of((name,))),
    sequence=Made(ListOf(_ON_NAMES, least=1), _all_of),
    mapping=Fields("`on`", dict, ON),
    what="an event, a list of events, or a map of them",
)


SOURCE: Final[dict[str, Key]] = {
    "history": Key(_History(), "`all` commits with their tags, the last N without tags, or 0: no `.git`"),
    "submodules": Key(Flag(), "whether submodules are fetched, too"),
    "lfs": Key(Flag(), "whether what Git LFS keeps elsewhere is fetched, too"),
}


PARAM: Final[dict[str, Key]] = {
    "default": Key(ANY, "its value where nobody gives one", is_required=True),
    "type": Key(Choice("string", "boolean", "number", "choice"), "what its value may be"),
    "choices": Key(ListOf(ANY, least=1, most=100), "the values of a `choice`"),
    "pattern": Key(Words("a regular expression", r".{1,500}", fault=expression_fault, is_verbatim=True),
                   "what all of a `string` has to match"),
    "about": Key(ANY, "what people read beside it"),
}  # fmt: skip
PARAMS: Final = MapOf(SETTABLE, Fields("a parameter", Param, PARAM), most=50)

TOP: Final[dict[str, Key]] = {
    "jobs": Key(Deferred(MapOf(JOB_NAME, JOB_SHAPE, least=1, most=MAX_JOBS)), "the jobs, by name", is_required=True),
    "on": Key(_ON, "what it listens to"),
    "params": Key(PARAMS, "parameters of runs by hand, by name"),
    "env": Key(ENV, "variables of every job"),
    "defaults": Key(Deferred(DEFAULTS), "keys for jobs that do not say otherwise"),
    "services": Key(DEFINITIONS, "services that jobs may use, by name"),
    "concurrency": Key(CONCURRENCY, "a group, of which so many runs go on at once in the project"),
    "timeout": Key(Duration("30d"), "of a run, without the time that it waits for people", "timeout_s"),
    "stop_on_failure": Key(Flag(), "whether the first failure cancels what still runs"),
    "source": Key(Fields("`source`", SourceOptions, SOURCE), "how the commit's files come"),
    "statuses": Key(Choice("run", "jobs"), "marks at the commit: one, or one for each job beside it"),
}
PIPELINE: Final[Fields[dict[str, Any]]] = Fields("the file", dict, TOP, others="x-")
"""The whole file. What comes of it is put together by ``ci.parsing``, once the defaults are in their places."""
