"""How runs are called in lists."""

from __future__ import annotations

from typing import Any

import pytest

from cli.remote.wording import title_text

_GIT = {"type": "git", "url": "https://git.example.org/app.git", "ref": "main"}


@pytest.mark.parametrize(
    ("trigger", "told"),
    [
        ({}, "https://git.example.org/app.git#main"),
        ({"title": "Fix it", "branch": "main", "commit": "0123456789abcdef"}, "Fix it (main 0123456789ab)"),
        ({"title": "Fix it", "branch": "fix", "pull_request": 7}, "Fix it (pull request 7)"),
        ({"title": "Release", "tag": "v1"}, "Release (v1)"),
        ({"title": "a\x1b]0;owned\x07b", "branch": "x\x1b[2J"}, "a]0;ownedb (x[2J)"),
    ],
)
def test_a_list_shows_the_commit_s_title_where_there_is_one(trigger: dict[str, Any], told: str) -> None:
    assert title_text({"trigger": trigger, "source": _GIT, "options": {}}) == told
