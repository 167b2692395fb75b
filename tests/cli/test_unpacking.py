"""Where outputs of jobs for people are unpacked: below the directory that was named, whatever a job is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.errors import CommandError
from cli.unpacking import place_of

TOP = Path("/top")


@pytest.mark.parametrize(
    ("job", "place"),
    [
        ("make", "make"),
        ("docs/make", "docs/make"),
        ("test (3.11, postgres)", "test (3.11, postgres)"),
        ("test (../../../.ssh/)", "test (..%2F..%2F..%2F.ssh%2F)"),
        ("docs/test (a/b)", "docs/test (a%2Fb)"),
    ],
)
def test_each_output_has_a_directory_of_its_own(job: str, place: str) -> None:
    assert place_of(TOP, job, "site") == TOP / place / "site"


@pytest.mark.parametrize(
    ("job", "output"),
    [("..", "a"), ("/etc", "a"), ("a/../..", "a"), ("a//b", "a"), ("", "a"), ("a", ".."), ("a", "b/c"), ("a", ""),
     ("a\0", "b")],
)  # fmt: skip
def test_what_a_server_calls_a_job_leads_nowhere_else(job: str, output: str) -> None:
    with pytest.raises(CommandError, match="has no place below /top"):
        place_of(TOP, job, output)
