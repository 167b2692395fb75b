"""Variables that other systems give to jobs, and what has the same value here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

WORK: Final = "/work"

GITLAB: Final[Mapping[str, str]] = {
    "CI_COMMIT_SHA": "${SHIPLAP_COMMIT}",
    "CI_COMMIT_BRANCH": "${SHIPLAP_BRANCH}",
    "CI_COMMIT_TAG": "${SHIPLAP_TAG}",
    "CI_COMMIT_TITLE": "${SHIPLAP_TITLE}",
    "CI_JOB_NAME": "${SHIPLAP_JOB}",
    "CI_PIPELINE_ID": "${SHIPLAP_RUN}",
    "CI_PIPELINE_IID": "${SHIPLAP_RUN}",
    "CI_PIPELINE_URL": "${SHIPLAP_URL}",
    "CI_PROJECT_DIR": WORK,
    "CI_PROJECT_NAME": "${SHIPLAP_PROJECT}",
    "CI_MERGE_REQUEST_IID": "${SHIPLAP_PULL_REQUEST}",
    "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "${SHIPLAP_BRANCH}",
    "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "${SHIPLAP_TARGET}",
    "CI_MERGE_REQUEST_TITLE": "${SHIPLAP_TITLE}",
    "GITLAB_USER_LOGIN": "${SHIPLAP_AUTHOR}",
    "GITLAB_CI": "true",
}

WOODPECKER: Final[Mapping[str, str]] = {
    "CI_COMMIT_SHA": "${SHIPLAP_COMMIT}",
    "CI_COMMIT_TAG": "${SHIPLAP_TAG}",
    "CI_COMMIT_AUTHOR": "${SHIPLAP_AUTHOR}",
    "CI_COMMIT_PULL_REQUEST": "${SHIPLAP_PULL_REQUEST}",
    "CI_COMMIT_SOURCE_BRANCH": "${SHIPLAP_BRANCH}",
    "CI_COMMIT_TARGET_BRANCH": "${SHIPLAP_TARGET}",
    "CI_PIPELINE_NUMBER": "${SHIPLAP_RUN}",
    "CI_PIPELINE_EVENT": "${SHIPLAP_EVENT}",
    "CI_PIPELINE_URL": "${SHIPLAP_URL}",
    "CI_STEP_NAME": "${SHIPLAP_JOB}",
    "CI_WORKSPACE": WORK,
}

DRONE: Final[Mapping[str, str]] = {
    "DRONE_COMMIT": "${SHIPLAP_COMMIT}",
    "DRONE_COMMIT_SHA": "${SHIPLAP_COMMIT}",
    "DRONE_TAG": "${SHIPLAP_TAG}",
    "DRONE_COMMIT_AUTHOR": "${SHIPLAP_AUTHOR}",
    "DRONE_PULL_REQUEST": "${SHIPLAP_PULL_REQUEST}",
    "DRONE_SOURCE_BRANCH": "${SHIPLAP_BRANCH}",
    "DRONE_TARGET_BRANCH": "${SHIPLAP_TARGET}",
    "DRONE_BUILD_NUMBER": "${SHIPLAP_RUN}",
    "DRONE_BUILD_EVENT": "${SHIPLAP_EVENT}",
    "DRONE_BUILD_LINK": "${SHIPLAP_URL}",
    "DRONE_STEP_NAME": "${SHIPLAP_JOB}",
    "DRONE_WORKSPACE": WORK,
    "DRONE": "true",
}

GITHUB: Final[Mapping[str, str]] = {
    "GITHUB_SHA": "${SHIPLAP_COMMIT}",
    "GITHUB_HEAD_REF": "${SHIPLAP_BRANCH}",
    "GITHUB_BASE_REF": "${SHIPLAP_TARGET}",
    "GITHUB_RUN_ID": "${SHIPLAP_RUN}",
    "GITHUB_RUN_NUMBER": "${SHIPLAP_RUN}",
    "GITHUB_ACTOR": "${SHIPLAP_AUTHOR}",
    "GITHUB_JOB": "${SHIPLAP_JOB}",
    "GITHUB_WORKSPACE": WORK,
    "GITHUB_ACTIONS": "true",
    "RUNNER_TEMP": "/tmp",  # noqa: S108
    "RUNNER_OS": "Linux",
}

_USED: Final = re.compile(r"(?<![\\$])\$(?:\{#?)?([A-Za-z_][A-Za-z0-9_]*)")
_SET: Final = re.compile(
    r"(?:^|[\s;&|(])(?:export\s+|local\s+|readonly\s+|declare\s+(?:-\w+\s+)*)?([A-Za-z_][A-Za-z0-9_]*)\+?="
    r"|\bfor\s+([A-Za-z_][A-Za-z0-9_]*)\b|\bread\s+(?:-\w+\s+)*([A-Za-z_][A-Za-z0-9_ ]*)"
)
_EVERYWHERE: Final = frozenset(
    {"HOME", "PATH", "PWD", "OLDPWD", "USER", "SHELL", "HOSTNAME", "IFS", "RANDOM", "LANG", "TMPDIR", "UID", "CI"}
    | {"OPTARG", "OPTIND", "LINENO", "SECONDS", "PPID", "BASH_SOURCE", "GOPATH", "JAVA_HOME", "TERM"}
)


def used(script: str) -> Iterator[str]:
    """The variables that a script names, each once, in order."""
    yield from dict.fromkeys(match[1] for match in _USED.finditer(script))


def unset(script: str, known: frozenset[str]) -> Iterator[str]:
    """Variables in capitals that nothing in a script or in ``known`` gives a value to."""
    given = {name for match in _SET.finditer(script) for group in match.groups() if group for name in group.split()}
    for name in used(script):
        is_known = name in given or name in known or name in _EVERYWHERE or name.startswith("SHIPLAP_")
        if name == name.upper() and not is_known:
            yield name
