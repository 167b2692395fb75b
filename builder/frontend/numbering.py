"""What the stages of a plan, and its platforms, share: the numbering of steps, chains, and vertices found again."""

from __future__ import annotations

from collections.abc import Sequence

from builder.graph.vertices import Chain, Op, SourceLines, Vertex
from core.events import StepInfo
from core.platforms import Platform


class GraphBuilder:
    """Collects a plan. several: it is for several platforms, which may share steps."""

    def __init__(self, *, several: bool) -> None:
        self.several = several
        self.steps: list[StepInfo] = []
        self.chains: list[Chain] = []
        self._known: dict[tuple[object, ...], Vertex] = {}
        self._chained: set[Vertex] = set()

    def step(self, name: str, stage: str = "", line: int = 0) -> StepInfo:
        """Add a step to those that are shown."""
        step = StepInfo(len(self.steps), name, stage, line)
        self.steps.append(step)
        return step

    def vertex(
        self,
        op: Op,
        name: str,
        stage: str,
        lines: SourceLines,
        below: Vertex | None = None,
        sources: tuple[Vertex, ...] = (),
    ) -> Vertex:
        """A vertex with a step of its own; what another platform has at the same place is the same vertex."""
        if not self.several:
            return Vertex(op, self.step(name, stage, lines.first), lines, below, sources)
        # Vertices live as long as this table does, so their ids stand for them.
        key = (stage, lines, repr(op), id(below), *map(id, sources))
        if key not in self._known:
            self._known[key] = Vertex(op, self.step(name, stage, lines.first), lines, below, sources)
        return self._known[key]

    def chain(self, name: str, vertices: Sequence[Vertex]) -> None:
        """Add those of the vertices, in order, that no other platform's chain has."""
        new = tuple(vertex for vertex in vertices if vertex not in self._chained)
        if new:
            self._chained.update(new)
            self.chains.append(Chain(name, new))


def platform_label(platform: Platform, target: Platform) -> str:
    """How a stage's steps tell what they are for: ``linux/arm64``; across platforms ``linux/amd64->arm64``."""
    if platform == target:
        return str(platform)
    return f"{platform}->{str(target).removeprefix(platform.os + '/')}"
