"""Words that stand in many places of a pipeline file: names, paths, patterns and variables, with their faults."""

from __future__ import annotations

import re
import shlex
from typing import Final, NamedTuple

from ci import patterns
from ci.language.limits import MAX_GROUP
from ci.language.scalars import Choice, Whole, Words
from ci.language.shapes import Fields, Key, ListOf, MapOf
from ci.model import Concurrency
from core.errors import ShiplapError
from core.platforms import Platform
from core.references import Reference

JOB_NAME_FORM: Final = r"[a-z][a-z0-9_-]{0,39}"
ANY_JOB_FORM: Final = rf"{JOB_NAME_FORM}(?:/{JOB_NAME_FORM})?"
"""A job of the file, or one of a part that it uses: ``checks/lint``."""

VARIABLE_FORM: Final = r"[A-Za-z_][A-Za-z0-9_]{0,99}"


def variable_fault(name: str) -> str | None:
    if name == "CI" or name.startswith("SHIPLAP_"):
        return f"{name} is set by Shiplap; variables called CI or SHIPLAP_… cannot be set"
    return None


def inside_fault(path: str) -> str | None:
    """Of a path in the repository, or the workspace."""
    if path.startswith("/") or ".." in path.split("/"):
        return "a path is relative, and stays within the workspace"
    if any(part.startswith(".wh.") for part in path.split("/")):
        return "no file of a layer is called .wh.…: that is how layers say that a file is gone"
    return None


def path_pattern_fault(pattern: str) -> str | None:
    return inside_fault(pattern.removeprefix("!")) or patterns.fault(pattern)


def absolute_fault(path: str) -> str | None:
    if not path.startswith("/"):
        return "a path within the container begins with /"
    return "a path within the container has no .. in it" if ".." in path.split("/") else None


def cached_fault(path: str) -> str | None:
    """Of a directory that is kept: neither what is the job's anew each time, nor what the kernel has."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if fault := absolute_fault(path):
        return fault
    if not parts or parts[:1] in (["proc"], ["sys"], ["dev"]) or parts == ["work"] or parts[:2] == ["work", ".git"]:
        return (
            f"{path} cannot be kept: name a directory below it" if parts in ([], ["work"]) else f"{path} cannot be kept"
        )
    return None


def shell_fault(text: str) -> str | None:
    """Of the command that a script is given to."""
    try:
        return None if shlex.split(text) else "a shell is a command, and this has no word in it"
    except ValueError as error:
        return f"a shell is a command, and this has {str(error)[:1].lower()}{str(error)[1:]}"


def reference_fault(text: str) -> str | None:
    try:
        Reference.parse(text)
    except ShiplapError as error:
        return error.message
    return None


def platform_fault(text: str) -> str | None:
    try:
        Platform.parse(text)
    except (ShiplapError, ValueError) as error:
        return str(error)
    return None


class PartPlace(NamedTuple):
    """Where a part lies.

    url: of its repository; empty: the pipeline's own.
    commit: of that, whole; empty for the pipeline's own.
    path: in the repository.
    """

    url: str
    commit: str
    path: str

    @classmethod
    def of(cls, text: str) -> PartPlace:
        """Read what ``use`` says. Raises ValueError, with what is wrong."""
        if text.startswith("./"):
            path, url, commit = text.removeprefix("./"), "", ""
        elif found := _ELSEWHERE.fullmatch(text):
            url, commit, path = found["url"], found["commit"], found["path"]
        elif _MOVING.match(text):
            raise ValueError("a part from elsewhere is named by its full commit: https://HOST/REPO.git#40-HEX:FILE")
        else:
            raise ValueError("a part is ./FILE, or https://HOST/REPO.git#40-HEX:FILE")
        if not path or path.endswith("/") or not all(step not in ("", ".", "..") for step in path.split("/")):
            raise ValueError("the path of a part leads to a file of its repository")
        return cls(url, commit, path)


_ELSEWHERE: Final = re.compile(
    r"(?P<url>https://[^\s#@/]+/[^\s#]+)#(?P<commit>[0-9a-f]{40}(?:[0-9a-f]{24})?):(?P<path>\S.*)"
)
_MOVING: Final = re.compile(r"https://")


def part_fault(text: str) -> str | None:
    try:
        PartPlace.of(text)
    except ValueError as error:
        return str(error)
    return None


ANY: Final = Words()
FILLED: Final = Words("a text that is not empty", r"[\s\S]+")
VARIABLE: Final = Words("the name of a variable", VARIABLE_FORM, is_verbatim=True)
SETTABLE: Final = Words("the name of a variable", VARIABLE_FORM, fault=variable_fault, is_verbatim=True)
PATTERN: Final = Words("a pattern", r"[\s\S]+", fault=patterns.fault)
PATTERNS: Final = ListOf(PATTERN, or_one=True, least=1, most=patterns.MOST)
PATH_PATTERN: Final = Words("a pattern of files of the workspace", r"[\s\S]+", fault=path_pattern_fault)
ENV: Final = MapOf(SETTABLE, ANY, most=200)
ARGS: Final = MapOf(VARIABLE, ANY, most=200)
SECRET_NAME: Final = Words("the name of a secret", r"[A-Za-z0-9_.-]{1,100}", is_verbatim=True)
INSIDE: Final = Words("a path of the workspace", r"[\s\S]+", fault=inside_fault)
PLATFORM: Final = Words("a platform, such as linux/arm64", r"[a-z0-9]+/[a-z0-9_]+(/[a-z0-9.]+)?", fault=platform_fault)
MEMBER: Final = Words("the name of a member", r"[a-z0-9][a-z0-9._@-]{0,63}", is_verbatim=True)
GROUP: Final[dict[str, Key]] = {
    "group": Key(Words("the name of a group", r"[^\x00]*\S[^\x00]*", most=MAX_GROUP), "its name, in the project",
                 is_required=True),
    "limit": Key(Whole(1, 1000), "how many go on at once"),
    "when_busy": Key(Choice("wait", "replace", "cancel"), "`replace`: of those that wait, the newest stays; `cancel`: "
                     "it also ends those that go on"),
}  # fmt: skip
CONCURRENCY: Final = Fields("`concurrency`", Concurrency, GROUP)
JOB_NAME: Final = Words("the name of a job", JOB_NAME_FORM, is_verbatim=True)
