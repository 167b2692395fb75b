"""What Woodpecker and Drone share: steps in containers that see one workspace, with services beside them.

Each step becomes a job, which leaves all that it wrote for the jobs after it, as the shared workspace did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from ci.convert import conditions
from ci.convert.conditions import Condition
from ci.convert.draft import Draft, DraftJob, Entry, Value, failing, job_name, variable_name
from ci.convert.facts import unset, used
from ci.convert.foreign import Foreign, Table
from ci.convert.order import fill_in_needs, put_after
from ci.document import MappingNode, Node, Scalar, SequenceNode
from ci.language.names import reference_fault
from dockerfile_grammar.source import Span

_NAMED: Final = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)([^}]*)\}")
_EVERYTHING: Final[Value] = {"path": "**", "optional": True}
_SHARED: Final = "name in `outputs` what later jobs need: as it is, all that a job writes is kept for them"
_LOGIN: Final = "the project's log-in for that registry is a secret of its own"


class Dialect(NamedTuple):
    """What makes the two differ.

    prefixes: of the system's own variables.
    variables: of those, what has the same value here.
    nearly: what has the same value but for a case, which is said.
    builders: images of plugins that build images.
    """

    prefixes: tuple[str, ...]
    variables: Mapping[str, str]
    nearly: Mapping[str, tuple[str, str]]
    builders: tuple[str, ...]


class Steps:
    """The steps of one workflow, put into a draft. names: values that ``${NAME}`` may have of a matrix."""

    def __init__(self, foreign: Foreign, draft: Draft, dialect: Dialect, names: Mapping[str, str], prefix: str) -> None:
        self.foreign = foreign
        self.draft = draft
        self.dialect = dialect
        self.names = names
        self.prefix = prefix
        self.jobs: list[DraftJob] = []
        self.services: list[Value] = []
        self._by_name: dict[str, DraftJob] = {}
        self._needs: dict[str, list[tuple[str, Span]]] = {}

    def named(self, node: Node | None, what: str) -> Iterator[tuple[str, Span, Table]]:
        """Steps or services, written as a list of maps or as a map by name."""
        if isinstance(node, MappingNode):
            for name, value in node.entries:
                yield name.text, name.span, self.foreign.table(value, f"{what} {name.text}")
        elif isinstance(node, SequenceNode):
            for number, item in enumerate(node.items, 1):
                table = self.foreign.table(item, what)
                yield table.text("name") or f"{what}-{number}", table.span, table
        elif node is not None and not (isinstance(node, Scalar) and node.is_null):
            self.foreign.remark(node.span, f"{what}s are a list or a map, and this is neither")

    def value(self, text: str, span: Span) -> str:
        """A value with our names in ``${NAME}``; what has none here stays as text, and is listed."""

        def other(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return "$${"
            found = self.names.get(name) or self.dialect.variables.get(name)
            if found is None and name in self.dialect.nearly:
                found, message = self.dialect.nearly[name]
                self.foreign.remark(span, message)
            if found is None or match[2]:
                self.foreign.remark(span, f"{match[0]} is not known here, and stays as it is written")
                return f"${match[0]}"
            return found

        return _NAMED.sub(other, text)

    def environment(self, node: Node | None, what: str) -> tuple[dict[str, Value], list[Value]]:
        """Variables, and the secrets among them."""
        env: dict[str, Value] = {}
        secrets: list[Value] = []
        if isinstance(node, SequenceNode):
            for text, span in self.foreign.texts(node, what):
                name, _, value = text.partition("=")
                env[name] = self.value(value, span)
            return env, secrets
        for name_node, value_node in self.foreign.table(node, what).entries():
            name = name_node.text
            if isinstance(value_node, MappingNode):
                table = self.foreign.table(value_node, f"{what} {name}")
                secret = table.text("from_secret")
                table.leftovers()
                if secret is not None:
                    secrets.append(name if secret == name else {"name": secret, "as": name})
                continue
            value = self.foreign.text(value_node, f"{what} {name}") or ""
            env[name] = self.value(value, value_node.span)
        return env, secrets

    def service(self, name: str, span: Span, table: Table) -> None:
        """Put one into the draft; jobs have it by its name."""
        own = job_name(name, self.draft.services)
        if own != name:
            self.foreign.remark(span, f"the service {name} is called {own} here: what reaches it has to say so")
        image = table.text("image")
        value: dict[str, Value] = {"image": self.value(image or "", span)}
        env, secrets = self.environment(table.get("environment"), f"`environment` of {name}")
        if env:
            value["env"] = env
        if secrets:
            value["secrets"] = secrets
        commands = [text for key in ("entrypoint", "commands", "command") for text, _ in table.texts(key)]
        if "commands" in table:
            value["args"] = ["sh", "-c", "\n".join(table.foreign.words(table.get("commands"), "commands"))]
        elif commands:
            value["args"] = list(commands)
        table.ignore("name", "ports", "pull", "detach")
        table.remark("when", f"the service {name} is there for every job, whatever its `when` says")
        table.leftovers()
        self.draft.services[own] = Entry(value, span)
        self.services.append(own)

    def step(self, name: str, span: Span, table: Table) -> None:
        """Put one into the draft, as a job without needs."""
        if table.truth("detach"):
            self.foreign.remark(
                span, f"{name} runs beside others: it is a service, begins with each job, sees no workspace"
            )
            self.service(name, span, table)
            return
        job = self.draft.job(f"{self.prefix}{name}", span)
        self.jobs.append(job)
        self._by_name[name] = job
        if "depends_on" in table:
            self._needs[job.name] = table.texts("depends_on")
        env, secrets = self.environment(table.get("environment"), f"`environment` of {name}")
        for text, _ in table.texts("secrets"):
            secrets.append({"name": text, "as": variable_name(text)} if variable_name(text) != text else text)
        image, image_span = table.text("image"), table.place("image")
        commands = table.texts("commands")
        if image is not None and not commands and self._is_builder(image):
            self._build(job, name, table.table("settings"))
        else:
            self._runs(job, image, image_span, commands, table, env)
            if env:
                job.put("env", env)
            if secrets:
                job.put("secrets", secrets)
        if table.text("failure") == "ignore":
            job.put("may_fail", True, table.place("failure"))
        table.ignore("name", "pull")
        table.remark("privileged", f"{name} is privileged, and no job is here")
        table.remark("volumes", f"volumes of {name} are not there", "`caches` keep directories from run to run")
        user = table.text("user")
        if user:
            job.put("user", user, table.place("user"))

    def end(self, table: Table, job: DraftJob, when: Condition, after: str) -> None:
        """Conditions of a step, once they are read; what nobody asked for is listed."""
        if after != "success":
            job.put("after", after)
        guard(self.foreign, job, when)
        table.leftovers()

    def order(self) -> None:
        """Let each job come after those that were before it: by ``depends_on``, or by the order of the file."""
        last = self.jobs[-1] if self.jobs else None
        for at, job in enumerate(self.jobs):
            if self._needs:
                self._put_needs(job)
            else:
                put_after(job, [[other] for other in self.jobs[:at]])
        needed = {name for job in self.jobs for name in job.needs}
        for job in self.jobs:
            if job.name in needed and "run" in job.keys:
                job.put("outputs", [_EVERYTHING])
            if self.services and "run" in job.keys:
                job.put("services", list(self.services))
        if needed and last is not None:
            self.foreign.remark(self.jobs[0].span, "steps shared a directory, which jobs do not", _SHARED)
        if self.services and len(self.jobs) > 1:
            place = self.draft.services[str(self.services[0])].span
            self.foreign.remark(place, "each job has fresh services: what one writes into them, another does not find")

    def _put_needs(self, job: DraftJob) -> None:
        wanted = []
        for name, place in self._needs.get(job.name, []):
            other = self._by_name.get(name)
            if other is None:
                self.foreign.remark(place, f"{job.name} comes after {name}, which is no step here; it fails")
                job.becomes_a_failure(f"it comes after {name}, which is not there")
                return
            wanted.append(other)
        fill_in_needs(job, wanted)

    def _is_builder(self, image: str) -> bool:
        name = image.partition("@")[0]
        if ":" in name.rpartition("/")[2]:
            name = name.rpartition(":")[0]
        return name.removeprefix("docker.io/") in self.dialect.builders

    def _runs(
        self,
        job: DraftJob,
        image: str | None,
        image_span: Span,
        commands: Sequence[tuple[str, Span]],
        table: Table,
        env: dict[str, Value],
    ) -> None:
        settings = table.table("settings")
        wanted = self.value(image or "", image_span)
        if "${" not in wanted and (fault := reference_fault(wanted)):
            self.foreign.remark(image_span, f"{job.name} has no image that can be used, and fails: {fault}")
            job.becomes_a_failure("its image")
            return
        job.put("image", wanted, image_span)
        if not commands:
            what = (
                "a plugin does what its image's entrypoint does"
                if settings
                else "its image's entrypoint is the command"
            )
            self.foreign.remark(
                image_span, f"{job.name} fails: {what}, and jobs begin none", "write the command in `run`"
            )
            job.put("run", [failing(f"{job.name}: {what}")])
            for key, value in settings.entries():
                self._setting(job, key, value, env)
            table.ignore("entrypoint", "command")
            return
        if settings:
            self.foreign.remark(table.place("settings"), "settings are for plugins, and this step has commands")
        job.put("run", [self._command(text, span, env) for text, span in commands if text.strip()] or ["true"])
        table.remark("entrypoint", "commands are run by `sh -e` here, not by this entrypoint")

    def _setting(self, job: DraftJob, key: Scalar, node: Node, env: dict[str, Value]) -> None:
        name = f"PLUGIN_{variable_name(key.text)}"
        if isinstance(node, MappingNode):
            inner, secrets = self.environment(
                MappingNode(((Scalar(name, key.span, True), node),), node.span), "settings"
            )
            env.update(inner)
            if secrets:
                job.texts("secrets").extend(secrets)
            return
        texts = self.foreign.texts(node, f"the setting {key.text}")
        env[name] = ",".join(self.value(text, span) for text, span in texts)

    def _command(self, text: str, span: Span, env: Mapping[str, Value]) -> str:
        script = text.replace("$${", "${")
        for name in used(script):
            if name in self.names and self.names[name] != f"${{{name}}}":
                self.draft_env(name, self.names[name], span)
            elif name in self.dialect.variables:
                self.draft_env(name, self.dialect.variables[name], span)
            elif name in self.dialect.nearly:
                value, message = self.dialect.nearly[name]
                self.draft_env(name, value, span)
                self.foreign.remark(span, message)
            elif name.startswith(self.dialect.prefixes) and name not in env:
                self.foreign.remark(span, f"${name} is not known here, and is empty")
        return script

    def draft_env(self, name: str, value: str, span: Span) -> None:
        """A variable for all jobs of the pipeline; of a matrix, for those that have it."""
        if value.startswith("${SHIPLAP_") or not value.startswith("${"):
            self.draft.env(span)[name] = value
        else:
            self.jobs[-1].env()[name] = value

    def _build(self, job: DraftJob, name: str, settings: Table) -> None:
        build: dict[str, Value] = {"context": settings.text("context") or "."}
        for theirs, ours in (("dockerfile", "file"), ("target", "target")):
            if (text := settings.text(theirs)) is not None:
                build[ours] = self.value(text, settings.place(theirs))
        self._build_lists(build, settings)
        if settings.truth("dry_run") or settings.truth("dry-run"):
            build["push"] = False
        for key in ("username", "password", "registry", "logins", "config"):
            settings.remark(key, f"the log-in of {name} is not carried over", _LOGIN)
        settings.leftovers()
        job.put("build", build)

    def _build_lists(self, build: dict[str, Value], settings: Table) -> None:
        if settings.truth("auto_tag"):
            settings.remark("auto_tag", "the image has the project's names until `tags` says which")
            settings.ignore("repo", "tags", "tag", "auto_tag_suffix")
        repositories = settings.texts("repo")
        tags = [pair for key in ("tags", "tag") for pair in settings.texts(key)] or [("latest", settings.span)]
        registry = settings.text("registry") or ""
        names: list[Value] = []
        for repository, place in repositories:
            full = self.value(repository, place)
            if registry and "." not in full.partition("/")[0] and "docker.io" not in registry:
                full = f"{registry.removeprefix('https://').strip('/')}/{full}"
            names += [f"{full}:{self.value(tag.strip(), span)}" for text, span in tags for tag in text.split(",")]
        if names and not settings.truth("auto_tag"):
            build["tags"] = names
        arguments = settings.get("build_args")
        if arguments is not None:
            build["args"] = self.environment(arguments, "`build_args`")[0]
        if platforms := [part for text, _ in settings.texts("platforms") for part in text.split(",")]:
            build["platforms"] = list(platforms)


def guard(foreign: Foreign, job: DraftJob, when: Condition) -> None:
    """Put a condition to a job. One that cannot be said leaves it to runs by hand."""
    if when is None:
        foreign.remark(
            job.span,
            f"when {job.name} is to run is not converted: it is in runs by hand only",
            "say it in `when`, and remove `event: manual`",
        )
        job.put("when", {"event": "manual"})
    elif when == conditions.NEVER:
        foreign.remark(job.span, f"the conditions of {job.name} never hold: it is in runs by hand only")
        job.put("when", {"event": "manual"})
    elif conditions.ALWAYS[0] not in when:
        job.put("when", conditions.as_when(when))


def list_unset(foreign: Foreign, job: DraftJob, known: frozenset[str], places: Sequence[tuple[str, Span]]) -> None:
    """List the variables that scripts name and nobody sets: they may be a project's secrets."""
    env = job.keys.get("env")
    own = frozenset(env.value) if env is not None and isinstance(env.value, dict) else frozenset()
    secrets = job.keys.get("secrets")
    if secrets is not None and isinstance(secrets.value, list):
        own |= {str(each["as"] if "as" in each else each["name"]) for each in secrets.value if isinstance(each, dict)}
        own |= {each for each in secrets.value if isinstance(each, str)}
    whole = "\n".join(text for text, _ in places)
    missing = frozenset(unset(whole, known | own))
    for text, span in places:
        for name in used(text):
            if name in missing:
                hint = f"if it is a secret: `secrets: [{name}]`, and `shiplap secret set`"
                foreign.remark(span, f"${name} is set nowhere in this file", hint)
