"""Parts: files of jobs. The jobs of a part stand in the place of each job that uses it, as ``NAME/JOB``.

A part is first read and checked by itself, so that all that is wrong with it has its place in its own file. Then its
jobs are moved: names of needs, exports and images get the user's name in front, and its parameters get their values.
What comes of it is like any other job's node; planning and execution know no parts. Pure: the caller has the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeGuard

from ci import matrix as matrices
from ci.checks import check_part
from ci.document import MappingNode, Node, Scalar, SequenceNode, read_document
from ci.errors import CiError, PipelineFileError
from ci.jobnodes import job_nodes, read_job, read_jobs, with_variables
from ci.language import services
from ci.language.jobs import NEVER_REPLACED, NEVER_REPLACED_IN_MAPS, WITHOUT_EXPORTS
from ci.language.limits import MAX_JOBS
from ci.language.names import PartPlace
from ci.language.parts import PART
from ci.language.services import defined
from ci.language.shapes import Reading, Text, Unreadable, misplaced
from ci.model import Fits, Job, Pipeline
from ci.problems import Problems
from ci.substitution import Placeholder, is_open, literal, references, rewritten
from ci.templates import replaceable, scalars
from dockerfile_grammar.source import Source, Span

MAX_PARTS: Final = 20
"""Files that one pipeline uses."""

ReadPart: TypeAlias = Callable[[PartPlace], bytes]
"""Gives a part's file. Raises CiError for one that is not there, and whatever the machine did wrong."""

Jobs: TypeAlias = Mapping[str, Job]
Nodes: TypeAlias = Mapping[str, MappingNode]


class Part(NamedTuple):
    """A part that was read. problems: its own; where there are errors, not all of its jobs may be there."""

    pipeline: Pipeline
    nodes: Nodes
    problems: Problems


class PartJob(NamedTuple):
    """What else is to be known of a job that a part brought.

    when: of the job that uses the part: it has to fit as well.
    params: the part's parameters: its conditions ask for these.
    source: the part's file.
    """

    when: tuple[Fits, ...]
    params: Mapping[str, str]
    source: Source


class WithParts(NamedTuple):
    """The jobs of a pipeline with those of its parts in their places. of_parts: by the names of the latter."""

    jobs: dict[str, Job]
    nodes: dict[str, MappingNode]
    of_parts: dict[str, PartJob]


def read_parts(jobs: Jobs, read: ReadPart, problems: Problems) -> dict[str, Part]:
    """The part of each job that uses one. Those that cannot be had are left out; the problems say why."""
    known: dict[PartPlace, Part | None] = {}
    found: dict[str, Part] = {}
    for name, job in jobs.items():
        if job.use is None:
            continue
        place = PartPlace.of(job.use)
        if place not in known:
            known[place] = _had(place, job.use, len(known), read, problems)
        part = known[place]
        if part is not None:
            found[name] = part
    return found


def put_in(
    jobs: Jobs, nodes: Nodes, parts: Mapping[str, Part], env: MappingNode | None, problems: Problems
) -> WithParts:
    """Put the parts' jobs in their places. Nothing of it has an error so far; what shows only now is added.

    env: the variables of every job of the pipeline.
    """
    result = WithParts({}, {}, {})
    if sum(len(parts[name].pipeline.jobs) if name in parts else 1 for name in jobs) > MAX_JOBS:
        problems.error(None, f"with those of its parts, a pipeline has at most {MAX_JOBS} jobs")
        return result
    for name, job in jobs.items():
        if name not in parts:
            result.jobs[name], result.nodes[name] = job, nodes[name]
            continue
        moving = _Moving(name, job, parts[name])
        moving.check(problems)
        for inner in parts[name].pipeline.jobs:
            node = with_variables(moving.moved(inner), env)
            read = read_job(node, Reading(parts[name].problems))
            if read is not None:
                moved = f"{name}/{inner}"
                result.jobs[moved], result.nodes[moved] = read, node
                result.of_parts[moved] = PartJob(job.when, moving.values, parts[name].problems.source)
    return result


def _had(place: PartPlace, shown: str, count: int, read: ReadPart, problems: Problems) -> Part | None:
    if count >= MAX_PARTS:
        problems.error(_span(shown), f"a pipeline uses at most {MAX_PARTS} parts")
        return None
    try:
        data = read(place)
    except CiError as error:
        problems.error(_span(shown), f"this part cannot be had: {error.message}", hint=error.hint)
        return None
    part = _read(data, str(shown).removeprefix("./"))
    problems.add(part.problems)
    return part


def _read(data: bytes, filename: str) -> Part:
    try:
        root, problems = read_document(data, filename)
    except PipelineFileError as error:
        return Part(Pipeline(filename, {}, {}), {}, error.problems)
    reading = Reading(problems)
    values: dict[str, Any] = {}
    nodes: dict[str, MappingNode] = {}
    if root is None:
        problems.error(None, "the file is empty", hint="a part has at least `jobs`")
    elif not isinstance(root, MappingNode):
        misplaced(root, "a map with `jobs`", reading)
    else:
        try:
            values = PART.read(root, reading)
        except Unreadable:
            values = {"jobs": root.get("jobs")}
        nodes = job_nodes(values.get("jobs"), None, None, defined(root.get("services")), reading)
    jobs, broken = read_jobs(nodes, reading)
    for job in jobs.values():
        if job.use is not None:
            problems.error(_span(job.use), "a part uses no parts", hint="the pipeline may use both")
    pipeline = Pipeline(filename, {}, jobs, params=values.get("params", {}), services=values.get("services", {}))
    check_part(pipeline, broken, nodes, problems)
    return Part(pipeline, nodes, problems)


class _Moving:
    """One use of a part. values: what the part's parameters are, with what is still to be replaced in them."""

    def __init__(self, name: str, user: Job, part: Part) -> None:
        self._name = name
        self._user = user
        self._part = part
        given = {str(param): value for param, value in user.given.items()}
        self._given = given
        self._texts = {
            str(param): str(given[param]) if param in given else literal(str(declared.default))
            for param, declared in part.pipeline.params.items()
        }
        self.values = {
            param: text if is_open(text) else text.replace("$${", "${") for param, text in self._texts.items()
        }

    def check(self, problems: Problems) -> None:
        """Add what shows only when both files are there."""
        late = {name for name, text in self._texts.items() if any(found.job for found in references(text))}
        opened = {name for name, text in self._texts.items() if is_open(text)}
        for inner, node in self._part.nodes.items():
            job = self._part.pipeline.jobs[inner]
            used = {found.name for found in _references(node, WITHOUT_EXPORTS) if not found.job} & late
            for param in sorted(used - self._axes(job)):
                message = f'"{self._name}/{inner}" needs {param} before any job has run, so no export can be in it'
                problems.error(_span(self._given[param]), message)
            for param in sorted({str(name) for fits in job.when for name in fits.params or {}} & opened):
                message = f'{param} decides whether there is "{self._name}/{inner}", so no ${{…}} can be in it'
                problems.error(_span(self._given[param]), message)

    def moved(self, inner: str) -> MappingNode:
        """The node of a job of the part, as it is here."""
        job, node = self._part.pipeline.jobs[inner], self._part.nodes[inner]
        axes = self._axes(job)
        entries = [(key, self._of_key(key.text, value, axes)) for key, value in node.entries]
        if self._user.needs and self._is_first(job):
            above = tuple(Scalar(str(need.text), node.span, plain=False) for need in self._user.needs)
            own = next((value for key, value in entries if key.text == "needs"), SequenceNode((), node.span))
            entries = [entry for entry in entries if entry[0].text != "needs"]
            entries.append((Scalar("needs", node.span, plain=True), SequenceNode((*_items(own), *above), node.span)))
        moved = MappingNode(tuple(entries), node.span)
        return with_variables(moved, self._variables(node.span)) if job.inputs is None else moved

    def _of_key(self, key: str, node: Node, axes: frozenset[str]) -> Node:
        if key in NEVER_REPLACED:
            return node
        if key == "needs":
            return SequenceNode(tuple(self._prefixed(item) for item in _items(node)), node.span)
        if key == "services" and isinstance(node, MappingNode):
            entries = tuple((name, self._of_service(value, axes)) for name, value in node.entries)
            return MappingNode(entries, node.span)
        if key == "image" and _is_of_a_job(node):
            return self._image(node)
        return self._in(node, NEVER_REPLACED_IN_MAPS.get(key, frozenset()), axes)

    def _image(self, node: MappingNode) -> Node:
        """An image that a job of the part has made."""
        return MappingNode(tuple((name, self._prefixed(value)) for name, value in node.entries), node.span)

    def _of_service(self, node: Node, axes: frozenset[str]) -> Node:
        """The definition of a service, in the place of its name."""
        if not isinstance(node, MappingNode):
            return node
        entries = []
        for key, value in node.entries:
            if key.text == "image" and _is_of_a_job(value):
                entries.append((key, self._image(value)))
            else:
                kept = key.text in services.NEVER_REPLACED
                entries.append((key, value if kept else self._in(value, frozenset(), axes)))
        return MappingNode(tuple(entries), node.span)

    def _in(self, node: Node, kept: frozenset[str], axes: frozenset[str]) -> Node:
        """A value with the part's names in it replaced. kept: keys of a map whose values stay as they are."""
        if isinstance(node, Scalar):
            if "${" not in node.text:
                return node
            text = rewritten(node.text, lambda found: self._named(found, axes))
            return node if text == node.text else node._replace(text=text, plain=False)
        if isinstance(node, SequenceNode):
            return SequenceNode(tuple(self._in(item, frozenset(), axes) for item in node.items), node.span)
        return MappingNode(
            tuple(
                (key, value if key.text in kept else self._in(value, frozenset(), axes)) for key, value in node.entries
            ),
            node.span,
        )

    def _named(self, found: Placeholder, axes: frozenset[str]) -> str | None:
        """What stands in the place of a name. None: the name stays."""
        if found.job:
            return f"${{{self._name}/{found.job}.{found.name}}}"
        return None if found.name in axes else self._texts.get(found.name)

    def _prefixed(self, node: Node) -> Node:
        assert isinstance(node, Scalar)
        return node._replace(text=f"{self._name}/{node.text}", plain=False)

    def _variables(self, span: Span) -> MappingNode:
        """The part's parameters as variables of a job."""
        return MappingNode(
            tuple(
                (Scalar(name, span, plain=True), Scalar(text, span, plain=False)) for name, text in self._texts.items()
            ),
            span,
        )

    @staticmethod
    def _axes(job: Job) -> frozenset[str]:
        """The names of a job's matrix: there, they count before the parameters."""
        return frozenset(map(str, matrices.axes(job.matrix))) if job.matrix is not None else frozenset()

    @staticmethod
    def _is_first(job: Job) -> bool:
        """Whether no other job of the part is always before it."""
        return all(need.is_optional for need in job.needs) and not any(image.job for image in job.images)


def _is_of_a_job(image: Node) -> TypeGuard[MappingNode]:
    return isinstance(image, MappingNode) and image.get("job") is not None


def _references(node: MappingNode, keys: frozenset[str]) -> list[Placeholder]:
    """What the values of these keys name."""
    return [
        found
        for key, value in node.entries
        if key.text in keys
        for scalar in scalars(replaceable(key.text, value))
        for found in references(scalar.text)
    ]


def _items(node: Node) -> tuple[Node, ...]:
    return node.items if isinstance(node, SequenceNode) else (node,)


def _span(text: str) -> Span | None:
    return text.span if isinstance(text, Text) else None
