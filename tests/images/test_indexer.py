"""The program that indexes layers: waited for, ended when nobody wants it any more, and told of when it fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.cancellation import asking
from images.erofs import BrokenProgramError, ErofsError, Indexer


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Indexer]:
    """Begins to index with a program of this text in the place of mkfs.erofs."""

    def begin(text: str) -> Indexer:
        file = tmp_path / "bin" / "mkfs.erofs"
        file.parent.mkdir()
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")
        return Indexer(str(tmp_path / "layer.tar"), str(tmp_path / "index"))

    return begin


class GoneError(Exception):
    """Nobody wants it any more."""


def test_who_is_cancelled_ends_the_program(program: Callable[[str], Indexer]) -> None:
    indexer = program("exec sleep 600")

    def gone() -> None:
        raise GoneError

    with asking(gone), pytest.raises(GoneError):
        indexer.wait()
    with pytest.raises(ChildProcessError):
        os.waitpid(indexer._pid, os.WNOHANG)  # it was reaped


def test_program_that_succeeds_leaves_no_log(program: Callable[[str], Indexer], tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    program("echo said").wait()
    assert not (tmp_path / "index.log").exists()
    assert len(os.listdir("/proc/self/fd")) == before


def test_program_that_fails_is_told_of_with_its_words(program: Callable[[str], Indexer]) -> None:
    with pytest.raises(ErofsError, match="bad tar") as failed:
        program("echo bad tar >&2; exit 1").wait()
    assert not failed.value.final


@pytest.mark.parametrize("code", [126, 127])
def test_program_that_cannot_run_here_is_a_broken_one(program: Callable[[str], Indexer], code: int) -> None:
    with pytest.raises(BrokenProgramError) as failed:
        program(f"exit {code}").wait()
    assert failed.value.final


def test_program_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ErofsError, match="is not installed") as failed:
        Indexer(str(tmp_path / "a"), str(tmp_path / "b"))
    assert failed.value.final
