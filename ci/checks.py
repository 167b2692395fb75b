"""What only shows beside other parts of a pipeline file: names, cycles, and conditions that can never hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from ci import matrix as matrices
from ci.document import MappingNode, Node
from ci.enginechecks import check_engine
from ci.facts import FACTS, INSIDE_ONLY
from ci.imagenames import warn_of_same_names
from ci.language.jobs import WITHOUT_EXPORTS
from ci.language.limits import MAX_COMBINATIONS, MAX_JOBS
from ci.language.shapes import Text
from ci.meeting import warn_of_meeting
from ci.model import OUTPUTS_KEPT_S, Fits, Job, Matrix, Need, Param, Pipeline
from ci.params import fault
from ci.problems import Problems
from ci.servicechecks import check_services
from ci.substitution import BadReferenceError, Placeholder, is_open, references
from ci.templates import replaceable, scalars
from core.suggestions import suggestion
from dockerfile_grammar.source import Span

_BUILT: Final = ("IMAGE", "DIGEST")
"""What each ``build`` exports."""

_MENTIONED: Final = re.compile(r"\$\{?(SHIPLAP_[A-Z_]+)")


Nodes: TypeAlias = Mapping[str, MappingNode]
"""The jobs' nodes by name, also of those that could not be read, so that they are known by name."""


def check_pipeline(
    pipeline: Pipeline,
    broken: Mapping[str, Job],
    nodes: Nodes,
    root: MappingNode,
    parts: Mapping[str, Pipeline],
    problems: Problems,
) -> None:
    """Add what is wrong.

    broken: the jobs that could not be read, with nothing but what says which jobs come before.
    parts: by the jobs that use them, as far as they are known.
    """
    before = _check_jobs(pipeline, broken, nodes, parts, problems)
    for value in map(root.get, ("env", "concurrency")):
        if value is not None:
            _check_values(value, _Names(problems, frozenset(), None, frozenset(pipeline.params)), problems)
    for name, job in pipeline.jobs.items():
        if name in parts:
            _check_given(job, parts[name].params, problems)
        _warn(name, job, pipeline, before, nodes[name], problems)
    warn_of_meeting(pipeline.jobs, before.of, problems)
    warn_of_same_names(pipeline.jobs, lambda name: _key_span(nodes[name], "build"), problems)


def check_part(part: Pipeline, broken: Mapping[str, Job], nodes: Nodes, problems: Problems) -> None:
    """Add what is wrong with a part by itself. What its jobs' outputs are for, and which events there are, its users
    know.

    broken: as for ``check_pipeline``.
    """
    before = _check_jobs(part, broken, nodes, {}, problems)
    for job in part.jobs.values():
        _warn_of_job(job, problems)
    warn_of_meeting(part.jobs, before.of, problems)


def _check_jobs(
    pipeline: Pipeline, broken: Mapping[str, Job], nodes: Nodes, parts: Mapping[str, Pipeline], problems: Problems
) -> _Before:
    before = _Before(pipeline, broken, nodes, parts, problems)
    before.check()
    _check_params(pipeline, problems)
    check_services(pipeline, nodes, problems)
    for name, node in nodes.items():
        job = pipeline.jobs.get(name)
        axes = frozenset(matrices.axes(job.matrix)) if job is not None and job.matrix is not None else frozenset()
        known = axes if job is not None or node.get("matrix") is None else None
        _check_references(name, node, known, before, frozenset(pipeline.params), problems)
    for name, job in pipeline.jobs.items():
        check_engine(job, nodes[name], problems)
        _check_outputs(job, problems)
        if job.matrix is not None:
            _check_matrix(job.matrix, nodes[name], problems)
    if not problems.has_errors:
        _check_count(pipeline.jobs, before, problems)
    return before


def _check_count(jobs: Mapping[str, Job], before: _Before, problems: Problems) -> None:
    """Of the jobs that are in every run there may not be too many. How many others are is seen when one is planned."""
    count = 0
    for name, job in jobs.items():
        together = [other for each in (name, *before.never_without(name)) if (other := jobs.get(each)) is not None]
        if any(other.when or (other.matrix and not matrices.is_settled(other.matrix)) for other in together):
            continue
        count += len(matrices.combinations(job.matrix, lambda _: ())) if job.matrix is not None else 1
        if count > MAX_JOBS:
            problems.error(_span(name), f"a run has at most {MAX_JOBS} jobs, those of matrices counted one by one")
            return


def _check_given(job: Job, params: Mapping[str, Param], problems: Problems) -> None:
    """What a job gives to its part."""
    for name, value in job.given.items():
        param = params.get(name)
        if param is None:
            hint = suggestion(name, params) or (f"there are {', '.join(params)}" if params else "it has none")
            problems.error(_span(name), f"the part has no parameter {name}", hint=hint)
        elif not is_open(value):
            if wrong := fault(param, value.replace("$${", "${")):
                problems.error(_span(value), wrong)
        elif str(param.type) != "string" or param.pattern:
            problems.error(_span(value), f"what {name} may be is checked before the run, so no ${{…}} can be in it")


def _check_params(pipeline: Pipeline, problems: Problems) -> None:
    for name, param in pipeline.params.items():
        place, kind = _span(name), str(param.type)
        if (kind == "choice") != bool(param.choices):
            problems.error(place, "a parameter has `choices` if its type is `choice`, and only then")
        elif param.pattern and kind != "string":
            problems.error(place, "only a parameter whose type is `string` has a `pattern`")
        elif wrong := fault(param, str(param.default)):
            problems.error(_span(param.default), wrong)
    for job in pipeline.jobs.values():
        for fits in job.when:
            for name, values in (fits.params or {}).items():
                known = pipeline.params.get(name)
                if known is None:
                    problems.error(_span(name), f"there is no parameter {name}", hint=suggestion(name, pipeline.params))
                    continue
                for value in values:
                    if wrong := fault(known, str(value)):
                        problems.error(_span(value), wrong)


class _Before:
    """Which jobs come before which, by ``needs`` and by images of jobs. It recurses nowhere: a chain may be long."""

    def __init__(
        self,
        pipeline: Pipeline,
        broken: Mapping[str, Job],
        nodes: Nodes,
        parts: Mapping[str, Pipeline],
        problems: Problems,
    ) -> None:
        """Parts stand in it as one job each. broken, parts: as for ``check_pipeline``."""
        self.jobs = pipeline.jobs
        self.names = nodes
        self._parts = parts
        self._problems = problems
        self._known = {name: job for name in nodes if (job := pipeline.jobs.get(name) or broken.get(name))}
        needed = {name: tuple(_needed(job)) for name, job in self._known.items()}
        self._direct = {name: tuple(other for other, _ in found) for name, found in needed.items()}
        self._required = {
            name: tuple(other for other, is_required in found if is_required) for name, found in needed.items()
        }
        self._all: dict[str, frozenset[str]] = {}

    def check(self) -> None:
        """Add what is wrong with the needs themselves."""
        for name, job in self._known.items():
            for need in job.needs:
                self._check_need(name, need)
            for image in job.images:
                if image.job:
                    self._check_image(image.job)
        self._check_cycles()

    def knows(self, name: str) -> bool:
        """Whether there is a job of this name, or a part of which it may be one."""
        owner, _, inner = name.partition("/")
        if not inner or owner not in self.names:
            return name in self.names
        if owner in self._parts:
            return inner in self._parts[owner].jobs
        return owner not in self.jobs or self.jobs[owner].use is not None

    def known_names(self) -> list[str]:
        """Of jobs of the file, and of its parts."""
        of_parts = [f"{owner}/{name}" for owner, part in self._parts.items() for name in part.jobs]
        return [*self.names, *of_parts]

    def job(self, name: str) -> Job | None:
        """The job of this name, also of a part. None: it could not be read, or its part is not known."""
        owner, _, inner = name.partition("/")
        if not inner:
            return self.jobs.get(name)
        return self._parts[owner].jobs.get(inner) if owner in self._parts else None

    def of(self, name: str) -> frozenset[str]:
        """All jobs before this one."""
        found = self._all.get(name)
        if found is None:
            found = self._all[name] = _reached(self._direct, name)
        return found

    def never_without(self, name: str) -> frozenset[str]:
        """The jobs that are in every run that has this one: what it needs without ``?``, and what these need so."""
        return _reached(self._required, name)

    def needed_by_any(self, name: str) -> bool:
        return any(name in direct for direct in self._direct.values())

    def _check_need(self, name: str, need: Need) -> None:
        base, span = base_name(need.job), _span(need.text)
        if not self.knows(base):
            self._problems.error(span, f'no job "{base}"', hint=suggestion(base, self.known_names(), form='"{}"'))
            return
        if owner_of(base) == name:
            self._problems.error(span, "a job cannot need itself")
            return
        other = self.job(base)
        if other is None or base == need.job or is_open(need.job):
            return
        if other.matrix is None:
            self._problems.error(span, f'"{base}" has no matrix, so there is no job "{need.job}"', hint=f'"{base}"')
        elif matrices.is_settled(other.matrix):
            names = [matrices.name_of(base, one) for one in matrices.combinations(other.matrix, lambda _: ())]
            if need.job not in names:
                hint = suggestion(need.job, names, form='"{}"')
                self._problems.error(span, f'the matrix of "{base}" makes no job "{need.job}"', hint=hint)

    def _check_image(self, name: str) -> None:
        span, other = _span(name), self.job(name)
        if not self.knows(name):
            self._problems.error(span, f'no job "{name}"', hint=suggestion(name, self.known_names(), form='"{}"'))
        elif other is not None and other.build is None:
            self._problems.error(span, f'"{name}" builds no image', hint="a job with `build` does")
        elif other is not None and other.matrix is not None:
            self._problems.error(span, f'"{name}" has a matrix: which of its images is meant?')

    def _check_cycles(self) -> None:
        """Name each cycle once, at the need that closes it, in the order of the file."""
        done: set[str] = set()
        for start in self._direct:
            path: list[tuple[str, Iterator[str]]] = [(start, iter(self._direct[start]))]
            on_path = {start}
            while path:
                name, rest = path[-1]
                other = next(rest, None)
                if other is None:
                    path.pop()
                    on_path.discard(name)
                    done.add(name)
                elif other in on_path and other != name:
                    cycle = [step for step, _ in path]
                    shown = " → ".join([*cycle[cycle.index(other) :], other])
                    self._problems.error(self._place(name, other), f"these jobs wait for each other: {shown}")
                elif other in self._direct and other not in done and other not in on_path:
                    on_path.add(other)
                    path.append((other, iter(self._direct[other])))

    def _place(self, name: str, other: str) -> Span | None:
        job = self._known[name]
        texts = [need.text for need in job.needs if owner_of(base_name(need.job)) == other]
        texts += [image.job for image in job.images if image.job and owner_of(image.job) == other]
        return _span(texts[0])


def _needed(job: Job) -> Iterator[tuple[str, bool]]:
    """Jobs that come before one, and whether it is in no run without them."""
    for need in job.needs:
        yield owner_of(base_name(need.job)), not need.is_optional
    for image in job.images:
        if image.job:
            yield owner_of(image.job), True


def _reached(edges: Mapping[str, Sequence[str]], start: str) -> frozenset[str]:
    """All that edges lead to from ``start``, one after the other."""
    seen: set[str] = set()
    waiting = list(edges.get(start, ()))
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(edges.get(name, ()))
    return frozenset(seen)


def base_name(name: str) -> str:
    """The job of the file that a name means: ``test`` of ``test (3.11)``."""
    return name.partition(" (")[0]


def owner_of(base: str) -> str:
    """The job of the file that brings one: ``checks`` of ``checks/lint``, which a part has; else the job itself."""
    return base.partition("/")[0]


def _span(text: str) -> Span | None:
    return text.span if isinstance(text, Text) else None


class _Names:
    """Which names ``${NAME}`` may have somewhere. axes: None: they could not be read, and any is taken."""

    def __init__(
        self,
        problems: Problems,
        axes: frozenset[str] | None,
        exports: tuple[str, _Before] | None,
        params: frozenset[str],
    ) -> None:
        self._params = params
        self._problems = problems
        self._axes = axes
        self._exports = exports
        self.only_axes = False

    def check(self, reference: Placeholder, span: Span) -> None:
        if reference.job:
            self._check_export(reference, span)
        elif self._axes is None or reference.name in self._axes:
            return
        elif self.only_axes:
            shown = ", ".join(sorted(self._axes)) or "it has none"
            self._problems.error(span, f"`needs` may name values of the job's own matrix only ({shown})")
        elif reference.name in INSIDE_ONLY:
            message = f"${{{reference.name}}} is known within a job only"
            self._problems.error(span, message, hint="its commands read it as a variable")
        elif reference.name not in FACTS and reference.name not in self._params:
            hint = suggestion(reference.name, [*self._axes, *self._params, *FACTS], form="${{{}}}")
            self._problems.error(span, f"nothing is called ${{{reference.name}}}", hint=hint)

    def _check_export(self, reference: Placeholder, span: Span) -> None:
        shown = f"${{{reference.job}.{reference.name}}}"
        if self._exports is None or self.only_axes:
            self._problems.error(
                span, f"{shown} is known only when {reference.job} has run, and this is decided before"
            )
            return
        name, before = self._exports
        if not before.knows(reference.job):
            hint = suggestion(reference.job, before.known_names(), form='"{}"')
            self._problems.error(span, f'{shown}: no job "{reference.job}"', hint=hint)
            return
        if name not in before.jobs:  # it could not be read, nor perhaps all that it needs
            return
        if owner_of(reference.job) not in before.of(name):
            self._problems.error(span, f'{shown}: "{name}" does not need "{reference.job}"', hint="add it to `needs`")
            return
        other = before.job(reference.job)
        if other is None:
            return
        if other.use is not None:
            self._problems.error(span, f'{shown}: "{reference.job}" is a part: which of its jobs is meant?')
            return
        if other.matrix is not None:
            self._problems.error(span, f'{shown}: "{reference.job}" has a matrix: which of its jobs is meant?')
            return
        exported = _BUILT if other.build is not None else other.exports
        if reference.name not in exported:
            hint = suggestion(reference.name, exported, form="${{" + reference.job + ".{}}}")
            self._problems.error(span, f'"{reference.job}" does not export {reference.name}', hint=hint)


def _check_references(
    name: str,
    node: MappingNode,
    axes: frozenset[str] | None,
    before: _Before,
    params: frozenset[str],
    problems: Problems,
) -> None:
    for key, value in node.entries:
        names = _Names(problems, axes, None if key.text in WITHOUT_EXPORTS else (name, before), params)
        names.only_axes = key.text == "needs"
        _check_values(replaceable(key.text, value), names, problems)


def _check_values(node: Node, names: _Names, problems: Problems) -> None:
    for scalar in scalars(node):
        try:
            found = references(scalar.text)
        except BadReferenceError as error:
            problems.error(scalar.span, str(error))
            continue
        for reference in found:
            names.check(reference, scalar.span)


def _check_matrix(matrix: Matrix, node: MappingNode, problems: Problems) -> None:
    place = _key_span(node, "matrix")
    axes = matrices.axes(matrix)
    for part in matrix.exclude:
        for name in part:
            if name not in axes:
                problems.error(_span(name), f"the matrix has no {name}", hint=suggestion(name, axes))
    for part in matrix.include:
        missing = [name for name in axes if name not in part]
        others = [name for name in part if name not in axes]
        if missing:
            problems.error(_span(next(iter(part), "")) or place, f"a combination to include has no {missing[0]}")
        for name in others:
            problems.error(_span(name), f"the matrix has no {name}", hint=suggestion(name, axes))
    if matrices.size(matrix) > 100 * MAX_COMBINATIONS:
        problems.error(place, f"a matrix has at most {MAX_COMBINATIONS} combinations; this has far more")
    elif matrices.is_settled(matrix) and not problems.has_errors:
        count = len(matrices.combinations(matrix, lambda _: ()))
        if count > MAX_COMBINATIONS:
            problems.error(place, f"a matrix has at most {MAX_COMBINATIONS} combinations; this has {count}")
        elif not count:
            problems.warning(place, "all combinations of this matrix are excluded: there is never such a job")


def _check_outputs(job: Job, problems: Problems) -> None:
    """What is said of outputs for people, of those that have a name."""
    for output in job.outputs:
        if output.name:
            continue
        if output.on != "success":
            problems.error(_span(output.on), "what is taken of failures is for people, and has a `name`")
        if output.preview:
            problems.error(_span(output.path), "what a mark opens is for people, and has a `name`")
        if output.keep_s != OUTPUTS_KEPT_S:
            problems.error(_span(output.path), "only what is for people is kept for a time, and has a `name`")


def _key_span(node: MappingNode, key: str) -> Span | None:
    return next((name.span for name, _ in node.entries if name.text == key), None)


def _warn(name: str, job: Job, pipeline: Pipeline, before: _Before, node: MappingNode, problems: Problems) -> None:
    """What is allowed, and hardly meant."""
    if any(not output.name for output in job.outputs) and not before.needed_by_any(name):
        problems.warning(_key_span(node, "outputs"), f'no job needs "{name}", so nobody takes its outputs')
    if job.approve is not None and job.run is None and not before.needed_by_any(name):
        problems.warning(_key_span(node, "approve"), f'no job needs "{name}", so nothing waits for the answer')
    _warn_of_job(job, problems)
    for fits in job.when:
        _warn_of_conditions(fits, pipeline, problems)
    named = (*job.secrets, *(secret for service in job.services for secret in service.secrets))
    required = [secret for secret in named if not secret.optional]
    if required and "pull_request" in pipeline.on and _runs_for_forks(name, before):
        hint = "say `when: {fork: false}`, or that the secret is optional"
        problems.warning(_span(required[0].name), "this job also runs for forks, which get no secrets", hint=hint)


def _warn_of_job(job: Job, problems: Problems) -> None:
    for image in job.images:
        if _is_latest(image.reference):
            hint = "name a version, or its digest"
            problems.warning(_span(image.reference), "this image may be another one tomorrow", hint=hint)
    if job.inputs is not None:
        _warn_of_missing_variables(job, problems)


def _is_latest(reference: str) -> bool:
    if not reference or is_open(reference) or "@" in reference or reference == "scratch":
        return False
    name = reference.rpartition("/")[2]
    return ":" not in name or name.endswith(":latest")


def _warn_of_conditions(fits: Fits, pipeline: Pipeline, problems: Problems) -> None:
    for event in fits.event or ():
        if event != "local" and event not in pipeline.on:
            problems.warning(_span(event), f"this pipeline does not listen to {event}: see `on`")
    events = set(fits.event if fits.event is not None else pipeline.on)
    if fits.tag is not None and not events & {"tag", "manual", "local"}:
        problems.warning(_span(fits.tag[0]), "no event that is meant here has a tag: this never holds")
    if fits.target is not None and "pull_request" not in events:
        problems.warning(_span(fits.target[0]), "no event that is meant here has a target: this never holds")
    push = pipeline.on.get("push")
    if events == {"pull_request"} and fits.fork is False and push is not None and push.branches is None:
        place = fits.event[0] if fits.event is not None else ""
        problems.warning(_span(place), "own pull requests are run by their pushes here: this never holds")
    if fits.branch is not None and events == {"tag"}:
        problems.warning(_span(fits.branch[0]), "a tag has no branch: this never holds")


def _warn_of_missing_variables(job: Job, problems: Problems) -> None:
    for text in job.run or ():
        for variable in dict.fromkeys(_MENTIONED.findall(text)):
            if variable in FACTS:
                hint = (
                    f'`env: {{{variable.removeprefix("SHIPLAP_")}: "${{{variable}}}"}}` brings it by that name, and '
                    "makes it part of what the job depends on"
                )
                problems.warning(_span(text), f"a job with `inputs` does not get {variable}", hint=hint)


def _runs_for_forks(name: str, before: _Before) -> bool:
    """Whether neither its own ``when`` nor that of a job that it is never without keeps forks out."""
    jobs = [before.jobs[other] for other in (name, *before.never_without(name)) if other in before.jobs]
    return all(not job.when or any(_fits_forks(fits) for fits in job.when) for job in jobs)


def _fits_forks(fits: Fits) -> bool:
    return fits.fork is not False and (fits.event is None or "pull_request" in fits.event)
