"""What GitLab's jobs are multiplied by, and what they have beside them: `parallel` and `services`."""

from __future__ import annotations

import re
from typing import Protocol

from ci.convert.draft import Draft, DraftJob, Entry, Value, job_name, variable_name
from ci.convert.foreign import Foreign, Table
from ci.document import MappingNode, Node, Scalar, SequenceNode
from dockerfile_grammar.source import Span


class Conversion(Protocol):
    """What is known of a file."""

    foreign: Foreign
    draft: Draft
    variables: dict[str, Value]

    def value(self, text: str, span: Span, variables: dict[str, Value], axes: dict[str, str]) -> str: ...

    def read_variables(self, node: Node | None, axes: dict[str, str]) -> dict[str, Value]: ...


def put_matrix(foreign: Foreign, job: DraftJob, table: Table) -> dict[str, str]:
    """Put `parallel`. Returns what its values are called here, by what GitLab's file calls them."""
    node = table.get("parallel")
    axes: dict[str, str] = {}
    if node is None:
        return axes
    place = table.place("parallel")
    if isinstance(node, Scalar):
        count = int(node.text) if re.fullmatch(r"\d{1,3}", node.text) else 0
        if not 1 < count <= 64:
            foreign.remark(place, "a job has from 2 to 64 of its kind here; there is one")
            return axes
        job.put("matrix", {"CI_NODE_INDEX": [str(number) for number in range(1, count + 1)]}, place)
        job.env()["CI_NODE_TOTAL"] = str(count)
        return {"CI_NODE_INDEX": "CI_NODE_INDEX", "CI_NODE_TOTAL": "CI_NODE_TOTAL"}
    matrix = foreign.table(node, "`parallel`").get("matrix")
    maps = matrix.items if isinstance(matrix, SequenceNode) else ()
    value: dict[str, Value] = {}
    for item in maps:
        for key, inner in foreign.table(item, "`matrix`").entries():
            axes[key.text] = variable_name(key.text)
            value[axes[key.text]] = list(foreign.words(inner, f"values of {key.text}"))
    if len(maps) != 1:
        value = _rows(foreign, maps, axes)
    if not value:
        foreign.remark(place, f"this matrix is not converted; {job.name} fails")
        job.becomes_a_failure("its matrix")
        return axes
    job.put("matrix", value, place)
    return axes


def _rows(foreign: Foreign, maps: tuple[Node, ...], axes: dict[str, str]) -> dict[str, Value]:
    """Several maps: all combinations of each, where they have the same names."""
    rows: list[Value] = []
    for item in maps:
        combinations: list[dict[str, Value]] = [{}]
        for key, inner in foreign.table(item, "`matrix`").entries():
            words = foreign.words(inner, key.text)
            combinations = [{**row, axes[key.text]: word} for row in combinations for word in words][:100]
        rows += combinations
    same = all(isinstance(row, dict) and set(row) == set(axes.values()) for row in rows)
    return {"include": rows[:100]} if rows and same else {}


_VERIFY = "DOCKER_TLS_VERIFY"
_OF_DOCKER = ("DOCKER_HOST", "DOCKER_TLS_CERTDIR", "DOCKER_CERT_PATH", _VERIFY)


def put_services(
    conversion: Conversion, job: DraftJob, node: Node | None, own: dict[str, Value], axes: dict[str, str]
) -> None:
    """Put the services that a job has beside it; jobs that say the same share a definition."""
    names: list[Value] = []
    for item in node.items if isinstance(node, SequenceNode) else ():
        value: dict[str, Value] = {}
        alias: str | None = None
        if isinstance(item, MappingNode):
            table = conversion.foreign.table(item, "a service")
            image, alias = table.text("name") or "", table.text("alias")
            if command := [text for text, _ in table.texts("command")]:
                value["args"] = list(command)
            table.ignore("pull_policy")
            variables = conversion.read_variables(table.get("variables"), axes)
            table.leftovers()
        else:
            image, variables = conversion.foreign.text(item, "a service") or "", {}
        written = conversion.value(image, item.span, {**conversion.variables, **own}, axes)
        wanted = (alias or _host(image)).split(",")[0].split(" ")[0]
        name = job_name(wanted, {})
        env = {**conversion.variables, **own, **variables}
        whole: dict[str, Value] = {"image": written, **value, **({"env": env} if env else {})}
        if "docker" in _host(image) and "dind" in image:
            _put_engine(conversion, job, item)
            continue
        if name in conversion.draft.services and conversion.draft.services[name].value != whole:
            name = job_name(f"{wanted}-{job.name}", conversion.draft.services)
        if name != wanted:
            conversion.foreign.remark(
                item.span, f"the service {wanted} is called {name} here: what reaches it has to say so"
            )
        conversion.draft.services[name] = Entry(whole, item.span)
        if name not in names:
            names.append(name)
    if names:
        job.put("services", names)


def _put_engine(conversion: Conversion, job: DraftJob, item: Node) -> None:
    """Have an engine of the job's own in the place of docker in docker."""
    conversion.foreign.remark(
        item.span,
        f"docker in docker becomes `engine: true` of {job.name}, which sets DOCKER_HOST",
        "nothing in it is privileged; what it pushes, it pushes with a `docker login` of its own",
    )
    job.put("engine", True, item.span)
    if "env" in job.keys:
        env = job.env()
        for name in _OF_DOCKER:
            env.pop(name, None)
        if not env:
            del job.keys["env"]
    if _VERIFY in conversion.variables:
        job.env()[_VERIFY] = ""  # which is for TCP


def _host(image: str) -> str:
    """What GitLab calls a service by its image: without the tag, `/` as `-`."""
    name = image.partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    return name.replace("/", "-")
