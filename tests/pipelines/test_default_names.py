"""What images are called unless somebody chose otherwise: whose a tag is, and that nothing ever moves back."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import select
from sqlalchemy.engine import Connection

from core.references import Reference
from pipelines.errors import StaleAttemptError
from pipelines.keeping.retention import sweep
from pipelines.model import Claim, ContextSource, Project, RunRequest, RunResult
from pipelines.projects.defaultnames import (
    Origin,
    Wanted,
    all_names,
    behind_branch,
    branch_tag,
    default_tags,
    may_replace,
)
from pipelines.projects.tags import TagFacts
from pipelines.runs.naming import Taken
from pipelines.schema import image_tags
from pipelines.service import Service

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tags(origin: Origin) -> list[str]:
    return [each.tag for each in default_tags(origin)]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (Origin(), []),
        (Origin("main", is_default=True, commit=COMMIT), ["main", "latest", "sha-0123456789ab"]),
        (Origin("topic", commit=COMMIT), ["topic", "sha-0123456789ab"]),
        (Origin(tag="v1.2.3"), ["1.2.3", "1.2", "1"]),
        (Origin(tag="1.2.3"), ["1.2.3", "1.2", "1"]),
        (Origin(tag="v1.2.3-rc.1"), ["1.2.3-rc.1"]),
        (Origin(tag="nightly"), []),
        (Origin(tag="v1.2.3+build"), []),
        (Origin(tag="v01.2.3"), []),
        (Origin(tag="v1.2.3\n"), []),
        (Origin(pull_request=7, commit=COMMIT), ["pr-7", "sha-0123456789ab"]),
    ],
)
def test_what_an_image_is_called_after(origin: Origin, expected: list[str]) -> None:
    assert tags(origin) == expected


@pytest.mark.parametrize(
    "branch",
    [
        "latest", "LATEST", "1.2", "1", "1.2.3-rc.1", "v/1.2", "pr-7", "run-7", "sha-0123456789ab", "feature/x", "-",
        "é", "feature-x-0123abc", "a" * 300,
    ],
)  # fmt: skip
def test_branch_that_looks_like_another_name_gets_digits(branch: str) -> None:
    tag = branch_tag(branch)
    assert tag != branch
    assert tag.rpartition("-")[2].isalnum()
    assert not tag[0].isdigit()
    assert branch_tag(tag) != tag  # who calls a branch so does not get it
    assert all_names("{defaults}", TagFacts("app", 7, "ci:5000"), Origin(branch))[1].tag == tag


def test_branches_never_share_a_name() -> None:
    branches = ["feature/x", "feature-x", "feature x", "feature+x", "/feature-x"]
    assert len({branch_tag(branch) for branch in branches}) == len(branches)
    assert branch_tag("feature-x") == "feature-x"


@pytest.mark.parametrize(
    ("wanted", "run", "held", "holder", "may"),
    [
        ("branch main", 5, "branch main", 4, True),
        ("branch main", 4, "branch main", 5, False),
        ("branch a", 9, "branch b", 1, False),
        ("version 1.1.9", 9, "version 1.2.0", 1, False),
        ("version 1.10.0", 1, "version 1.9.0", 9, True),
        ("version 1.2", 1, "version 1.1.9", 9, True),
        ("version 1.2.0", 1, "version 1.2.0", 9, False),
        ("pre-release 1.2.0-rc.1", 9, "version 1.2.0", 1, False),
        ("commit ab", 9, "commit cd", 1, False),
    ],
)
def test_nothing_moves_back(wanted: str, run: int, held: str, holder: int, may: bool) -> None:
    assert may_replace(wanted, run, held, holder) is may


def claims(service: Service, count: int, project: str = "app") -> list[Claim]:
    """Of runs that all go at the same time, oldest first."""
    for _ in range(count):
        service.runs.submit(RunRequest(ContextSource(service.contexts.begin([])[0]), project))
    taken = [service.claims.take("w", ()) for _ in range(count)]
    return [claim for claim in taken if claim is not None]


def end(service: Service, claim: Claim) -> None:
    def store_nothing(connection: Connection) -> None:
        del connection

    service.claims.finish(claim, "succeeded", "", RunResult(), store=store_nothing)


MAIN = (Wanted("main", "branch main"), Wanted("latest", "default"))


def test_older_run_that_ends_later_leaves_the_newer_one_s_names(service: Service) -> None:
    older, newer = claims(service, 2)
    assert service.naming.take(newer, MAIN) == Taken(("main", "latest"), ())
    assert service.naming.take(newer, MAIN) == Taken(("main", "latest"), ())
    end(service, newer)
    assert service.naming.take(older, MAIN) == Taken((), (("main", newer.run.number), ("latest", newer.run.number)))


def test_newer_run_waits_until_the_older_one_has_pushed(service: Service) -> None:
    older, newer = claims(service, 2)
    assert service.naming.take(older, MAIN) == Taken(("main", "latest"), ())
    assert service.naming.take(newer, MAIN) is None
    end(service, older)
    assert service.naming.take(newer, MAIN) == Taken(("main", "latest"), ())


def test_attempt_that_was_given_up_holds_nobody_and_takes_nothing(service: Service) -> None:
    older, newer = claims(service, 2)
    service.naming.take(older, MAIN)
    service.claims.release(older.number, older.attempt, "as if its worker had died")
    with pytest.raises(StaleAttemptError):
        service.naming.take(older, MAIN)
    assert service.naming.take(newer, MAIN) == Taken(("main", "latest"), ())


def test_older_version_takes_what_no_newer_one_has(service: Service) -> None:
    newer, older = claims(service, 2)
    assert service.naming.take(newer, default_tags(Origin(tag="v101.2.0"))) == Taken(("101.2.0", "101.2", "101"), ())
    end(service, newer)
    assert service.naming.take(older, default_tags(Origin(tag="v101.1.9"))) == Taken(
        ("101.1.9", "101.1"), (("101", newer.run.number),)
    )


def test_version_and_number_never_share_a_name(service: Service) -> None:
    first, second = claims(service, 2)
    version = (Wanted(str(second.run.number), f"version {second.run.number}"),)
    assert service.naming.take(first, version) == Taken((), ((str(second.run.number), second.run.number),))
    end(service, second)
    assert service.naming.number_tag("app", second.run.number) == str(second.run.number)
    assert service.naming.take(first, version) == Taken((str(second.run.number),), ())
    assert service.naming.number_tag("app", second.run.number) == f"run-{second.run.number}"
    assert service.naming.number_tag("other", second.run.number) == str(second.run.number)


def test_projects_have_names_of_their_own_and_lose_them_when_removed(service: Service) -> None:
    (ours,), (theirs,) = claims(service, 1), claims(service, 1, "other")
    assert service.naming.take(theirs, MAIN) == Taken(("main", "latest"), ())
    assert service.naming.take(ours, MAIN) == Taken(("main", "latest"), ())
    end(service, theirs)
    service.projects.remove("other")
    (again,) = claims(service, 1, "other")
    assert service.naming.take(again, MAIN) == Taken(("main", "latest"), ())


def test_names_of_single_commits_are_remembered_of_the_newest_alone(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.runs.naming.KEPT_COMMITS", 2)
    commits = [f"{number:040x}" for number in range(1, 6)]
    mine, theirs = claims(service, 4), claims(service, 1, "other")
    for claim, commit in zip((*mine, *theirs), commits, strict=True):
        service.naming.take(claim, default_tags(Origin(f"b{commit[-1]}", commit=commit)))
        end(service, claim)
    sweep(service, time.time())
    with service.database.read() as connection:
        left = connection.execute(select(image_tags.c.project, image_tags.c.tag)).all()
    of_app = {f"b{number}" for number in range(1, 5)} | {f"sha-{commits[number][:12]}" for number in (2, 3)}
    assert {tuple(row) for row in left} == {
        *(("app", tag) for tag in of_app), ("other", "b5"), ("other", f"sha-{commits[4][:12]}"),
    }  # fmt: skip


def test_new_projects_have_the_default_names_and_old_ones_keep_theirs(service: Service) -> None:
    service.projects.put(Project("old", tag_template="{registry}/{project}:{number}"))
    service.projects.put(Project("new"))
    facts, origin = TagFacts("app", 7, "ci:5000"), Origin("main", is_default=True)
    names = [
        [name.familiar for name in all_names(service.projects.get(project).tag_template, facts, origin)]
        for project in ("old", "new")
    ]
    assert names == [["ci:5000/app:7"], ["ci:5000/app:7", "ci:5000/app:main", "ci:5000/app:latest"]]
    assert all_names("{defaults}", TagFacts("app", 7), origin) == ()


@pytest.mark.parametrize(
    ("branch", "tag", "name"),
    [
        ("topic", "1.0", "topic-23d611a-1.0"), ("feature/x", "latest", "feature-x-217d2bf-latest"),
        ("_x", "1", "x-a01e47c-1"), ("/", "1", "8a5edab-1"), ("b" * 300, "1", "b" * 40 + "-dccc145-1"),
    ],
)  # fmt: skip
def test_tag_of_a_file_stands_behind_its_branch(branch: str, tag: str, name: str) -> None:
    assert behind_branch(branch, tag) == name
    assert Reference.parse(f"app:{name}").tag == name


@pytest.mark.parametrize(
    ("branch", "tag", "protected"),
    [
        ("sha", "0123456789ab", "sha-0123456789ab"), ("pr", "7", "pr-7"), ("run", "12", "run-12"),
        ("1", "2", "1-2"), ("release", "1.0", "release-1.0"), ("main", "1", "main-1"),
    ],
)  # fmt: skip
def test_no_branch_can_take_a_name_of_the_protected_one(branch: str, tag: str, protected: str) -> None:
    assert f"{branch}-{tag}" == protected, "what it would be without the digits"
    assert behind_branch(branch, tag) != protected
