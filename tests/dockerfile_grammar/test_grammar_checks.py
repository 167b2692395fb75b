"""The build checks: for each rule, files that it finds something in, and files that it must leave alone."""

from __future__ import annotations

import pytest

from dockerfile_grammar import IgnorePatterns, parse
from dockerfile_grammar.checks import RULES, Subject, run_checks

CMD = "to prevent unintended behavior related to OS signals"
ONLY_LAST = "instructions should not be used in the same stage because only the last one will be used"
RELATIVE = "can have unexpected results if the base image changes"

CASES: dict[str, tuple[str, list[tuple[int, str, str]]]] = {
    "stage name casing": (
        "FROM scratch AS BadStageName\nFROM scratch AS good\n",
        [(1, "StageNameCasing", "Stage name 'BadStageName' should be lowercase")],
    ),
    "as in another case than FROM": (
        "FROM scratch as base2\nFROM scratch AS base3\n",
        [(1, "FromAsCasing", "'as' and 'FROM' keywords' casing do not match")],
    ),
    "AS in another case than from": (
        "from scratch AS base\nfrom scratch as base2\n",
        [(1, "FromAsCasing", "'AS' and 'from' keywords' casing do not match")],
    ),
    "empty continuation": (
        "FROM scratch\nCOPY Dockerfile \\\n\n.\nCOPY Dockerfile \\\n# fine\n.\n",
        [(4, "NoEmptyContinuation", "Empty continuation line")],
    ),
    "empty continuation before a here-document": (
        "FROM scratch\nCOPY <<E \\\n\n.\nx\nE\n",
        [(4, "NoEmptyContinuation", "Empty continuation line")],
    ),
    "mixed case instruction": (
        "From scratch as base\nFROM scratch AS base2\n",
        [
            (
                1,
                "ConsistentInstructionCasing",
                "Command 'From' should match the case of the command majority (uppercase)",
            )
        ],
    ),
    "minority is upper case": (
        "FROM scratch\ncopy a /foo\ncopy b /bar\ncopy c /baz\n",
        [
            (
                1,
                "ConsistentInstructionCasing",
                "Command 'FROM' should match the case of the command majority (lowercase)",
            )
        ],
    ),
    "duplicate stage name": (
        "FROM scratch AS b\nFROM scratch AS b\n",
        [(2, "DuplicateStageName", 'Duplicate stage name "b", stage names should be unique')],
    ),
    "reserved stage name": (
        "FROM scratch AS scratch\nFROM scratch AS context\n",
        [
            (1, "ReservedStageName", 'Stage name should not use the same name as reserved stage "scratch"'),
            (2, "ReservedStageName", 'Stage name should not use the same name as reserved stage "context"'),
        ],
    ),
    "shell form": (
        'FROM scratch\nENTRYPOINT a\nCMD b\nFROM scratch\nENTRYPOINT ["a"]\nCMD ["b"]\n',
        [
            (2, "JSONArgsRecommended", f"JSON arguments recommended for ENTRYPOINT {CMD}"),
            (3, "JSONArgsRecommended", f"JSON arguments recommended for CMD {CMD}"),
        ],
    ),
    "shell form after SHELL is meant": (
        'FROM scratch AS a\nSHELL ["/bin/bash", "-c"]\nCMD x\nFROM a\nCMD y\n',
        [],
    ),
    "maintainer": (
        "FROM scratch\nMAINTAINER me\n",
        [(2, "MaintainerDeprecated", "Maintainer instruction is deprecated in favor of using label")],
    ),
    "undeclared ARG in FROM": (
        "ARG VERSION=1 EMPTY\nFROM --platform=$BULIDPLATFORM a:${VERSOIN} AS x\nFROM b$EMPTY:$TARGETARCH\n",
        [
            (2, "UndefinedArgInFrom", "FROM argument 'VERSOIN' is not declared (did you mean VERSION?)"),
            (2, "UndefinedArgInFrom", "FROM argument 'BULIDPLATFORM' is not declared (did you mean BUILDPLATFORM?)"),
            (
                2,
                "InvalidDefaultArgInFrom",
                "Default value for ARG a:${VERSOIN} results in empty or invalid base image name",
            ),
        ],
    ),
    "relative WORKDIR": (
        (
            "FROM a AS b\nWORKDIR x\nWORKDIR y\nFROM b\nWORKDIR z\nFROM a\nWORKDIR /x\nWORKDIR y\n"
            "FROM a\nENV d=/x\nWORKDIR $d\n"
        ),
        [(2, "WorkdirRelativePath", f'Relative workdir "x" {RELATIVE}')],
    ),
    "undefined variable": (
        "FROM a\nARG given\nENV PATH=$PATH:/x NAME=1\nWORKDIR /$NAEM/$given\nRUN echo $nothing\nCOPY ${DIR} /y\n",
        [
            (4, "UndefinedVar", "Usage of undefined variable '$NAEM' (did you mean $NAME?)"),
            (6, "UndefinedVar", "Usage of undefined variable '$DIR'"),
        ],
    ),
    "variables of a parent stage": ("FROM a AS p\nARG x=1\nENV y=2\nFROM p\nLABEL l=$x$y\n", []),
    "global ARG must be declared again": (
        "ARG x=1\nFROM a\nLABEL l=$x\nARG x\nLABEL l=$x\n",
        [(3, "UndefinedVar", "Usage of undefined variable '$x'")],
    ),
    "variable of the same ENV is not defined yet": (
        "FROM a\nENV first=1 second=$first\n",
        [(2, "UndefinedVar", "Usage of undefined variable '$first'")],
    ),
    "instructions of which only the last counts": (
        (
            'FROM a\nCMD ["x"]\nHEALTHCHECK NONE\nENTRYPOINT ["y"]\nHEALTHCHECK CMD z\nENTRYPOINT ["w"]\n'
            'FROM a\nCMD ["v"]\n'
        ),
        [
            (3, "MultipleInstructionsDisallowed", f"Multiple HEALTHCHECK {ONLY_LAST}"),
            (4, "MultipleInstructionsDisallowed", f"Multiple ENTRYPOINT {ONLY_LAST}"),
        ],
    ),
    "legacy form": (
        "FROM a\nENV k v\nLABEL l m\nENV x=y\n",
        [
            (2, "LegacyKeyValueFormat", '"ENV key=value" should be used instead of legacy "ENV key value" format'),
            (3, "LegacyKeyValueFormat", '"LABEL key=value" should be used instead of legacy "LABEL key value" format'),
        ],
    ),
    "redundant platform": (
        "FROM --platform=$TARGETPLATFORM a\nFROM --platform=${BUILDPLATFORM} a\n",
        [
            (
                1,
                "RedundantTargetPlatform",
                "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
            )
        ],
    ),
    "secrets": (
        "FROM a\nARG GITHUB_TOKEN PUBLIC_KEY monkey\nENV aws_secret_access=1 PASSWORD_FILE=/x\n",
        [
            (2, "SecretsUsedInArgOrEnv", 'Do not use ARG or ENV instructions for sensitive data (ARG "GITHUB_TOKEN")'),
            (
                3,
                "SecretsUsedInArgOrEnv",
                'Do not use ARG or ENV instructions for sensitive data (ENV "aws_secret_access")',
            ),
        ],
    ),
    "base image from an ARG without default": (
        "ARG TAG\nARG IMAGE=b\nFROM a:${TAG}\nFROM $IMAGE\n",
        [(3, "InvalidDefaultArgInFrom", "Default value for ARG a:${TAG} results in empty or invalid base image name")],
    ),
    "constant platform": (
        "FROM --platform=linux/amd64 a AS b\nFROM --platform=linux/arm64 a AS build_arm64\nFROM --platform=x/y/z/w a\n",
        [(1, "FromPlatformFlagConstDisallowed", 'FROM --platform flag should not use constant value "linux/amd64"')],
    ),
    "protocol of EXPOSE": (
        "FROM a\nENV p=53/UDP\nEXPOSE 80/TCP 81/tcp $p\n",
        [
            (3, "ExposeProtoCasing", "Defined protocol '80/TCP' in EXPOSE instruction should be lowercase"),
            (3, "ExposeProtoCasing", "Defined protocol '53/UDP' in EXPOSE instruction should be lowercase"),
        ],
    ),
    "mapping in EXPOSE": (
        "FROM a\nEXPOSE 127.0.0.1:80:80 80\n",
        [
            (
                2,
                "ExposeInvalidFormat",
                "EXPOSE instruction should not define an IP address or host-port mapping, found '127.0.0.1:80:80'",
            )
        ],
    ),
    "description that is none": (
        "# check=experimental=all\n# about x\nARG x\n\n# y is it\nARG y=1\n# wrong\n\nFROM a AS b\n# z\nARG p q\n",
        [
            (3, "InvalidDefinitionDescription", "Comment for ARG should follow the format: `# x <description>`"),
            (
                11,
                "InvalidDefinitionDescription",
                "Comment for ARG should follow the format: `# <arg_key> <description>`",
            ),
        ],
    ),
    "descriptions are experimental": ("# about x\nARG x\nFROM a\n", []),
    "skipped rule": ("# check=skip=MaintainerDeprecated,StageNameCasing\nFROM a AS B\nMAINTAINER x\n", []),
    "all rules skipped": ("# check=skip=all\nFROM a AS B\nMAINTAINER x\n", []),
    "word that cannot be expanded": ("FROM a\nENV x='y\nLABEL a=${\n", []),
    "nothing wrong": ('FROM a AS b\nRUN make\nFROM scratch\nCOPY --from=b /x /\nENTRYPOINT ["/x"]\n', []),
}


@pytest.mark.parametrize("case", CASES)
def test_findings(case: str) -> None:
    text, expected = CASES[case]
    findings = run_checks(Subject(parse(text)))
    found = [(finding.line, finding.rule.name, finding.detail) for finding in findings]
    assert sorted(found) == sorted(expected)


def test_every_rule_has_a_case() -> None:
    tested = {name for _, expected in CASES.values() for _, name, _ in expected} | {"CopyIgnoredFile"}
    assert tested == {rule.name for rule in RULES}


def test_copy_of_an_ignored_file() -> None:
    text = (
        "# check=experimental=CopyIgnoredFile\nFROM a AS b\nENV dir=secret\nCOPY ok x.md ./$dir/f /x/\n"
        "ADD x.md https://h/x.md /\n"
        "COPY --from=b x.md /\n"
    )
    findings = run_checks(Subject(parse(text), ignore=IgnorePatterns.parse("*.md\nsecret\n")))
    assert [(finding.line, finding.detail) for finding in findings] == [
        (4, 'Attempting to Copy file "x.md" that is excluded by .dockerignore'),
        (4, 'Attempting to Copy file "secret/f" that is excluded by .dockerignore'),
        (5, 'Attempting to Add file "x.md" that is excluded by .dockerignore'),
    ]
    assert run_checks(Subject(parse(text), ignore=IgnorePatterns.parse("*.md\n!y.md\n"))) == []


def test_only_what_add_takes_from_the_context_is_ignored() -> None:
    """ADD fetches from any user's host, and a name with "git@" in it or an unknown scheme is a file's."""
    text = (
        "# check=experimental=CopyIgnoredFile\nFROM a\n"
        "ADD me@host:x.md https://h/x.md SSH://h/x.md /\n"
        "ADD git@x.md /\n"
        "ADD ftp://h/x.md /\n"
    )
    findings = run_checks(Subject(parse(text), ignore=IgnorePatterns.parse("**/*.md\n*.md\n")))
    assert [(finding.line, finding.detail) for finding in findings] == [
        (4, 'Attempting to Add file "git@x.md" that is excluded by .dockerignore'),
        (5, 'Attempting to Add file "ftp:/h/x.md" that is excluded by .dockerignore'),
    ]


def test_base_image_environment_and_build_args_define_variables() -> None:
    dockerfile = parse("ARG image=a\nFROM $image\nARG v\nLABEL l=$LANG m=${v:-$w}\n")
    with_image = Subject(
        dockerfile, {"image": "other", "v": "1"}, base_env={"other": {"LANG": "C", "w": ""}}.__getitem__
    )
    assert run_checks(with_image) == []
    details = [finding.detail for finding in run_checks(Subject(dockerfile))]
    assert details == ["Usage of undefined variable '$LANG'", "Usage of undefined variable '$w'"]


@pytest.mark.parametrize(
    ("above", "skips"),
    [
        ("# check=skip=StageNameCasing", True),
        ("#check=skip=all", True),
        ("# why\n# check=skip=FromAsCasing,StageNameCasing\n# more", True),
        ("# check=skip=FromAsCasing", False),
        ("# check=skip=StageNameCasing\n", False),  # an empty line is between
        ("# check=skips=StageNameCasing", False),
        ("# about check=skip=StageNameCasing", False),
    ],
)
def test_comment_above_an_instruction_skips_rules_there_and_nowhere_else(above: str, skips: bool) -> None:
    text = f"# a comment\nFROM scratch AS good\n{above}\nFROM scratch AS Bad\nFROM scratch AS Worse\n"
    bad = 4 + above.count("\n")
    lines = [finding.line for finding in run_checks(Subject(parse(text)))]
    assert lines == ([] if skips else [bad]) + [bad + 1]


def test_comment_above_skips_a_rule_that_is_told_at_the_last_line() -> None:
    text = "FROM scratch\n# check=skip=NoEmptyContinuation\nCOPY a \\\n\n/\nCOPY b \\\n\n/\n"
    assert [finding.line for finding in run_checks(Subject(parse(text)))] == [8]


def test_check_comment_is_no_description() -> None:
    text = "# check=experimental=all\nFROM scratch\n# v the version\n# check=skip=LegacyKeyValueFormat\nARG v\n"
    assert run_checks(Subject(parse(text))) == []
    (finding,) = run_checks(Subject(parse(text.replace("# v the", "# the"))))
    assert finding.rule.name == "InvalidDefinitionDescription"


def test_undefined_variable_in_a_here_document_that_is_expanded() -> None:
    text = "FROM scratch\nARG here\nCOPY <<a <<'b' /d/\n$here ${gone:-$lost}\na\n$quoted\nb\nEXPOSE $port\n"
    findings = run_checks(Subject(parse(text)))
    assert [(finding.line, finding.detail, str(finding.span)[:2]) for finding in findings] == [
        (3, "Usage of undefined variable '$gone'", "4:"),
        (3, "Usage of undefined variable '$lost'", "4:"),
    ]


def test_finding_points_into_the_line() -> None:
    (finding,) = run_checks(Subject(parse("FROM a AS Base\n")))
    assert str(finding.span) == "1:11"
    assert finding.rule.description == "Stage names should be lowercase"
    assert finding.rule.anchor == "stage-name-casing"


def test_anchors_are_words_with_dashes() -> None:
    anchors = {rule.name: rule.anchor for rule in RULES}
    assert anchors["JSONArgsRecommended"] == "json-args-recommended"
    assert anchors["UndefinedArgInFrom"] == "undefined-arg-in-from"
    assert all(anchor.replace("-", "").isalpha() and anchor.islower() for anchor in anchors.values())
