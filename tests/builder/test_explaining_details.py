"""What is remembered of a step, and how two of them differ, without a build: members, variables, files, words."""

from __future__ import annotations

import pytest

from builder.copying.listings import Listing
from builder.explaining import details, files, words
from builder.explaining.details import StepDetail
from builder.explaining.lineage import matching
from builder.graph.copyspec import CopySpec
from builder.graph.vertices import CopyOp, CopyPart, RunFile, RunOp, WorkdirOp
from core.events import MissReason


def run(*args: str, **changes: object) -> RunOp:
    return RunOp(**{"args": args or ("/bin/sh", "-c", "make it"), "env": (), "cwd": "/", "user": "", **changes})  # type: ignore[arg-type]


def test_members_of_a_run() -> None:
    op = run(
        env=(("A", "1"), ("B", "2"), ("API_TOKEN", "x")), arg_names=frozenset({"B"}), user="u", cwd="/w",
        network="none", insecure=True, hostname="h", extra_hosts=(("a", "1.2.3.4"), ("b", "::1")),
        files=(RunFile("/s", b"text\xff", 0o755),),
    )  # fmt: skip
    members = details.members_of(op)
    hidden = members.pop("env API_TOKEN")
    assert hidden.startswith("hidden, sha256 ")
    assert len(hidden) == len("hidden, sha256 ") + 8
    assert hidden == details.hidden("x") != details.hidden("y")
    assert members == {
        "shell": "/bin/sh -c", "command": "make it", "user": "u", "working directory": "/w", "network": "none",
        "security": "insecure", "host name": "h", "hosts": "a:1.2.3.4, b:::1", "env A": "1", "arg B": "2",
        "script /s": "text\ufffd",
    }  # fmt: skip
    assert details.members_of(run())["security"] == "sandbox"
    assert details.members_of(run("one"))["shell"] == ""
    empty = RunOp((), (), "/", "")
    assert (details.members_of(empty)["command"], details.members_of(empty)["shell"]) == ("", "")


def copied(*sources: str, chown: str = "") -> CopySpec:
    return CopySpec(sources, "/t", chown)


def test_members_of_a_copy_are_numbered_where_there_are_several_parts() -> None:
    one = details.members_of(CopyOp.of(copied("a", "b")))
    assert one["sources"] == "a b"
    assert not [name for name in one if name.endswith(")")]
    assert "SOURCE_DATE_EPOCH" not in one
    two = details.members_of(CopyOp((CopyPart(copied("a")), CopyPart(copied("b"))), timestamp=0))
    assert (two["sources (1)"], two["sources (2)"], two["SOURCE_DATE_EPOCH"]) == ("a", "b", "0")


def test_who_names_an_owner() -> None:
    for chown in ("app", "1:app", "app:1"):
        assert details.may_name_owner(CopyOp.of(copied("a", chown=chown)))
    for chown in ("", "1", "1:2", "1:"):
        assert not details.may_name_owner(CopyOp.of(copied("a", chown=chown)))
    assert not details.may_name_owner(run(user="app"))
    assert details.may_name_owner(WorkdirOp("/w", user="app"))
    assert not details.may_name_owner(WorkdirOp("/w", user="7"))


def test_texts_that_cannot_be_encoded_and_facts() -> None:
    assert details.encodable("é") == "é"
    assert details.encodable("a\udcff") == "a\\udcff"
    assert details.facts_of([("secret", "npm", "0123456789")]) == {"secret npm": "01234567"}


def detail(text: str, **members: str) -> StepDetail:
    return StepDetail(
        "op", text, {name.replace("_", " "): value for name, value in members.items()}, "", ("", ""), "", (), ""
    )


@pytest.mark.parametrize(
    ("before", "now", "changes"),
    [
        ({"env A": "1"}, {"env A": "2"}, [MissReason("env", "A", "1", "2")]),
        ({}, {"arg A": "2"}, [MissReason("arg", "A", None, "2")]),
        ({"env A": "1"}, {}, [MissReason("env", "A", "1", None)]),
        ({"env A": "1"}, {"arg A": "1"}, []),
        ({"env A": "1"}, {"arg A": "2"}, [MissReason("arg", "A", "1", "2")]),
        ({"arg A": "1"}, {"env A": "2"}, [MissReason("env", "A", "1", "2")]),
        ({"command": "a"}, {"command": "b"}, [MissReason("instruction", "", "a", "b")]),
        ({"user": "a"}, {"user": "b"}, [MissReason("option", "user", "a", "b")]),
        (
            {"env A": "1", "user": "a"},
            {"env A": "2", "user": "b"},
            [MissReason("option", "user", "a", "b"), MissReason("env", "A", "1", "2")],
        ),
        (
            {"env A": "hidden, sha256 1"},
            {"env A": "hidden, sha256 2"},
            [MissReason("env", "A", "(hidden)", "(hidden)")],
        ),
        ({}, {"env A": "hidden, sha256 2"}, [MissReason("env", "A", None, "(hidden)")]),
        ({"env A": "hidden, sha256 1"}, {}, [MissReason("env", "A", "(hidden)", None)]),
        ({"a": "1"}, {"a": "1"}, []),
    ],
)
def test_changes_of_members(before: dict[str, str], now: dict[str, str], changes: list[MissReason]) -> None:
    assert details.member_changes(before, now) == changes


def test_changes_of_an_operation_begin_with_the_instruction() -> None:
    old, new = detail("RUN a", command="a", env_A="1"), detail("RUN b", command="b", env_A="2")
    assert details.operation_changes(old, new) == [
        MissReason("instruction", "", "RUN a", "RUN b"), MissReason("env", "A", "1", "2"),
    ]  # fmt: skip
    # A text that shows a variable's value changes with it: the variable alone is told.
    assert details.operation_changes(detail("RUN 1", env_A="1"), detail("RUN 2", env_A="2")) == [
        MissReason("env", "A", "1", "2")
    ]
    same = details.operation_changes(detail("RUN a", user="x"), detail("RUN a", user="y"))
    assert same == [MissReason("option", "user", "x", "y")]


def listing(*entries: tuple[str, str, str, str, str], source: str = "/src", is_file: bool = False) -> Listing:
    """entries: path, mode and owner, what it is, extended attributes; with an empty field in front."""
    fields = ["source", "0", "name" if is_file else ""]
    for entry in entries:
        fields += entry
    return Listing((source.encode(),), ("\0".join(fields) + "\0").encode())


def entry(path: str, mode: str = "100644", owner: str = "0:0", what: str = "x", xattrs: str = "") -> tuple[str, ...]:
    return ("file", path, f"{mode} {owner}", what, xattrs)


def differences(old: list[tuple[str, ...]], new: list[tuple[str, ...]]) -> list[MissReason]:
    return files.file_changes([listing(*old)], [listing(*new)])  # type: ignore[arg-type]


def test_differences_of_files() -> None:
    assert differences([entry("a")], [entry("a")]) == []
    assert differences([], [entry("a")]) == [MissReason("added", "/src/a")]
    assert differences([entry("a")], []) == [MissReason("removed", "/src/a")]
    assert differences([entry("a")], [entry("a", what="y")]) == [MissReason("changed", "/src/a")]
    assert differences([entry("a")], [entry("a", xattrs="y")]) == [MissReason("changed", "/src/a")]
    assert differences([entry("a")], [entry("a", mode="120777")]) == [MissReason("changed", "/src/a")]
    assert differences([entry("a")], [entry("a", mode="100755")]) == [MissReason("mode", "/src/a", "0644", "0755")]
    assert differences([entry("a", mode="40755")], [entry("a", mode="40700")]) == [
        MissReason("mode", "/src/a", "0755", "0700")
    ]
    assert differences([entry("a")], [entry("a", owner="1:2")]) == [MissReason("owner", "/src/a", "0:0", "1:2")]
    assert differences([entry("a")], [entry("a", owner="1:2", what="y", mode="100600")]) == [
        MissReason("changed", "/src/a"), MissReason("mode", "/src/a", "0644", "0600"),
        MissReason("owner", "/src/a", "0:0", "1:2"),
    ]  # fmt: skip
    assert [change.name for change in differences([], [entry("b"), entry("a")])] == ["/src/a", "/src/b"]


def test_many_differences_are_counted() -> None:
    hundred = [entry(f"{number:03}") for number in range(100)]
    assert differences([], hundred)[-1] == MissReason("added", "/src/099")
    more = differences([], [*hundred, entry("100"), entry("101")])
    assert (len(more), more[-1]) == (101, MissReason("changed", "and 2 more"))


def test_instructions_are_matched_with_those_before() -> None:
    old = [detail(text) for text in ("RUN a", "RUN b", "COPY x /")]
    assert matching(old, ["RUN a", "RUN b", "COPY x /"]) == old
    assert matching(old, ["RUN a", "RUN c", "COPY x /"]) == old
    assert matching(old, ["RUN a", "COPY y /", "COPY x /"]) == [old[0], None, old[2]]
    assert matching(old, ["RUN a", "RUN n", "RUN b", "COPY x /"]) == [old[0], None, old[1], old[2]]
    assert matching(old, ["run b"]) in ([old[1]], [None])
    assert matching([], ["RUN a"]) == [None]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (MissReason("no-cache"), "the cache was not asked"),
        (MissReason("never-built"), "not built before"),
        (MissReason("never-succeeded"), "it has not succeeded before"),
        (MissReason("version"), "another version of Shiplap"),
        (MissReason("evicted"), "its result is no longer in the cache"),
        (
            MissReason("audience", "", "everybody", "the project"),
            "for whom its result counts has changed: everybody → the project",
        ),
        (MissReason("instruction", "", "RUN a", "RUN b"), "changed: RUN a → RUN b"),
        (MissReason("env", "A", None, "1"), 'ENV A changed: not set → "1"'),
        (MissReason("option", "user", "a", "b"), 'user changed: "a" → "b"'),
        (MissReason("arg", "A", "x" * 60, "x" * 61), f'ARG A changed: "{"x" * 60}" → "{"x" * 60}…"'),
        (MissReason("mode", "/a", "0644", "0755"), "mode of /a changed: 0644 → 0755"),
        (
            MissReason("base", "debian", "sha256:" + "0123456789abcdef", None),
            "the base debian changed: 0123456789ab → none",
        ),
        (MissReason("base", "the image of ci", "sha256:1", "sha256:2"), "the image of ci changed: 1 → 2"),
        (MissReason("parent", "[2/3] RUN a"), "[2/3] RUN a gave another result"),
        (MissReason("source", "x"), "x changed"),
    ],
)
def test_changes_in_words(change: MissReason, text: str) -> None:
    assert words.describe(change) == text


def test_three_files_are_named_and_the_others_counted() -> None:
    changes = [MissReason("changed", f"/{name}") for name in "abc"]
    assert words.in_words(changes) == "/a changed, /b changed, /c changed"
    assert words.in_words([*changes, MissReason("added", "/d")]) == "/a changed, /b changed, /c changed, and 1 more"
    assert words.in_words([MissReason("env", "A", "1", "2"), *changes[:1]]) == 'ENV A changed: "1" → "2"; /a changed'
    assert words.in_words([MissReason("no-cache")]) == "the cache was not asked"
    assert words.in_words([MissReason("changed", "and 7 more")]) == "and 7 more"
