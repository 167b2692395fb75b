"""Woodpecker's workflows: each file a pipeline of ours."""

from __future__ import annotations

from typing import Final

from ci.convert import conditions
from ci.convert.conditions import Condition
from ci.convert.containersteps import Dialect, Steps
from ci.convert.draft import Draft, Entry, Value, variable_name
from ci.convert.facts import WOODPECKER
from ci.convert.foreign import Foreign, Table
from ci.convert.listening import put_on, remark_times
from ci.convert.order import with_matrix
from ci.document import MappingNode, Node, Scalar, SequenceNode

_OF_PULL_REQUESTS: Final = "of a pull request, {} was the target branch; here it is the branch itself"
DIALECT: Final = Dialect(
    prefixes=("CI_",),
    variables=WOODPECKER,
    nearly={
        "CI_COMMIT_BRANCH": ("${SHIPLAP_BRANCH}", _OF_PULL_REQUESTS.format("CI_COMMIT_BRANCH")),
        "CI_COMMIT_MESSAGE": ("${SHIPLAP_TITLE}", "CI_COMMIT_MESSAGE has only the first line here"),
        "CI_REPO_NAME": ("${SHIPLAP_PROJECT}", "CI_REPO_NAME is the name of the project here"),
    },
    builders=(
        "woodpeckerci/plugin-docker-buildx", "woodpeckerci/plugin-kaniko", "plugins/docker", "plugins/kaniko",
        "codeberg.org/woodpecker-plugins/docker-buildx", "woodpeckerci/plugin-docker",
    ),
)  # fmt: skip
_EVENTS: Final = {
    "push": ("push",), "pull_request": ("pull_request",), "tag": ("tag",), "cron": ("cron",), "manual": ("manual",),
}  # fmt: skip
_BY_HAND: Final = ("push", "manual", "cron")


def convert_woodpecker(foreign: Foreign) -> Draft:
    """One workflow. Raises PipelineFileError when it has none."""
    if len(foreign.roots) != 1 or not isinstance(foreign.roots[0], MappingNode):
        raise foreign.refuse(None, "this is no workflow of Woodpecker", "it is one map with `steps`")
    root = foreign.table(foreign.roots[0], "the workflow")
    if "steps" not in root and "pipeline" not in root:
        raise foreign.refuse(root.span, "this is no workflow of Woodpecker: it has no `steps`")
    draft = Draft()
    matrix, names = _matrix(root)
    listening = put_on(foreign, draft, root.span, _when(foreign, root.get("when"), "the workflow")[0])
    steps = Steps(foreign, draft, DIALECT, names, "")
    for key in ("services",):
        for name, span, table in steps.named(root.get(key), "service"):
            steps.service(name, span, table)
    for name, span, table in steps.named(root.get("steps" if "steps" in root else "pipeline"), "step"):
        before = len(steps.jobs)
        steps.step(name, span, table)
        if len(steps.jobs) > before:
            when, after = _when(foreign, table.get("when"), name)
            steps.end(table, steps.jobs[-1], conditions.both(when, listening), after)
    _finish(foreign, root, steps, matrix)
    return draft


def _finish(foreign: Foreign, root: Table, steps: Steps, matrix: Entry | None) -> None:
    steps.order()
    platform = root.text("platform")
    labels = root.table("labels")
    platform = platform or labels.text("platform")
    for job in steps.jobs:
        if matrix is not None:
            job.put("matrix", matrix.value, matrix.span)
        if platform and "build" not in job.keys:
            job.put("platform", platform)
    if matrix is not None:
        with_matrix(steps.draft)
    labels.leftovers()
    _clone(root, steps.draft)
    root.ignore("variables", "version")
    root.remark("depends_on", "a pipeline waits for no other one", "put the jobs of both into one file, with `needs`")
    root.remark("runs_on", "a pipeline waits for no other one, and so for no other's failure")
    root.remark("workspace", "the files of the commit are in /work, wherever `workspace` had them")
    if root.truth("skip_clone"):
        steps.draft.top["source"] = Entry({"history": "0"}, root.place("skip_clone"))
        foreign.remark(root.place("skip_clone"), "the files of the commit are always there; only `.git` is left out")
    root.leftovers()


def _clone(root: Table, draft: Draft) -> None:
    node = root.get("clone")
    if isinstance(node, SequenceNode) and len(node.items) == 1:
        node = node.items[0]
    if node is None:
        return
    table = root.foreign.table(node, "`clone`")
    if "git" in table:
        table = table.table("git")
    table.ignore("name", "image")
    settings = table.table("settings")
    source: dict[str, Value] = {}
    if depth := settings.text("depth"):
        source["history"] = depth
    for theirs, ours in (("lfs", "lfs"), ("recursive", "submodules"), ("submodules", "submodules")):
        if settings.truth(theirs):
            source[ours] = True
    settings.ignore("tags", "partial")
    settings.leftovers()
    table.leftovers()
    if source:
        draft.top["source"] = Entry(source, root.place("clone"))


def _matrix(root: Table) -> tuple[Entry | None, dict[str, str]]:
    """The jobs' matrix, and by the names of its values what ``${NAME}`` is here."""
    if "matrix" not in root:
        return None, {}
    foreign, span = root.foreign, root.place("matrix")
    table = root.table("matrix")
    value: dict[str, Value] = {}
    names: dict[str, str] = {}
    for key, node in table.entries():
        if key.text == "include" and isinstance(node, SequenceNode):
            rows: list[Value] = []
            for item in node.items:
                row: dict[str, Value] = {}
                for name, inner in foreign.table(item, "`include`").entries():
                    row[_axis(name, names)] = foreign.text(inner, f"a value of {name.text}") or ""
                rows.append(row)
            value["include"] = rows
        else:
            value[_axis(key, names)] = list(foreign.words(node, f"values of {key.text}"))
    return Entry(value, span), names


def _axis(key: Scalar, names: dict[str, str]) -> str:
    name = variable_name(key.text)
    names[key.text] = f"${{{name}}}"
    return name


def _when(foreign: Foreign, node: Node | None, what: str) -> tuple[Condition, str]:
    """When a step, or the workflow, is run, and after which end of those before it."""
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return conditions.ALWAYS, "success"
    maps = node.items if isinstance(node, SequenceNode) else (node,)
    found: Condition = conditions.NEVER
    states: set[str] = set()
    for each in maps:
        table = foreign.table(each, f"`when` of {what}")
        found = conditions.either(found, _of_map(table))
        states |= {text for text, _ in table.texts("status")} or {"success"}
        table.leftovers()
    after = "always" if states >= {"success", "failure"} else "failure" if "failure" in states else "success"
    return found, after


def _of_map(table: Table) -> Condition:
    found: Condition = conditions.ALWAYS
    for key, node in table.node.entries:
        match key.text:
            case "event":
                found = conditions.both(found, _events(table))
            case "branch":
                found = conditions.both(found, _branch(table, node))
            case "path":
                found = conditions.both(found, _path(table, node))
            case "ref":
                found = conditions.both(found, conditions.of_references(text for text, _ in table.texts("ref")))
            case "status":
                continue
            case "local":
                table.ignore("local")
            case other:
                table.remark(other, f"the condition `{other}` of {table.what} is not converted")
                found = conditions.UNKNOWN if found != conditions.NEVER else found
    return found


def _events(table: Table) -> Condition:
    named = [event for text, _ in table.texts("event") for event in _EVENTS.get(text, ())]
    others = [(text, span) for text, span in table.texts("event") if text not in _EVENTS]
    for text, span in table.texts("event"):
        if text == "cron":
            remark_times(table.foreign, span)
    for text, span in others:
        table.foreign.remark(span, f"there is no event {text} here")
    return conditions.fact("event", *named) if named else conditions.NEVER


def _branch(table: Table, node: Node) -> Condition:
    """Of a pull request the target's; tags are not asked for theirs."""
    globs = _globs(table, node, "branch")
    if globs is None:
        return conditions.UNKNOWN
    return ({"event": _BY_HAND, "branch": globs}, {"event": ("pull_request",), "target": globs}, {"event": ("tag",)})


def _path(table: Table, node: Node) -> Condition:
    """Only pushes and pull requests have files that changed."""
    if isinstance(node, MappingNode) and (node.get("ignore_message") or node.get("on_empty")):
        table.remark("path", "`ignore_message` and `on_empty` are not converted")
    globs = _globs(table, node, "path")
    if globs is None:
        return conditions.UNKNOWN
    return ({"paths": globs},)


def _globs(table: Table, node: Node, key: str) -> tuple[str, ...] | None:
    table.ignore(key)
    if not isinstance(node, MappingNode):
        found = conditions.patterns(table.foreign.words(node, f"`{key}`"))
    else:
        inner = table.table(key)
        include = conditions.patterns([text for text, _ in inner.texts("include")])
        exclude = conditions.patterns([text for text, _ in inner.texts("exclude")], excluded=True)
        inner.ignore("ignore_message", "on_empty")
        inner.leftovers()
        found = None if include is None or exclude is None else (*include, *(exclude[1:] if include else exclude))
    if not found:
        table.foreign.remark(node.span, f"these patterns of `{key}` cannot be said here")
        return None
    return found
