"""What ``inputs`` leave of a workspace: the paths that are seen, and the fewest names that hide all others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ci import patterns
from ci.workspace.errors import InputsError
from ci.workspace.listings import File, is_directory
from ci.workspace.treeorder import end_of, order_of
from core.cancellation import check
from dockerfile_grammar import IgnorePatterns


class Selection(NamedTuple):
    """What is seen and what is hidden, each in tree order.

    visible: paths, those of directories that something is seen in included.
    hidden: paths that stand for themselves and all below them. None is seen.
    """

    visible: list[str]
    hidden: list[str]


def select(files: Mapping[str, File], inputs: Sequence[str]) -> Selection:
    """What ``inputs`` leave of a workspace. Raises InputsError naming a pattern that matches nothing.

    files: the whole workspace, in tree order.
    """
    paths = list(files)
    keys = [order_of(path) for path in paths]
    for text in inputs:
        if not patterns.excludes(text) and not _matches_any(text, paths, keys):
            raise InputsError(
                f"nothing in the workspace is what the input {text} names",
                hint="paths begin at the top of the repository; of jobs before this one their `outputs` are there",
            )
    return _Selecting(files, paths, keys, patterns.compiled(inputs)).run()


class _Open(NamedTuple):
    """A directory that the selection is in.

    path: of it.
    end: the index behind the last path below it.
    hidden: how many names were hidden when it was entered.
    visible: how many were seen.
    is_meant: whether a pattern means the directory itself.
    """

    path: str
    end: int
    hidden: int
    visible: int
    is_meant: bool


class _Selecting:
    def __init__(
        self, files: Mapping[str, File], paths: Sequence[str], keys: Sequence[str], meant: IgnorePatterns
    ) -> None:
        self._files = files
        self._paths = paths
        self._keys = keys
        self._meant = meant
        self._found = Selection([], [])
        self._open: list[_Open] = []

    def run(self) -> Selection:
        visible, hidden = self._found
        at = 0
        while at < len(self._paths):
            check()
            while self._open and self._open[-1].end <= at:
                self._close()
            path = self._paths[at]
            is_meant = self._meant.matches(path)
            if not is_directory(self._files[path]):
                (visible if is_meant else hidden).append(path)
                at += 1
                continue
            end = end_of(self._keys, path)
            if is_meant and self._meant.can_skip(path):
                visible += self._paths[at:end]
                at = end
            elif not is_meant and not self._meant.reaches_below(path):
                hidden.append(path)
                at = end
            else:
                self._open.append(_Open(path, end, len(hidden), len(visible), is_meant))
                visible.append(path)
                at += 1
        while self._open:
            self._close()
        return self._found

    def _close(self) -> None:
        """Leave a directory: when nothing in it is seen, it is hidden itself."""
        left = self._open.pop()
        visible, hidden = self._found
        if len(visible) == left.visible + 1 and not left.is_meant:
            visible.pop()
            del hidden[left.hidden :]
            hidden.append(left.path)


def _matches_any(text: str, paths: Sequence[str], keys: Sequence[str]) -> bool:
    pattern = IgnorePatterns.of([text])
    start = patterns.literal_start(text)
    return any(pattern.matches(path) for path in paths[bisect_left(keys, order_of(start)) : end_of(keys, start)])
