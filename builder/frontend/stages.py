"""From a parsed Dockerfile to a plan. Pure: images are looked up by a function that the caller passes.

Only what the target needs is planned: a stage that nothing refers to is neither checked against the store nor built.
Behaviour: moby/buildkit, frontend/dockerfile/dockerfile2llb/convert.go.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from builder.bases import NewStep
from builder.contexts.context import Context
from builder.contexts.keys import SCRATCH, context_key
from builder.contexts.kinds import NamedImage
from builder.frontend.evaluation import EvaluatedArg, Evaluator
from builder.frontend.instructions import Dispatcher
from builder.frontend.numbering import GraphBuilder, platform_label
from builder.frontend.state import StageState
from builder.frontend.target import is_surely_mistyped, nearest_stage, target_index
from builder.graph.copyspec import CopySpec
from builder.graph.mounts import EMPTY_DIRECTORY, context_spec
from builder.graph.vertices import (
    BaseOp,
    CopyOp,
    FetchOp,
    Op,
    Plan,
    PlannedImage,
    SourceLines,
    Vertex,
    WorkdirOp,
    describe,
)
from builder.request.arguments import (
    CACHE_NAMESPACE_ARG,
    EPOCH_ARG,
    HOSTNAME_ARG,
    MULTI_PLATFORM_ARG,
    PROXY_ARGS,
    SCAN_CONTEXT_ARG,
    SCAN_STAGE_ARG,
    names_stage,
    platform_args,
)
from builder.request.request import BuildRequest
from core.errors import ShiplapError
from core.platforms import Platform
from core.suggestions import suggestion
from dockerfile_grammar import (
    Dockerfile,
    DockerfileError,
    Instruction,
    Stage,
    Word,
    expand_with_names,
)
from dockerfile_grammar.ast import Arg
from images.errors import ImageNotFoundError
from images.oci import CREATED_ANNOTATION, ImageConfig
from images.platforms import preferences
from images.summary import Image

ImageResolver: TypeAlias = Callable[[str, Platform | None, NewStep | None], Image]
"""From a name as written, and the platform when one is asked for, to an image. Raises ShiplapError for none.

The last argument makes the step that a pull is shown as; with None no registry is asked.
"""

_INDEX = re.compile(r"[+-]?[0-9]+")


class Planned(msgspec.Struct, frozen=True):
    """A plan, and the ``--build-arg`` names that no ARG of the planned stages asked for."""

    plan: Plan
    unused_args: tuple[str, ...]


def plan(dockerfile: Dockerfile, request: BuildRequest, resolve: ImageResolver) -> Planned:
    """Plan ``request.target``, or the last stage, for each platform.

    Raises DockerfileError and what ``resolve`` raises.
    """
    graph = GraphBuilder(several=len(request.platforms) > 1)
    images: list[PlannedImage] = []
    used_args: set[str] = set()
    for platform in request.platforms or (Platform.host(),):
        frontend = Frontend(dockerfile, request, platform, resolve, graph)
        images.append(frontend.plan())
        used_args |= frontend.used_args
    unused = [name for name in request.build_args if name not in used_args]
    return Planned(Plan(tuple(images), tuple(graph.chains), tuple(graph.steps)), tuple(unused))


class Frontend:
    """The planning for one platform. The dispatcher of each stage comes back to it for what stages share."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        request: BuildRequest,
        platform: Platform,
        resolve: ImageResolver,
        graph: GraphBuilder,
    ) -> None:
        self.dockerfile = dockerfile
        self.request = request
        self.platform = platform
        self._resolve = resolve
        self._graph = graph
        self._states: dict[int, StageState] = {}
        self._named_states: dict[tuple[str, Platform], StageState] = {}
        self._stage_platforms: dict[int, Platform] = {}
        self._images: dict[str, Vertex] = {}
        self._directories: dict[CopyOp, Vertex] = {}
        self._remotes: dict[FetchOp, Vertex] = {}
        self.used_args: set[str] = {
            *(name for name in request.build_args if name.upper() in PROXY_ARGS),
            EPOCH_ARG,
            CACHE_NAMESPACE_ARG,
            HOSTNAME_ARG,
            "BUILDKIT_DOCKERFILE_CHECK",
            "BUILDKIT_INLINE_CACHE",
            MULTI_PLATFORM_ARG,
        }
        self.platform_args = platform_args(Platform.host(), platform)
        self.words = Evaluator(dockerfile, request.build_args)
        self.global_args, declared = self.words.meta_args(platform)
        self.used_args.update(evaluated.name for evaluated in declared)

    def plan(self) -> PlannedImage:
        state = self.stage_state(target_index(self.dockerfile, self.request.target))
        set_already = state.own_labels.union(self.request.labels)
        defaults = {name: value for name, value in self.request.default_labels.items() if name not in set_already}
        config = state.finished({**defaults, **self.request.labels})
        if self.request.platforms:
            config = config.on_platform(self.platform)
        scanned = self._scanned(state) if self.request.attest.sbom else ()
        return PlannedImage(
            state.tail, config, tuple(state.history), self.platform, scanned, defaults.get(CREATED_ANNOTATION) == ""
        )

    def _scanned(self, target: StageState) -> tuple[tuple[str, Vertex], ...]:
        """What BUILDKIT_SBOM_SCAN_… adds to the SBOM: the context by the target's word, stages by their own."""

        def asks(index: int, state: StageState, arg: str) -> bool:
            value = state.scan_args.get(arg, self.global_args.get(arg, ""))
            return names_stage(value, self._stage_name(self.dockerfile.stages[index]))

        found: list[tuple[str, Vertex]] = []
        for index, state in sorted(self._states.items()):
            if state is target and asks(index, state, SCAN_CONTEXT_ARG):
                found.append(("context", self._context_root("", SourceLines(0, 0))))
            elif state is not target and state.tail is not None and asks(index, state, SCAN_STAGE_ARG):
                found.append((self._stage_name(self.dockerfile.stages[index]), state.tail))
        return tuple(found)

    def evaluate_arg(self, instruction: Arg, visible: dict[str, str]) -> Iterator[EvaluatedArg]:
        """As ``Evaluator.arg``; a build argument that an ARG asks for is used."""
        for evaluated in self.words.arg(instruction, visible):
            self.used_args.add(evaluated.name)
            yield evaluated

    # Stages

    def stage_state(self, index: int) -> StageState:
        """The state at the end of a stage, planning it (and what it needs) when it is asked for first."""
        if index not in self._states:
            self._states[index] = self._plan_stage(self.dockerfile.stages[index])
        return self._states[index]

    def _plan_stage(self, stage: Stage) -> StageState:
        named = self._named(stage.name) if stage.name else None
        if named is not None:
            return self._from_named(named, stage)
        base = self.words.expand(stage.base, self.global_args)
        if not base:
            raise self.dockerfile.error(
                f"the base image's name is empty after expansion of {stage.base.text}",
                stage.base.span,
                hint="give the ARG a default before FROM, or pass --build-arg",
            )
        self._check_platform_flag(stage)
        # A base is looked for as it is written, other than --from: names of stages are in lower case here.
        earlier = self.earlier_stage(base, stage.index) if base == base.lower() else None
        named = self._named(base) if earlier is None else None
        image = None
        if earlier is not None:
            state = self.stage_state(earlier).child()
        elif named is not None:
            state = self._from_named(named, stage).child()
        else:
            state, image = self._from_image(base, stage)
        triggers = _parse_triggers(state.take_triggers())
        self._stage_platforms[stage.index] = (
            self._stage_platforms.get(earlier, self.platform)
            if earlier is not None and stage.platform is None
            else self._stage_platform(stage)
        )
        numbering = _Numbering(self._stage_label(stage), [*triggers, *stage.instructions])
        from_step = numbering.next_name(f"FROM {base}")
        if image is not None:
            state.add(self.vertex(BaseOp(image.diff_ids, image.id), from_step, stage, _lines(stage.from_), None))
        dispatcher = Dispatcher(self, stage, state, numbering.next_name)
        for trigger in triggers:
            dispatcher.dispatch(trigger, SourceLines(0, 0))
        for instruction in stage.instructions:
            dispatcher.dispatch(instruction, _lines(instruction))
        self._graph.chain(self._stage_name(stage), state.vertices)
        return state

    def _from_image(self, base: str, stage: Stage) -> tuple[StageState, Image | None]:
        wanted = self._stage_platform(stage)
        if base == SCRATCH:
            state = StageState(ImageConfig.for_platform(self.platform), None)  # whatever --platform says, as BuildKit
            state.set(working_dir="/")
            return state, None
        asked_for = stage.platform is not None or bool(self.request.platforms)
        image = self.resolve(base, stage.base, stage.index, wanted if asked_for else None)
        if stage.platform is not None and image.config.platform not in preferences(wanted):
            raise self.dockerfile.error(
                f"{base} is an image for {image.config.platform}, not for {wanted}",
                stage.platform.span,
                hint="load or import the image for that platform",
            )
        return StageState(image.config, None), image

    def _named(self, name: str) -> str | None:
        """The key of the named context that stands for a stage or an image."""
        if not self.request.named_contexts:
            return None
        try:
            key = context_key(name)
        except ShiplapError:
            return None
        return key if key in self.request.named_contexts else None

    def _from_named(self, key: str, stage: Stage) -> StageState:
        """The state at the end of a stage that is a named context; that of an image has its configuration."""
        platform = self._stage_platform(stage)
        if (key, platform) not in self._named_states:
            context = self.request.named_contexts[key]
            lines = _lines(stage.from_)
            if isinstance(context, NamedImage):
                state, image = self._from_image(context.name_for(platform), stage)
                if image is not None:
                    name = f"[context {key}] {context.name}"
                    state.add(self.vertex(BaseOp(image.diff_ids, image.id), name, stage, lines, None))
                    self._graph.chain(name, state.vertices)
            else:
                state = StageState(ImageConfig.for_platform(self.platform), None)
                state.set(working_dir="/")
                state.tail = (
                    self._context_root(key, lines)
                    if isinstance(context, Context)
                    else self.remote_vertex(context, lines)
                )
                state.record(f"[context {key}]", layer=True)
            self._named_states[key, platform] = state
        return self._named_states[key, platform]

    def _check_platform_flag(self, stage: Stage) -> None:
        if stage.platform is not None:
            self._stage_platform(stage)

    def _stage_platform(self, stage: Stage) -> Platform:
        if stage.platform is None:
            return self.platform
        text = self.words.expand(stage.platform, self.global_args)
        if not text:
            raise self._empty_platform(stage.platform)
        try:
            return Platform.parse(text)
        except ShiplapError as error:
            raise self.dockerfile.error(error.message, stage.platform.span, hint=error.hint) from None

    def _empty_platform(self, word: Word) -> DockerfileError:
        """FROM's --platform is empty: name the variable that has no value, and the one that was probably meant."""
        names = expand_with_names(word.text, self.global_args, escape=self.dockerfile.escape).undefined
        what = f"{', '.join(f'${name}' for name in sorted(names))} has no value" if names else f"{word.text} is empty"
        near = suggestion(min(names), self.global_args, form="$" + "{}") if names else None
        return self.dockerfile.error(
            f"FROM --platform: {what} before the first FROM", word.span, hint=near or "write --platform=$BUILDPLATFORM"
        )

    def earlier_stage(self, name: str, before: int) -> int | None:
        """The last stage of that name before stage number ``before``."""
        lower = name.lower()
        for stage in reversed(self.dockerfile.stages[:before]):
            if stage.name == lower:
                return stage.index
        return None

    def resolve(self, name: str, word: Word, before: int, platform: Platform | None = None) -> Image:
        """Look an image up. The error names the place, and the stage that was probably meant.

        No registry is asked for what is surely a stage's name, mistyped: without a network that takes its time, and
        with one the answer may be a stranger's image.
        """
        near = nearest_stage(self.dockerfile, name, before)
        surely = near is not None and is_surely_mistyped(self.dockerfile, name, near, word)
        try:
            return self._resolve(name, platform, None if surely else self._graph.step)
        except ImageNotFoundError as error:
            hint = error.hint if near is None else f"did you mean the stage {near}?"
            if surely:
                hint = f"{hint} An image of that name is docker.io/library/{name}"
            raise self.dockerfile.error(error.message, word.span, hint=hint) from error
        except ShiplapError as error:
            raise self.dockerfile.error(error.message, word.span, hint=error.hint) from error

    # Vertices

    def vertex(
        self,
        op: Op,
        name: str,
        stage: Stage,
        lines: SourceLines,
        below: Vertex | None,
        sources: tuple[Vertex, ...] = (),
    ) -> Vertex:
        """A vertex with a step of its own."""
        return self._graph.vertex(op, name, self._stage_name(stage), lines, below, sources)

    def image_vertex(self, name: str, word: Word, stage: Stage) -> Vertex:
        """The filesystem of an image that only a ``COPY --from`` names; one vertex per image."""
        if name not in self._images:
            image = self.resolve(name, word, stage.index, self.platform if self.request.platforms else None)
            lines = SourceLines(word.span.start.line, word.span.end.line)
            vertex = self.vertex(BaseOp(image.diff_ids, image.id), f"FROM {name}", stage, lines, None)
            self._images[name] = vertex
            self._graph.chain(name, (vertex,))
        return self._images[name]

    def source(self, name: Word, stage: Stage, flag: str = "--from") -> tuple[Vertex | None, str]:
        """What ``flag`` means: the end of an earlier stage by name or number, a named context, else an image.

        A vertex; or None, and the key of the named context that is a directory.
        """
        text = name.text
        found = self.earlier_stage(text, stage.index)
        if found is None and flag == "--from" and _INDEX.fullmatch(text):  # a mount's is a name
            if not 0 <= int(text) < len(self.dockerfile.stages):
                raise self.dockerfile.error(
                    f"{flag}={text}: there is no stage {text}", name.span, hint="stages count from 0"
                )
            found = int(text)
        later = self.dockerfile.stage(text)
        if found is None and later is not None:
            found = later.index
        if found is not None and found >= stage.index:
            which = "the stage itself" if found == stage.index else "a later stage"
            raise self.dockerfile.error(f"{flag}={text} is {which}", name.span, hint="copy from an earlier stage")
        named = self._named(text if found is None else self.dockerfile.stages[found].name or "")
        if named is not None and isinstance(self.request.named_contexts[named], Context):
            return None, named
        if named is None and found is None:
            return self.image_vertex(text, name, stage), ""
        state = self._from_named(named, stage) if named is not None else self.stage_state(found or 0)
        if state.tail is None:
            raise self.dockerfile.error(f"{flag}={text}: that stage has no files", name.span)
        return state.tail, ""

    def context_vertex(self, path: str, lines: SourceLines, context: str = "") -> Vertex:
        """A filesystem with what is at ``path`` of a build context, for mounts; one vertex per path."""
        return self._directory(context, CopyOp.of(context_spec(path), context=context), f"mount {path} of", lines)

    def _context_root(self, context: str, lines: SourceLines) -> Vertex:
        """A filesystem with all of a named context, for a stage that begins with it."""
        return self._directory(context, CopyOp.of(CopySpec(("/",), "/", link=True), context=context), "load", lines)

    def _directory(self, context: str, op: CopyOp, what: str, lines: SourceLines) -> Vertex:
        if op not in self._directories:
            name = f"[context {context}] {what} it" if context else f"[internal] {what} the build context"
            vertex = self._directories[op] = self._graph.vertex(op, name, "", lines)
            self._graph.chain(name, (vertex,))
        return self._directories[op]

    def empty_vertex(self, lines: SourceLines) -> Vertex:
        """A filesystem with an empty directory: what mounts have from scratch."""
        name = "[internal] make an empty directory"
        vertex = self._graph.vertex(WorkdirOp(EMPTY_DIRECTORY, ""), name, "", lines)
        self._graph.chain(name, (vertex,))
        return vertex

    def remote_vertex(self, op: FetchOp, lines: SourceLines) -> Vertex:
        """A filesystem with what a URL or a git repository has; one vertex each."""
        if op not in self._remotes:
            name = f"[internal] fetch {describe(op)}"
            vertex = self._remotes[op] = self._graph.vertex(op, name, "", lines)
            self._graph.chain(name, (vertex,))
        return self._remotes[op]

    def _stage_name(self, stage: Stage) -> str:
        return stage.name or f"stage-{stage.index}"

    def _stage_label(self, stage: Stage) -> str:
        words = [platform_label(self._stage_platforms[stage.index], self.platform)] if self._graph.several else []
        words += [self._stage_name(stage)] if len(self.dockerfile.stages) > 1 else []
        return "".join(f"{word} " for word in words)


class _Numbering:
    """Names the steps of a stage: ``[build 2/5] RUN make``."""

    def __init__(self, label: str, instructions: Iterable[Instruction]) -> None:
        self._label = label
        self._total = 1 + sum(instruction.NAME in ("RUN", "COPY", "ADD", "WORKDIR") for instruction in instructions)
        self._count = 0

    def next_name(self, text: str) -> str:
        self._count += 1
        width = len(str(self._total))
        return f"[{self._label}{self._count:>{width}}/{self._total}] {text}"


def _parse_triggers(triggers: Sequence[str]) -> list[Instruction]:
    if not triggers:
        return []
    from dockerfile_grammar import parse_onbuild

    return [parse_onbuild(trigger) for trigger in triggers]


def _lines(instruction: Instruction) -> SourceLines:
    return SourceLines(instruction.start_line, instruction.end_line)
