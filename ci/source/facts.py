"""What a commit says of itself, as data: facts for jobs, names for matrices, pipeline files. Nothing is evaluated."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import Final, NamedTuple

from builder.remotes.gitprogram import Ended
from ci.directories import fitting
from ci.document import MAX_BYTES
from ci.errors import RepositoryError
from ci.files import chosen
from ci.parsing import DIRECTORY, FILE
from ci.source.objects import DIRECTORY as DIRECTORY_MODE
from ci.source.objects import LINK, SUBMODULE, Entry, Objects

_AT_ONCE: Final = 1 << 20
_SHOWN: Final = "%H%x00%T%x00%ct%x00%an%x00%s"
_SHORT: Final = 12
_NO: Final = 1  # the exit code of a quiet question
_LONGEST_TITLE: Final = 500
_LONGEST_NAME: Final = 200
_ABBREVIATED: Final = (
    7  # as the design's example; not git's own choice, which depends on what else is in the repository
)


class Commit(NamedTuple):
    """A commit. committed_at: seconds since the epoch. title, author: one line each, cut where they are too long."""

    id: str
    tree: str
    committed_at: int
    title: str
    author: str


def read_commit(objects: Objects, name: str) -> Commit:
    """The commit of this name or hash. Raises RepositoryError when there is none."""
    there, shown = objects.run_all(_is_there(name), _show(name))
    return _read(objects, name, there, shown)


def describe(objects: Objects, commit: Commit) -> dict[str, str]:
    """The facts of ``ci.facts`` that a commit has."""
    return _facts(commit, objects.run(*_describe(commit.id)))


def read_and_describe(objects: Objects, name: str) -> tuple[Commit, dict[str, str]]:
    """What ``read_commit`` and ``describe`` say, in the time of one of them. Raises RepositoryError."""
    there, shown, told = objects.run_all(_is_there(name), _show(name), _describe(name))
    commit = _read(objects, name, there, shown)
    if told.code:
        raise objects.damaged(_describe(name), told.told)
    return commit, _facts(commit, told.out)


def _is_there(name: str) -> tuple[str, ...]:
    return "rev-parse", "--quiet", "--verify", "--end-of-options", f"{name}^{{commit}}"


def _show(name: str) -> tuple[str, ...]:
    return "log", "-1", "--no-show-signature", "--encoding=UTF-8", f"--format={_SHOWN}", "--end-of-options", name


def _describe(name: str) -> tuple[str, ...]:
    return "describe", "--tags", "--always", f"--abbrev={_ABBREVIATED}", name


def _read(objects: Objects, name: str, there: Ended, shown: Ended) -> Commit:
    if there.code == _NO:
        raise RepositoryError(f"the repository has no commit {name[:100]}")
    if there.code or shown.code:
        raise objects.damaged(_show(name), shown.told or there.told)
    return _commit(shown.out.decode("utf-8", "replace").removesuffix("\n"))


def _facts(commit: Commit, described: bytes) -> dict[str, str]:
    return {
        "SHIPLAP_COMMIT": commit.id,
        "SHIPLAP_SHORT_COMMIT": commit.id[:_SHORT],
        "SHIPLAP_DESCRIBE": _line(described.decode("utf-8", "replace").strip(), _LONGEST_NAME),
        "SHIPLAP_COMMITTED_AT": str(commit.committed_at),
        "SHIPLAP_TITLE": commit.title,
        "SHIPLAP_AUTHOR": commit.author,
    }


def commits_between(objects: Objects, before: str, now: str, most: int) -> tuple[list[Commit], int]:
    """The commits that ``now`` has and ``before`` has not, the newest first and at most so many; and their count."""
    words = ("--no-show-signature", "--encoding=UTF-8", f"--format={_SHOWN}", f"--max-count={most}", f"{before}..{now}")
    lines = objects.run("log", *words).decode("utf-8", "replace").removesuffix("\n").split("\n")
    count = int(objects.run("rev-list", "--count", f"{before}..{now}"))
    return [_commit(line) for line in lines if line], count


def merge_base(objects: Objects, one: str, other: str) -> str | None:
    """The last commit that two have in common; None: there is none, or one of the two is not here."""
    if not objects.has(one) or not objects.has(other):
        return None
    found = objects.ask("merge-base", one, other)
    return found.decode().split()[0] if found else None


def is_ancestor(objects: Objects, earlier: str, later: str) -> bool:
    """Whether ``earlier`` is ``later``, or is in its history."""
    return merge_base(objects, earlier, later) == earlier


def pipeline_files_of(objects: Objects, tree: str) -> dict[str, bytes]:
    """The pipeline files of a tree by path, sorted, each with at most a byte more than one may have.

    Raises CiError as ``ci.files.pipeline_files``, and RepositoryError for one that is no file.
    """
    top = {entry.path: entry for entry in objects.entries(tree, FILE, f"{DIRECTORY}/")}
    several = [os.fsdecode(path) for path in top if path != FILE.encode()]
    names = chosen(FILE.encode() in top, several)
    return {name: _content(objects, top[os.fsencode(name)]) for name in names}


def file_of_tree(objects: Objects, tree: str, path: str) -> bytes:
    """What is in a file of a tree, at most a byte more than a pipeline may have. Raises RepositoryError."""
    found = [entry for entry in objects.entries(tree, path) if entry.path == os.fsencode(path)]
    if not found:
        raise RepositoryError(f"there is no file {path} in the commit")
    return _content(objects, found[0])


def directories_of_tree(objects: Objects, tree: str, pattern: str) -> tuple[str, ...]:
    """As ``ci.directories.directories_of``, of a tree."""
    below: dict[str, list[str]] = {}
    for entry in objects.entries(tree):
        if entry.mode in (DIRECTORY_MODE, SUBMODULE):
            path = os.fsdecode(entry.path)
            below.setdefault(path.rpartition("/")[0], []).append(path)

    def listed(above: str) -> Iterable[str]:
        return below.get(above, ())

    return fitting(listed, pattern)


def _commit(told: str) -> Commit:
    """A commit as ``_SHOWN`` has it."""
    commit, tree, at, author, title = told.split("\0", 4)
    return Commit(commit, tree, int(at or 0), _line(title, _LONGEST_TITLE), _line(author, _LONGEST_NAME))


def _content(objects: Objects, entry: Entry) -> bytes:
    if entry.mode in (LINK, SUBMODULE, DIRECTORY_MODE) or not stat.S_ISREG(int(entry.mode, 8)):
        raise RepositoryError(
            f"{os.fsdecode(entry.path)} of the commit is no file", hint="write the pipeline itself there, no link to it"
        )
    with objects.contents([entry.id]) as contents:
        size, source = next(contents)
        data = source.read(min(size, MAX_BYTES + 1))
        left = size - len(data)
        while left > 0 and (more := source.read(min(left, _AT_ONCE))):  # git has to be listened to until its end
            left -= len(more)
        next(contents, None)
    return data


def _line(text: str, longest: int) -> str:
    """One line of text that a terminal, a header or a shell variable can have."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text[: longest + 1]).strip()
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
