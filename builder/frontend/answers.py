"""Answers about a Dockerfile without building it, as documents in buildx's form: checks, outline, targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from builder.bases import Connect, Resolver
from builder.frontend.checks import CheckFinding, base_names, check, check_platforms
from core.errors import ShiplapError
from core.events import NullMonitor, StepInfo

if TYPE_CHECKING:
    from builder.frontend.outline import Outline, Target
    from builder.request.request import BuildRequest
    from dockerfile_grammar import Dockerfile
    from images.store import Store

CHECKS_PAGE: Final = "docs/checks.md"


def findings(dockerfile: Dockerfile, request: BuildRequest, store: Store, connect: Connect) -> list[CheckFinding]:
    """What the checks find, given the variables of those base images that can be fetched."""
    from builder.frontend.unknownowners import check_owners

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


def check_document(dockerfile: Dockerfile, found: Sequence[CheckFinding]) -> dict[str, Any]:
    """What the checks found."""
    warnings = [
        {
            "ruleName": finding.rule,
            "description": finding.description,
            "url": f"{CHECKS_PAGE}#{finding.anchor}",
            "detail": finding.detail,
            "location": _location(finding.line, finding.end_line),
        }
        for finding in found
    ]
    return {"warnings": warnings, "sources": [{"fileName": dockerfile.filename}]}


def targets_document(stages: Sequence[Target]) -> dict[str, Any]:
    """The stages."""
    documents = []
    for stage in stages:
        members = {"name": stage.name, "default": stage.default, "description": stage.description}
        members |= {"base": stage.base, "platform": stage.platform}
        known = {name: value for name, value in members.items() if value}
        documents.append({**known, "location": _location(stage.line, stage.line)})
    return {"targets": documents}


def outline_document(made: Outline) -> dict[str, Any]:
    """What a target takes."""
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
    return {name: value for name, value in members.items() if value}


def _location(first: int, last: int) -> dict[str, Any]:
    return {"ranges": [{"start": {"line": first}, "end": {"line": last}}]}
