"""Builds of several domains in one store: what each finds of what the others left, and what it leaves to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from core.events import StepFinished
from core.trust import HOST, Domain, of_branch, of_fork, of_user, protected
from dockerfile_grammar import DockerfileError
from registry.client import Client, ClientConfig
from tests.builder.cache_tools import Machines, machines
from tests.builder.test_build import Workshop

MAIN, BRANCH, OTHER_BRANCH = protected("p"), of_branch("p", "b"), of_branch("p", "c")
BY_ANN, FORK, OTHER_FORK, OTHER = of_user("p", "ann"), of_fork("p", 7), of_fork("p", 8), protected("q")
INSIDERS: Final = (MAIN, BRANCH, OTHER_BRANCH, BY_ANN)
EVERYBODY: Final = (HOST, *INSIDERS, FORK, OTHER_FORK, OTHER)


def fingerprint(value: bytes) -> str:
    return hashlib.sha256(b"key" + value).hexdigest()


@pytest.fixture
def workshop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    yield made
    made.close()


def counts(workshop: Workshop, domain: Domain, text: str, **options: Any) -> tuple[int, int]:
    """Steps that ran, and steps that the cache answered."""
    counted = None if domain is HOST else fingerprint
    return workshop.counts(text, domain=domain, fingerprint=counted, **options)


def first_builds(workshop: Workshop, text: str, *domains: Domain, **options: Any) -> list[tuple[int, int]]:
    return [counts(workshop, domain, text, **options) for domain in domains]


COMMON: Final = "FROM base\nWORKDIR /w\nCOPY f /\nRUN cat /f > /g\nFROM base\nCOPY --from=0 /g /\nRUN cat /g\n"


@pytest.mark.parametrize("first", [HOST, MAIN, BRANCH, BY_ANN, OTHER])
def test_what_is_common_is_built_once_for_everybody(workshop: Workshop, first: Domain) -> None:
    (workshop.context / "f").write_text("f")
    assert counts(workshop, first, COMMON) == (5, 0)
    assert first_builds(workshop, COMMON, *EVERYBODY) == [(0, 5)] * len(EVERYBODY)


def test_what_a_fork_builds_is_its_own(workshop: Workshop) -> None:
    (workshop.context / "f").write_text("f")
    assert first_builds(workshop, COMMON, FORK, FORK, OTHER_FORK) == [(5, 0), (0, 5), (5, 0)]
    assert counts(workshop, MAIN, COMMON) == (5, 0)


def test_fork_s_steps_on_common_ones_are_its_own_too(workshop: Workshop) -> None:
    text = "FROM base\nRUN echo 1 > /1\n"
    assert first_builds(workshop, text, MAIN, FORK) == [(1, 0), (0, 1)]
    more = f"{text}RUN echo 2 > /2\n"
    assert first_builds(workshop, more, FORK, FORK, MAIN) == [(1, 1), (0, 2), (1, 1)]


SECRET: Final = (
    "FROM base\nRUN --mount=type=secret,id=token cat /run/secrets/token > /t 2>/dev/null || true\nRUN wc -c < /t\n"
)


def test_layer_made_with_a_secret_is_the_project_s(workshop: Workshop) -> None:
    with_token: dict[str, Any] = {"secrets": {"token": b"one"}}
    assert counts(workshop, MAIN, SECRET, **with_token) == (2, 0)
    assert first_builds(workshop, SECRET, *INSIDERS, **with_token) == [(0, 2)] * len(INSIDERS)
    for stranger in (OTHER, HOST, FORK):
        assert counts(workshop, stranger, SECRET, **with_token) == (2, 0), stranger
    assert counts(workshop, MAIN, SECRET, secrets={"token": b"two"}) == (2, 0)


@pytest.mark.parametrize("stranger", [FORK, OTHER, MAIN, HOST])
def test_layer_made_with_a_secret_is_not_shown_to_who_has_none(workshop: Workshop, stranger: Domain) -> None:
    counts(workshop, MAIN, SECRET, secrets={"token": b"tell nobody"})
    assert counts(workshop, stranger, SECRET) == (2, 0)
    assert workshop.seen.output() == "0\n"


@pytest.mark.parametrize("stranger", [FORK, OTHER, BRANCH, HOST])
def test_layer_made_without_the_secret_is_not_shipped_by_who_has_it(workshop: Workshop, stranger: Domain) -> None:
    counts(workshop, stranger, SECRET)
    assert counts(workshop, MAIN, SECRET, secrets={"token": b"tell nobody"}) == (2, 0)
    assert workshop.seen.output() == "11\n"


def test_secret_that_came_with_a_request_stays_in_its_domain(workshop: Workshop) -> None:
    sent: dict[str, Any] = {"secrets": {"token": b"one"}, "own_secrets": frozenset({"token"})}
    assert first_builds(workshop, SECRET, BRANCH, BRANCH, OTHER_BRANCH, BY_ANN, MAIN, **sent) == [
        (2, 0), (0, 2), (2, 0), (2, 0), (2, 0),
    ]  # fmt: skip
    assert counts(workshop, of_branch("p", "d"), SECRET, **sent) == (0, 2)  # now it is in the protected lane
    assert counts(workshop, BRANCH, SECRET, secrets={"token": b"one"}) == (0, 2)  # its own, with the same value
    assert counts(workshop, BRANCH, SECRET, secrets={"token": b"two"}) == (2, 0)


CACHED: Final = (
    "FROM base\nRUN --mount=type=cache,target=/c cat /c/* > /seen 2>&1; cat /seen; echo {0} > /c/{0}\nRUN cat /seen\n"
)


def test_step_with_a_cache_mount_is_its_domain_s_and_the_protected_lane_s_for_all_of_the_project(
    workshop: Workshop,
) -> None:
    text = CACHED.format("x")
    assert first_builds(workshop, text, BRANCH, OTHER_BRANCH, MAIN) == [(2, 0)] * 3
    assert first_builds(workshop, text, BRANCH, MAIN, of_branch("p", "d"), BY_ANN) == [(0, 2)] * 4
    assert first_builds(workshop, text, FORK, OTHER, HOST) == [(2, 0)] * 3


def test_step_with_proxies_that_came_with_the_request_is_its_domain_s(workshop: Workshop) -> None:
    text = "FROM base\nRUN echo $http_proxy > /p\nRUN cat /p\n"
    good, bad = ({"build_args": {"HTTP_PROXY": f"http://{name}.test"}} for name in ("good", "bad"))
    assert counts(workshop, BRANCH, text, **bad) == (2, 0)
    assert first_builds(workshop, text, MAIN, OTHER_BRANCH, **bad) == [(2, 0), (0, 2)]
    assert first_builds(workshop, text, MAIN, MAIN, **good) == [(2, 0), (0, 2)]
    assert "bad" not in workshop.seen.output()
    assert counts(workshop, MAIN, text) == (2, 0)


def test_what_lies_on_something_private_stays_with_it(workshop: Workshop) -> None:
    """Though the layer above is the same, and its key as well, bit for bit."""
    text = "FROM base\nRUN --mount=type=secret,id=token true\nRUN echo above > /a\n"
    below = "FROM base\nRUN true\nRUN echo above > /a\n"
    counts(workshop, MAIN, text, secrets={"token": b"one"})
    assert counts(workshop, OTHER, below) == (2, 0)
    assert counts(workshop, BRANCH, text, secrets={"token": b"one"}) == (0, 2)


# Cache mounts


def left_in_the_mount(workshop: Workshop, domain: Domain, name: str, **options: Any) -> set[str]:
    """What a domain found in the mount that all call the same; it leaves ``name`` there."""
    counts(workshop, domain, CACHED.format(name), no_cache=True, **options)
    return {line for line in workshop.seen.output().split() if line.startswith("of-")}


def test_cache_mounts_are_apart_for_the_protected_lane_the_others_and_each_fork(workshop: Workshop) -> None:
    for name, domain in (("host", HOST), ("main", MAIN), ("branch", BRANCH), ("fork", FORK), ("q", OTHER)):
        assert left_in_the_mount(workshop, domain, f"of-{name}") == set(), domain
    assert left_in_the_mount(workshop, HOST, "of-host") == {"of-host"}
    assert left_in_the_mount(workshop, MAIN, "of-main") == {"of-main"}
    assert left_in_the_mount(workshop, BY_ANN, "of-ann") == {"of-branch"}
    assert left_in_the_mount(workshop, OTHER_BRANCH, "of-c") == {"of-branch", "of-ann"}
    assert left_in_the_mount(workshop, FORK, "of-fork") == {"of-fork"}
    assert left_in_the_mount(workshop, OTHER_FORK, "of-fork-8") == set()
    assert left_in_the_mount(workshop, of_user("q", "ann"), "of-q-ann") == set()


def test_cache_mount_that_the_administrator_shares_is_everybody_s_but_for_forks(workshop: Workshop) -> None:
    shared: dict[str, Any] = {"shared_cache_mounts": frozenset({"/c"})}
    assert left_in_the_mount(workshop, HOST, "of-host") == set()
    assert left_in_the_mount(workshop, BRANCH, "of-branch", **shared) == {"of-host"}
    assert left_in_the_mount(workshop, OTHER, "of-q", **shared) == {"of-host", "of-branch"}
    assert left_in_the_mount(workshop, FORK, "of-fork", **shared) == set()
    assert left_in_the_mount(workshop, MAIN, "of-main", **shared) == {"of-host", "of-branch", "of-q"}


# What tells


def reasons(workshop: Workshop, domain: Domain, text: str) -> str:
    counts(workshop, domain, text)
    told = (event.reason or "" for event in workshop.seen.events if isinstance(event, StepFinished))
    return "\n".join(told)


def test_why_a_step_ran_is_told_of_the_project_s_own_builds_only(workshop: Workshop) -> None:
    text = "FROM base\nCOPY . /\n"
    (workshop.context / "plans-for-the-merger").write_text("1")
    reasons(workshop, MAIN, text)
    (workshop.context / "plans-for-the-merger").write_text("2")
    (workshop.context / "another").write_text("2")
    for stranger in (OTHER, FORK):
        told = reasons(workshop, stranger, text)
        assert "plans" not in told, stranger
        assert "another" not in told, stranger
    (workshop.context / "another").write_text("3")
    told = reasons(workshop, BRANCH, text)
    assert "plans-for-the-merger" in told
    assert "another" in told


def test_why_of_another_dockerfile_s_like_step_is_told_of_the_project_s_own_only(workshop: Workshop) -> None:
    """A new project's first build, without a lineage, is compared with the latest record of a like step."""
    (workshop.context / "plans-for-the-merger").write_text("1")
    reasons(workshop, HOST, "FROM base\nCOPY . /\n")
    (workshop.context / "plans-for-the-merger").write_text("2")
    assert "plans" not in reasons(workshop, MAIN, "FROM base\nCOPY . /\n")


# What travels


@pytest.fixture
def make(tmp_path: Path, busybox_tar: Path) -> Iterator[Machines]:
    with machines(tmp_path, busybox_tar) as made:
        yield made


def test_what_was_imported_counts_for_who_imported_it_alone(make: Machines, tmp_path: Path) -> None:
    text = "FROM base\nRUN echo 1 > /1\nRUN cat /1\n"
    make("one").run(text, domain=BRANCH, cache_to=(f"type=local,dest={tmp_path}/branch,mode=max",))
    here, lane = make("two"), (f"type=local,src={tmp_path}/branch",)
    assert here.outcomes_of(text, domain=BRANCH, cache_from=lane) == (0, 2)
    assert here.outcomes_of(text, domain=BRANCH) == (0, 2)
    for other in (FORK, OTHER_FORK, MAIN):
        assert here.outcomes_of(text, domain=other) == (2, 0), other
    for other in (OTHER_BRANCH, OTHER, HOST):  # by what the protected lane has made now
        assert here.outcomes_of(text, domain=other) == (0, 2), other


def test_branch_believes_what_the_protected_lane_imported(make: Machines, tmp_path: Path) -> None:
    text = "FROM base\nRUN --mount=type=cache,target=/c echo 1 > /1\nRUN cat /1\n"
    place = f"type=local,dest={tmp_path}/main,mode=max"
    make("one").run(text, domain=MAIN, cache_to=(place,))
    here = make("two")
    assert here.outcomes_of(text, domain=MAIN, cache_from=(f"type=local,src={tmp_path}/main",)) == (0, 2)
    assert here.outcomes_of(text, domain=BRANCH) == (0, 2)
    assert here.outcomes_of(text, domain=OTHER) == (2, 0)


def test_what_goes_elsewhere_is_the_domain_s_the_project_s_and_what_is_common(make: Machines, tmp_path: Path) -> None:
    text = (
        "FROM base\nRUN echo 1 > /1\nRUN --mount=type=secret,id=t true\nRUN --mount=type=cache,target=/c echo 3 > /3\n"
    )
    options: dict[str, Any] = {"secrets": {"t": b"1234"}, "fingerprint": fingerprint}
    one = make("one")
    one.run(text, domain=MAIN, **options)
    place = f"{tmp_path}/branch"
    assert one.outcomes_of(text, domain=BRANCH, cache_to=(f"type=local,dest={place},mode=max",), **options) == (0, 3)
    elsewhere = make("two")
    source = (f"type=local,src={place}",)
    # The last step's record is the protected lane's, which has a cache of its own.
    assert elsewhere.outcomes_of(text, domain=BRANCH, cache_from=source, **options) == (1, 2)


def test_fork_s_cache_goes_nowhere_but_where_it_says(make: Machines, tmp_path: Path) -> None:
    text = "FROM base\nRUN echo 1 > /1\n"
    make("one").run(text, domain=FORK, cache_to=(f"type=local,dest={tmp_path}/fork,mode=max",))
    source = (f"type=local,src={tmp_path}/fork",)
    for number, other in enumerate((MAIN, BRANCH, HOST, OTHER_FORK)):
        assert make(f"other-{number}").outcomes_of(text, domain=other, cache_from=source) == (1, 0), other
    assert make("again").outcomes_of(text, domain=FORK, cache_from=source) == (0, 1)


def test_base_that_a_run_cannot_pull_is_told_with_who_names_what(workshop: Workshop, tmp_path: Path) -> None:
    """Not with what the registry's error advises: mostly the name is wrong, or the run has no right to it."""

    def connect() -> Client:
        return Client(ClientConfig(tmp_path, insecure=("127.0.0.1:1",)))

    told = {}
    for domain in (HOST, MAIN):
        workshop.store.act_for(domain)
        with pytest.raises(DockerfileError, match="pulling it failed: cannot connect") as caught:
            workshop.build("FROM 127.0.0.1:1/app\n", domain=domain, connect=connect)
        told[domain] = caught.value.hint or ""
    assert "shiplap image ls shows" in told[HOST]
    assert "may this run pull it? docs/trust.md" in told[MAIN]
