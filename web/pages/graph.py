"""The graph of a run's jobs: columns by depth, an edge for each need, the jobs of a matrix in one box. Pure.

Lengths are in px. Where an edge passes other columns, it has a row there for itself, so that it crosses no box.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from ci.graph import jobs_before

HEIGHT: Final = 26.0  # of a box
_ROW: Final = 34.0
_LANE: Final = 14.0  # the height of a row that only an edge has
_GAP: Final = 36.0  # between columns
_EDGE: Final = 4.0  # around all
_LAP: Final = 4.0  # by which the second board of a matrix looks out
_MARK: Final = 38.0  # of a box, beside its text
_CHARACTER: Final = 7.2
_LONGEST: Final = 26  # characters that a box shows
_BEND: Final = 6.0
_SWEEPS: Final = 4
_KEPT: Final = 16  # layouts


class GraphJob(Protocol):
    """A job with its place in the graph. matrix: the job of the file, where that has a matrix; empty: none."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> tuple[str, ...]: ...

    @property
    def matrix(self) -> str: ...


J = TypeVar("J", bound=GraphJob)


class Box(msgspec.Struct, frozen=True):
    """A job, or all jobs of a matrix. x, y: of its upper left corner.

    label: as it is shown; name: in full.
    jobs: indexes of its jobs. matrix: their job of the file, also where the box shows one of them alone.
    is_lapped: it stands for several.
    """

    name: str
    label: str
    jobs: tuple[int, ...]
    matrix: str
    is_lapped: bool
    column: int
    x: float
    y: float
    width: float


class Edge(msgspec.Struct, frozen=True):
    """That a box needs another. before, after: indexes of boxes. path: as SVG has it."""

    before: int
    after: int
    path: str


class Graph(msgspec.Struct, frozen=True):
    """Boxes in the order of the file, and how large it all is."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    width: float
    height: float


class _Node(NamedTuple):
    """Something in a column: a box, or where the edge between two boxes passes. before, after: -1 for a box."""

    column: int
    box: int
    before: int = -1
    after: int = -1


_Columns: TypeAlias = list[list[_Node]]


class _Job(NamedTuple):
    """What of a job the layout depends on."""

    name: str
    needs: tuple[str, ...]
    matrix: str


def lay_out(jobs: Sequence[GraphJob], opened: Collection[str] = ()) -> Graph:
    """opened: matrices each job of which has a box of its own."""
    return _laid_out(tuple(_Job(job.name, job.needs, job.matrix) for job in jobs), frozenset(opened))


@functools.lru_cache(maxsize=_KEPT)
def _laid_out(jobs: tuple[_Job, ...], opened: frozenset[str]) -> Graph:
    """A graph that somebody looks at is asked for each second, and stays as it is while states change."""
    members = _members(jobs, opened)
    keys = list(members)
    needs = _needs(jobs, members)
    depths = _depths(needs)
    columns = _ordered(_columns(needs, depths), needs, depths)
    widths = [
        max((_width(_label(keys[node.box], jobs, members)) for node in column if node.before < 0), default=0.0)
        for column in columns
    ]
    lefts = [_EDGE + sum(widths[:index]) + _GAP * index for index in range(len(widths))]
    tops, height = _tops(columns, {index for index, key in enumerate(keys) if len(members[key]) > 1})
    boxes = tuple(
        Box(
            name=_name(key, jobs, members),
            label=_label(key, jobs, members),
            jobs=tuple(members[key]),
            matrix=jobs[members[key][0]].matrix,
            is_lapped=len(members[key]) > 1,
            column=depths[index],
            x=lefts[depths[index]],
            y=tops[_Node(depths[index], index)],
            width=widths[depths[index]],
        )
        for index, key in enumerate(keys)
    )
    edges = tuple(
        Edge(before, after, _path(_points(before, after, depths, lefts, widths, tops)))
        for after, needed in enumerate(needs)
        for before in needed
    )
    width = (lefts[-1] + widths[-1] if columns else 0.0) + _EDGE + _LAP
    return Graph(boxes, edges, width, height)


def related(jobs: Sequence[J], name: str) -> list[J]:
    """Of many jobs those that one needs, and those that need it, in their order; all where there is no such job."""
    before = jobs_before(jobs)
    if name not in before:
        return list(jobs)
    return [job for job in jobs if job.name == name or job.name in before[name] or name in before[job.name]]


def _members(jobs: Sequence[GraphJob], opened: Collection[str]) -> dict[tuple[str, bool], list[int]]:
    """By box, in the order of the file, the indexes of its jobs. A key is a name, and whether it is a matrix's."""
    found: dict[tuple[str, bool], list[int]] = {}
    for index, job in enumerate(jobs):
        is_closed = bool(job.matrix) and job.matrix not in opened
        found.setdefault((job.matrix if is_closed else job.name, is_closed), []).append(index)
    return found


def _needs(jobs: Sequence[GraphJob], members: Mapping[tuple[str, bool], Sequence[int]]) -> list[list[int]]:
    """By box the boxes that it needs, in the order of the file."""
    boxes = {jobs[index].name: box for box, indexes in enumerate(members.values()) for index in indexes}
    found = []
    for box, indexes in enumerate(members.values()):
        wanted = {boxes[need] for index in indexes for need in jobs[index].needs if need in boxes}
        found.append(sorted(wanted - {box}))
    return found


def _depths(needs: Sequence[Sequence[int]]) -> list[int]:
    """By box its column: one more than the last that it needs has."""
    found: dict[int, int] = {}
    for start in range(len(needs)):
        waiting = [start]
        while waiting:
            missing = [need for need in needs[waiting[-1]] if need not in found]
            waiting += missing
            if not missing:
                box = waiting.pop()
                found[box] = 1 + max((found[need] for need in needs[box]), default=-1)
    return [found[box] for box in range(len(needs))]


def _columns(needs: Sequence[Sequence[int]], depths: Sequence[int]) -> _Columns:
    columns: _Columns = [[] for _ in range(max(depths, default=-1) + 1)]
    for box, depth in enumerate(depths):
        columns[depth].append(_Node(depth, box))
    for after, needed in enumerate(needs):
        for before in needed:
            for depth in range(depths[before] + 1, depths[after]):
                columns[depth].append(_Node(depth, -1, before, after))
    return columns


def _ordered(columns: _Columns, needs: Sequence[Sequence[int]], depths: Sequence[int]) -> _Columns:
    """Each column in the order of what it is connected with, forth and back again; equals stay in that of the file."""
    before, after = _connected(needs, depths)
    for sweep in range(_SWEEPS):
        forth = sweep % 2 == 0
        beside = before if forth else after
        for depth in range(1, len(columns)) if forth else range(len(columns) - 2, -1, -1):
            places = {node: place for place, node in enumerate(columns[depth - 1 if forth else depth + 1])}
            medians = {
                node: _median([places[other] for other in beside[node]], place)
                for place, node in enumerate(columns[depth])
            }
            columns[depth].sort(key=medians.__getitem__)  # stable
    return columns


def _connected(
    needs: Sequence[Sequence[int]], depths: Sequence[int]
) -> tuple[dict[_Node, list[_Node]], dict[_Node, list[_Node]]]:
    """By node what it is connected with in the column before, and in the one after."""
    found: tuple[dict[_Node, list[_Node]], dict[_Node, list[_Node]]] = (defaultdict(list), defaultdict(list))
    for last, firsts in enumerate(needs):
        for first in firsts:
            passing = [_Node(depth, -1, first, last) for depth in range(depths[first] + 1, depths[last])]
            way = [_Node(depths[first], first), *passing, _Node(depths[last], last)]
            for one, other in pairwise(way):
                found[1][one].append(other)
                found[0][other].append(one)
    return found


def _median(places: Sequence[int], without: int) -> float:
    if not places:
        return float(without)
    ordered = sorted(places)
    middle = len(ordered) // 2
    return float(ordered[middle]) if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _tops(columns: _Columns, lapped: Collection[int]) -> tuple[dict[_Node, float], float]:
    """How far from above each node begins, columns being centred; and the height of all."""
    heights = [sum(_ROW if node.before < 0 else _LANE for node in column) for column in columns]
    height = max(heights, default=0.0)
    tops = {}
    for column, own in zip(columns, heights, strict=True):
        at = _EDGE + (height - own) / 2
        for node in column:
            tops[node] = at
            at += _ROW if node.before < 0 else _LANE
    below = _LAP if lapped else 0.0
    return tops, max(0.0, height - (_ROW - HEIGHT)) + 2 * _EDGE + below


def _points(
    before: int, after: int, depths: Sequence[int], lefts: Sequence[float], widths: Sequence[float],
    tops: Mapping[_Node, float],
) -> list[tuple[float, float]]:  # fmt: skip
    """Where an edge begins, passes columns, and ends: pairs of the sides of columns."""
    first, last = depths[before], depths[after]
    found = [(lefts[first] + widths[first], tops[_Node(first, before)] + HEIGHT / 2)]
    for depth in range(first + 1, last):
        y = tops[_Node(depth, -1, before, after)] + _LANE / 2 - (_ROW - HEIGHT) / 2
        found += [(lefts[depth], y), (lefts[depth] + widths[depth], y)]
    return [*found, (lefts[last], tops[_Node(last, after)] + HEIGHT / 2)]


def _path(points: Sequence[tuple[float, float]]) -> str:
    """A line with elbows in the middle of each gap between columns."""
    parts = [f"M{_short(points[0][0])} {_short(points[0][1])}"]
    for (x, y), (to_x, to_y) in zip(points[::2], points[1::2], strict=True):
        if len(parts) > 1:
            parts.append(f"H{_short(x)}")
        bend = min(_BEND, abs(to_y - y) / 2)
        if bend:
            middle, turn = (x + to_x) / 2, bend if to_y > y else -bend
            parts.append(
                f"H{_short(middle - bend)}Q{_short(middle)} {_short(y)} {_short(middle)} {_short(y + turn)}"
                f"V{_short(to_y - turn)}Q{_short(middle)} {_short(to_y)} {_short(middle + bend)} {_short(to_y)}"
            )
        parts.append(f"H{_short(to_x)}")
    return "".join(parts)


def _short(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")


def _name(key: tuple[str, bool], jobs: Sequence[GraphJob], members: Mapping[tuple[str, bool], Sequence[int]]) -> str:
    return f"{key[0]} × {len(members[key])}" if len(members[key]) > 1 else jobs[members[key][0]].name


def _label(key: tuple[str, bool], jobs: Sequence[GraphJob], members: Mapping[tuple[str, bool], Sequence[int]]) -> str:
    name = _name(key, jobs, members)
    if len(name) <= _LONGEST:
        return name
    times = f" × {len(members[key])}" if len(members[key]) > 1 else ""
    return f"{name[: _LONGEST - 1 - len(times)]}…{times}"


def _width(label: str) -> float:
    return _MARK + _CHARACTER * sum(2 if ord(character) > 0x2E7F else 1 for character in label)


def states_in_words(states: Iterable[str]) -> str:
    """``2 succeeded, 1 failed``: how many jobs are in which state, in the order in which the states come first."""
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())
