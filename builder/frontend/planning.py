"""The interface between the planner of an instruction and the stage in which the instruction stands."""

from __future__ import annotations

from typing import Protocol

import msgspec

from builder.frontend.evaluation import Evaluator
from builder.frontend.numbering import SharedVertices
from builder.frontend.state import StageState
from builder.graph.vertices import CopyOp, RunOp, SourceLines, Vertex, WorkdirOp
from builder.request.request import BuildRequest
from dockerfile_grammar import Dockerfile, Word


class PlannedStep(msgspec.Struct, frozen=True):
    """An instruction that makes a layer, planned.

    text: the name of the step.
    created_by: for the history.
    sources: the vertices to which ``op`` refers by number.
    """

    op: RunOp | CopyOp | WorkdirOp
    text: str
    created_by: str
    sources: tuple[Vertex, ...] = ()


class Planning(Protocol):
    """A stage whose instructions are being planned, one after the other. ``builder.frontend.stages`` makes it.

    dockerfile: makes errors that name their place.
    request: the build that is planned.
    words: evaluates words and ARGs; ``expand`` is what most words need.
    global_args: the variables that FROM sees.
    shared: the filesystems that belong to no stage.
    state: the stage's state so far; its instructions change it.
    """

    dockerfile: Dockerfile
    request: BuildRequest
    words: Evaluator
    global_args: dict[str, str]
    shared: SharedVertices
    state: StageState

    def expand(self, word: Word) -> str:
        """Expand a word with the variables of the stage. Raises ExpansionError, with the place."""
        ...

    def source(self, name: Word, flag: str = "--from") -> tuple[Vertex | None, str]:
        """What ``flag`` means: the end of an earlier stage by name or number, a named context, else an image.

        A vertex; or None, and the key of the named context that is a directory. A stage that nobody has asked for yet
        is planned first, steps and all. Raises DockerfileError.
        """
        ...

    def add(self, step: PlannedStep, lines: SourceLines) -> None:
        """Put a step at the end of the stage."""
        ...

    def skip(self) -> None:
        """Count an instruction that makes no layer, although its kind can."""
        ...
