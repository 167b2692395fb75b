"""GitHub's workflows: each file a pipeline of ours."""

from __future__ import annotations

import re
import shlex
from typing import Final

from ci.convert import conditions
from ci.convert.containersteps import guard
from ci.convert.draft import Draft, DraftJob, Entry, Value, job_name
from ci.convert.expressions import condition
from ci.convert.foreign import Foreign, Table
from ci.convert.githubmatrix import is_unsure, put_matrix
from ci.convert.githubon import put_on_and_params
from ci.convert.githubsteps import JobSteps
from ci.convert.githubvalues import JobValues
from ci.document import MappingNode, Node, Scalar, SequenceNode
from dockerfile_grammar.source import Span

_RUNNERS: Final = {
    "ubuntu-latest": "ubuntu:24.04", "ubuntu-24.04": "ubuntu:24.04", "ubuntu-22.04": "ubuntu:22.04",
    "ubuntu-20.04": "ubuntu:20.04",
}  # fmt: skip
_GROUP: Final = re.compile(r"\$\{\{\s*github\.workflow\s*\}\}")
_REF: Final = re.compile(r"\$\{\{\s*(?:github\.ref|github\.head_ref\s*\|\|\s*github\.ref)\s*\}\}")


def convert_github(foreign: Foreign) -> Draft:
    """One workflow. Raises PipelineFileError when it has no jobs."""
    if len(foreign.roots) != 1 or not isinstance(foreign.roots[0], MappingNode):
        raise foreign.refuse(None, "this is no workflow of GitHub's", "it is one map with `on` and `jobs`")
    root = foreign.table(foreign.roots[0], "the workflow")
    jobs = root.get("jobs")
    if not isinstance(jobs, MappingNode) or not any(isinstance(node, MappingNode) for _, node in jobs.entries):
        raise foreign.refuse(root.span, "this is no workflow of GitHub's: it has no `jobs`")
    draft = Draft()
    params = put_on_and_params(foreign, draft, root)
    workflow = _Workflow(foreign, draft, root, params)
    for key, node in root.table("jobs").entries():
        workflow.job(key, foreign.table(node, f"the job {key.text}"))
    workflow.end()
    root.ignore("name", "run-name", "permissions")
    root.leftovers()
    return draft


class _Workflow:
    def __init__(self, foreign: Foreign, draft: Draft, root: Table, params: dict[str, str]) -> None:
        self.foreign = foreign
        self.draft = draft
        self.root = root
        self.params = params
        self.env: dict[str, Value] = {}
        self.source: dict[str, Value] = {}
        self.name = root.text("name") or "workflow"
        self.shell, self.directory = _defaults(root)
        self._last: dict[str, list[DraftJob]] = {}
        self._needs: list[tuple[list[DraftJob], list[tuple[str, Span]]]] = []
        self._service_nodes: dict[str, Node] = {}

    def job(self, key: Scalar, table: Table) -> None:
        job = self.draft.job(key.text, key.span)
        self._last[key.text] = [job]
        self._needs.append(([job], table.texts("needs")))
        table.ignore("name", "permissions")
        if "uses" in table:
            self.foreign.remark(table.place("uses"), f"{job.name} is another file's workflow, and fails")
            job.becomes_a_failure("jobs of another workflow")
            list(table.entries())
            return
        axes: dict[str, str] = {}
        systems = put_matrix(self.foreign, job, table, axes, self.env)
        values = JobValues(self.foreign, job, self.env, axes, self.params)
        top = values.variables(self.root.get("env"), "`env` of the workflow")
        own = values.variables(table.get("env"), f"`env` of {key.text}")
        variables = {**top, **own}
        values.env = {name: value for name, (value, _) in variables.items()}
        steps = JobSteps(self.foreign, job, values, self.source)
        shell, directory = _defaults(table)
        steps.shell, steps.directory = shell or self.shell, directory or self.directory
        for number, node in enumerate(self._steps(table), 1):
            steps.take(node, number)
        runner_image = self._runner(table, systems)
        container = self._container(table, values, variables)
        self._conditions(job, table)
        self._services(job, table, values, has_container=container is not None)
        self._surroundings(job, table)
        table.leftovers()
        if "strategy" in table and is_unsure(job):
            self.foreign.remark(
                table.place("strategy"), f"the matrix of {job.name} is not known before a run; it fails"
            )
            job.becomes_a_failure("its matrix")
            return
        self._put(job, key.text, steps, container, runner_image, variables, values, table)

    def _put(
        self, job: DraftJob, name: str, steps: JobSteps, container: str | None, runner_image: str | None,
        variables: dict[str, tuple[str, Span]], values: JobValues, table: Table,
    ) -> None:  # fmt: skip
        """The job with its commands, and those that build images after it."""
        if runner_image is None:
            self.foreign.remark(table.place("runs-on"), f"{job.name} runs on no Linux; it fails")
            job.becomes_a_failure("its machine")
            return
        if steps.builds and not steps.commands:
            build, span = steps.builds.pop(0)
            kept = {key: entry for key, entry in job.keys.items() if key in ("when", "after", "matrix", "may_fail")}
            job.keys = kept
            self._put_build(job, build, span)
        else:
            image = container or steps.image
            if image is None:
                image = runner_image
                self.foreign.remark(
                    table.place("runs-on"),
                    f"{job.name} runs in {image}, which has few of the tools that GitHub's machines have",
                    "name an image that has what it calls",
                )
            job.put("image", image)
            if variables:
                job.put("env", {key: value for key, (value, _) in variables.items()})
            if values.secrets:
                job.put("secrets", list(values.secrets.values()))
            if steps.has_bash or container is None:
                job.put("shell", "bash")
            if not steps.commands:
                self.foreign.remark(job.span, f"no step of {job.name} has a command: it does nothing")
            job.put("run", steps.commands or ["true"])
        for number, (build, span) in enumerate(steps.builds, 1):
            other = self.draft.job(f"{name}-image" if number == 1 else f"{name}-image-{number}", span)
            self._put_build(other, build, span)
            for key in ("when", "matrix"):
                if key in job.keys and key not in other.keys:
                    other.keys[key] = job.keys[key]
            other.put("needs", [job.name])
            self._last[name].append(other)
            if "outputs" not in job.keys:
                job.put("outputs", [{"path": "**", "optional": True}])
            self.foreign.remark(
                span,
                f"{other.name} builds the image after all commands of {job.name}, of what these wrote",
                "name in `outputs` what the image copies; as it is, all is kept for it",
            )

    def _put_build(self, job: DraftJob, build: dict[str, Value], span: Span) -> None:
        if build.pop("is_unsure", False):
            job.put("when", {"event": "manual"})
        job.put("build", build, span)

    def end(self) -> None:
        """Needs, once it is known which jobs came of which; variables of all jobs."""
        for jobs, needs in self._needs:
            wanted: list[Value] = []
            for name, span in needs:
                if name not in self._last:
                    self.foreign.remark(span, f"it needs {name}, which is not there; it fails")
                    jobs[0].becomes_a_failure(f"it needs {name}")
                    break
                wanted += [other.name for other in self._last[name]]
            if wanted:
                jobs[0].put("needs", wanted)
        if self.env:
            self.draft.top["env"] = Entry(dict(self.env), self.root.span)
        if self.source:
            self.draft.top["source"] = Entry(dict(self.source), self.root.span)
        self._concurrency(self.root, None)

    def _steps(self, table: Table) -> tuple[Node, ...]:
        node = table.get("steps")
        if isinstance(node, SequenceNode):
            return node.items
        if node is not None:
            self.foreign.remark(node.span, "`steps` is a list, and this is none")
        return ()

    def _runner(self, table: Table, systems: list[str]) -> str | None:
        """The image for a machine of GitHub's. None: it is no Linux, or not known."""
        node = table.get("runs-on")
        if "container" in table:
            return "ubuntu:24.04"
        if systems:
            return next(
                (_RUNNERS.get(system, "ubuntu:24.04") for system in systems if system.startswith("ubuntu")), None
            )
        words = self.foreign.words(node, "`runs-on`") if not isinstance(node, MappingNode) else []
        for word in words:
            if word in _RUNNERS:
                return _RUNNERS[word]
        if any(word.startswith("ubuntu") or word in ("linux", "self-hosted") for word in words):
            self.foreign.remark(
                table.place("runs-on"), "the labels of machines are not converted", "`workers` names labels"
            )
            return "ubuntu:24.04"
        return None

    def _container(self, table: Table, values: JobValues, variables: dict[str, tuple[str, Span]]) -> str | None:
        node = table.get("container")
        if node is None:
            return None
        if isinstance(node, Scalar):
            return values.value(node.text, node.span) or ""
        container = self.foreign.table(node, "`container`")
        image = container.text("image")
        written = values.value(image, container.place("image")) if image is not None else None
        variables.update(values.variables(container.get("env"), "`env` of the container"))
        container.remark("credentials", "the log-in of the image's registry is a secret of the project")
        container.remark("volumes", "volumes of the machine are not there")
        container.remark("options", "options of docker are not converted", "`limits`, `user` and `network` are keys")
        container.ignore("ports")
        container.leftovers()
        return written

    def _conditions(self, job: DraftJob, table: Table) -> None:
        text = table.text("if")
        if text is not None:
            when, after = condition(text)
            if after != "success" and table.texts("needs"):
                job.put("after", after, table.place("if"))
            elif after == "failure":
                when = conditions.NEVER
            guard(self.foreign, job, when)

    def _services(self, job: DraftJob, table: Table, values: JobValues, *, has_container: bool) -> None:
        names: list[Value] = []
        for key, node in table.table("services").entries():
            service = self.foreign.table(node, f"the service {key.text}")
            name = job_name(key.text, {})
            if name in self.draft.services and self._service_nodes.get(name) != node:
                name = job_name(f"{key.text}-{job.name}", self.draft.services)
            if name != key.text:
                self.foreign.remark(
                    key.span, f"the service {key.text} is called {name} here: what reaches it has to say so"
                )
            image = service.text("image")
            value: dict[str, Value] = {"image": (values.value(image, key.span) if image else None) or ""}
            before = dict(values.secrets)
            values.secrets = {}
            if env := values.variables(service.get("env"), f"`env` of {key.text}"):
                value["env"] = {variable: text for variable, (text, _) in env.items()}
            if values.secrets:
                value["secrets"] = list(values.secrets.values())
            values.secrets = before
            _options(service, value)
            if not has_container and "ports" in service:
                self.foreign.remark(key.span, f"{job.name} reaches {name} by that name, and not on localhost")
            service.ignore("ports")
            service.remark("credentials", "the log-in of the image's registry is a secret of the project")
            service.remark("volumes", "volumes of the machine are not there")
            service.leftovers()
            self._service_nodes[name] = node
            self.draft.services[name] = Entry(value, key.span)
            names.append(name)
        if names:
            job.put("services", names)

    def _surroundings(self, job: DraftJob, table: Table) -> None:
        if (minutes := table.text("timeout-minutes")) is not None:
            job.put("timeout", f"{minutes}m", table.place("timeout-minutes"))
        if table.truth("continue-on-error"):
            job.put("may_fail", True, table.place("continue-on-error"))
        self._concurrency(table, job)
        if "outputs" in table:
            hint = "write NAME=value to $SHIPLAP_EXPORTS, and name it in `exports`"
            self.foreign.remark(table.place("outputs"), f"outputs of {job.name} are not converted", hint)
            table.ignore("outputs")
        if "environment" in table:
            hint = "a gate (`approve`) before it asks somebody, and `secret set --branches` bounds its secrets"
            self.foreign.remark(
                table.place("environment"),
                f"{job.name} is for an environment, which may have reviewers: it runs by hand",
                hint,
            )
            table.ignore("environment")
            job.put("when", {"event": "manual"})

    def _concurrency(self, table: Table, job: DraftJob | None) -> None:
        node = table.get("concurrency")
        if node is None:
            return
        place = table.place("concurrency")
        inner = self.foreign.table(node, "`concurrency`") if isinstance(node, MappingNode) else None
        text = inner.text("group") if inner is not None else self.foreign.text(node, "`concurrency`")
        ends = (inner.text("cancel-in-progress") or "false") if inner is not None else "false"
        if inner is not None:
            inner.leftovers()
        if ends not in ("true", "false"):
            self.foreign.remark(place, "when a new run ends the old one is not known here: it waits")
        group = _REF.sub("${SHIPLAP_EVENT}-${SHIPLAP_BRANCH}${SHIPLAP_TAG}", _GROUP.sub(self.name, text or ""))
        if "${{" in group or not group:
            self.foreign.remark(place, "the name of the group is not known here", "`concurrency: {group: NAME}`")
            for each in self.draft.jobs.values() if job is None else (job,):
                each.put("when", {"event": "manual"})
            return
        value: Value = {"group": group, "when_busy": "cancel" if ends == "true" else "replace"}
        if job is not None:
            job.put("concurrency", value, place)
        else:
            self.draft.top["concurrency"] = Entry(value, place)


def _options(service: Table, value: dict[str, Value]) -> None:
    """The look at a service's health; other options of docker are listed."""
    text = service.text("options")
    if text is None:
        return
    try:
        words = shlex.split(text)
    except ValueError:
        words = []
        service.foreign.remark(service.place("options"), "these options are no words of a shell, and are not converted")
    at = 0
    while at < len(words):
        name, sign, rest = words[at].partition("=")
        if not sign and at + 1 < len(words) and not words[at + 1].startswith("--"):
            rest = words[at + 1]
            at += 1
        at += 1
        if name == "--health-cmd" and rest:
            value["ready"] = {"command": rest}
        elif name not in ("--health-interval", "--health-timeout", "--health-retries", "--health-start-period"):
            service.foreign.remark(service.place("options"), f"the option {name[:40]} is not converted")


def _defaults(table: Table) -> tuple[str, str]:
    """The shell and the directory of steps that name none."""
    defaults = table.table("defaults")
    run = defaults.table("run")
    found = (run.text("shell") or "", run.text("working-directory") or "")
    run.leftovers()
    defaults.leftovers()
    return found
