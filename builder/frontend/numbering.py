"""Builds the graph that a plan's stages and platforms share: numbered steps, chains, and reused vertices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from builder.graph.copyspec import CopySpec
from builder.graph.mounts import EMPTY_DIRECTORY, context_spec
from builder.graph.vertices import Chain, CopyOp, FetchOp, Op, SourceLines, Vertex, WorkdirOp, describe
from core.events import StepInfo
from core.platforms import Platform
from dockerfile_grammar import Instruction


class GraphBuilder:
    """Collects the parts of a plan. several: the plan is for several platforms, which may share steps."""

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
        """A vertex with a step of its own. One that another platform has at the same place is reused."""
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


class SharedVertices:
    """The filesystems that belong to no stage: files of build contexts, and fetched files.

    Within one platform, asking again gives the same vertex.
    """

    def __init__(self, graph: GraphBuilder) -> None:
        self._graph = graph
        self._found: dict[CopyOp | FetchOp, Vertex] = {}

    def of_context(self, path: str, lines: SourceLines, context: str = "") -> Vertex:
        """The vertex with ``path`` of a build context, for mounts. context: the key of a named one."""
        return self._directory(context, CopyOp.of(context_spec(path), context=context), f"mount {path} of", lines)

    def all_of_context(self, context: str, lines: SourceLines) -> Vertex:
        """The vertex with all of a build context, for a stage that begins with it."""
        return self._directory(context, CopyOp.of(CopySpec(("/",), "/", link=True), context=context), "load", lines)

    def fetched(self, op: FetchOp, lines: SourceLines) -> Vertex:
        """The vertex with the files of a URL or a git repository."""
        return self._once(op, f"[internal] fetch {describe(op)}", lines)

    def empty(self, lines: SourceLines) -> Vertex:
        """A new vertex with an empty directory, for mounts from scratch."""
        return self._made(WorkdirOp(EMPTY_DIRECTORY, ""), "[internal] make an empty directory", lines)

    def _directory(self, context: str, op: CopyOp, what: str, lines: SourceLines) -> Vertex:
        name = f"[context {context}] {what} it" if context else f"[internal] {what} the build context"
        return self._once(op, name, lines)

    def _once(self, op: CopyOp | FetchOp, name: str, lines: SourceLines) -> Vertex:
        if op not in self._found:
            self._found[op] = self._made(op, name, lines)
        return self._found[op]

    def _made(self, op: Op, name: str, lines: SourceLines) -> Vertex:
        vertex = self._graph.vertex(op, name, "", lines)
        self._graph.chain(name, (vertex,))
        return vertex


class StepNames:
    """Names the steps of a stage: ``[build 2/5] RUN make``."""

    def __init__(self, label: str, instructions: Iterable[Instruction]) -> None:
        self._label = label
        self._total = 1 + sum(instruction.NAME in ("RUN", "COPY", "ADD", "WORKDIR") for instruction in instructions)
        self._count = 0

    def next_name(self, text: str) -> str:
        """The name of the next step, which does what ``text`` says."""
        self.skip()
        width = len(str(self._total))
        return f"[{self._label}{self._count:>{width}}/{self._total}] {text}"

    def skip(self) -> None:
        """Leave a number out."""
        self._count += 1


def platform_label(platform: Platform, target: Platform) -> str:
    """The platform in the names of a stage's steps: ``linux/arm64``; across platforms ``linux/amd64->arm64``."""
    if platform == target:
        return str(platform)
    return f"{platform}->{str(target).removeprefix(platform.os + '/')}"
