"""Drone's pipelines of docker's kind: all of a file's documents become one pipeline of ours."""

from __future__ import annotations

from typing import Final

from ci.convert import conditions
from ci.convert.conditions import Condition
from ci.convert.containersteps import Dialect, Steps
from ci.convert.draft import Draft, DraftJob, Entry, Value
from ci.convert.facts import DRONE
from ci.convert.foreign import Foreign, Table
from ci.convert.listening import put_on, remark_times
from ci.convert.order import put_after
from ci.document import MappingNode, Node, Scalar
from dockerfile_grammar.source import Span

DIALECT: Final = Dialect(
    prefixes=("DRONE_",),
    variables=DRONE,
    nearly={
        "DRONE_BRANCH": ("${SHIPLAP_BRANCH}", "of a pull request, DRONE_BRANCH was the target branch"),
        "DRONE_COMMIT_BRANCH": ("${SHIPLAP_BRANCH}", "of a pull request, DRONE_COMMIT_BRANCH was the target branch"),
        "DRONE_COMMIT_MESSAGE": ("${SHIPLAP_TITLE}", "DRONE_COMMIT_MESSAGE has only the first line here"),
        "DRONE_REPO_NAME": ("${SHIPLAP_PROJECT}", "DRONE_REPO_NAME is the name of the project here"),
    },
    builders=("plugins/docker", "plugins/kaniko", "thegeeklab/drone-docker-buildx"),
)
_EVENTS: Final = {"push": "push", "pull_request": "pull_request", "tag": "tag", "cron": "cron", "custom": "manual"}
_ELSEWHERE: Final = ("secret", "signature", "cron")


def convert_drone(foreign: Foreign) -> Draft:
    """One file. Raises PipelineFileError when it has no pipeline."""
    tables = [foreign.table(root, "the document") for root in foreign.roots if isinstance(root, MappingNode)]
    pipelines = [table for table in tables if table.text("kind") in ("pipeline", None) and "steps" in table]
    if not pipelines:
        raise foreign.refuse(None, "this file has no pipeline of Drone's", "it is a map with `kind: pipeline`")
    for table in tables:
        if table not in pipelines:
            kind = table.text("kind") or "document"
            foreign.remark(table.span, f"a {kind} is nothing that a file here has")
    draft = Draft()
    known: dict[str, list[DraftJob]] = {}
    for number, table in enumerate(pipelines, 1):
        name = table.text("name") or f"pipeline-{number}"
        known[name] = _pipeline(foreign, draft, table, name if len(pipelines) > 1 else "", known)
    return draft


def _pipeline(
    foreign: Foreign, draft: Draft, table: Table, name: str, known: dict[str, list[DraftJob]]
) -> list[DraftJob]:
    trigger, after = _when(foreign, table.get("trigger"), "the pipeline")
    listening = trigger if name else put_on(foreign, draft, table.span, trigger)
    steps = Steps(foreign, draft, DIALECT, {}, f"{name}-" if name else "")
    for own, span, service in steps.named(table.get("services"), "service"):
        steps.service(own, span, service)
    for own, span, step in steps.named(table.get("steps"), "step"):
        before = len(steps.jobs)
        steps.step(own, span, step)
        if len(steps.jobs) > before:
            when, own_after = _when(foreign, step.get("when"), own)
            steps.end(step, steps.jobs[-1], conditions.both(when, listening), own_after)
    steps.order()
    if after != "success":
        foreign.remark(table.span, "a pipeline that runs after another one's failure is not converted as one")
    _after_others(foreign, table, steps.jobs, known)
    _surroundings(foreign, table, draft, steps.jobs)
    return steps.jobs


def _after_others(foreign: Foreign, table: Table, jobs: list[DraftJob], known: dict[str, list[DraftJob]]) -> None:
    """Let the first jobs of a pipeline come after the last ones of those that it depends on."""
    groups: list[list[DraftJob]] = []
    for text, span in table.texts("depends_on"):
        if text not in known:
            foreign.remark(span, f"it depends on {text}, which is not before it in this file; its jobs fail")
            for job in jobs:
                job.becomes_a_failure(f"it comes after {text}")
            return
        groups.append(known[text])
    if not groups:
        return
    for job in jobs:
        if not job.needs:
            needed: list[Value] = []
            for group in groups:
                job.keys.pop("needs", None)
                put_after(job, [[other] for other in group])
                needed += job.texts("needs") if "needs" in job.keys else []
            job.put("needs", list(dict.fromkeys(map(str, needed))))
    foreign.remark(table.place("depends_on"), "its jobs also see the files that the pipelines before it have left")


def _surroundings(foreign: Foreign, table: Table, draft: Draft, jobs: list[DraftJob]) -> None:
    table.ignore("kind", "name")
    kind = table.text("type")
    if kind not in (None, "docker", "kubernetes"):
        foreign.remark(table.place("type"), f"pipelines of type {kind} run on a host; here all jobs run in containers")
        for job in jobs:
            job.becomes_a_failure(f"it ran on a host ({kind})")
    platform = table.table("platform")
    system, machine = platform.text("os") or "linux", platform.text("arch")
    if system != "linux":
        foreign.remark(platform.span, f"there are no jobs of {system} here; these fail")
        for job in jobs:
            job.becomes_a_failure(f"it ran on {system}")
    elif machine:
        for job in jobs:
            if "run" in job.keys:
                job.put("platform", f"linux/{machine}", platform.span)
    platform.leftovers()
    _clone(foreign, table.table("clone"), draft)
    limit = table.table("concurrency").text("limit")
    if limit:
        place = table.place("concurrency")
        draft.top["concurrency"] = Entry({"group": "pipeline", "limit": limit}, place)
    for key in ("node", "volumes", "workspace", "image_pull_secrets", "environment", "pool"):
        table.remark(key, f"`{key}` of the pipeline is not converted")
    table.leftovers()


def _clone(foreign: Foreign, table: Table, draft: Draft) -> None:
    if table.truth("disable"):
        draft.top["source"] = Entry({"history": "0"}, table.span)
        foreign.remark(table.span, "the files of the commit are always there; only `.git` is left out")
    elif depth := table.text("depth"):
        draft.top["source"] = Entry({"history": depth}, table.span)
        if len(foreign.roots) > 1:
            foreign.remark(table.span, "how many commits are fetched is said once, for all pipelines of the file")
    table.leftovers()


def _when(foreign: Foreign, node: Node | None, what: str) -> tuple[Condition, str]:
    if node is None or (isinstance(node, Scalar) and node.is_null):
        return conditions.ALWAYS, "success"
    table = foreign.table(node, f"the conditions of {what}")
    found: Condition = conditions.ALWAYS
    states = {"success"}
    for key, value in table.entries():
        included, excluded = _both_lists(foreign, value, key.text)
        match key.text:
            case "event":
                found = conditions.both(found, _events(foreign, included, excluded))
            case "branch":
                found = conditions.both(found, _branches(foreign, value.span, included, excluded))
            case "ref" if not excluded:
                found = conditions.both(found, conditions.of_references(text for text, _ in included))
            case "status":
                states = {text for text, _ in included} or states
            case _:
                foreign.remark(key.span, f"the condition `{key.text}` of {what} is not converted")
                found = conditions.both(found, conditions.UNKNOWN)
    after = "always" if states >= {"success", "failure"} else "failure" if "failure" in states else "success"
    return found, after


def _both_lists(foreign: Foreign, node: Node, what: str) -> tuple[list[tuple[str, Span]], list[tuple[str, Span]]]:
    if not isinstance(node, MappingNode):
        return foreign.texts(node, f"`{what}`"), []
    table = foreign.table(node, f"`{what}`")
    found = table.texts("include"), table.texts("exclude")
    table.leftovers()
    return found


def _events(foreign: Foreign, included: list[tuple[str, Span]], excluded: list[tuple[str, Span]]) -> Condition:
    for text, span in (*included, *excluded):
        if text not in _EVENTS:
            foreign.remark(span, f"there is no event {text} here")
    for text, span in included:
        if text == "cron":
            remark_times(foreign, span)
    named = [_EVENTS[text] for text, _ in included if text in _EVENTS] if included else list(conditions.EVENTS)
    without = {_EVENTS[text] for text, _ in excluded if text in _EVENTS}
    left = tuple(event for event in named if event not in without)
    return conditions.fact("event", *left) if left else conditions.NEVER


def _branches(
    foreign: Foreign, span: Span, included: list[tuple[str, Span]], excluded: list[tuple[str, Span]]
) -> Condition:
    """Of a pull request the target's."""
    meant = conditions.patterns([text for text, _ in included])
    without = conditions.patterns([text for text, _ in excluded], excluded=True)
    if meant is None or without is None or not (meant or without):
        foreign.remark(span, "these patterns of `branch` cannot be said here")
        return conditions.UNKNOWN
    globs = (*meant, *(without[1:] if meant else without))
    return ({"event": ("push", "manual", "cron"), "branch": globs}, {"event": ("pull_request",), "target": globs})
