"""Domains and the scopes that they read."""

from __future__ import annotations

from core.trust import COMMON, HOST, of_branch, of_fork, of_user, protected


def test_every_domain_has_a_scope_of_its_own() -> None:
    domains = (
        HOST, protected("p"), protected("q"), of_branch("p", "b"), of_branch("q", "b"), of_branch("p", "protected"),
        of_user("p", "b"), of_fork("p", 7), of_fork("p", 8), of_branch("p", "7"),
    )  # fmt: skip
    assert len({domain.scope for domain in domains} | {COMMON}) == len(domains) + 1


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


def test_the_host_reads_nothing_of_any_project() -> None:
    assert HOST.reads() == ("host", COMMON)
