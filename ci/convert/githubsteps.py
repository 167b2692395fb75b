"""The steps of one of GitHub's jobs: commands of a job of ours, an image to run in, images that are built."""

from __future__ import annotations

import re
import shlex
from typing import Final

from ci.convert import conditions, githubactions
from ci.convert.draft import DraftJob, Value, failing
from ci.convert.expressions import condition
from ci.convert.foreign import Foreign, Table
from ci.convert.githubvalues import JobValues, quoted
from ci.convert.shelltext import NotReadHereError
from ci.document import Node
from dockerfile_grammar.source import Span

_SHELLS: Final = {"bash": "bash", "sh": "sh", "bash -e {0}": "bash", "bash {0}": "bash"}
_LEAVES_SOMETHING: Final = re.compile(
    r"(?:^|[\n;&|(]|\bthen\b|\bdo\b|\belse\b)\s*(?:(?:cd|pushd|popd|export|set|exit|trap|umask|alias|source|shopt|exec|unset|\.)\b"
    r"|[A-Za-z_]\w*=)"
)
_PIPE: Final = re.compile(r"(?<!\|)\|(?![|&])")
_OF_MATRIX: Final = re.compile(r"(?:\$\{\{\s*)?matrix\.([\w-]+)\s*(==|!=)\s*'([^'*?\[\]\\]*)'(?:\s*\}\})?")
_OS: Final = re.compile(r"(?:\$\{\{\s*)?runner\.os\s*(==|!=)\s*'(\w+)'(?:\s*\}\})?")


class JobSteps:
    """Reads the steps of one job.

    image: that an action stands for; None: none does.
    builds: what `build` of further jobs says, with their places.
    source: how the commit's files come, of the whole pipeline.
    shell: of steps that name none. is_runner: they run on a machine of GitHub's, where that is bash without pipefail.
    """

    def __init__(self, foreign: Foreign, job: DraftJob, values: JobValues, source: dict[str, Value]) -> None:
        self.foreign = foreign
        self.job = job
        self.values = values
        self.source = source
        self.image: str | None = None
        self.builds: list[tuple[dict[str, Value], Span]] = []
        self.commands: list[Value] = []
        self.shell = ""
        self.directory = ""
        self.has_bash = False

    def take(self, node: Node, number: int) -> None:
        """One step."""
        table = self.foreign.table(node, f"step {number}")
        span = table.span
        table.ignore("name", "id")
        table.remark("timeout-minutes", "a step has no time-out of its own; its job has")
        guard, on = self._guard(table)
        uses = table.text("uses")
        if uses is not None:
            self._action(uses, table.place("uses"), table.table("with"), guard, on)
            table.remark("env", "variables of an action are not converted")
            table.ignore("continue-on-error")
        elif "run" in table:
            self._run(table, span, guard)
        else:
            self.foreign.remark(span, f"step {number} neither runs nor uses anything")
        table.leftovers()

    def _guard(self, table: Table) -> tuple[str | None, str]:
        """The shell's test for a step's `if`, and of which end it is. Empty: it is always done; None: not known."""
        text = table.text("if")
        if text is None:
            return "", "success"
        if match := _OF_MATRIX.fullmatch(text.strip()):
            name = self.values.axes.get(match[1])
            return (f'[ "${name}" {match[2].replace("==", "=")} {shlex.quote(match[3])} ]' if name else None), "success"
        if match := _OS.fullmatch(text.strip()):
            return ("" if (match[2] == "Linux") == (match[1] == "==") else "false"), "success"
        when, after = condition(text)
        if when is None:
            return None, after
        if conditions.ALWAYS[0] in when:
            return "", after
        return ("false" if when == conditions.NEVER else shell_test(when)), after

    def _run(self, table: Table, span: Span, guard: str | None) -> None:
        place = table.place("run")
        shell = table.text("shell") or self.shell
        text = table.text("run") or ""
        own = self.values.variables(table.get("env"), "`env` of a step")
        directory = table.text("working-directory") or self.directory
        is_tolerant = table.truth("continue-on-error")
        condition_span = table.place("if") if "if" in table else span
        after = condition(table.text("if") or "")[1]
        if after == "failure":
            self.foreign.remark(
                condition_span, "a step for failures is left out", "a job of its own has `after: failure`"
            )
            return
        if after == "always":
            self.foreign.remark(condition_span, "this step runs only if those before it succeeded")
        if guard is None:
            self._fails(condition_span, f"when this step is to run is not converted: {(table.text('if') or '')[:80]}")
            return
        if shell and shell not in _SHELLS:
            self._fails(table.place("shell") if "shell" in table else place, f"its script is for {shell[:40]}")
            return
        self.has_bash = self.has_bash or _SHELLS.get(shell) == "bash"
        if not shell and _PIPE.search(text):
            self.foreign.remark(place, "a pipe fails here when any of its commands does (`pipefail`)")
        try:
            script = self.values.script(text, place, own).strip("\n")
        except NotReadHereError:
            self._fails(place, "an expression stands where the shell reads no variable")
            return
        written_directory = self.values.value(directory, place) if directory else ""
        if written_directory is None:
            self._fails(place, "its directory is not known here")
            return
        lines = [f"cd {quoted(written_directory)}"] if written_directory else []
        lines += [self.values.assignment(name, value) for name, (value, _) in own.items()]
        if script.strip():
            self.commands.append(_wrapped(script, lines, guard, is_tolerant=is_tolerant))

    def _fails(self, span: Span, why: str) -> None:
        self.foreign.remark(span, f"{why}; it fails")
        self.commands.append(failing(f"{why} (line {span.start.line})"))

    def _action(self, uses: str, span: Span, table: Table, guard: str | None, on: str) -> None:
        name = uses.partition("@")[0].strip()
        if name == "actions/checkout":
            githubactions.checkout(table, self.source)
        elif name in githubactions.TOOLS:
            self._tool(githubactions.TOOLS[name], uses, span, table)
        elif name in ("actions/cache", "actions/cache/restore", "actions/cache/save"):
            self._caches(githubactions.cache(table, self.values))
        elif name == "actions/upload-artifact":
            if guard not in ("", None):
                self.foreign.remark(span, "this output is kept whatever the condition of the step says")
            elif guard is None:
                self.foreign.remark(span, "the condition of this step is not converted: its output is always kept")
            self.job.texts("outputs").extend(githubactions.upload(table, self.values, on))
        elif name == "actions/download-artifact":
            githubactions.download(table, span)
        elif name == "docker/build-push-action":
            if guard != "":
                self.foreign.remark(
                    span, "the condition of this step is not converted; the image is built in runs by hand"
                )
                self.builds.append(({**githubactions.build(table, self.values), "is_unsure": True}, span))
            else:
                self.builds.append((githubactions.build(table, self.values), span))
        elif name in githubactions.ONLY_LISTED:
            self.foreign.remark(span, f"{name} is not converted: {githubactions.ONLY_LISTED[name]}")
            list(table.entries())
        elif name not in githubactions.NOTHING_TO_DO:
            list(table.entries())
            hint = "write what it does as a command"
            self.foreign.remark(span, f"the action {uses[:80]} is not run; the step fails", hint)
            self.commands.append(failing(f"{uses[:80]} (line {span.start.line}); {hint}"))

    def _tool(self, tool: githubactions.Tool, uses: str, span: Span, table: Table) -> None:
        text = table.text(tool.version)
        version: str | None = None
        if text is None and "rust" in tool.image:
            version = uses.partition("@")[2] if uses.startswith("dtolnay/") else None
            version = githubactions.version_of(version or "") or "latest"
        elif text is not None and "${{" in text:
            version = self.values.value(text, table.place(tool.version))
        elif text is not None:
            version = githubactions.version_of(text) or (text if re.fullmatch(r"[a-z]+", text) else None)
            version = "latest" if version in ("stable", "latest") else version
        place = table.place(tool.version) if tool.version in table else span
        if version is None:
            version = "latest"
            self.foreign.remark(
                place, f"which version is wanted is not said here: {tool.image.format(version)} is taken"
            )
        image = tool.image.format(version)
        if self.image is None:
            self.image = image
        else:
            self.foreign.remark(span, f"a job has one image, {self.image}, and {image} is a second one")
        kind = table.text("cache")
        if kind is not None:
            if kind in tool.caches:
                self._caches(list(tool.caches[kind]))
            elif kind != "false":
                self.foreign.remark(table.place("cache"), f"where {kind[:40]} has its cache is not known")
        table.ignore("architecture", "check-latest", "distribution", "cache-dependency-path", "token", "profile")
        table.leftovers()

    def _caches(self, paths: list[Value]) -> None:
        caches = self.job.texts("caches")
        caches.extend(path for path in paths if path not in caches)
        if not caches:
            del self.job.keys["caches"]


def shell_test(when: tuple[conditions.Facts, ...]) -> str | None:
    """A condition as a test of the shell. None: it has patterns that the shell has not."""
    names = {"event": "SHIPLAP_EVENT", "branch": "SHIPLAP_BRANCH", "tag": "SHIPLAP_TAG", "target": "SHIPLAP_TARGET"}
    alternatives = []
    for facts in when:
        parts = []
        for name, values in facts.items():
            if name not in names:
                return None
            tests = []
            for value in values:
                if re.fullmatch(r"[\w./-]+\*\*", value):
                    tests.append(f'[ "${{{names[name]}#{value[:-2]}}}" != "${names[name]}" ]')
                elif re.fullmatch(r"[\w./-]+", value):
                    tests.append(f'[ "${names[name]}" = {value} ]')
                else:
                    return None
            parts.append(tests[0] if len(tests) == 1 else f"{{ {' || '.join(tests)}; }}")
        alternatives.append(" && ".join(parts))
    return alternatives[0] if len(alternatives) == 1 else " || ".join(f"{{ {each}; }}" for each in alternatives)


def _wrapped(script: str, before: list[str], guard: str, *, is_tolerant: bool) -> str:
    """A step's script, in a shell of its own where it would leave something for the next one."""
    if before or is_tolerant or _LEAVES_SOMETHING.search(script):
        body = "\n".join([*before, script])
        script = f"set +e\n(set -e\n{body}\n)\nset -e" if is_tolerant else f"(\n{body}\n)"
    return f"if {guard}; then\n{script}\nfi" if guard else script
