"""What of a run is chosen, as its page's address says it. Pure."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import urlencode

ALL: Final = 0
"""In place of a job's place: the output of all jobs."""


class View(NamedTuple):
    """What of a run is shown.

    chosen: the place of a job, or ALL.
    step: of the job, its index; -1: all of it, or of ``stage``.
    stage: of the job, where all its steps are chosen; empty: none.
    opened: matrices of the graph. is_whole: also of a large graph all is shown.
    more, less: places of jobs whose steps are in the tree, or are not, though they would not be, or would be.
    """

    run: int
    chosen: int
    step: int = -1
    stage: str = ""
    opened: tuple[str, ...] = ()
    is_whole: bool = False
    more: tuple[int, ...] = ()
    less: tuple[int, ...] = ()

    @property
    def address(self) -> str:
        """The address of what is chosen; that of the page, without what is only drawn otherwise."""
        return address(self.run, self.chosen, self.step, self.stage)

    @property
    def query(self) -> list[tuple[str, str]]:
        """What is drawn otherwise."""
        return [
            *(("open", name) for name in self.opened),
            *([("whole", "1")] if self.is_whole else []),
            *(("more", str(place)) for place in self.more),
            *(("less", str(place)) for place in self.less),
        ]

    def part(self, name: str) -> str:
        """The address of a part of the page, for polling."""
        chosen = [("job", str(self.chosen)), *([("step", str(self.step))] if self.step >= 0 else [])]
        stage = [("stage", self.stage)] if self.stage else []
        return f"/runs/{self.run}/{name}?{urlencode([*chosen, *stage, *self.query])}"

    def page(self, place: int, step: int = -1, stage: str = "") -> str:
        """The address of the page with something else chosen."""
        found = address(self.run, place, step, stage)
        return f"{found}{'&' if '?' in found else '?'}{urlencode(self.query)}" if self.query else found

    def with_steps(self, place: int, *, shown: bool) -> str:
        """The address of the tree where a job's steps are shown, or are not."""
        more, less = (tuple(found for found in places if found != place) for places in (self.more, self.less))
        if shown:
            more = (*more, place)
        else:
            less = (*less, place)
        return self._replace(more=more, less=less).part("tree")

    def opening(self, matrix: str) -> str:
        return self._replace(opened=(*self.opened, matrix))._same()

    def closing(self, matrix: str) -> str:
        return self._replace(opened=tuple(name for name in self.opened if name != matrix))._same()

    def whole(self) -> str:
        return self._replace(is_whole=True)._same()

    def _same(self) -> str:
        return self.page(self.chosen, self.step, self.stage)


def address(run: int, place: int, step: int = -1, stage: str = "") -> str:
    """``/runs/482/all``, ``/runs/482/jobs/4``, ``/runs/482/jobs/4/3``: a step by its number from 1."""
    if place == ALL:
        return f"/runs/{run}/all"
    found = f"/runs/{run}/jobs/{place}"
    if step >= 0:
        return f"{found}/{step + 1}"
    return f"{found}?{urlencode({'stage': stage})}" if stage else found
