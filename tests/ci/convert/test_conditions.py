"""Conditions of other systems hold for the events for which they held there, or are said not to be known."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from ci.conditions import Event, why_left_out
from ci.convert import conditions
from ci.convert.conditions import Condition
from ci.convert.expressions import condition
from ci.convert.foreign import Foreign
from ci.convert.gitlabrules import Rules
from ci.model import Fits

_EVENTS = {
    "main": Event("push", branch="main"),
    "topic": Event("push", branch="topic"),
    "release": Event("push", branch="release/1"),
    "v1": Event("tag", tag="v1"),
    "other": Event("tag", tag="other"),
    "pr": Event("pull_request", branch="topic", target="main"),
    "pr-of-main": Event("pull_request", branch="main", target="next"),
    "hand": Event("manual", branch="main"),
    "night": Event("cron", branch="main"),
}


def holds(found: Condition) -> set[str]:
    assert found is not None
    fits = [msgspec.convert(dict(facts), Fits) for facts in found]
    return {name for name, event in _EVENTS.items() if fits and why_left_out(fits, event, {}) is None}


_GITHUB = [
    ("github.event_name == 'push'", {"main", "topic", "release", "v1", "other"}),
    ("${{ github.event_name == 'pull_request' }}", {"pr", "pr-of-main"}),
    ("github.ref == 'refs/heads/main'", {"main", "hand", "night"}),
    ("github.ref != 'refs/heads/main'", {"topic", "release", "v1", "other", "pr", "pr-of-main"}),
    ("startsWith(github.ref, 'refs/tags/')", {"v1", "other"}),
    ("startsWith(github.ref, 'refs/tags/v')", {"v1"}),
    ("startsWith(github.ref, 'refs/heads/release/')", {"release"}),
    ("github.event_name == 'push' && (github.ref == 'refs/heads/main' || github.ref_type == 'tag')",
     {"main", "v1", "other"}),
    ("github.event_name != 'schedule'", {"main", "topic", "release", "v1", "other", "pr", "pr-of-main", "hand"}),
    ("!(github.event_name == 'push')", {"pr", "pr-of-main", "hand", "night"}),
    ("github.base_ref == 'main'", {"pr"}),
    ("success() && github.event_name == 'workflow_dispatch'", {"hand"}),
    ("false", set()),
    ("github.event_name == 'issues'", set()),
]  # fmt: skip
_GITLAB = [
    ('$CI_COMMIT_BRANCH == "main"', {"main", "hand", "night"}),
    ("$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH", {"main", "hand", "night"}),
    ("$CI_COMMIT_BRANCH != 'main'", {"topic", "release", "v1", "other", "pr", "pr-of-main"}),
    ('$CI_PIPELINE_SOURCE == "merge_request_event"', {"pr", "pr-of-main"}),
    ('$CI_PIPELINE_SOURCE == "schedule"', {"night"}),
    ("$CI_COMMIT_TAG", {"v1", "other"}),
    ("$CI_COMMIT_TAG =~ /^v/", {"v1"}),
    ("$CI_COMMIT_TAG == null", {"main", "topic", "release", "pr", "pr-of-main", "hand", "night"}),
    ('$CI_COMMIT_BRANCH == "main" && $CI_PIPELINE_SOURCE == "push" || $CI_COMMIT_TAG', {"main", "v1", "other"}),
    ('$CI_MERGE_REQUEST_TARGET_BRANCH_NAME == "main"', {"pr"}),
]
_UNKNOWN_AT_GITHUB = [
    "github.actor == 'me'", "contains(github.ref, 'x')", "github.event_name == 'push' && vars.X", "inputs.x == 'y'",
    "github.ref == 'refs/heads/a*'", "!startsWith(github.ref, 'refs/tags/v')", "((((", "'", "",
]  # fmt: skip
_UNKNOWN_AT_GITLAB = [
    "$X", '$CI_COMMIT_BRANCH =~ /feat|fix/', "$CI_COMMIT_TAG !~ /^v/", '$CI_COMMIT_MESSAGE == "x"', "$", "&&", "$A == ",
    '$CI_COMMIT_TAG =~ /^v[0-9]+$/', '$CI_COMMIT_BRANCH =~ /^wip/i', f"{'(' * 100_000}$CI_COMMIT_TAG{')' * 100_000}",
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), _GITHUB)
def test_an_if_of_github_holds_where_it_held(text: str, expected: set[str]) -> None:
    assert holds(condition(text)[0]) == expected


@pytest.mark.parametrize(("text", "expected"), _GITLAB)
def test_an_if_of_gitlab_holds_where_it_held(text: str, expected: set[str]) -> None:
    assert holds(_rules().of_text(text)) == expected


def _rules() -> Rules:
    return Rules(Foreign(b"a: b\n", "f.yml"), "main")


@pytest.mark.parametrize(
    ("read", "texts"),
    [(lambda text: condition(text)[0], _UNKNOWN_AT_GITHUB), (lambda text: _rules().of_text(text), _UNKNOWN_AT_GITLAB)],
)
def test_what_is_no_fact_is_not_known(read: Callable[[str], Condition], texts: list[str]) -> None:
    for text in texts:
        assert read(text) is conditions.UNKNOWN, text


def test_after_which_end_is_read_of_the_state_functions() -> None:
    assert condition("always()") == (conditions.ALWAYS, "always")
    assert condition("${{ failure() && github.event_name == 'push' }}")[1] == "failure"
    assert condition("success()") == (conditions.ALWAYS, "success")


def test_what_is_joined_with_something_unknown_is_unknown() -> None:
    push = conditions.fact("event", "push")
    assert conditions.both(push, conditions.UNKNOWN) is conditions.UNKNOWN
    assert conditions.either(push, conditions.UNKNOWN) is conditions.UNKNOWN
    assert conditions.both(conditions.NEVER, conditions.UNKNOWN) == conditions.NEVER
    assert conditions.opposite(conditions.UNKNOWN) is conditions.UNKNOWN


@pytest.mark.parametrize(
    ("globs", "meant", "others"),
    [
        (["main"], ["main"], ["main2", "a/main"]),
        (["release/*"], ["release/1"], ["release/1/2", "release"]),
        (["release/**"], ["release/1", "release/1/2"], ["main"]),
        (["*"], ["main"], ["a/b"]),
        (["**"], ["main", "a/b"], []),
    ],
)
def test_a_star_stays_within_a_part_of_a_name(globs: list[str], meant: list[str], others: list[str]) -> None:
    found = conditions.patterns(globs)
    assert found is not None
    fits = [Fits(branch=found)]
    assert [name for name in (*meant, *others) if why_left_out(fits, Event("push", branch=name), {}) is None] == meant


def test_globs_that_cannot_be_said_are_not() -> None:
    for glob in ("ab?c", "a[0-9]", "{a,b}", "", "v+", "a\\b"):
        assert conditions.patterns([glob]) is None
