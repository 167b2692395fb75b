"""What a shell in a failed job has beside its files, where that cannot be had any more."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import pytest

from ci.errors import DamagedRepositoryError
from worker import shell


class _Damaged:
    def mounted(self, target: str) -> NoReturn:
        raise DamagedRepositoryError("objects are missing", Path(target))


def test_shell_opens_without_git_when_its_mirror_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opened the mirror hears of it, so that it is fetched anew."""
    heard: list[str] = []

    @contextlib.contextmanager
    def again(*_: object) -> Iterator[_Damaged]:
        try:
            yield _Damaged()
        except DamagedRepositoryError as error:
            heard.append(error.message)
            raise

    monkeypatch.setattr(shell, "git_again", again)
    granted = SimpleNamespace(files=SimpleNamespace(git=object(), owner=(0, 0)))
    made = shell.FailedShell(cast(Any, SimpleNamespace(service=None)), cast(Any, granted))
    with ExitStack() as stack:
        assert made._git(cast(Any, None), stack) == []
    assert heard == ["objects are missing"]
    assert made._beside == ["no .git: objects are missing"]
