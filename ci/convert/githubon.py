"""What starts a workflow of GitHub's: events, times, and what is asked of who starts it by hand."""

from __future__ import annotations

from ci.convert import conditions
from ci.convert.draft import Draft, Entry, Value, variable_name
from ci.convert.foreign import Foreign, Table
from ci.document import MappingNode, Node, Scalar, SequenceNode
from dockerfile_grammar.source import Span

_USUAL_TYPES = frozenset({"opened", "synchronize", "reopened"})


def put_on_and_params(foreign: Foreign, draft: Draft, root: Table) -> dict[str, str]:
    """Put `on` and `params`. Returns the names of parameters by those of the inputs."""
    node = root.get("on")
    found: dict[str, Value] = {}
    params: dict[str, str] = {}
    for name, span, value in _events(foreign, node):
        match name:
            case "push":
                _push(foreign, value, span, found)
            case "pull_request":
                _pull_request(foreign, value, span, found)
            case "workflow_dispatch":
                found["manual"] = {}
                params = _inputs(foreign, draft, value)
            case "schedule":
                _schedule(foreign, value, span, found)
            case "pull_request_target":
                foreign.remark(span, "pull_request_target gives a fork's run secrets, which nothing here does")
            case _:
                foreign.remark(span, f"there is no event {name[:40]} here")
    place = root.place("on") if "on" in root else root.span
    if not found:
        foreign.remark(place, "nothing that starts it is converted: it is run by hand only", "say it in `on`")
        draft.top["on"] = Entry("manual", place)
    else:
        draft.top["on"] = Entry(found if any(found.values()) else list(found), place)
    return params


def _events(foreign: Foreign, node: Node | None) -> list[tuple[str, Span, Node | None]]:
    if isinstance(node, MappingNode):
        return [(key.text, key.span, value) for key, value in node.entries]
    if isinstance(node, (SequenceNode, Scalar)):
        return [(text, span, None) for text, span in foreign.texts(node, "`on`")]
    return []


def _push(foreign: Foreign, node: Node | None, span: Span, found: dict[str, Value]) -> None:
    table = foreign.table(node, "`push`")
    has_branches = any(key in table for key in ("branches", "branches-ignore"))
    has_tags = any(key in table for key in ("tags", "tags-ignore"))
    branches = _patterns(table, "branches")
    tags = _patterns(table, "tags")
    paths = _patterns(table, "paths")
    if None in (branches, tags, paths):
        foreign.remark(span, "pushes do not start it until `on` says which")
    else:
        narrowed: dict[str, Value] = {}
        if branches:
            narrowed["branches"] = list(branches)
        if paths:
            narrowed["paths"] = list(paths)
        if has_branches or not has_tags:
            found["push"] = narrowed
        if has_tags or (not has_branches and not paths):
            found["tag"] = {"tags": list(tags)} if tags else {}
    table.leftovers()


def _pull_request(foreign: Foreign, node: Node | None, span: Span, found: dict[str, Value]) -> None:
    table = foreign.table(node, "`pull_request`")
    types = {text for text, _ in table.texts("types")}
    if types - _USUAL_TYPES:
        table.remark("types", "a pull request is run when it is opened and when it changes, and at nothing else")
    branches, paths = _patterns(table, "branches"), _patterns(table, "paths")
    if branches is None or paths is None:
        foreign.remark(span, "pull requests do not start it until `on` says which")
    elif types and not types & _USUAL_TYPES:
        foreign.remark(span, "pull requests do not start it")
    else:
        value: dict[str, Value] = {}
        if branches:
            value["branches"] = list(branches)
        if paths:
            value["paths"] = list(paths)
        found["pull_request"] = value
    table.leftovers()


def _patterns(table: Table, key: str) -> tuple[str, ...] | None:
    """Of `KEY` or `KEY-ignore`; (): neither is there. None: they cannot be said, which is listed."""
    meant = conditions.patterns([text for text, _ in table.texts(key)])
    without = conditions.patterns([text for text, _ in table.texts(f"{key}-ignore")], excluded=True)
    for found, name in ((meant, key), (without, f"{key}-ignore")):
        if found is None:
            table.foreign.remark(table.place(name), f"these patterns of `{name}` cannot be said here")
            return None
    return (*(meant or ()), *(without or ()))


def _schedule(foreign: Foreign, node: Node | None, span: Span, found: dict[str, Value]) -> None:
    times: list[Value] = []
    for item in node.items if isinstance(node, SequenceNode) else ():
        table = foreign.table(item, "a time")
        text = table.text("cron")
        if text is not None:
            times.append({"at": text})
        table.leftovers()
    if times:
        found["cron"] = times
    else:
        foreign.remark(span, "no time is said here")


def _inputs(foreign: Foreign, draft: Draft, node: Node | None) -> dict[str, str]:
    names: dict[str, str] = {}
    values: dict[str, Value] = {}
    table = foreign.table(node, "`workflow_dispatch`")
    for key, inner in table.table("inputs").entries():
        given = foreign.table(inner, f"the input {key.text}")
        name = variable_name(key.text)
        kind = given.text("type") or "string"
        value: dict[str, Value] = {}
        choices = [text for text, _ in given.texts("options")]
        default = given.text("default")
        if kind in ("boolean", "number", "choice"):
            value["type"] = kind
        elif kind != "string":
            foreign.remark(given.place("type"), f"an input of type {kind} is a text here")
        if choices:
            value["choices"] = list(choices)
        if default is None:
            default = {"boolean": "false", "number": "0", "choice": choices[0] if choices else ""}.get(kind, "")
            if given.truth("required"):
                foreign.remark(
                    key.span, f"a parameter is never required: {name} is {default or 'empty'} unless it is given"
                )
        value["default"] = default.lower() if kind == "boolean" else default
        if (about := given.text("description")) is not None:
            value["about"] = about
        given.ignore("required", "deprecationMessage")
        given.leftovers()
        values[name] = value
        names[key.text] = name
    table.leftovers()
    if values:
        draft.top["params"] = Entry(values, table.span)
    return names
