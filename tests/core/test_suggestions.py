"""What is suggested for a mistyped name, and what is not."""

from __future__ import annotations

import pytest

from cli.app import shiplap
from core.suggestions import aside, did_you_mean, is_one_slip, nearest, suggestion
from dockerfile_grammar.syntax import INSTRUCTIONS


@pytest.mark.parametrize(
    ("word", "candidates", "found"),
    [
        ("biuld", ["test", "build"], ["build"]),
        ("oic", ["docker", "oci"], ["oci"]),
        ("lock", ["shared", "private", "locked"], ["locked"]),
        ("entry", ["ENV", "ENTRYPOINT"], ["ENTRYPOINT"]),
        ("log", ["login", "logout"], []),
        ("ps", ["push", "pull"], []),
        ("ps", ["ls"], []),
        ("busybocks", ["busybox", "base"], ["busybox"]),
        ("sl", ["ls", "rm"], ["ls"]),
        ("restart", ["restore", "registry"], []),
        ("makefile", ["Dockerfile"], []),
        ("NAEM", ["NAME", "name2"], ["NAME"]),
        ("x", ["y", "z"], []),
        ("", ["a", "build"], []),
    ],
)
def test_nearest(word: str, candidates: list[str], found: list[str]) -> None:
    assert nearest(word, candidates) == found


def test_nearest_gives_as_many_as_are_asked_for() -> None:
    assert nearest("v1.01", ["v1.0", "v1.0.1", "latest"], 3) == ["v1.0.1", "v1.0"]


@pytest.mark.parametrize(
    ("word", "other"), [("build", "buld"), ("build", "builld"), ("build", "bxild"), ("build", "biuld"), ("ap", "app")]
)
def test_one_slip_goes_both_ways(word: str, other: str) -> None:
    assert is_one_slip(word, other)
    assert is_one_slip(other, word)


@pytest.mark.parametrize(("word", "other"), [("build", "build"), ("build", "bluid"), ("ab", "ac"), ("build", "built2")])
def test_more_or_less_than_one_slip(word: str, other: str) -> None:
    assert not is_one_slip(word, other)
    assert not is_one_slip(other, word)


def test_wording() -> None:
    assert did_you_mean(["a"]) == "did you mean a?"
    assert did_you_mean(["a", "b"], form="--{}") == "did you mean --a or --b?"
    assert did_you_mean([]) is None
    assert suggestion("biuld", ["build"], form="the stage {}") == "did you mean the stage build?"
    assert aside("did you mean a?") == " (did you mean a?)"
    assert aside(None) == ""


DOCKER = "search swarm node stack plugin manifest trust"


@pytest.mark.parametrize("word", DOCKER.split())
def test_what_docker_calls_otherwise_is_not_taken_for_another_command(word: str) -> None:
    """Which would do something else, as 'restore' for 'restart'."""
    assert word not in shiplap.lazy
    assert nearest(word, shiplap.lazy) == []


@pytest.mark.parametrize(
    ("word", "meant"),
    [("EXPORT", []), ("IMPORT", []), ("SET", []), ("BUILD", []), ("FORM", ["FROM"]), ("CDM", ["CMD"])],
)
def test_instructions(word: str, meant: list[str]) -> None:
    assert nearest(word, INSTRUCTIONS) == meant
