"""From the bytes of a pipeline file to a ``Pipeline``, or to all that is wrong with it at once."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from ci.checks import check_pipeline
from ci.document import MappingNode, read_document
from ci.errors import CiError, PipelineFileError
from ci.jobnodes import job_nodes, read_jobs
from ci.language.names import PartPlace
from ci.language.pipelines import EVERYTHING, PIPELINE
from ci.language.services import defined
from ci.language.shapes import Reading, Unreadable, misplaced
from ci.model import Job, Pipeline
from ci.parts import Part, PartJob, ReadPart, put_in, read_parts
from ci.problems import Problems

FILE: Final = ".shiplap.yml"
"""The pipeline of a repository that has one."""

DIRECTORY: Final = ".shiplap"
"""Where several lie, each ``NAME.yml``."""

_MAIN: Final = "main"
"""What the pipeline of ``FILE`` is called."""


class ParsedFile(NamedTuple):
    """A file without an error in it, with the jobs of its parts.

    templates: each job's node, with the defaults in their places: planning reads a job from it once more, when its
    ``${NAME}`` are replaced.
    problems: warnings.
    of_parts: what else is to be known of the jobs that parts brought.
    """

    pipeline: Pipeline
    templates: Mapping[str, MappingNode]
    problems: Problems
    of_parts: Mapping[str, PartJob]


class LoneFile(NamedTuple):
    """A file without an error in it, as far as it shows without its parts: of these, only their users are there."""

    pipeline: Pipeline
    problems: Problems


def pipeline_name(filename: str) -> str:
    """What the pipeline of a file is called. filename: its path in the repository."""
    name = posixpath.basename(filename)
    return _MAIN if name == FILE else name.removesuffix(".yml")


def no_parts(place: PartPlace) -> bytes:
    """The ``ReadPart`` of who has no repository."""
    raise CiError(f"{place.path} is in a repository, and there is none here")


def parse_pipeline(data: bytes, filename: str = FILE, read_part: ReadPart = no_parts) -> ParsedFile:
    """Read a file and its parts. Raises PipelineFileError, which has every error and warning."""
    root, problems = _root(data, filename)
    pipeline, broken, nodes = _read(root, filename, problems)
    parts = read_parts(pipeline.jobs, read_part, problems)
    _check(pipeline, broken, nodes, root, parts, problems)
    env = root.get("env")
    whole = put_in(pipeline.jobs, nodes, parts, env if isinstance(env, MappingNode) else None, problems)
    if problems.has_errors:
        raise PipelineFileError(problems)
    return ParsedFile(replace(pipeline, jobs=whole.jobs), whole.nodes, problems, whole.of_parts)


def parse_alone(data: bytes, filename: str = FILE) -> LoneFile:
    """Read a file without its parts. Raises PipelineFileError, which has every error and warning."""
    root, problems = _root(data, filename)
    pipeline, broken, nodes = _read(root, filename, problems)
    _check(pipeline, broken, nodes, root, {}, problems)
    return LoneFile(pipeline, problems)


def _root(data: bytes, filename: str) -> tuple[MappingNode, Problems]:
    root, problems = read_document(data, filename)
    if root is None:
        problems.error(None, "the file is empty", hint="it has at least `jobs`")
        raise PipelineFileError(problems)
    if not isinstance(root, MappingNode):
        misplaced(root, "a map with `jobs`", Reading(problems))
        raise PipelineFileError(problems)
    return root, problems


def _read(
    root: MappingNode, filename: str, problems: Problems
) -> tuple[Pipeline, dict[str, Job], dict[str, MappingNode]]:
    """The pipeline as far as it can be read, what is known of its other jobs, and the nodes of all jobs."""
    reading = Reading(problems)
    values = _values(root, reading)
    nodes = job_nodes(
        values.pop("jobs", None), values.pop("defaults", None), root.get("env"), defined(root.get("services")), reading
    )
    jobs, broken = read_jobs(nodes, reading)
    return Pipeline(pipeline_name(filename), values.pop("on", EVERYTHING), jobs, **values), broken, nodes


def _check(
    pipeline: Pipeline,
    broken: Mapping[str, Job],
    nodes: Mapping[str, MappingNode],
    root: MappingNode,
    parts: Mapping[str, Part],
    problems: Problems,
) -> None:
    whole = {name: part.pipeline for name, part in parts.items() if not part.problems.has_errors}
    check_pipeline(pipeline, broken, nodes, root, whole, problems)
    if problems.has_errors:
        raise PipelineFileError(problems)


def _values(root: MappingNode, reading: Reading) -> dict[str, Any]:
    """What the file says beside its jobs, as far as it can be read."""
    try:
        return PIPELINE.read(root, reading)
    except Unreadable:
        found = {}
        for name, node in root.entries:
            key = PIPELINE.keys.get(name.text)
            if key is not None:
                try:
                    found[key.field or name.text] = key.shape.read(node, reading)
                except Unreadable:
                    continue
        return found
