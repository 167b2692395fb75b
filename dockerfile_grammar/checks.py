"""The build checks that need nothing but the file (and, for one of them, the ignore file): rules and findings.

A rule is data and a pure function. Names, descriptions and details are BuildKit's, so that ``# check=skip=…`` means the
same. InvalidBaseImagePlatform needs the image, so it is in builder/frontend/checks.py.
Source: moby/buildkit, frontend/dockerfile/linter/ruleset.go and dockerfile2llb.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct

from core.errors import InvalidReferenceError
from core.fetchable import is_fetchable
from core.platforms import Platform
from core.references import Reference
from core.suggestions import aside, suggestion
from dockerfile_grammar import ast
from dockerfile_grammar.ast import Span
from dockerfile_grammar.comments import description_above, skipped_above
from dockerfile_grammar.ignore import IgnorePatterns, clean_path
from dockerfile_grammar.scopes import Scopes
from dockerfile_grammar.secrecy import names_a_secret


class Subject(Struct, frozen=True):
    """What is checked. ignore: the patterns of .dockerignore, None when there are none or no context.

    base_env: the environment of an image by name, {} where it is not known.
    """

    dockerfile: ast.Dockerfile
    build_args: Mapping[str, str] = {}
    ignore: IgnorePatterns | None = None
    base_env: Callable[[str], Mapping[str, str]] = lambda _: {}

    def scopes(self) -> Scopes:
        return Scopes(self.dockerfile, self.build_args, self.base_env)


class Detail(Struct, frozen=True):
    """What a rule found: a sentence, the place to underline, and the line that BuildKit reports."""

    text: str
    span: Span
    line: int


class Rule(Struct, frozen=True):
    """One build check.

    name: for ``# check=skip=``. experimental: off by default.
    """

    name: str
    description: str
    find: Callable[[Subject], Iterator[Detail]]
    experimental: bool = False

    @property
    def anchor(self) -> str:
        """The rule's section on the page about checks: ``stage-name-casing`` for StageNameCasing."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", self.name).lower()


class Finding(Struct, frozen=True):
    """One thing that a rule found in a file."""

    rule: Rule
    detail: str
    span: Span
    line: int


def run_checks(subject: Subject, options: ast.CheckOptions | None = None) -> list[Finding]:
    """All findings, in the order of the file.

    Rules that ``options`` or the file's ``# check=`` skip are left out; where a comment right above an instruction
    skips a rule, that rule is left out there.
    """
    options = options or subject.dockerfile.directives.check
    is_skipped = skipping(subject.dockerfile, options)
    findings = []
    for rule in RULES:
        if options.skips(rule.name):
            continue
        if rule.experimental and not (options.experimental_all or rule.name in options.experimental):
            continue
        findings += [
            Finding(rule, found.text, found.span, found.line)
            for found in rule.find(subject)
            if not is_skipped(rule.name, found.line)
        ]
    return sorted(findings, key=lambda finding: (finding.line, finding.span.start))


def skipping(dockerfile: ast.Dockerfile, options: ast.CheckOptions) -> Callable[[str, int], bool]:
    """A test (rule's name, line): is the rule skipped at that line's instruction, by ``options`` or right above it?"""
    instructions = list(dockerfile.instructions)
    starts = [item.start_line for item in instructions]

    def is_skipped(rule: str, line: int) -> bool:
        at = bisect.bisect_right(starts, line) - 1
        return options.skips(rule) or (at >= 0 and skipped_above(instructions[at]).skips(rule))

    return is_skipped


def _detail(text: str, instruction: ast.Instruction, word: ast.Word | ast.Flag | None = None) -> Detail:
    return Detail(text, (word or instruction.keyword).span, instruction.start_line)


def _stage_name_casing(subject: Subject) -> Iterator[Detail]:
    for stage in subject.dockerfile.stages:
        name = stage.from_.name
        if name is not None and name.text != name.text.lower():
            yield _detail(f"Stage name '{name.text}' should be lowercase", stage.from_, name)


def _from_as_casing(subject: Subject) -> Iterator[Detail]:
    for stage in subject.dockerfile.stages:
        from_, as_ = stage.from_.keyword, stage.from_.as_keyword
        if as_ is None or from_.text not in {from_.text.lower(), from_.text.upper()}:
            continue
        if as_.text != (as_.text.lower() if from_.text.islower() else as_.text.upper()):
            yield _detail(f"'{as_.text}' and '{from_.text}' keywords' casing do not match", stage.from_, as_)


def _no_empty_continuation(subject: Subject) -> Iterator[Detail]:
    for instruction in subject.dockerfile.instructions:
        if instruction.empty_continuations:
            number = instruction.empty_continuations[0]
            place = ast.Position(number, 1)
            last = instruction.heredocs[0].body_span.start.line - 1 if instruction.heredocs else instruction.end_line
            yield Detail("Empty continuation line", Span(place, place), last)


def _consistent_instruction_casing(subject: Subject) -> Iterator[Detail]:
    instructions = [item for stage in subject.dockerfile.stages for item in (stage.from_, *stage.instructions)]
    counts = Counter(item.keyword.text.islower() for item in instructions if _is_one_case(item.keyword.text))
    casing = "lowercase" if counts[True] > counts[False] else "uppercase"
    for item in instructions:
        text = item.keyword.text
        if text != (text.lower() if casing == "lowercase" else text.upper()):
            yield _detail(f"Command '{text}' should match the case of the command majority ({casing})", item)


def _is_one_case(text: str) -> bool:
    return text in {text.lower(), text.upper()}


def _duplicate_stage_name(subject: Subject) -> Iterator[Detail]:
    seen: set[str] = set()
    for stage in subject.dockerfile.stages:
        if stage.name is not None and stage.name in seen:
            text = f'Duplicate stage name "{stage.name}", stage names should be unique'
            yield _detail(text, stage.from_, stage.from_.name)
        seen.add(stage.name or "")


def _reserved_stage_name(subject: Subject) -> Iterator[Detail]:
    for stage in subject.dockerfile.stages:
        if stage.name in {"context", "scratch"}:
            text = f'Stage name should not use the same name as reserved stage "{stage.name}"'
            yield _detail(text, stage.from_, stage.from_.name)


def _json_args_recommended(subject: Subject) -> Iterator[Detail]:
    has_shell: dict[str, bool] = {}
    for stage in subject.dockerfile.stages:
        shell = has_shell.get(stage.base.text.lower(), False)
        for item in stage.instructions:
            if isinstance(item, ast.Shell):
                shell = True
            elif isinstance(item, ast.Cmd | ast.Entrypoint) and isinstance(item.command, ast.ShellForm) and not shell:
                text = "to prevent unintended behavior related to OS signals"
                yield _detail(f"JSON arguments recommended for {item.keyword.text} {text}", item)
        has_shell[stage.name or ""] = shell


def _maintainer_deprecated(subject: Subject) -> Iterator[Detail]:
    for item in subject.dockerfile.instructions:
        if isinstance(item, ast.Maintainer):
            yield _detail("Maintainer instruction is deprecated in favor of using label", item)


def _undefined_arg_in_from(subject: Subject) -> Iterator[Detail]:
    scopes = subject.scopes()
    for stage in subject.dockerfile.stages:
        for word in (stage.base, stage.platform):
            if word is None:
                continue
            for name in sorted(scopes.expand(word, scopes.global_env).undefined - scopes.global_names):
                yield _detail(
                    f"FROM argument '{name}' is not declared{_near(name, scopes.global_names)}", stage.from_, word
                )


def _undefined_var(subject: Subject) -> Iterator[Detail]:
    for use in subject.scopes().uses():
        if isinstance(use.instruction, ast.Expose):  # BuildKit does not look at these words either
            continue
        for name in sorted(use.expansion.undefined - use.known):
            text = f"Usage of undefined variable '${name}'{_near(name, use.known, sign='$')}"
            yield _detail(text, use.instruction, use.word)


def _near(name: str, candidates: frozenset[str], *, sign: str = "") -> str:
    return aside(suggestion(name, sorted(candidates), form=sign + "{}"))


def _workdir_relative_path(subject: Subject) -> Iterator[Detail]:
    paths = {id(use.instruction): use for use in subject.scopes().uses() if isinstance(use.instruction, ast.Workdir)}
    is_set: dict[str, bool] = {}
    for stage in subject.dockerfile.stages:
        absolute = is_set.get(stage.base.text.lower(), False)
        for item in stage.instructions:
            if isinstance(item, ast.Workdir):
                path = paths[id(item)].expansion.text
                if not absolute and not path.startswith("/"):
                    text = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                    yield _detail(text, item, item.path)
                absolute = True
        is_set[stage.name or ""] = absolute


def _multiple_instructions_disallowed(subject: Subject) -> Iterator[Detail]:
    for stage in subject.dockerfile.stages:
        last: dict[str, ast.AnyInstruction] = {}
        for item in stage.instructions:
            if isinstance(item, ast.Cmd | ast.Entrypoint | ast.Healthcheck):
                if (ignored := last.get(item.NAME)) is not None:
                    text = "instructions should not be used in the same stage because only the last one will be used"
                    yield _detail(f"Multiple {item.keyword.text} {text}", ignored)
                last[item.NAME] = item


def _legacy_key_value_format(subject: Subject) -> Iterator[Detail]:
    for item in subject.dockerfile.instructions:
        if isinstance(item, ast.Env | ast.Label) and item.legacy:
            text = f'"{item.NAME} key=value" should be used instead of legacy "{item.NAME} key value" format'
            yield _detail(text, item)


def _redundant_target_platform(subject: Subject) -> Iterator[Detail]:
    for stage in subject.dockerfile.stages:
        platform = stage.platform
        if platform is not None and platform.text in {"$TARGETPLATFORM", "${TARGETPLATFORM}"}:
            text = (
                f"Setting platform to predefined {platform.text} in FROM is redundant as this is the default behavior"
            )
            yield _detail(text, stage.from_, platform)


def _secrets_used_in_arg_or_env(subject: Subject) -> Iterator[Detail]:
    for stage in subject.dockerfile.stages:
        for item in stage.instructions:
            names: list[ast.Word] = []
            if isinstance(item, ast.Env):
                names = [assignment.name for assignment in item.assignments]
            elif isinstance(item, ast.Arg):
                names = [declaration.name for declaration in item.declarations]
            for name in names:
                if names_a_secret(name.text):
                    text = f'Do not use ARG or ENV instructions for sensitive data ({item.NAME} "{name.text}")'
                    yield _detail(text, item, name)


def _invalid_default_arg_in_from(subject: Subject) -> Iterator[Detail]:
    scopes = subject.scopes()
    for stage in subject.dockerfile.stages:
        try:
            Reference.parse(scopes.expand(stage.base, scopes.default_env).text)
        except InvalidReferenceError:
            text = f"Default value for ARG {stage.base.text} results in empty or invalid base image name"
            yield _detail(text, stage.from_, stage.base)


def _from_platform_flag_const_disallowed(subject: Subject) -> Iterator[Detail]:
    for stage in subject.dockerfile.stages:
        platform = stage.platform
        if platform is None or "$" in platform.text:
            continue
        try:
            parsed = Platform.parse(platform.text)
        except InvalidReferenceError:
            continue
        # A stage for one platform, named after it, is chosen by a variable elsewhere.
        if stage.name is not None and (parsed.os in stage.name or parsed.architecture in stage.name):
            continue
        yield _detail(f'FROM --platform flag should not use constant value "{platform.text}"', stage.from_, platform)


def _copy_ignored_file(subject: Subject) -> Iterator[Detail]:
    # With a "!" pattern an ignored directory may still have something to copy.
    if subject.ignore is None or subject.ignore.has_exceptions:
        return
    for use in subject.scopes().uses():
        item = use.instruction
        if not isinstance(item, ast.Copy | ast.Add) or use.word not in item.sources:
            continue
        if (isinstance(item, ast.Copy) and item.from_ is not None) or is_fetchable(use.expansion.text):
            continue
        path = clean_path("/" + use.expansion.text).lstrip("/")
        if path and subject.ignore.matches(path):
            text = f'Attempting to {item.NAME.capitalize()} file "{path}" that is excluded by .dockerignore'
            yield _detail(text, item, use.word)


def _invalid_definition_description(subject: Subject) -> Iterator[Detail]:
    for item in subject.dockerfile.instructions:
        names: list[str] = []
        if isinstance(item, ast.From) and item.name is not None:
            names = [item.name.text.lower()]
        elif isinstance(item, ast.Arg):
            names = [declaration.name.text for declaration in item.declarations]
        comment = description_above(item) if names else None
        if comment is not None and comment.split(" ")[0] not in names:
            example = names[0] if len(names) == 1 else "<arg_key>"
            text = f"Comment for {item.keyword.text} should follow the format: `# {example} <description>`"
            yield _detail(text, item)


def _expose_proto_casing(subject: Subject) -> Iterator[Detail]:
    for use in subject.scopes().uses():
        if isinstance(use.instruction, ast.Expose):
            for port in use.expansion.text.split():
                protocol = port.partition("/")[2]
                if protocol != protocol.lower():
                    text = f"Defined protocol '{port}' in EXPOSE instruction should be lowercase"
                    yield _detail(text, use.instruction, use.word)


def _expose_invalid_format(subject: Subject) -> Iterator[Detail]:
    for use in subject.scopes().uses():
        if isinstance(use.instruction, ast.Expose):
            for port in use.expansion.text.split():
                if ":" in port:
                    text = "EXPOSE instruction should not define an IP address or host-port mapping"
                    yield _detail(f"{text}, found '{port}'", use.instruction, use.word)


RULES: tuple[Rule, ...] = (
    Rule("StageNameCasing", "Stage names should be lowercase", _stage_name_casing),
    Rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword", _from_as_casing),
    Rule(
        "NoEmptyContinuation", "Empty continuation lines will become errors in a future release", _no_empty_continuation
    ),
    Rule(
        "ConsistentInstructionCasing",
        "All commands within the Dockerfile should use the same casing (either upper or lower)",
        _consistent_instruction_casing,
    ),
    Rule("DuplicateStageName", "Stage names should be unique", _duplicate_stage_name),
    Rule("ReservedStageName", "Reserved words should not be used as stage names", _reserved_stage_name),
    Rule(
        "JSONArgsRecommended",
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
        _json_args_recommended,
    ),
    Rule(
        "MaintainerDeprecated",
        "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
        _maintainer_deprecated,
    ),
    Rule("UndefinedArgInFrom", "FROM command must use declared ARGs", _undefined_arg_in_from),
    Rule(
        "WorkdirRelativePath",
        "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base"
        " image changes",
        _workdir_relative_path,
    ),
    Rule("UndefinedVar", "Variables should be defined before their use", _undefined_var),
    Rule(
        "MultipleInstructionsDisallowed",
        "Multiple instructions of the same type should not be used in the same stage",
        _multiple_instructions_disallowed,
    ),
    Rule(
        "LegacyKeyValueFormat",
        "Legacy key/value format with whitespace separator should not be used",
        _legacy_key_value_format,
    ),
    Rule(
        "RedundantTargetPlatform",
        "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
        _redundant_target_platform,
    ),
    Rule(
        "SecretsUsedInArgOrEnv",
        "Sensitive data should not be used in the ARG or ENV commands",
        _secrets_used_in_arg_or_env,
    ),
    Rule(
        "InvalidDefaultArgInFrom",
        "Default value for global ARG results in an empty or invalid base image name",
        _invalid_default_arg_in_from,
    ),
    Rule(
        "FromPlatformFlagConstDisallowed",
        "FROM --platform flag should not use a constant value",
        _from_platform_flag_const_disallowed,
    ),
    Rule(
        "CopyIgnoredFile",
        "Attempting to Copy file that is excluded by .dockerignore",
        _copy_ignored_file,
        experimental=True,
    ),
    Rule(
        "InvalidDefinitionDescription",
        "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is"
        " not intended to be a description comment, add an empty line or comment between the instruction and the"
        " comment.",
        _invalid_definition_description,
        experimental=True,
    ),
    Rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase", _expose_proto_casing),
    Rule(
        "ExposeInvalidFormat",
        "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a"
        " future release",
        _expose_invalid_format,
    ),
)
"""In the order of BuildKit's documentation."""
