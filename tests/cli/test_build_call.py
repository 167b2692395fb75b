"""--check and --call, and the checks beside a build: what is printed, and with which exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from builder.frontend.checks import PLATFORM_RULE
from builder.frontend.unknownowners import OWNER_RULE
from cli.building.call import Call, parse_call
from cli.errors import CommandError
from core.platforms import Platform
from dockerfile_grammar.checks import RULES
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "checks.md"

FILE = f"""\
ARG BASE={BUSYBOX_NAME}
# tools what all need
FROM $BASE AS tools
# VERSION what to build
ARG VERSION=1.2
ARG FLAVOUR
RUN --mount=type=secret,id=token,required --mount=type=ssh true
FROM scratch AS unused
RUN --mount=type=cache,target=/c true
# app the application
FROM tools AS app
COPY --from=tools / /
CMD echo hello
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    (directory / "Dockerfile").write_text(FILE)
    return directory


def test_check_shows_rule_description_link_and_lines(shiplap: Shiplap, project: Path) -> None:
    result = shiplap("build", "--check", project, check=False)
    assert result.returncode == 1
    assert result.stdout == (
        "Check complete, 1 warning has been found!\n"
        "\n"
        "WARNING: JSONArgsRecommended - docs/checks.md#json-args-recommended\n"
        "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals\n"
        "JSON arguments recommended for CMD to prevent unintended behavior related to OS signals\n"
        "Dockerfile:13\n"
        "--------------------\n"
        "  11 |     FROM tools AS app\n"
        "  12 |     COPY --from=tools / /\n"
        "  13 | >>> CMD echo hello\n"
        "--------------------\n"
    )
    assert not list((shiplap.root / "blobs" / "sha256").iterdir())  # nothing was built, or even pulled


def test_check_that_finds_nothing_exits_with_0(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    result = shiplap("build", "--call=check", project)
    assert result.stdout == "Check complete, no warnings found.\n"


def test_check_as_json_is_data_and_its_status_can_be_ignored(shiplap: Shiplap, project: Path) -> None:
    result = shiplap("build", "--call=check,format=json,ignorestatus=true", project)
    (warning,) = json.loads(result.stdout)["warnings"]
    assert warning["ruleName"] == "JSONArgsRecommended"
    assert warning["location"] == {"ranges": [{"start": {"line": 13}, "end": {"line": 13}}]}
    assert warning["url"].endswith("#json-args-recommended")


def test_file_and_build_arg_say_which_rules_count(shiplap: Shiplap, project: Path) -> None:
    how = "skip=JSONArgsRecommended;error=true"
    (project / "Dockerfile").write_text(f"# check={how}\n{FILE}")
    shiplap("build", "--check", project)
    (project / "Dockerfile").write_text(FILE)
    shiplap("build", "--check", "--build-arg", f"BUILDKIT_DOCKERFILE_CHECK={how}", project)


def test_variables_of_a_base_that_cannot_be_had_are_not_undefined(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM scratch\nCOPY $A /\nFROM 127.0.0.1:1/no/image\nCOPY $B /\n")
    result = shiplap("build", "--check", project, check=False)
    assert "Usage of undefined variable '$A'" in result.stdout
    assert "$B'" not in result.stdout


def test_dockerfile_with_a_mistake_fails_its_check(shiplap: Shiplap, project: Path) -> None:
    (project / "Dockerfile").write_text("FROM scratch\nRUNN true\n")
    result = shiplap("build", "--check", project, check=False)
    assert result.returncode == 1
    assert "Dockerfile:2:1" in result.stderr


@pytest.mark.usefixtures("privileged")
def test_build_ends_with_what_the_checks_found(shiplap: Shiplap, project: Path, busybox_tar: Path) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    (project / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nENV HERE=1\nRUN true\nCMD echo $HERE\n")
    for _ in range(2):  # the second one, all from the cache, says the same
        said = shiplap("build", "--progress", "plain", project).stderr
        assert "1 warning found:\n - JSONArgsRecommended: JSON arguments recommended for CMD" in said
        assert "(line 4)" in said
    refused = shiplap(
        "build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", "--no-cache", project, check=False
    )
    assert refused.returncode == 1
    assert "does not pass its checks (JSONArgsRecommended): line 4" in refused.stderr
    assert "was not used" not in refused.stderr


@pytest.mark.usefixtures("privileged")
def test_variable_of_the_base_image_is_defined(shiplap: Shiplap, project: Path, busybox_tar: Path) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    (project / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nENV FROM_BASE=Dockerfile\n")
    shiplap("build", "-t", "with-env", project)
    (project / "Dockerfile").write_text("FROM with-env\nCOPY $FROM_BASE /\nCOPY ${FROM_BASE%x} /m\n")
    assert shiplap("build", "--check", project, check=False).stdout.count("WARNING: UndefinedVar") == 0
    assert "warning" not in shiplap("build", "--progress", "plain", project).stderr


@pytest.mark.usefixtures("privileged")
def test_base_for_another_platform_is_told_unless_that_is_skipped(
    shiplap: Shiplap, project: Path, busybox_tar: Path
) -> None:
    shiplap("image", "import", "--platform", "linux/s390x", busybox_tar, "foreign")
    (project / "Dockerfile").write_text("FROM foreign\nLABEL a=1\n")
    wanted = Platform.host()
    told = f'Base image foreign was pulled with platform "linux/s390x", expected "{wanted}" for current build'
    assert told in shiplap("build", "--check", project, check=False).stdout
    assert f" - InvalidBaseImagePlatform: {told} (line 1)" in shiplap("build", "--progress", "plain", project).stderr
    (project / "Dockerfile").write_text("# check=skip=InvalidBaseImagePlatform\nFROM foreign\nLABEL a=1\n")
    assert "Base image" not in shiplap("build", "--progress", "plain", project).stderr


@pytest.mark.usefixtures("privileged")
def test_owner_that_the_base_does_not_have_is_told_without_a_build(
    shiplap: Shiplap, project: Path, busybox_tar: Path
) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    (project / "passwd").write_text("deploy:x:5:5:::\n")
    (project / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nCOPY passwd /etc/passwd\n")
    shiplap("build", "-t", "with-users", project)
    (project / "Dockerfile").write_text("FROM with-users\nCOPY --chown=depoly passwd /\n")
    said = shiplap("build", "--check", project, check=False)
    assert said.returncode == 1
    assert "WARNING: UnknownOwner - docs/checks.md#unknown-owner" in said.stdout
    assert "no user 'depoly', root is taken instead (did you mean deploy?)" in said.stdout


def test_targets_are_listed_with_their_descriptions(shiplap: Shiplap, project: Path) -> None:
    assert shiplap("build", "--call=targets", project).stdout == (
        "TARGET           DESCRIPTION\ntools            what all need\nunused\napp (default)    the application\n"
    )
    listed = json.loads(shiplap("build", "--call=targets,format=json", project).stdout)["targets"]
    assert [(target["name"], target.get("default", False), target["base"]) for target in listed] == [
        ("tools", False, "$BASE"),
        ("unused", False, "scratch"),
        ("app", True, "tools"),
    ]


def test_outline_tells_what_the_target_takes_and_nothing_else(shiplap: Shiplap, project: Path) -> None:
    assert shiplap("build", "--call=outline", "--build-arg", "FLAVOUR=mint", project).stdout == (
        "TARGET:         app\n"
        "DESCRIPTION:    the application\n"
        "\n"
        "BUILD ARG    VALUE      DESCRIPTION\n"
        f"BASE         {BUSYBOX_NAME}\n"
        "VERSION      1.2        what to build\n"
        "FLAVOUR      mint\n"
        "\n"
        "SECRET    REQUIRED\n"
        "token     true\n"
        "\n"
        "SSH        REQUIRED\n"
        "default\n"
    )
    unused = json.loads(shiplap("build", "--call=outline,format=json", "--target=unused", project).stdout)
    assert unused.keys() == {"name"}  # neither arguments that it does not use, nor cache mounts: as BuildKit
    missing = shiplap("build", "--call=outline", "--target=ap", project, check=False)
    assert "did you mean app?" in missing.stderr


def test_outline_has_the_global_arguments_that_the_target_uses_and_values_as_redeclared(
    shiplap: Shiplap, project: Path
) -> None:
    (project / "Dockerfile").write_text(
        "ARG TAG=1\nARG NAME=x:$TAG\nARG UNUSED=2\nARG ELSEWHERE=3\nARG AGAIN=4\n"
        "FROM scratch AS other\nARG ELSEWHERE\n"
        "FROM $NAME AS base\nARG LEVEL=base\n"
        "FROM base\nARG AGAIN=5\n# LEVEL how much\nARG LEVEL=top\nRUN --mount=type=cache,target=/c true\n"
    )
    listed = json.loads(shiplap("build", "--call=outline,format=json", project).stdout)
    assert {it["name"]: it["value"] for it in listed["args"]} == {
        "TAG": "1", "NAME": "x:1", "AGAIN": "5", "LEVEL": "top",
    }  # fmt: skip
    assert [it["location"]["ranges"][0]["start"]["line"] for it in listed["args"]] == [1, 2, 11, 13]
    assert listed["args"][-1]["description"] == "how much"
    assert "cache" not in listed


def test_outline_needs_what_a_mount_requires_however_true_is_written(shiplap: Shiplap, project: Path) -> None:
    mounts = (f"--mount=type=secret,id={name},required{value}" for name, value in [("a", "=t"), ("b", ""), ("c", "=F")])
    (project / "Dockerfile").write_text(f"FROM scratch\nRUN {' '.join(mounts)} true\n")
    listed = json.loads(shiplap("build", "--call=outline,format=json", project).stdout)
    assert {it["name"]: it.get("required", False) for it in listed["secrets"]} == {"a": True, "b": True, "c": False}


@pytest.mark.parametrize(
    ("text", "check", "expected"),
    [
        ("build", False, None),
        ("build", True, Call("check", False, False)),
        ("check,format=json", False, Call("check", True, False)),
        ("outline,ignorestatus", False, Call("outline", False, True)),
    ],
)
def test_call_says_what_is_asked(text: str, check: bool, expected: Call | None) -> None:
    assert parse_call(text, check=check) == expected


@pytest.mark.parametrize(("text", "check"), [("lint", False), ("check,format=xml", False), ("outline", True)])
def test_call_that_is_not_known_is_an_error(text: str, check: bool) -> None:
    with pytest.raises(CommandError):
        parse_call(text, check=check)


def test_check_options_in_a_build_arg_have_to_be_some(shiplap: Shiplap, project: Path) -> None:
    result = shiplap("build", "--check", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=nonsense", project, check=False)
    assert result.returncode == 1
    assert "BUILDKIT_DOCKERFILE_CHECK: invalid check option" in result.stderr


def test_every_rule_has_its_section_in_the_docs() -> None:
    text = _DOCS.read_text()
    sections = dict(re.findall(r'<a id="([a-z-]+)"></a>\n\n### (\w+)\n', text))
    rules = [(rule.anchor, rule.name, rule.description) for rule in RULES]
    rules += [(rule.anchor, rule.name, rule.description) for rule in (PLATFORM_RULE, OWNER_RULE)]
    assert sections == {anchor: name for anchor, name, _ in rules}
    prose = " ".join(text.split())  # wherever its lines end
    assert all(description.rstrip(".") in prose for _, _, description in rules)
