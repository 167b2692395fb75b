"""``--check`` and ``--call``: answers about a Dockerfile without building it, in buildx's form."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
    from builder.frontend.parsing import parse_remembered

    dockerfile = parse_remembered(request.dockerfile, request.dockerfile_name, store)
    if call.kind == "check":
        findings = _findings(dockerfile, request, store, connect)
        _print(_check_json(dockerfile, findings) if call.as_json else check_text(dockerfile, findings))
        return 1 if findings and not call.ignore_status else 0
    from builder.frontend.outline import outline, targets

    if call.kind == "targets":
        stages = targets(dockerfile)
        _print(_targets_json(stages) if call.as_json else targets_text(stages))
    else:
        made = outline(dockerfile, request.target, request.build_args, request.platform)
        _print(_outline_json(made) if call.as_json else outline_text(made))
    return 0


def _findings(dockerfile: Dockerfile, request: BuildRequest, store: Store, connect: Connect) -> list[CheckFinding]:
    """What the checks find, given the variables of those base images that can be fetched."""
    from builder.bases import Resolver
    from builder.frontend.checks import base_names, check, check_platforms
    from builder.frontend.unknownowners import check_owners
    from core.errors import ShiplapError
    from core.events import NullMonitor, StepInfo

    with Resolver(store, NullMonitor(), request.platform, connect, always=False) as resolver:
        for name in base_names(dockerfile, request):
            try:
                resolver(name, None, lambda step: StepInfo(0, step))
            except ShiplapError:
                continue  # then no variable on this base counts as undefined
        found = check(dockerfile, request, resolver.environments())
        found += check_owners(dockerfile, request, resolver.layers(), store)
        platforms = check_platforms(dockerfile, request, resolver.mismatches)
        return [*platforms, *sorted(found, key=lambda finding: finding.line)]


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


def _location(first: int, last: int) -> dict[str, Any]:
    return {"ranges": [{"start": {"line": first}, "end": {"line": last}}]}


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _json(document: object) -> str:
    import json  # builds do not need it

    return json.dumps(document, indent=2)


def _check_json(dockerfile: Dockerfile, findings: Sequence[CheckFinding]) -> str:
    warnings = [
        {
            "ruleName": finding.rule,
            "description": finding.description,
            "url": f"{_DOCS}#{finding.anchor}",
            "detail": finding.detail,
            "location": _location(finding.line, finding.end_line),
        }
        for finding in findings
    ]
    return _json({"warnings": warnings, "sources": [{"fileName": dockerfile.filename}]})


def _targets_json(stages: Sequence[Target]) -> str:
    documents = []
    for stage in stages:
        members = {"name": stage.name, "default": stage.default, "description": stage.description}
        members |= {"base": stage.base, "platform": stage.platform}
        known = {name: value for name, value in members.items() if value}
        documents.append({**known, "location": _location(stage.line, stage.line)})
    return _json({"targets": documents})


def _outline_json(made: Outline) -> str:
    members: dict[str, Any] = {"name": made.target.name, "description": made.target.description}
    members["args"] = [
        {
            "name": it.name,
            **({"description": it.description} if it.description else {}),
            **({"value": it.value} if it.value is not None else {}),
            "location": _location(it.line, it.line),
        }
        for it in made.arguments
    ]
    for name, needed in (("secrets", made.secrets), ("ssh", made.ssh)):
        members[name] = [
            {"name": it.name, **({"required": True} if it.required else {}), "location": _location(it.line, it.line)}
            for it in needed
        ]
    return _json({name: value for name, value in members.items() if value})
