"""When GitLab runs a job: `rules`, `only` and `except`, as facts."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from ci.convert import conditions
from ci.convert.conditions import Condition
from ci.convert.expressions import split_at, unwrapped
from ci.convert.foreign import Foreign, Table
from ci.convert.listening import remark_times
from ci.document import MappingNode, Node, SequenceNode

BRANCHES: Final = ("push", "manual", "cron")
"""Events whose pipelines are of a branch."""

USUAL: Final[Condition] = ({"event": ("push", "tag", "manual", "cron")},)
"""Where a job is that has no rules: not in the pipelines of merge requests."""

_SOURCES: Final = {
    "push": ("push", "tag"), "merge_request_event": ("pull_request",), "schedule": ("cron",), "web": ("manual",),
    "api": ("manual",), "external_pull_request_event": (), "trigger": (), "pipeline": (), "parent_pipeline": (),
}  # fmt: skip
_COMPARED: Final = re.compile(
    r"\$(?P<name>\w+)\s*(?P<sign>==|!=|=~|!~)\s*(?:\"(?P<text>[^\"]*)\"|'(?P<other>[^']*)'|/(?P<regex>.*)/(?P<any_case>i?)|\$(?P<var>\w+)|(?P<null>null))"
)
_LONGEST: Final = 2000
_PRESENT: Final = re.compile(r"\$(\w+)")
_START: Final = re.compile(r"\^([A-Za-z0-9_/-]+)(?:\.\*\$?|\\d\+?.*|\[0-9\].*)?")
_WHOLE: Final = re.compile(r"\^([A-Za-z0-9_/-]+)\$")


class Ruled(NamedTuple):
    """What the rules of a job say.

    when: the job is in a run.
    how: ``on_success``, ``manual``, ``always``, ``on_failure`` or ``delayed``.

    may_fail: what the rules say of it. None: nothing.
    """

    when: Condition
    how: str
    may_fail: bool | None


class Rules:
    """Reads conditions. default_branch: what the project's is called; empty: nobody said."""

    def __init__(self, foreign: Foreign, default_branch: str) -> None:
        self.foreign = foreign
        self.default_branch = default_branch

    def of_list(self, node: Node | None, what: str) -> Ruled:
        """The first rule that fits decides; if none does, the job is not in the run."""
        left: Condition = conditions.ALWAYS
        found: Condition = conditions.NEVER
        hows: list[str] = []
        may_fail: bool | None = None
        items = node.items if isinstance(node, SequenceNode) else ()
        flat = [inner for item in items for inner in (item.items if isinstance(item, SequenceNode) else (item,))]
        for item in flat:
            if self.foreign.tag(item) == "!reference":
                self.foreign.remark(item.span, f"rules of {what} that stand elsewhere are not converted")
                found = conditions.UNKNOWN
                continue
            rule = self.foreign.table(item, f"a rule of {what}")
            here = conditions.both(self._of_rule(rule), left)
            how = rule.text("when") or "on_success"
            if how == "never":
                left = conditions.both(left, conditions.opposite(self._of_rule(rule)))
                if left is None:
                    self.foreign.remark(rule.span, "what this rule leaves out cannot be said here")
            else:
                found = conditions.either(found, here)
                hows.append(how)
            if "allow_failure" in rule:
                may_fail = rule.truth("allow_failure")
            rule.remark("variables", "variables of a rule are not converted")
            rule.ignore("interruptible")
            rule.remark("needs", "needs of a rule are not converted")
            rule.leftovers()
        if len(set(hows)) > 1:
            self.foreign.remark(
                items[0].span, f"{what} is run in several ways by its rules: {hows[0]} is taken for all"
            )
            if "manual" in hows:
                hows = ["manual"]
        return Ruled(found, hows[0] if hows else "on_success", may_fail)

    def _of_rule(self, rule: Table) -> Condition:
        found: Condition = conditions.ALWAYS
        text = rule.text("if")
        if text is not None:
            found = self.of_text(text)
            if "schedule" in text:
                remark_times(self.foreign, rule.place("if"))
            if found is None:
                self.foreign.remark(rule.place("if"), f"this condition is not one of facts: {text[:100]}")
        node = rule.get("changes")
        if node is not None:
            if isinstance(node, MappingNode):
                inner = rule.table("changes")
                words = [word for word, _ in inner.texts("paths")]
                inner.remark("compare_to", "with which commit files are compared is not said here")
            else:
                words = self.foreign.words(node, "`changes`")
            globs = conditions.patterns(words)
            if not globs:
                self.foreign.remark(node.span, "these patterns of `changes` cannot be said here")
            found = conditions.both(found, ({"paths": globs},) if globs else conditions.UNKNOWN)
        if "exists" in rule:
            rule.remark("exists", "whether a file exists decides nothing here")
            found = conditions.both(found, conditions.UNKNOWN)
        return found

    def of_text(self, text: str, depth: int = 0) -> Condition:
        """What an `if` means."""
        if depth > 20 or len(text) > _LONGEST:
            return conditions.UNKNOWN
        text = unwrapped(text)
        if len(parts := split_at(text, "||")) > 1:
            return conditions.any_of(self.of_text(part, depth + 1) for part in parts)
        if len(parts := split_at(text, "&&")) > 1:
            found: Condition = conditions.ALWAYS
            for part in parts:
                found = conditions.both(found, self.of_text(part, depth + 1))
            return found
        if match := _PRESENT.fullmatch(text):
            return self._present(match[1])
        match = _COMPARED.fullmatch(text)
        return self._compared(match) if match else conditions.UNKNOWN

    def _present(self, name: str) -> Condition:
        match name:
            case "CI_COMMIT_TAG":
                return conditions.fact("event", "tag")
            case "CI_COMMIT_BRANCH":
                return conditions.fact("event", *BRANCHES)
            case "CI_MERGE_REQUEST_ID" | "CI_MERGE_REQUEST_IID":
                return conditions.fact("event", "pull_request")
        return conditions.UNKNOWN

    def _compared(self, match: re.Match[str]) -> Condition:
        name, sign = match["name"], match["sign"]
        value = match["text"] if match["text"] is not None else match["other"]
        if match["var"] == "CI_DEFAULT_BRANCH" and self.default_branch:
            value = self.default_branch
        is_not = sign.startswith("!")
        if match["null"]:
            present = self._present(name)
            return present if is_not else conditions.opposite(present)
        if match["regex"] is not None and sign in ("=~", "!~"):
            # A pattern here is of one case: what it does not fit, another one would, and that may be what is left out.
            pattern = None if match["any_case"] else _pattern(match["regex"])
            return self._equals(name, pattern) if pattern and not is_not else conditions.UNKNOWN
        if value is None or sign in ("=~", "!~") or any(character in value for character in "*!?[]\\"):
            return conditions.UNKNOWN
        found = self._equals(name, value)
        return self._differs(name, value) if is_not else found

    def _equals(self, name: str, value: str) -> Condition:
        match name:
            case "CI_PIPELINE_SOURCE":
                named = _SOURCES.get(value)
                if named is None:
                    return conditions.UNKNOWN
                return conditions.fact("event", *named) if named else conditions.NEVER
            case "CI_COMMIT_BRANCH":
                return ({"event": BRANCHES, "branch": (value,)},)
            case "CI_COMMIT_TAG":
                return ({"event": ("tag",), "tag": (value,)},)
            case "CI_COMMIT_REF_NAME":
                return (
                    {"event": (*BRANCHES, "pull_request"), "branch": (value,)},
                    {"event": ("tag",), "tag": (value,)},
                )
            case "CI_MERGE_REQUEST_TARGET_BRANCH_NAME":
                return ({"event": ("pull_request",), "target": (value,)},)
            case "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME":
                return ({"event": ("pull_request",), "branch": (value,)},)
        return conditions.UNKNOWN

    def _differs(self, name: str, value: str) -> Condition:
        if name == "CI_PIPELINE_SOURCE":
            return conditions.opposite(self._equals(name, value))
        if name == "CI_COMMIT_BRANCH":
            return (
                {"event": BRANCHES, "branch": ("**", f"!{value}")},
                {"event": ("tag", "pull_request")},
            )
        return conditions.UNKNOWN

    def of_refs(self, node: Node | None, what: str) -> Condition:
        """What `only` means: all of its keys fit. None is also what has keys that are no facts."""
        found: Condition = conditions.ALWAYS if node is not None else conditions.NEVER
        for condition in self._of_keys(node, what):
            found = conditions.both(found, condition)
        return found

    def of_excluded_refs(self, node: Node | None, what: str) -> Condition:
        """What `except` leaves out: one of its keys fits."""
        return conditions.any_of(self._of_keys(node, what))

    def _of_keys(self, node: Node | None, what: str) -> list[Condition]:
        """The conditions of the keys of `only` or `except`; a list is one of refs."""
        if not isinstance(node, MappingNode):
            return [self._of_list(node, what)] if node is not None else []
        table = self.foreign.table(node, f"`only` of {what}")
        found = [self._of_list(refs, what)] if (refs := table.get("refs")) is not None else []
        if "changes" in table:
            globs = conditions.patterns([text for text, _ in table.texts("changes")])
            found.append(({"paths": globs},) if globs else conditions.UNKNOWN)
        for key in ("variables", "kubernetes"):
            if key in table:
                table.remark(key, f"`{key}` of {what} is not converted")
                found.append(conditions.UNKNOWN)
        table.leftovers()
        return found

    def _of_list(self, node: Node, what: str) -> Condition:
        texts = self.foreign.texts(node, f"refs of {what}")
        for text, span in texts:
            if text == "schedules":
                remark_times(self.foreign, span)
        return conditions.any_of(self._of_ref(text) for text, _ in texts)

    def _of_ref(self, text: str) -> Condition:
        named: dict[str, tuple[str, ...]] = {
            "branches": BRANCHES, "tags": ("tag",), "merge_requests": ("pull_request",), "schedules": ("cron",),
            "web": ("manual",), "api": ("manual",), "pushes": ("push", "tag"),
        }  # fmt: skip
        if text in named:
            return conditions.fact("event", *named[text])
        if text in ("triggers", "pipelines", "external", "chat", "external_pull_requests"):
            return conditions.NEVER
        if text.startswith("/"):
            pattern = _pattern(text.strip("/")) if text.endswith("/") else None
            return _of_name(pattern) if pattern else conditions.UNKNOWN
        if "@" in text or any(character in text for character in "*!?[]\\"):
            return conditions.UNKNOWN
        return _of_name(text)


def _of_name(pattern: str) -> Condition:
    """A name in `only` is a branch's or a tag's, and never a merge request's."""
    return ({"event": BRANCHES, "branch": (pattern,)}, {"event": ("tag",), "tag": (pattern,)})


def _pattern(regex: str) -> str | None:
    """An expression that only says how a name begins, or what it is, as a pattern."""
    if match := _WHOLE.fullmatch(regex):
        return match[1]
    match = _START.fullmatch(regex)
    return f"{match[1]}**" if match and match[0] in (f"^{match[1]}", f"^{match[1]}.*", f"^{match[1]}.*$") else None
