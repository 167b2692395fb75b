"""A matrix of GitHub's: lists and combinations of ours, as far as the file alone says them."""

from __future__ import annotations

import re

from ci.convert.draft import DraftJob, Value, variable_name
from ci.convert.expressions import inside
from ci.convert.foreign import Foreign, Table
from ci.document import MappingNode, Scalar, SequenceNode


def put_matrix(foreign: Foreign, job: DraftJob, table: Table, axes: dict[str, str], env: dict[str, Value]) -> list[str]:
    """Put the matrix. Returns the values of the list that names machines.

    axes: what the lists are called here is added, by what GitHub's file calls them. env: variables of all jobs.
    """
    strategy = table.table("strategy")
    matrix = strategy.get("matrix")
    value: dict[str, Value] = {}
    systems: list[str] = []
    if matrix is not None and not isinstance(matrix, MappingNode):
        value["UNSURE"] = []
        foreign.remark(matrix.span, "a matrix that is made in a run is not converted")
    elif matrix is not None:
        runs_on = inside(table.text("runs-on") or "") if isinstance(table.get("runs-on"), Scalar) else ""
        for key, node in foreign.table(matrix, "`matrix`").entries():
            if key.text in ("include", "exclude"):
                continue
            if f"matrix.{key.text}" == runs_on:
                systems = foreign.words(node, f"values of {key.text}")
                if not isinstance(node, SequenceNode):
                    value["UNSURE"] = []
                axes[key.text] = variable_name(key.text)
                continue
            axes[key.text] = variable_name(key.text)
            if not isinstance(node, SequenceNode) or not all(isinstance(item, Scalar) for item in node.items):
                value["UNSURE"] = []
                foreign.remark(node.span, f"the values of {key.text} are no list of texts, and are not converted")
                continue
            value[axes[key.text]] = [_version(text) for text in foreign.words(node, key.text)]
        _rows(foreign, matrix, value, axes, bool(systems))
        _machines(foreign, env, job, systems, axes, runs_on, matrix)
    if value:
        if strategy.text("fail-fast") != "false":
            value["fail_fast"] = True
        if (most := strategy.text("max-parallel")) is not None:
            value["max_parallel"] = most
        job.put("matrix", value, table.place("strategy"))
    strategy.ignore("fail-fast", "max-parallel")
    strategy.leftovers()
    return systems


def _machines(
    foreign: Foreign,
    env: dict[str, Value],
    job: DraftJob,
    systems: list[str],
    axes: dict[str, str],
    runs_on: str,
    matrix: MappingNode,
) -> None:
    if not systems:
        return
    others = [system for system in systems if not system.startswith("ubuntu")]
    if others:
        foreign.remark(matrix.span, f"{job.name} does not run on {', '.join(others)[:100]}: there is only Linux")
    axis = runs_on.removeprefix("matrix.")
    linux = [system for system in systems if system.startswith("ubuntu")]
    if len(linux) > 1:
        foreign.remark(matrix.span, f"of {', '.join(linux)[:100]}, {linux[0]} is taken")
    if linux and axis in axes:
        env[axes[axis]] = linux[0]


def _rows(
    foreign: Foreign, matrix: MappingNode, value: dict[str, Value], axes: dict[str, str], has_systems: bool
) -> None:
    """`include` and `exclude`, as far as they are whole combinations."""
    lists = [name for name in value if name == name.upper() and name != "UNSURE"]
    for key in ("include", "exclude"):
        node = matrix.get(key)
        if node is None:
            continue
        if not isinstance(node, SequenceNode):
            value["UNSURE"] = []
            continue
        rows: list[Value] = []
        for item in node.items:
            row: dict[str, Value] = {}
            for name, inner in foreign.table(item, f"`{key}`").entries():
                if not lists and key == "include":
                    axes.setdefault(name.text, variable_name(name.text))
                row[variable_name(name.text)] = _version(foreign.text(inner, name.text) or "")
            wanted = set(lists) or {str(name) for name in (rows[0] if rows and isinstance(rows[0], dict) else row)}
            if key == "include" and set(row) != wanted:
                foreign.remark(item.span, "a combination to include has exactly the lists' names here; it is left out")
            elif key == "exclude" and not set(row) <= wanted:
                foreign.remark(item.span, "a combination to exclude has other names than the lists; it is left out")
            else:
                rows.append(row)
        if rows:
            value[key] = rows
        elif key == "include" and not lists and not has_systems:
            value["UNSURE"] = []


def _version(text: str) -> str:
    """``18.x`` is how setup actions write 18."""
    return re.sub(r"(?<=\d)\.x$", "", text)


def is_unsure(job: DraftJob) -> bool:
    """Whether the matrix that was put is not known before a run."""
    matrix = job.keys.get("matrix")
    return matrix is not None and isinstance(matrix.value, dict) and "UNSURE" in matrix.value
