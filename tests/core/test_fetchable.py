from __future__ import annotations

import pytest

from core.fetchable import is_fetchable, is_fetchable_context


@pytest.mark.parametrize(
    "word",
    ["https://h/x", "http://h", "HTTPS://h/r.git", "git://h/r", "ssh://u@h/r", "git@h:r", "_me.2@10.0.0.1:r", "a-b@h:"],
)
def test_what_is_written_as_something_to_fetch(word: str) -> None:
    assert is_fetchable(word)
    assert is_fetchable_context(word)


@pytest.mark.parametrize(
    "word",
    ["", ".", "a/b", "git@notes", "-u@h:r", ".a@h:r", "ü@h:r", "a b@h:r", "ftp://h/x", "s3://b/x", "file:///x", "x:/y"],
)
def test_what_is_written_as_a_path(word: str) -> None:
    assert not is_fetchable(word)
    assert not is_fetchable_context(word)


def test_github_alone_is_a_repository_as_a_context_only() -> None:
    assert is_fetchable_context("github.com/a/b")
    assert not is_fetchable("github.com/a/b")
    assert not is_fetchable_context("github.community/a")
