"""How runs, their ends and what they repeat are called in lists."""

from __future__ import annotations

from typing import Any

import pytest

from cli.remote.wording import dockerfile_hint, outcome, title_text

_GIT = {"type": "git", "url": "https://git.example.org/app.git", "ref": "main"}


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        ({}, "https://git.example.org/app.git#main"),
        ({"title": "Fix it", "branch": "main", "commit": "0123456789abcdef"}, "Fix it (main 0123456789ab)"),
        ({"title": "Fix it", "branch": "fix", "pull_request": 7}, "Fix it (pull request 7)"),
        ({"title": "Release", "tag": "v1"}, "Release (v1)"),
        ({"title": "a\x1b]0;owned\x07b", "branch": "x\x1b[2J"}, "a]0;ownedb (x[2J)"),
        ({"retry_of": 1, "by": "ana"}, "retry of #1 by ana, https://git.example.org/app.git#main"),
        ({"retry_of": 1, "by": "a\x1b[2Jb", "title": "Fix it", "tag": "v1"}, "retry of #1 by a[2Jb: Fix it (v1)"),
    ],
)
def test_a_list_shows_the_commit_s_title_where_there_is_one(trigger: dict[str, Any], told: str) -> None:
    assert title_text({"trigger": trigger, "source": _GIT, "options": {}}) == told


@pytest.mark.parametrize(
    ("state", "reason", "asked", "told"),
    [
        ("queued", "no worker is running", False, "queued: no worker is running"),
        ("running", "", False, "running"),
        ("running", "cancelled by ana", True, "running, being cancelled by ana"),
        ("running", "superseded by #6", True, "running, being cancelled: superseded by #6"),
        ("cancelled", "superseded by #6", True, "cancelled: superseded by #6"),
        ("cancelled", "cancelled by a\x1b[2Jb", True, "cancelled by a[2Jb"),
        ("cancelled", "cancelled", True, "cancelled"),
        ("failed", "exit code: 3", False, "failed"),
    ],
)
def test_a_list_shows_why_a_run_waits_or_was_cancelled(state: str, reason: str, asked: bool, told: str) -> None:
    assert outcome({"state": state, "reason": reason, "cancel_requested": asked}) == told


@pytest.mark.parametrize(
    ("result", "kind", "told"),
    [
        (None, "push", ""),
        ({"error": "exit code: 1"}, "push", ""),
        ({"dockerfiles": []}, "push", "name it in the project's settings: shiplap project set web --file PATH"),
        ({"dockerfiles": ["x/y"]}, "tag", "name it in the project's settings: shiplap project set web --file x/y"),
        ({"dockerfiles": ["a/Dockerfile", "b/Dockerfile"]}, "manual", "name it: shiplap build -f a/Dockerfile"),
    ],
)
def test_a_missing_dockerfile_is_named_as_the_run_was_started(result: Any, kind: str, told: str) -> None:
    assert dockerfile_hint({"result": result, "project": "web", "trigger": {"kind": kind}}) == told
