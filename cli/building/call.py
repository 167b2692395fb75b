"""``--check`` and ``--call``: answers about a Dockerfile without building it, in buildx's form."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from cli.declared import Option
from cli.errors import CommandError

if TYPE_CHECKING:
    from builder.bases import Connect
    from builder.frontend.checks import CheckFinding
    from builder.frontend.outline import Outline, Target
    from builder.request.request import BuildRequest
    from dockerfile_grammar import Dockerfile
    from images.store import Store

_KINDS = ("build", "check", "outline", "targets")
_DOCS = "docs/checks.md"
_AROUND = 2

CALL_OPTIONS: Final = (
    Option(
        ("--call",),
        "build; or instead: check (the build checks), outline (what the target takes), targets.  [default: build]",
        metavar="WHAT[,format=json]",
        default="build",
    ),
    Option(("--check",), "The same as --call=check.", flag=True),
)


class Call(NamedTuple):
    """The question. ignore_status: exit with 0 whatever the checks find."""

    kind: str
    as_json: bool
    ignore_status: bool


def parse_call(call: str, *, check: bool) -> Call | None:
    """The question; None for a build. Raises CommandError."""
    kind, *attributes = call.split(",")
    if check and kind not in ("build", "check"):
        raise CommandError(f"--check and --call={kind} exclude each other")
    if kind not in _KINDS:
        raise CommandError(f"--call {kind!r} is not known", hint=f"one of {', '.join(_KINDS)}")
    as_json = ignore_status = False
    for attribute in attributes:
        if attribute in ("format=json", "format=text"):
            as_json = attribute.endswith("json")
        elif attribute in ("ignorestatus", "ignorestatus=true", "ignorestatus=false"):
            ignore_status = not attribute.endswith("false")
        else:
            raise CommandError(f"--call: unknown attribute {attribute!r}", hint="format=json, ignorestatus=true")
    kind = "check" if check else kind
    return None if kind == "build" else Call(kind, as_json, ignore_status)


def answer(call: Call, request: BuildRequest, store: Store, connect: Connect) -> int:
    """Print the answer on standard output. Returns the exit code: 1 when a check found something.

    Raises DockerfileError.
    """
    from builder.frontend import answers
    from builder.frontend.parsing import parse_remembered

    dockerfile = parse_remembered(request.dockerfile, request.dockerfile_name, store)
    if call.kind == "check":
        findings = answers.findings(dockerfile, request, store, connect)
        _print(
            _json(answers.check_document(dockerfile, findings)) if call.as_json else check_text(dockerfile, findings)
        )
        return 1 if findings and not call.ignore_status else 0
    from builder.frontend.outline import outline, targets

    if call.kind == "targets":
        stages = targets(dockerfile)
        _print(_json(answers.targets_document(stages)) if call.as_json else targets_text(stages))
    else:
        made = outline(dockerfile, request.target, request.build_args, request.platform)
        _print(_json(answers.outline_document(made)) if call.as_json else outline_text(made))
    return 0


def check_text(dockerfile: Dockerfile, findings: Sequence[CheckFinding]) -> str:
    """As ``docker build --check`` prints it."""
    if not findings:
        return "Check complete, no warnings found."
    count = "1 warning has" if len(findings) == 1 else f"{len(findings)} warnings have"
    lines = [f"Check complete, {count} been found!"]
    for finding in findings:
        lines += ["", f"WARNING: {finding.rule} - {_DOCS}#{finding.anchor}", finding.description]
        lines += [] if finding.detail == finding.description else [finding.detail]
        lines += _source(dockerfile, finding)
    return "\n".join(lines)


def _source(dockerfile: Dockerfile, finding: CheckFinding) -> list[str]:
    lines = dockerfile.source.lines
    first, last = max(1, finding.line - _AROUND), min(len(lines), finding.end_line + _AROUND)
    rule = "-" * 20
    shown = [
        f"{number:4} | {'>>>' if finding.line <= number <= finding.end_line else '   '} {lines[number - 1]}".rstrip()
        for number in range(first, last + 1)
    ]
    return [f"{dockerfile.filename}:{finding.line}", rule, *shown, rule]


def targets_text(stages: Sequence[Target]) -> str:
    """As ``docker build --call=targets`` prints it; a stage without a name has its number."""
    rows = [(_target_name(stage) + (" (default)" if stage.default else ""), stage.description) for stage in stages]
    return _columns([("TARGET", "DESCRIPTION"), *rows])


def outline_text(made: Outline) -> str:
    """As ``docker build --call=outline`` prints it."""
    heading = [("TARGET:", made.target.name or "(default)")]
    heading += [("DESCRIPTION:", made.target.description)] if made.target.description else []
    parts = [_columns(heading)]
    if made.arguments:
        rows = [(it.name, it.value or "", it.description) for it in made.arguments]
        parts.append(_columns([("BUILD ARG", "VALUE", "DESCRIPTION"), *rows]))
    for title, needed in (("SECRET", made.secrets), ("SSH", made.ssh)):
        if needed:
            rows_needed = [(it.name, "true" if it.required else "") for it in needed]
            parts.append(_columns([(title, "REQUIRED"), *rows_needed]))
    return "\n\n".join(parts)


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    from cli.table import table

    return table(rows[0], rows[1:], gap=4)


def _target_name(stage: Target) -> str:
    return stage.name or str(stage.index)


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _json(document: object) -> str:
    import json  # builds do not need it

    return json.dumps(document, indent=2)
