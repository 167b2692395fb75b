"""Domains and the scopes that they read."""

from __future__ import annotations

import itertools

import pytest

from core.trust import COMMON, HOST, Domain, of_branch, of_fork, of_stranger, of_user, parse, protected

_NAMES = ("", " ", "b", "b ", " b", "7", "by b", "protected", "branch b", "/b", "b/", "x/branch b", "b\n")


def test_every_domain_has_a_scope_of_its_own() -> None:
    domains = {
        HOST,
        *itertools.chain.from_iterable(
            (protected(project), of_fork(project, 7), of_fork(project, 8), *_named(project)) for project in ("p", "q")
        ),
    }
    scopes = {domain.scope for domain in domains} | {COMMON} | {protected(project).project_scope for project in "pq"}
    assert len(scopes) == len(domains) + 3


def _named(project: str) -> list[Domain]:
    return [make(project, name) for make in (of_branch, of_user, of_stranger) for name in _NAMES]


@pytest.mark.parametrize("name", _NAMES)
def test_a_label_says_which_domain_it_is(name: str) -> None:
    for domain in (protected("p"), of_branch("p", name), of_user("p", name), of_stranger("p", name), of_fork("p", 7)):
        assert parse("p", domain.label) == domain


@pytest.mark.parametrize("label", ["", "host", "protected x", "protected ", "branch", "main", "Fork 7", " fork 7"])
def test_what_is_no_label_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="is no domain"):
        parse("p", label)


def test_what_is_read_is_its_own_the_protected_lane_s_the_project_s_and_everybody_s() -> None:
    assert of_branch("p", "b").reads() == (
        "project p/branch b",
        "project p/protected",
        "project p",
        COMMON,
    )
    assert protected("p").reads() == ("project p/protected", "project p", COMMON)


def test_a_fork_reads_nothing_of_the_project() -> None:
    assert of_fork("p", 7).reads() == ("project p/fork 7", COMMON)
    assert of_stranger("p", "eve").reads() == ("project p/fork by eve", COMMON)


def test_the_host_reads_nothing_of_any_project() -> None:
    assert HOST.reads() == ("host", COMMON)
