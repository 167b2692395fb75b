"""The build checks: warn of what a Dockerfile's author probably did not mean, beside a build or instead of one.

The rules are the grammar's. Here they get what only a build knows: build arguments, ignore patterns, and the variables
of base images. The findings are remembered, so that a fully cached build does not look again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

from builder.contexts.keys import SCRATCH
from builder.errors import BuilderError, CheckError
from builder.frontend.parsing import grammar_version
from builder.request.request import BuildRequest
from dockerfile_grammar import Dockerfile, Stage
from dockerfile_grammar.ast import CheckOptions
from images.store import Store

if TYPE_CHECKING:
    from builder.bases import Mismatch
    from dockerfile_grammar.checks import Subject

CHECK_ARG = "BUILDKIT_DOCKERFILE_CHECK"
_KIND = "checks"
_UNDEFINED_VARIABLE = "UndefinedVar"


class _PlatformRule(NamedTuple):
    name: str = "InvalidBaseImagePlatform"
    description: str = "Base image platform does not match expected target platform"
    anchor: str = "invalid-base-image-platform"


PLATFORM_RULE = _PlatformRule()


class CheckFinding(msgspec.Struct, frozen=True, array_like=True):
    """One thing that a rule found.

    line, end_line: of the instruction, from 1.
    anchor: the rule's anchor in docs/checks.md.
    """

    rule: str
    description: str
    anchor: str
    detail: str
    line: int
    end_line: int


Environments: TypeAlias = Mapping[str, Mapping[str, str]]
"""The variables of base images. Key: the name in FROM, expanded. Unknown images are left out."""


def check_options(dockerfile: Dockerfile, build_args: Mapping[str, str]) -> CheckOptions:
    """The options in ``BUILDKIT_DOCKERFILE_CHECK``, else in the file's ``# check=``. Raises BuilderError."""
    text = build_args.get(CHECK_ARG)
    if not text:
        return dockerfile.directives.check
    from dockerfile_grammar.parsing import parse_check_options

    try:
        return parse_check_options(text)
    except ValueError as error:
        raise BuilderError(f"{CHECK_ARG}: {error}", hint="write skip=RuleName,…;error=true") from None


def check_platforms(
    dockerfile: Dockerfile, request: BuildRequest, mismatches: Sequence[Mismatch]
) -> list[CheckFinding]:
    """Apply the rule that needs the images: it finds bases for another platform."""
    if not mismatches:
        return []
    from dockerfile_grammar.checks import skipping

    is_skipped = skipping(dockerfile, check_options(dockerfile, request.build_args))
    lines = {name: stage.from_.start_line for name, stage in _bases(dockerfile, request)}
    return [
        CheckFinding(
            PLATFORM_RULE.name,
            PLATFORM_RULE.description,
            PLATFORM_RULE.anchor,
            f'Base image {name} was pulled with platform "{found}", expected "{wanted}" for current build',
            lines[name],
            lines[name],
        )
        for name, found, wanted in mismatches
        if name in lines and not is_skipped(PLATFORM_RULE.name, lines[name])
    ]


def check_remembered(
    dockerfile: Dockerfile, request: BuildRequest, environments: Environments, store: Store
) -> list[CheckFinding]:
    """What the rules find, in the order of the file."""
    ignore = request.context.ignore
    known = sorted((name, sorted(env.items())) for name, env in environments.items())
    seen = repr((sorted(request.build_args.items()), known, ignore.texts if ignore is not None else None))
    key = hashlib.sha256(grammar_version() + request.dockerfile + seen.encode(errors="surrogateescape")).hexdigest()
    data = store.cache.memo_get(_KIND, key)
    if data is not None:
        return msgspec.msgpack.decode(data, type=list[CheckFinding])
    found = check(dockerfile, request, environments)
    store.cache.memo_put(_KIND, key, msgspec.msgpack.encode(found))
    return found


def check(dockerfile: Dockerfile, request: BuildRequest, environments: Environments) -> list[CheckFinding]:
    """What the rules find, in the order of the file. Raises BuilderError for malformed options."""
    from dockerfile_grammar.checks import Subject, run_checks

    subject = Subject(dockerfile, request.build_args, request.context.ignore, lambda name: environments.get(name, {}))
    findings = run_checks(subject, check_options(dockerfile, request.build_args))
    doubtful = _lines_on_unknown_bases(dockerfile, subject, environments)
    ends = {item.start_line: item.end_line for item in dockerfile.instructions}
    return [
        CheckFinding(
            finding.rule.name,
            finding.rule.description,
            finding.rule.anchor,
            finding.detail,
            finding.line,
            max(finding.line, ends.get(finding.line, finding.line)),
        )
        for finding in findings
        if finding.rule.name != _UNDEFINED_VARIABLE or finding.line not in doubtful
    ]


def base_names(dockerfile: Dockerfile, request: BuildRequest) -> list[str]:
    """The images that stages begin with, each once, without stages and scratch."""
    return list(dict.fromkeys(name for name, _ in _bases(dockerfile, request)))


def _bases(dockerfile: Dockerfile, request: BuildRequest) -> Iterator[tuple[str, Stage]]:
    """Names of images, expanded, and the stages that begin with them; the last of the file first."""
    from dockerfile_grammar.checks import Subject

    scopes = Subject(dockerfile, request.build_args).scopes()
    for stage in reversed(dockerfile.stages):
        base = scopes.expand(stage.base, scopes.global_env).text
        if base and base != SCRATCH and base.lower() not in {it.name for it in dockerfile.stages[: stage.index]}:
            yield base, stage


def refuse_violations(options: CheckOptions, findings: Sequence[CheckFinding]) -> None:
    """``error=true`` makes findings an error. Raises CheckError."""
    if options.error and findings:
        rules = ", ".join(dict.fromkeys(finding.rule for finding in findings))
        places = "; ".join(f"line {finding.line}: {finding.detail}" for finding in findings[:3])
        raise CheckError(
            f"the Dockerfile does not pass its checks ({rules}): {places}",
            hint="it says check=error=true; shiplap build --check shows all, check=skip=RuleName lets one pass",
        )


def _lines_on_unknown_bases(dockerfile: Dockerfile, subject: Subject, environments: Environments) -> frozenset[int]:
    """The lines of stages whose base image has unknown variables: no variable there is surely undefined."""
    scopes = subject.scopes()
    lines: set[int] = set()
    known: dict[str, bool] = {SCRATCH: True}
    for stage in dockerfile.stages:
        base = scopes.expand(stage.base, scopes.global_env).text
        is_known = known.get(base.lower(), base in environments)
        if stage.name is not None:
            known[stage.name] = is_known
        if not is_known:
            lines.update(item.start_line for item in stage.instructions)
    return frozenset(lines)
