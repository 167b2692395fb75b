"""From a parsed Dockerfile to a plan. Pure: images are looked up by a function that the caller passes.

Only what the target needs is planned: a stage that nothing refers to is neither checked against the store nor built.
So a stage is planned when something asks for its state: the target, a FROM, a ``--from``. This is the one recursion of
the frontend, and all of it is here. ``_Stages._state`` plans a stage. The stage's instructions ask ``_Stages.source``
for what they read from, which asks ``_state`` again. Stages read from earlier ones only, so the recursion ends.

Behaviour: moby/buildkit, frontend/dockerfile/dockerfile2llb/convert.go.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from builder.contexts.context import Context
from builder.contexts.keys import SCRATCH, context_key
from builder.contexts.kinds import NamedImage
from builder.frontend.evaluation import Evaluator
from builder.frontend.images import ImageNames, ImageResolver
from builder.frontend.instructions import apply
from builder.frontend.numbering import GraphBuilder, SharedVertices, StepNames, platform_label
from builder.frontend.planning import PlannedStep
from builder.frontend.state import StageState
from builder.frontend.target import target_index
from builder.graph.vertices import BaseOp, Plan, PlannedImage, SourceLines, Vertex
from builder.request.arguments import (
    CACHE_NAMESPACE_ARG,
    EPOCH_ARG,
    HOSTNAME_ARG,
    MULTI_PLATFORM_ARG,
    PROXY_ARGS,
    SCAN_CONTEXT_ARG,
    SCAN_STAGE_ARG,
    names_stage,
)
from builder.request.request import BuildRequest
from core.errors import ShiplapError
from core.platforms import Platform
from core.suggestions import suggestion
from dockerfile_grammar import Dockerfile, DockerfileError, Instruction, Stage, Word, expand_with_names
from images.oci import CREATED_ANNOTATION, ImageConfig
from images.platforms import preferences
from images.summary import Image

_INDEX = re.compile(r"[+-]?[0-9]+")
_NEED_NO_ARG = frozenset(
    {
        EPOCH_ARG,
        CACHE_NAMESPACE_ARG,
        HOSTNAME_ARG,
        "BUILDKIT_DOCKERFILE_CHECK",
        "BUILDKIT_INLINE_CACHE",
        MULTI_PLATFORM_ARG,
    }
)
"""Build arguments that take effect without an ARG. So do proxies, whatever the case of their letters."""


class Planned(msgspec.Struct, frozen=True):
    """A plan, and the ``--build-arg`` names that no ARG of the planned stages asked for."""

    plan: Plan
    unused_args: tuple[str, ...]


def plan(dockerfile: Dockerfile, request: BuildRequest, resolve: ImageResolver) -> Planned:
    """Plan ``request.target``, or the last stage, for each platform.

    Raises DockerfileError and what ``resolve`` raises.
    """
    graph = GraphBuilder(several=len(request.platforms) > 1)
    names = ImageNames(dockerfile, resolve, graph.step)
    images: list[PlannedImage] = []
    used_args = {*_NEED_NO_ARG, *(name for name in request.build_args if name.upper() in PROXY_ARGS)}
    for platform in request.platforms or (Platform.host(),):
        stages = _Stages(dockerfile, request, platform, names, graph)
        images.append(stages.target())
        used_args |= stages.words.declared
    unused = [name for name in request.build_args if name not in used_args]
    return Planned(Plan(tuple(images), tuple(graph.chains), tuple(graph.steps)), tuple(unused))


class _Stages:
    """The stages of a Dockerfile for one platform."""

    def __init__(
        self,
        dockerfile: Dockerfile,
        request: BuildRequest,
        platform: Platform,
        names: ImageNames,
        graph: GraphBuilder,
    ) -> None:
        self.dockerfile = dockerfile
        self.request = request
        self.graph = graph
        self.shared = SharedVertices(graph)
        self._platform = platform
        self._names = names
        self._states: dict[int, StageState] = {}
        self._named_states: dict[tuple[str, Platform], StageState] = {}
        self._platforms: dict[int, Platform] = {}
        self._images: dict[str, Vertex] = {}
        self.words = Evaluator(dockerfile, request.build_args)
        self.global_args = self.words.meta_args(platform).values

    def target(self) -> PlannedImage:
        """Plan the target stage, and everything that it needs."""
        state = self._state(target_index(self.dockerfile, self.request.target))
        set_already = state.own_labels.union(self.request.labels)
        defaults = {name: value for name, value in self.request.default_labels.items() if name not in set_already}
        config = state.finished({**defaults, **self.request.labels})
        if self.request.platforms:
            config = config.on_platform(self._platform)
        scanned = self._scanned(state) if self.request.attest.sbom else ()
        return PlannedImage(
            state.tail, config, tuple(state.history), self._platform, scanned, defaults.get(CREATED_ANNOTATION) == ""
        )

    def _scanned(self, target: StageState) -> tuple[tuple[str, Vertex], ...]:
        """What BUILDKIT_SBOM_SCAN_… adds to the SBOM: the target's argument the context, another stage's that stage."""

        def asks(index: int, state: StageState, arg: str) -> bool:
            value = state.scan_args.get(arg, self.global_args.get(arg, ""))
            return names_stage(value, _name(self.dockerfile.stages[index]))

        found: list[tuple[str, Vertex]] = []
        for index, state in sorted(self._states.items()):
            if state is target and asks(index, state, SCAN_CONTEXT_ARG):
                found.append(("context", self.shared.all_of_context("", SourceLines(0, 0))))
            elif state is not target and state.tail is not None and asks(index, state, SCAN_STAGE_ARG):
                found.append((_name(self.dockerfile.stages[index]), state.tail))
        return tuple(found)

    def _state(self, index: int) -> StageState:
        """The state at the end of a stage. The first call plans the stage and what it needs."""
        if index not in self._states:
            self._states[index] = self._plan_stage(self.dockerfile.stages[index])
        return self._states[index]

    def source(self, name: Word, stage: Stage, flag: str) -> tuple[Vertex | None, str]:
        """As ``Planning.source``, for an instruction of ``stage``."""
        text = name.text
        found = self._earlier(text, stage.index)
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
            return self._image_vertex(text, name, stage), ""
        state = self._from_named(named, stage) if named is not None else self._state(found or 0)
        if state.tail is None:
            raise self.dockerfile.error(f"{flag}={text}: that stage has no files", name.span)
        return state.tail, ""

    def _earlier(self, name: str, before: int) -> int | None:
        """The last stage of that name before stage number ``before``."""
        lower = name.lower()
        for stage in reversed(self.dockerfile.stages[:before]):
            if stage.name == lower:
                return stage.index
        return None

    # One stage

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
        platform = self._platform_of(stage)
        # Stage names are in lower case here. Unlike --from, FROM looks for its base exactly as written.
        earlier = self._earlier(base, stage.index) if base == base.lower() else None
        named = self._named(base) if earlier is None else None
        image = None
        if earlier is not None:
            state = self._state(earlier).child()
        elif named is not None:
            state = self._from_named(named, stage).child()
        else:
            state, image = self._from_image(base, stage, platform)
        if earlier is not None and stage.platform is None:
            platform = self._platforms.get(earlier, self._platform)
        self._platforms[stage.index] = platform
        triggers = _parse_triggers(state.take_triggers())
        names = StepNames(self._label(stage, platform), [*triggers, *stage.instructions])
        from_step = names.next_name(f"FROM {base}")
        if image is not None:
            state.add(self._base(image, from_step, stage))
        planning = _StagePlanning(self, stage, state, names)
        for trigger in triggers:
            apply(planning, trigger, SourceLines(0, 0))
        for instruction in stage.instructions:
            apply(planning, instruction, _lines(instruction))
        self.graph.chain(_name(stage), state.vertices)
        return state

    def _label(self, stage: Stage, platform: Platform) -> str:
        """The label with which the names of a stage's steps begin."""
        words = [platform_label(platform, self._platform)] if self.graph.several else []
        words += [_name(stage)] if len(self.dockerfile.stages) > 1 else []
        return "".join(f"{word} " for word in words)

    # What FROM says

    def _platform_of(self, stage: Stage) -> Platform:
        if stage.platform is None:
            return self._platform
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
        """The state at the end of a stage that a named context replaces. A named image brings its configuration."""
        platform = self._platform_of(stage)
        if (key, platform) not in self._named_states:
            self._named_states[key, platform] = self._begin_from_named(key, stage, platform)
        return self._named_states[key, platform]

    def _begin_from_named(self, key: str, stage: Stage, platform: Platform) -> StageState:
        context = self.request.named_contexts[key]
        if isinstance(context, NamedImage):
            state, image = self._from_image(context.name_for(platform), stage, platform)
            if image is not None:
                name = f"[context {key}] {context.name}"
                state.add(self._base(image, name, stage))
                self.graph.chain(name, state.vertices)
            return state
        lines = _lines(stage.from_)
        if isinstance(context, Context):
            files = self.shared.all_of_context(key, lines)
        else:
            files = self.shared.fetched(context, lines)
        state = self._without_image(files)
        state.record(f"[context {key}]", layer=True)
        return state

    def _without_image(self, files: Vertex | None = None) -> StageState:
        """The start of a stage that has no image below it."""
        state = StageState(ImageConfig.for_platform(self._platform), files)  # --platform is ignored, as in BuildKit
        state.set(working_dir="/")
        return state

    def _from_image(self, base: str, stage: Stage, platform: Platform) -> tuple[StageState, Image | None]:
        """The start of a stage on an image. The caller adds the image itself."""
        if base == SCRATCH:
            return self._without_image(), None
        asked_for = stage.platform is not None or bool(self.request.platforms)
        image = self._names.image(base, stage.base, stage.index, platform if asked_for else None)
        if stage.platform is not None and image.config.platform not in preferences(platform):
            raise self.dockerfile.error(
                f"{base} is an image for {image.config.platform}, not for {platform}",
                stage.platform.span,
                hint="load or import the image for that platform",
            )
        return StageState(image.config, None), image

    def _base(self, image: Image, name: str, stage: Stage) -> Vertex:
        return self.graph.vertex(BaseOp(image.diff_ids, image.id), name, _name(stage), _lines(stage.from_))

    def _image_vertex(self, name: str, word: Word, stage: Stage) -> Vertex:
        """The filesystem of an image that only a ``COPY --from`` names; one vertex per image."""
        if name not in self._images:
            image = self._names.image(name, word, stage.index, self._platform if self.request.platforms else None)
            lines = SourceLines(word.span.start.line, word.span.end.line)
            vertex = self.graph.vertex(BaseOp(image.diff_ids, image.id), f"FROM {name}", _name(stage), lines)
            self._images[name] = vertex
            self.graph.chain(name, (vertex,))
        return self._images[name]


class _StagePlanning:
    """A ``Planning`` of one stage, with what all stages share."""

    def __init__(self, stages: _Stages, stage: Stage, state: StageState, names: StepNames) -> None:
        self.dockerfile = stages.dockerfile
        self.request = stages.request
        self.words = stages.words
        self.global_args = stages.global_args
        self.shared = stages.shared
        self.state = state
        self._stages = stages
        self._stage = stage
        self._names = names

    def expand(self, word: Word) -> str:
        return self.words.expand(word, self.state.variables)

    def source(self, name: Word, flag: str = "--from") -> tuple[Vertex | None, str]:
        return self._stages.source(name, self._stage, flag)

    def add(self, step: PlannedStep, lines: SourceLines) -> None:
        name = self._names.next_name(step.text)
        graph, state = self._stages.graph, self.state
        state.add(graph.vertex(step.op, name, _name(self._stage), lines, state.tail, step.sources))
        state.record(step.created_by, layer=True)

    def skip(self) -> None:
        self._names.skip()


def _parse_triggers(triggers: Sequence[str]) -> list[Instruction]:
    if not triggers:
        return []
    from dockerfile_grammar import parse_onbuild

    return [parse_onbuild(trigger) for trigger in triggers]


def _name(stage: Stage) -> str:
    return stage.name or f"stage-{stage.index}"


def _lines(instruction: Instruction) -> SourceLines:
    return SourceLines(instruction.start_line, instruction.end_line)
