"""GitLab's files: stages become needs, rules facts, and what stands once for many jobs is put into each."""

from __future__ import annotations

import re
from typing import Final

from ci.convert import conditions
from ci.convert.containersteps import guard, list_unset
from ci.convert.draft import Draft, DraftJob, Entry, Value
from ci.convert.facts import GITLAB, used
from ci.convert.foreign import Foreign, Table
from ci.convert.gitlabbeside import put_matrix, put_services
from ci.convert.gitlabkept import artifacts, caches, duration
from ci.convert.gitlabnodes import GLOBAL, Templates
from ci.convert.gitlabrules import USUAL, Ruled, Rules
from ci.convert.listening import put_on
from ci.convert.order import put_after
from ci.document import MappingNode, Node, Scalar, SequenceNode
from dockerfile_grammar.source import Span

_STAGES: Final = ("build", "test", "deploy")
_NAMED: Final = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")
_BASH: Final = re.compile(r"\[\[|\bsource\s|\bfunction\s|<<<|\bshopt\b|\bpushd\b|\$\{\w+(?:,,|\^\^|/)")
_DEFAULTS: Final = (
    "image", "services", "cache", "before_script", "after_script", "artifacts", "retry", "timeout", "tags",
    "interruptible", "id_tokens", "hooks",
)  # fmt: skip
_NEARLY: Final = {
    "CI_COMMIT_REF_NAME": ("${SHIPLAP_BRANCH}", "of a tag, CI_COMMIT_REF_NAME was the tag; here it is empty then"),
    "CI_COMMIT_SHORT_SHA": ("${SHIPLAP_SHORT_COMMIT}", "CI_COMMIT_SHORT_SHA has 12 digits here, and had 8"),
    "CI_COMMIT_MESSAGE": ("${SHIPLAP_TITLE}", "CI_COMMIT_MESSAGE has only the first line here"),
    "CI_COMMIT_AUTHOR": ("${SHIPLAP_AUTHOR}", "CI_COMMIT_AUTHOR is the login at the forge here"),
}


def convert_gitlab(foreign: Foreign, default_branch: str) -> Draft:
    """One file. default_branch: empty: nobody said. Raises PipelineFileError when it has no jobs."""
    if len(foreign.roots) > 1:  # a header with `spec`, whose inputs the file has
        foreign.remark(foreign.roots[0].span, "what stands above the file (`spec`) is not converted")
    node = foreign.roots[-1] if foreign.roots else None
    if not isinstance(node, MappingNode):
        raise foreign.refuse(None, "this is no file of GitLab's", "it is a map of jobs")
    conversion = _Conversion(foreign, node, default_branch)
    conversion.all_jobs()
    kinds = ("script", "trigger", "run")
    if not any(conversion.templates.nodes[name].get(kind) for name in conversion.templates.nodes for kind in kinds):
        raise foreign.refuse(node.span, "this file of GitLab's has no job with `script`")
    return conversion.draft


class _Conversion:
    def __init__(self, foreign: Foreign, node: MappingNode, default_branch: str) -> None:
        self.foreign = foreign
        self.draft = Draft()
        self.root = foreign.table(node, "the file")
        self.templates = Templates(foreign, node)
        self.rules = Rules(foreign, default_branch)
        self.default_branch = default_branch
        self.defaults = self._defaults()
        self.variables: dict[str, Value] = {}
        self._stages: dict[str, list[DraftJob]] = {}
        self._by_name: dict[str, list[DraftJob]] = {}
        self._needs: list[tuple[DraftJob, str, Node | None]] = []

    def all_jobs(self) -> None:
        foreign, root = self.foreign, self.root
        self.variables = self.read_variables(root.get("variables"), {})
        names = [word for word, _ in root.texts("stages")] or list(_STAGES)
        self._stages = {name: [] for name in (".pre", *names, ".post")}
        workflow = root.table("workflow")
        workflow.ignore("name", "auto_cancel")
        root.remark("include", "what other files have is not converted", "`use` takes the jobs of another file")
        root.ignore(*GLOBAL - {"include"})
        when = self.rules.of_list(workflow.get("rules"), "the pipeline").when if "rules" in workflow else USUAL
        workflow.leftovers()
        own: list[tuple[Scalar, Table, Ruled]] = []
        heard = when
        for key, node in root.entries():
            if key.text in GLOBAL or key.text.startswith("."):
                continue
            if not isinstance(node, MappingNode):
                foreign.remark(key.span, f"{key.text[:60]} is no job, and is not converted")
                continue
            job = foreign.table(self.templates.whole(key.text), f"the job {key.text}")
            ruled = self._ruled(job, key.text)
            own.append((key, job, ruled))
            if (
                "rules" not in workflow
                and conditions.events_of(ruled.when) & {"pull_request"}
                and ruled.when is not None
            ):
                heard = conditions.ALWAYS
        if heard == USUAL:
            heard = conditions.fact("event", "push", "tag", "manual")
        if heard == conditions.ALWAYS:
            heard = conditions.fact("event", "push", "tag", "pull_request", "manual")
        listening = put_on(foreign, self.draft, root.place("workflow"), heard)
        for key, job, ruled in own:
            self._job(key, job, ruled._replace(when=conditions.both(self._shortened(ruled.when), listening)))
        self._order()

    def _shortened(self, when: conditions.Condition) -> conditions.Condition:
        """Nothing has to be said of events when the pipeline hears no others."""
        on = self.draft.top.get("on")
        heard = set(on.value) if on is not None and isinstance(on.value, (list, dict)) else set(conditions.EVENTS)
        if when is not None and len(when) == 1 and set(when[0]) == {"event"} and heard <= {*when[0]["event"], "cron"}:
            return conditions.ALWAYS
        return when

    def _defaults(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        table = self.root.table("default")
        for key, node in table.entries():
            if key.text in _DEFAULTS:
                found[key.text] = node
            else:
                self.foreign.remark(key.span, f"`{key.text}` of `default` is not converted")
        for name in ("image", "services", "cache", "before_script", "after_script"):
            if (stated := self.root.get(name)) is not None:
                found[name] = stated
        return found

    def _value(self, job: Table, name: str) -> Node | None:
        """A key of a job, or what the file says for all of them."""
        inherits = job.get("inherit")
        own = job.get(name)
        if own is not None or inherits is not None:
            if inherits is not None:
                self.foreign.remark(inherits.span, "`inherit` is not converted: nothing of `default` is taken over")
            return own
        return self.defaults.get(name)

    def _ruled(self, job: Table, name: str) -> Ruled:
        how = job.text("when") or "on_success"
        if "rules" in job:
            found = self.rules.of_list(job.get("rules"), name)
            return found if found.how != "on_success" else found._replace(how=how)
        if "only" in job or "except" in job:
            when = self.rules.of_refs(job.get("only"), name) if "only" in job else USUAL
            if "except" in job:
                when = conditions.both(when, conditions.opposite(self.rules.of_excluded_refs(job.get("except"), name)))
            if when is None:
                self.foreign.remark(
                    job.place("only" if "only" in job else "except"), "these conditions are not ones of facts"
                )
            return Ruled(when, how, None)
        return Ruled(USUAL if how != "never" else conditions.NEVER, how, None)

    def _job(self, key: Scalar, table: Table, ruled: Ruled) -> None:
        stage = table.text("stage") or "test"
        job = self.draft.job(key.text, key.span)
        self._by_name[key.text] = [job]
        if stage not in self._stages:
            self.foreign.remark(table.place("stage"), f"there is no stage {stage[:60]}; {job.name} fails")
            job.becomes_a_failure(f"the stage {stage[:60]}")
            stage = next(iter(self._stages))
        self._needs.append((job, stage, table.get("needs")))
        self._stages[stage].append(job)
        table.ignore("stage", "rules", "only", "except", "when", "inherit", "dependencies")
        if "trigger" in table or "run" in table:
            kind = "trigger" if "trigger" in table else "run"
            self.foreign.remark(table.place(kind), f"`{kind}` is not converted: {job.name} fails")
            job.becomes_a_failure(kind)
            list(table.entries())
            return
        axes = put_matrix(self.foreign, job, table)
        own = self.read_variables(table.get("variables"), axes)
        self._script(job, table, own, axes)
        self._surroundings(job, table, own, axes)
        guard(self.foreign, job, ruled.when)
        may_fail = ruled.may_fail if ruled.may_fail is not None else self._allowed(table)
        if may_fail:
            job.put("may_fail", True)
        if ruled.how in ("always", "on_failure"):
            job.put("after", "always" if ruled.how == "always" else "failure")
        elif ruled.how == "delayed":
            table.remark("start_in", "no job waits for a time here; it begins at once")
        elif ruled.how == "manual":
            self._gate(job, stage)
        table.leftovers()

    def _gate(self, job: DraftJob, stage: str) -> None:
        """A job that somebody starts is one after a gate, which stands where the job stood."""
        gate = self.draft.job(f"{job.name}-gate", job.span)
        gate.put("approve", f"Run {job.name}?")
        if "when" in job.keys:
            gate.keys["when"] = job.keys["when"]
        self._stages[stage].remove(job)
        self._needs = [(gate if other is job else other, place, node) for other, place, node in self._needs]
        job.put("needs", [gate.name])
        self.foreign.remark(job.span, f"a gate asks before {job.name}, for seven days; the run waits for the answer")

    def read_variables(self, node: Node | None, axes: dict[str, str]) -> dict[str, Value]:
        """Variables with their values; those for git say how the commit's files come."""
        found: dict[str, Value] = {}
        for key, value in self.foreign.table(node, "`variables`").entries():
            if isinstance(value, MappingNode):
                table = self.foreign.table(value, f"the variable {key.text}")
                text, span = table.text("value") or "", value.span
                table.ignore("description", "options", "expand")
            else:
                text, span = self.foreign.text(value, f"the variable {key.text}") or "", value.span
            if key.text.startswith(("GIT_", "FF_", "DOCKER_TLS")):
                if key.text not in ("GIT_DEPTH", "GIT_STRATEGY", "GIT_SUBMODULE_STRATEGY"):
                    found[key.text] = self.value(text, span, {**self.variables, **found}, axes)
                elif key.text == "GIT_DEPTH" and text.isdigit() and text != "0":
                    self.draft.top["source"] = Entry({"history": text}, span)
                elif key.text == "GIT_SUBMODULE_STRATEGY" and text in ("normal", "recursive"):
                    self.draft.top["source"] = Entry({"submodules": True}, span)
                continue
            found[key.text] = self.value(text, span, {**self.variables, **found}, axes)
        return found

    def value(self, text: str, span: Span, variables: dict[str, Value], axes: dict[str, str]) -> str:
        """A value, with what GitLab would put in for its variables."""

        def other(match: re.Match[str]) -> str:
            name = match[1]
            if name in axes:
                return f"${{{axes[name]}}}"
            if name in variables:
                return str(variables[name])
            if name in GITLAB:
                return GITLAB[name]
            if name in _NEARLY:
                self.foreign.remark(span, _NEARLY[name][1])
                return _NEARLY[name][0]
            if name == "CI_DEFAULT_BRANCH" and self.default_branch:
                return self.default_branch
            self.foreign.remark(span, f"${name} is not known here, and stays as it is written")
            return match[0].replace("${", "$${")

        # `$$` is a dollar. What was put in is not looked at again.
        return "$".join(_NAMED.sub(other, part) for part in text.split("$$"))[: 32 << 10]

    def _script(self, job: DraftJob, table: Table, own: dict[str, Value], axes: dict[str, str]) -> None:
        before = self.templates.lines(self._value(table, "before_script"), f"`before_script` of {job.name}")
        script = self.templates.lines(table.get("script"), f"`script` of {job.name}")
        if not script:
            self.foreign.remark(job.span, f"{job.name} has no `script`, and fails")
            job.becomes_a_failure("it has no script")
            return
        after = self._value(table, "after_script")
        if after is not None and not (isinstance(after, SequenceNode) and not after.items):
            hint = "a job of its own has `after: always`"
            self.foreign.remark(after.span, f"`after_script` of {job.name} is not converted", hint)
        lines = [*before, *script]
        image = self._image(job, table, own, axes)
        if image is None:
            return
        job.put("run", [text for text, _ in lines if text.strip()] or ["true"])
        if any(_BASH.search(text) for text, _ in lines):
            job.put("shell", "bash")
        env = {**{name: value for name, value in own.items() if name not in axes}}
        for text, node in lines:
            for name in used(text):
                if name in own or name in self.variables or name in axes:
                    continue
                if name in GITLAB:
                    self.draft.env(node.span)[name] = GITLAB[name]
                elif name in _NEARLY:
                    self.draft.env(node.span)[name] = _NEARLY[name][0]
                    self.foreign.remark(node.span, _NEARLY[name][1])
                elif name == "CI_DEFAULT_BRANCH" and self.default_branch:
                    self.draft.env(node.span)[name] = self.default_branch
        if env:
            job.put("env", env)
        known = frozenset({*GITLAB, *_NEARLY, *self.variables, *axes, *own})
        list_unset(self.foreign, job, known, [(text, node.span) for text, node in lines])
        if self.variables:
            self.draft.env(self.root.span).update(self.variables)

    def _image(self, job: DraftJob, table: Table, own: dict[str, Value], axes: dict[str, str]) -> str | None:
        node = self._value(table, "image")
        place = node.span if node is not None else job.span
        if isinstance(node, MappingNode):
            inner = self.foreign.table(node, f"`image` of {job.name}")
            text = inner.text("name")
            inner.ignore("entrypoint", "pull_policy")
            docker = inner.table("docker")
            if (user := docker.text("user")) is not None:
                job.put("user", user, docker.span)
            if (platform := docker.text("platform")) is not None:
                job.put("platform", platform, docker.span)
            inner.leftovers()
        else:
            text = self.foreign.text(node, f"`image` of {job.name}")
        if text is None:
            self.foreign.remark(
                place, f"{job.name} names no image: its runner did, and here it fails", "name one in `image`"
            )
            job.becomes_a_failure("its image")
            return None
        image = self.value(text, place, {**self.variables, **own}, axes)
        job.put("image", image, place)
        return image

    def _surroundings(self, job: DraftJob, table: Table, own: dict[str, Value], axes: dict[str, str]) -> None:
        if "run" not in job.keys:
            list(table.entries())
            return
        artifacts(self, job, self._value(table, "artifacts"), own, axes)
        caches(self, job, self._value(table, "cache"), own, axes)
        put_services(self, job, self._value(table, "services"), own, axes)
        retry = self._value(table, "retry")
        if isinstance(retry, MappingNode):
            inner = self.foreign.table(retry, "`retry`")
            if (times := inner.text("max")) is not None:
                job.put("retry", times, retry.span)
            for key in ("when", "exit_codes"):
                inner.remark(key, "it is tried again after every failure of its own")
        elif (times := self.foreign.text(retry, "`retry`")) is not None and retry is not None:
            job.put("retry", times, retry.span)
        timeout = self._value(table, "timeout")
        if (text := self.foreign.text(timeout, "`timeout`")) is not None and timeout is not None:
            job.put("timeout", duration(text) or text, timeout.span)
        tags = self._value(table, "tags")
        if tags is not None:
            self.foreign.remark(
                tags.span, f"labels of runners are not converted ({job.name})", "`workers` names labels"
            )
        coverage = table.text("coverage")
        if coverage is not None:
            reports = job.keys.get("reports")
            value = dict(reports.value) if reports is not None and isinstance(reports.value, dict) else {}
            job.put("reports", {**value, "coverage": coverage.strip("/")}, table.place("coverage"))
        group = table.text("resource_group")
        if group is not None:
            value = {"group": self.value(group, table.place("resource_group"), {**self.variables, **own}, axes)}
            job.put("concurrency", value, table.place("resource_group"))
        table.remark("environment", f"the environment of {job.name} is not converted")
        table.remark("release", f"the release of {job.name} is not converted")
        for key in ("secrets", "id_tokens", "pages", "dast_configuration"):
            table.remark(key, f"`{key}` of {job.name} is not converted")
        table.ignore("interruptible", "start_in", "id_tokens", "hooks", "identity")

    def _allowed(self, table: Table) -> bool:
        node = table.get("allow_failure")
        if isinstance(node, MappingNode):
            self.foreign.remark(node.span, "which exit codes are allowed is not converted: none is")
            return False
        return table.truth("allow_failure")

    def _order(self) -> None:
        order = list(self._stages)
        for job, stage, node in self._needs:
            if node is None:
                put_after(job, [self._stages[name] for name in order[: order.index(stage)] if self._stages[name]])
                continue
            wanted: list[Value] = []
            for item in node.items if isinstance(node, SequenceNode) else ():
                if isinstance(item, MappingNode):
                    table = self.foreign.table(item, "a need")
                    name, is_optional = table.text("job"), table.truth("optional")
                    table.ignore("artifacts")
                    table.leftovers()
                else:
                    name, is_optional = self.foreign.text(item, "a need"), False
                mark = "?" if is_optional else ""
                wanted += [f"{other.name}{mark}" for other in self._by_name.get(name or "", ())]
                if name is not None and name not in self._by_name and not is_optional:
                    self.foreign.remark(item.span, f"it needs {name[:60]}, which is not there; it fails")
                    job.becomes_a_failure(f"it needs {name[:60]}")
            if wanted:
                job.put("needs", wanted)
