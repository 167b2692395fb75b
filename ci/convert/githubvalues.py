"""What GitHub's expressions are in one job: variables in its scripts, and ``${NAME}`` in its values."""

from __future__ import annotations

import re
import shlex
from typing import Final

from ci.convert.draft import DraftJob, Value, variable_name
from ci.convert.expressions import FACTS, NEARLY, inside
from ci.convert.facts import GITHUB, used
from ci.convert.foreign import Foreign
from ci.convert.shelltext import Variable, with_variables
from ci.document import Node
from dockerfile_grammar.source import Span

_EXPRESSION: Final = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_NAMED: Final = re.compile(r"(matrix|env|secrets|inputs|github\.event\.inputs)\.([A-Za-z_][\w-]*)")
_LITERAL: Final = {
    "github.workspace": "GITHUB_WORKSPACE", "runner.temp": "RUNNER_TEMP", "runner.os": "RUNNER_OS",
}  # fmt: skip
_TOKENS: Final = ("github.token", "secrets.GITHUB_TOKEN")
_FILES: Final = ("GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_PATH", "GITHUB_STEP_SUMMARY", "GITHUB_TOKEN")


class JobValues:
    """The names that one job knows.

    top: variables of all jobs, to which those are added that stand for GitHub's.
    axes: the names of the matrix's lists here, by what GitHub's file calls them.
    env: variables that are set to a text in the file.
    params: names of parameters here, by those of the inputs.
    """

    def __init__(
        self, foreign: Foreign, job: DraftJob, top: dict[str, Value], axes: dict[str, str], params: dict[str, str]
    ) -> None:
        self.foreign = foreign
        self.job = job
        self.top = top
        self.axes = axes
        self.params = params
        self.env: dict[str, str] = {}
        self.secrets: dict[str, Value] = {}

    def value(self, text: str, span: Span) -> str | None:
        """A value for a key of ours. None: something in it is not known here, and is listed."""
        found: list[str] = []
        at = 0
        for match in _EXPRESSION.finditer(text):
            found.append(text[at : match.start()].replace("${", "$${"))
            inner = match[1].strip()
            name = self._placeholder(inner, span)
            if name is None:
                self.foreign.remark(span, f"`${{{{ {inner[:80]} }}}}` is not known here")
                return None
            found.append(name)
            at = match.end()
        rest = text[at:]
        if "${{" in rest:
            self.foreign.remark(span, "`${{` has no end here")
            return None
        return "".join([*found, rest.replace("${", "$${")])

    def _placeholder(self, inner: str, span: Span) -> str | None:
        if inner in FACTS:
            return f"${{{FACTS[inner]}}}"
        if inner in NEARLY:
            name, message = NEARLY[inner]
            self.foreign.remark(span, message)
            return f"${{{name}}}"
        if inner in _LITERAL:
            return GITHUB[_LITERAL[inner]]
        if re.fullmatch(r"'[^']*'", inner):
            return inner[1:-1].replace("${", "$${")
        match = _NAMED.fullmatch(inner)
        if match is None:
            return None
        kind, name = match.groups()
        if kind == "matrix" and name in self.axes:
            return f"${{{self.axes[name]}}}"
        if kind == "env" and name in self.env:
            return self.env[name]
        if kind in ("inputs", "github.event.inputs") and name in self.params:
            return f"${{{self.params[name]}}}"
        return None

    def variables(self, node: Node | None, what: str) -> dict[str, tuple[str, Span]]:
        """Variables that the file sets; those that are secrets are the job's from then on, and are not among them."""
        found: dict[str, tuple[str, Span]] = {}
        for key, value in self.foreign.table(node, what).entries():
            text = self.foreign.text(value, f"the variable {key.text}") or ""
            inner = inside(text)
            if inner != text.strip() and (inner.startswith("secrets.") or inner in _TOKENS):
                self.secret(inner, key.text, value.span)
                continue
            written = self.value(text, value.span)
            if written is None:
                self.foreign.remark(value.span, f"the variable {key.text} is not set")
                continue
            found[key.text] = (written, value.span)
        return found

    def secret(self, inner: str, variable: str, span: Span) -> None:
        """Give the job a secret as a variable. inner: ``secrets.NAME``, or one of the words for the forge's token."""
        name = "GITHUB_TOKEN" if inner in _TOKENS else inner.removeprefix("secrets.")
        if inner in _TOKENS:
            hint = "shiplap secret set GITHUB_TOKEN, with a token that may do what the job does"
            self.foreign.remark(span, "no job gets the forge's token by itself", hint)
        self.secrets[variable] = name if variable == name else {"name": name, "as": variable}

    def script(self, text: str, span: Span, own: dict[str, tuple[str, Span]]) -> str:
        """A shell's script, in which expressions are variables. own: what the step sets itself.

        Raises NotReadHereError.
        """

        def variable(inner: str) -> Variable:
            if (name := self._variable(inner, span)) is not None:
                return name
            self.foreign.remark(span, f"`${{{{ {inner[:80]} }}}}` is not known here: the step fails there")
            return Variable(f"NOT_CONVERTED:?line {span.start.line} of the file that this was", False)

        script = with_variables(text, variable)
        for name in used(script):
            if name in own or name in self.env or name in self.secrets:
                continue
            if name in GITHUB:
                self.top[name] = GITHUB[name]
            elif name == "GITHUB_REF_NAME":
                self.top[name] = "${SHIPLAP_BRANCH}"
                self.foreign.remark(span, NEARLY["github.ref_name"][1])
            elif name in _FILES or name.startswith(("GITHUB_", "RUNNER_")):
                self.foreign.remark(span, f"${name} is not set here")
        return script

    def _variable(self, inner: str, span: Span) -> Variable | None:
        if inner in FACTS:
            return Variable(FACTS[inner], True)
        if inner in NEARLY:
            name, message = NEARLY[inner]
            self.foreign.remark(span, message)
            return Variable(name, True)
        if inner in _LITERAL:
            self.top[_LITERAL[inner]] = GITHUB[_LITERAL[inner]]
            return Variable(_LITERAL[inner], True)
        if inner in _TOKENS:
            self.secret(inner, "GITHUB_TOKEN", span)
            return Variable("GITHUB_TOKEN", True)
        match = _NAMED.fullmatch(inner)
        if match is None:
            return None
        kind, name = match.groups()
        if kind == "secrets":
            variable = variable_name(name)
            self.secret(inner, variable, span)
            return Variable(variable, True)
        if kind == "env":
            return Variable(name, False) if re.fullmatch(r"\w+", name) else None
        known = self.axes if kind == "matrix" else self.params
        return Variable(known[name], False) if name in known else None

    def assignment(self, name: str, value: str) -> str:
        """A shell's line that sets a variable to a value of ours."""
        return f"export {name}={quoted(value)}"


def quoted(value: str) -> str:
    """A value of ours as one word of a shell, which reads the ``${NAME}`` in it."""
    parts = re.split(r"(\$\$\{|\$\{[A-Za-z_]\w*\})", value)
    return "".join(
        f'"{part}"' if part.startswith("${") else shlex.quote(part.replace("$${", "${")) for part in parts if part
    )
