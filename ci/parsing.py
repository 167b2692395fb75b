"""From the bytes of a pipeline file to a ``Pipeline``, or to all that is wrong with it at once."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from ci.checks import check_pipeline
from ci.document import MappingNode, Node, Scalar, read_document
from ci.errors import PipelineFileError
from ci.language.jobs import DEFAULTS, JOB_SHAPE, KINDS, USELESS
from ci.language.limits import MAX_JOBS
from ci.language.names import JOB_NAME
from ci.language.pipelines import EVERYTHING, PIPELINE
from ci.language.shapes import Reading, Unreadable, misplaced
from ci.model import Job, Pipeline
from ci.problems import Problems

FILE: Final = ".shiplap.yml"
"""The pipeline of a repository that has one."""

DIRECTORY: Final = ".shiplap"
"""Where several lie, each ``NAME.yml``."""

_MAIN: Final = "main"
"""What the pipeline of ``FILE`` is called."""


class ParsedFile(NamedTuple):
    """A file without an error in it.

    templates: each job's node, with the defaults in their places: planning reads a job from it once more, when its
    ``${NAME}`` are replaced.
    problems: warnings.
    """

    pipeline: Pipeline
    templates: Mapping[str, MappingNode]
    problems: Problems


def pipeline_name(filename: str) -> str:
    """What the pipeline of a file is called. filename: its path in the repository."""
    name = posixpath.basename(filename)
    return _MAIN if name == FILE else name.removesuffix(".yml")


def parse_pipeline(data: bytes, filename: str = FILE) -> ParsedFile:
    """Read a file. Raises PipelineFileError, which has every error and warning."""
    root, problems = read_document(data, filename)
    reading = Reading(problems)
    if root is None:
        problems.error(None, "the file is empty", hint="it has at least `jobs`")
        raise PipelineFileError(problems)
    if not isinstance(root, MappingNode):
        misplaced(root, "a map with `jobs`", reading)
        raise PipelineFileError(problems)
    values = _values(root, reading)
    templates = _templates(values.pop("jobs", None), values.pop("defaults", None), root.get("env"), reading)
    jobs = {name: job for name, node in templates.items() if (job := _job(node, reading)) is not None}
    pipeline = Pipeline(pipeline_name(filename), values.pop("on", EVERYTHING), jobs, **values)
    check_pipeline(pipeline, templates, root, problems)
    if problems.has_errors:
        raise PipelineFileError(problems)
    return ParsedFile(pipeline, templates, problems)


def _values(root: MappingNode, reading: Reading) -> dict[str, Any]:
    """What the file says beside its jobs, as far as it can be read."""
    try:
        return PIPELINE.read(root, reading)
    except Unreadable:
        found = {}
        for name, node in root.entries:
            key = PIPELINE.keys.get(name.text)
            if key is not None and key.shape is not None:
                try:
                    found[key.field or name.text] = key.shape.read(node, reading)
                except Unreadable:
                    continue
        return found


def _templates(jobs: Node | None, defaults: Node | None, env: Node | None, reading: Reading) -> dict[str, MappingNode]:
    """The jobs' nodes by name, each with what it has not itself, and has a use for, of the defaults and of ``env``."""
    if jobs is None:
        return {}
    if not isinstance(jobs, MappingNode) or not jobs.entries:
        misplaced(jobs, "a map of jobs, with at least one", reading)
        return {}
    if len(jobs.entries) > MAX_JOBS:
        reading.problems.error(jobs.entries[MAX_JOBS][0].span, f"a file has at most {MAX_JOBS} jobs")
        return {}
    if defaults is not None:
        try:
            DEFAULTS.read(defaults, reading)
        except Unreadable:
            defaults = None
    # The variables of every job are a default as well, below those of `defaults`.
    variables = None if env is None else MappingNode(((Scalar("env", env.span, plain=True), env),), env.span)
    found: dict[str, MappingNode] = {}
    for key, node in jobs.entries:
        try:
            name = JOB_NAME.read(key, reading)
        except Unreadable:
            continue
        if isinstance(node, MappingNode):
            found[name] = _with_defaults(_with_defaults(node, defaults), variables)
        else:
            misplaced(node, "a job: a map", reading)
    return found


def _with_defaults(node: MappingNode, defaults: Node | None) -> MappingNode:
    if not isinstance(defaults, MappingNode):
        return node
    own = {key.text: value for key, value in node.entries}
    useless = next((USELESS[kind] for kind in KINDS if kind in own), frozenset[str]())
    added: list[tuple[Scalar, Node]] = []
    entries = list(node.entries)
    for key, value in defaults.entries:
        if key.text in useless:
            continue
        if key.text not in own:
            added.append((key, value))
        elif key.text == "env":
            entries = [(name, _joined(held, value) if name.text == "env" else held) for name, held in entries]
    return MappingNode((*entries, *added), node.span)


def _joined(own: Node, default: Node) -> Node:
    """Two maps of variables; the job's own count where both have one."""
    if isinstance(own, Scalar) and own.is_null:
        return default
    if not isinstance(own, MappingNode) or not isinstance(default, MappingNode):
        return own
    names = {key.text for key, _ in own.entries}
    return MappingNode((*own.entries, *(entry for entry in default.entries if entry[0].text not in names)), own.span)


def _job(node: MappingNode, reading: Reading) -> Job | None:
    try:
        return JOB_SHAPE.read(node, reading)
    except Unreadable:
        return None
