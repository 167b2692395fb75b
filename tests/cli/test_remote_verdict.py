"""How a build on a server ended, for whoever waited for it."""

from __future__ import annotations

import types
from typing import Any

import pytest

from cli.remote.build import _check, is_repository
from cli.remote.errors import RemoteBuildError, RunLostError


def verdict(**ended: Any) -> None:
    shown: Any = types.SimpleNamespace(failed=None, tail=lambda: ["last line"])
    _check({"number": 7, "reason": "", "result": None, "source": {}, "options": {}, **ended}, shown)


@pytest.mark.parametrize("state", ["succeeded", "cancelled", "superseded"])
def test_other_ends_are_no_failures(state: str) -> None:
    verdict(state=state)


@pytest.mark.parametrize(
    ("ended", "told"),
    [
        ({"result": {"error": "no disk"}, "reason": "x"}, "no disk"),
        ({"result": {}, "reason": "tried three times"}, "tried three times"),
        ({}, "the service could not run it"),
    ],
)
def test_run_that_was_given_up_can_be_tried_again(ended: dict[str, Any], told: str) -> None:
    with pytest.raises(RunLostError) as lost:
        verdict(state="error", **ended)
    assert lost.value.message == f"run 7 was given up: {told}"
    assert lost.value.hint == "shiplap runs retry 7"


@pytest.mark.parametrize(
    ("ended", "told"),
    [({"result": {"error": "exit 1"}}, "exit 1"), ({"reason": "limit"}, "limit"), ({}, "the build failed")],
)
def test_failed_run_says_why(ended: dict[str, Any], told: str) -> None:
    with pytest.raises(RemoteBuildError) as failed:
        verdict(state="failed", **ended)
    assert str(failed.value).startswith(told)


def test_contexts_that_the_service_fetches_itself() -> None:
    assert is_repository("https://git.example/a.git")
    assert not is_repository("./a")
