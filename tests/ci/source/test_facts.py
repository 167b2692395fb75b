"""What a commit says: facts, differences, pipeline files and directories, none of it evaluated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.directories import directories_of
from ci.document import MAX_BYTES
from ci.errors import CiError, RepositoryError
from ci.facts import FACTS
from ci.files import pipeline_files
from ci.source.facts import (
    describe,
    directories_of_tree,
    is_ancestor,
    merge_base,
    pipeline_files_of,
    read_commit,
)
from ci.source.mirror import Mirror
from tests.ci.source.repositories import Repository

pytestmark = pytest.mark.usefixtures("privileged")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path / "repository")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    with Mirror.open(tmp_path / "root", "p", "u") as mirror:
        yield mirror


def test_facts_are_those_that_jobs_know(repository: Repository, mirror: Mirror) -> None:
    first = repository.commit(a="1")
    mirror.fetch(*repository.way(), "main")
    assert describe(mirror.objects, read_commit(mirror.objects, first))["SHIPLAP_DESCRIBE"] == first[:7]
    repository.git("tag", "v1.2.0", first)
    commit = repository.commit("A title\n\nand more", a="2")
    mirror.fetch(*repository.way(), "main")
    facts = describe(mirror.objects, read_commit(mirror.objects, commit))
    assert facts == {
        "SHIPLAP_COMMIT": commit,
        "SHIPLAP_SHORT_COMMIT": commit[:12],
        "SHIPLAP_DESCRIBE": f"v1.2.0-1-g{commit[:7]}",
        "SHIPLAP_COMMITTED_AT": repository.git("log", "-1", "--format=%ct"),
        "SHIPLAP_TITLE": "A title",
        "SHIPLAP_AUTHOR": "a",
    }
    assert set(facts) <= set(FACTS)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("$(touch /tmp/x) `id` ${HOME} %s", "$(touch /tmp/x) `id` ${HOME} %s"),
        ("red \x1b[31m and \u202e back", "red  [31m and   back"),
        ("x" * 600, "x" * 499 + "…"),
        ("ü" * 500, "ü" * 500),
        ("", ""),
    ],
)
def test_what_people_write_stays_text(repository: Repository, mirror: Mirror, title: str, expected: str) -> None:
    repository.write(a="1")
    repository.git("add", "a")
    repository.git("-c", "user.name=x", "commit", "--quiet", "--allow-empty-message", "--cleanup=verbatim", "-m", title)
    commit = mirror.fetch(*repository.way(), "main").commit
    assert read_commit(mirror.objects, commit).title == expected


def test_bytes_that_are_no_utf_8_are_shown_as_such(repository: Repository, mirror: Mirror) -> None:
    message = repository.path.parent / "message"
    message.write_bytes(b"caf\xe9")
    repository.git("-c", "i18n.commitEncoding=ISO-8859-1", "commit", "--quiet", "--allow-empty", "-F", str(message))
    commit = mirror.fetch(*repository.way(), "main").commit
    assert read_commit(mirror.objects, commit).title == "café"


def test_a_commit_that_is_not_there_is_an_error(repository: Repository, mirror: Mirror) -> None:
    repository.commit(a="1")
    mirror.fetch(*repository.way(), "main")
    with pytest.raises(RepositoryError, match="has no commit"):
        read_commit(mirror.objects, "f" * 40)
    with pytest.raises(RepositoryError, match="has no commit"):
        read_commit(mirror.objects, "--help")


def test_what_changed_is_told_by_path(repository: Repository, mirror: Mirror) -> None:
    first = repository.commit(a="1", d__b="1", c="1")
    (repository.path / os.fsdecode(b"\xff\n x")).write_text("odd")
    os.rename(repository.path / "c", repository.path / "moved")
    second = repository.commit(d__b="2")
    mirror.fetch(*repository.way(), "main")
    expected = ("c", "d/b", "moved", os.fsdecode(b"\xff\n x"))
    assert mirror.objects.changed_paths(first, second) == expected
    assert mirror.objects.changed_paths(second, second) == ()


def test_the_last_common_commit_is_found(repository: Repository, mirror: Mirror) -> None:
    first = repository.commit(a="1")
    repository.git("checkout", "--quiet", "-b", "side")
    side = repository.commit(a="2")
    repository.git("checkout", "--quiet", "main")
    main = repository.commit(b="2")
    repository.git("checkout", "--quiet", "--orphan", "lone")
    lone = repository.commit(a="3")
    mirror.fetch(*repository.way(), "main", others=("side", "lone"))
    objects = mirror.objects
    assert merge_base(objects, main, side) == first
    assert merge_base(objects, main, lone) is None
    assert merge_base(objects, main, "f" * 40) is None
    assert [is_ancestor(objects, first, side), is_ancestor(objects, side, main), is_ancestor(objects, main, main)] == [
        True, False, True,
    ]  # fmt: skip


def test_pipeline_files_are_those_of_a_checkout(repository: Repository, mirror: Mirror) -> None:
    repository.commit(
        _DOT_shiplap__b_DOT_yml="b", _DOT_shiplap__a_DOT_yml="a", _DOT_shiplap__no_DOT_txt="x", other="x",
        _DOT_shiplap___DOT_hidden_DOT_yml="x", _DOT_shiplap__deep__c_DOT_yml="x",
    )  # fmt: skip
    tree = read_commit(mirror.objects, mirror.fetch(*repository.way(), "main").commit).tree
    assert pipeline_files_of(mirror.objects, tree) == {".shiplap/a.yml": b"a", ".shiplap/b.yml": b"b"}
    assert pipeline_files(repository.path) == [".shiplap/a.yml", ".shiplap/b.yml"]
    repository.commit(_DOT_shiplap_DOT_yml="both")
    tree = read_commit(mirror.objects, mirror.fetch(*repository.way(), "main").commit).tree
    with pytest.raises(CiError, match=r"there are both \.shiplap\.yml and \.shiplap/a\.yml"):
        pipeline_files_of(mirror.objects, tree)


def test_a_commit_without_pipelines_has_none_and_a_long_one_is_not_read_whole(
    repository: Repository, mirror: Mirror
) -> None:
    repository.commit(a="1")
    tree = read_commit(mirror.objects, mirror.fetch(*repository.way(), "main").commit).tree
    assert pipeline_files_of(mirror.objects, tree) == {}
    repository.commit(_DOT_shiplap_DOT_yml="x" * (MAX_BYTES * 8))
    tree = read_commit(mirror.objects, mirror.fetch(*repository.way(), "main").commit).tree
    assert [len(data) for data in pipeline_files_of(mirror.objects, tree).values()] == [MAX_BYTES + 1]


def test_a_pipeline_that_is_a_link_is_refused(repository: Repository, mirror: Mirror) -> None:
    (repository.path / ".shiplap.yml").symlink_to("/etc/passwd")
    repository.commit()
    tree = read_commit(mirror.objects, mirror.fetch(*repository.way(), "main").commit).tree
    with pytest.raises(RepositoryError, match=r"\.shiplap\.yml of the commit is no file"):
        pipeline_files_of(mirror.objects, tree)


@pytest.mark.parametrize("pattern", ["services/*", "services/**", "*", "**/deep", "services/a", "none/*"])
def test_directories_are_those_of_a_checkout(repository: Repository, mirror: Mirror, pattern: str) -> None:
    repository.commit(services__a__x="1", services__b__deep__x="1", services__file="1", other__x="1")
    (repository.path / "services" / "link").symlink_to("a")
    repository.commit()
    tree = read_commit(mirror.objects, mirror.fetch(*repository.way(), "main").commit).tree
    found = directories_of_tree(mirror.objects, tree, pattern)
    assert found == directories_of(repository.path, pattern)
    assert (found == ()) == (pattern == "none/*")
