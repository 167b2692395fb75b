"""The nodes of a file's jobs, by name, with the defaults in their places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ci.document import MappingNode, Node, Scalar
from ci.language.jobs import DEFAULTS, JOB_SHAPE, KINDS, USELESS
from ci.language.limits import MAX_JOBS
from ci.language.names import JOB_NAME
from ci.language.services import expanded
from ci.language.shapes import Reading, Unreadable, misplaced
from ci.model import Image, Job


def job_nodes(
    jobs: Node | None, defaults: Node | None, env: Node | None, services: Mapping[str, Node], reading: Reading
) -> dict[str, MappingNode]:
    """The jobs' nodes by name, each with what it has not itself, and has a use for, of the defaults and of ``env``.

    services: the definitions of those that jobs may name, which they have then in their places.
    """
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
    found: dict[str, MappingNode] = {}
    for key, node in jobs.entries:
        try:
            name = JOB_NAME.read(key, reading)
        except Unreadable:
            continue
        if isinstance(node, MappingNode):
            whole = with_variables(with_defaults(node, defaults), env)
            found[name] = _with_services(whole, services, reading)
        else:
            misplaced(node, "a job: a map", reading)
    return found


def with_defaults(node: MappingNode, defaults: Node | None) -> MappingNode:
    """A job with the keys that it has not itself, and has a use for. ``env`` is joined, name by name."""
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


def _with_services(node: MappingNode, definitions: Mapping[str, Node], reading: Reading) -> MappingNode:
    entries = (
        (key, expanded(value, definitions, reading) if key.text == "services" else value) for key, value in node.entries
    )
    return MappingNode(tuple(entries), node.span)


def with_variables(node: MappingNode, env: Node | None) -> MappingNode:
    """A job with these variables, below its own."""
    if env is None:
        return node
    return with_defaults(node, MappingNode(((Scalar("env", env.span, plain=True), env),), env.span))


class ReadJobs(NamedTuple):
    """Jobs as they were read. broken: those that could not be, with nothing but what says which jobs come before."""

    jobs: dict[str, Job]
    broken: dict[str, Job]


def read_jobs(nodes: Mapping[str, MappingNode], reading: Reading) -> ReadJobs:
    """The jobs of these nodes, with what is wrong in them among the problems."""
    found = ReadJobs({}, {})
    for name, node in nodes.items():
        try:
            found.jobs[name] = JOB_SHAPE.read(node, reading)
        except Unreadable as error:
            known = error.found or {}
            image = known.get("image")
            services = known.get("services", ())
            image = image if isinstance(image, Image) else None
            found.broken[name] = Job(needs=known.get("needs", ()), image=image, services=services)
    return found


def read_job(node: MappingNode, reading: Reading) -> Job | None:
    """The job of a node. None: it cannot be read, and the problems say why."""
    try:
        return JOB_SHAPE.read(node, reading)
    except Unreadable:
        return None


def _joined(own: Node, default: Node) -> Node:
    """Two maps of variables; the job's own count where both have one."""
    if isinstance(own, Scalar) and own.is_null:
        return default
    if not isinstance(own, MappingNode) or not isinstance(default, MappingNode):
        return own
    names = {key.text for key, _ in own.entries}
    return MappingNode((*own.entries, *(entry for entry in default.entries if entry[0].text not in names)), own.span)
