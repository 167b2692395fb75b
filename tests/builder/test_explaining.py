"""Why a step ran: one thing is changed, and that thing, with what it was and is, is what the step tells."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.copying.listings import Listing, pack, unpack
from builder.explaining import files
from builder.explaining.details import StepDetail
from builder.explaining.files import MOST_CHANGES, file_changes
from builder.explaining.lineage import matching
from builder.explaining.why import Explainer, StepAnswer
from builder.explaining.words import in_words
from builder.graph.vertices import Vertex
from builder.request.request import Output
from core.events import BuildPlanned, MissReason, StepFinished
from core.references import Reference
from tests.builder.test_build import Workshop
from tests.toolkit.service import eventually

pytestmark = pytest.mark.usefixtures("privileged")

TEXT = """\
FROM base AS build
ARG VERSION=1
ENV MODE=fast
RUN echo tools > /tools
COPY src /src
RUN cat /src/a /src/b > /out
FROM base
WORKDIR /app
COPY --from=build /out out
RUN cat out > copy
"""


@pytest.fixture
def workshop(tmp_path: Path, busybox_tar: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path / "root", tmp_path / "context", busybox_tar)
    source = made.context / "src"
    source.mkdir()
    for name in ("a", "b"):
        (source / name).write_text(name)
    yield made
    made.close()


def told(workshop: Workshop) -> dict[str, tuple[MissReason, ...]]:
    """By the instruction of each step that ran, why it did."""
    names = {s.id: s.name for event in workshop.seen.events if isinstance(event, BuildPlanned) for s in event.steps}
    return {
        names[event.id].partition("] ")[2]: event.changes
        for event in workshop.seen.events
        if isinstance(event, StepFinished) and event.changes
    }


def first_reason(workshop: Workshop, text: str, **options: Any) -> tuple[str, tuple[MissReason, ...]]:
    """The first step, in the order of the Dockerfile, that ran, and why."""
    workshop.build(text, **options)
    return next(iter(told(workshop).items()))


def test_first_build_has_never_been_built(workshop: Workshop) -> None:
    workshop.build(TEXT)
    assert set(told(workshop).values()) == {(MissReason("never-built"),)}
    workshop.build(TEXT)
    assert told(workshop) == {}


def test_changed_command_is_told_and_what_follows_names_it(workshop: Workshop) -> None:
    workshop.build(TEXT)
    workshop.build(TEXT.replace("echo tools >", "echo better tools >"))
    changes = told(workshop)
    assert changes["RUN echo better tools > /tools"] == (
        MissReason("instruction", "", "RUN echo tools > /tools", "RUN echo better tools > /tools"),
    )
    assert changes["COPY src /src"] == (MissReason("parent", "[build 2/4] RUN echo better tools > /tools"),)
    # Which of the two before it is named depends on whether /src was made in the same second as the last time.
    assert [change.kind for change in changes["RUN cat /src/a /src/b > /out"]] == ["parent"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ENV MODE=fast", "ENV MODE=slow", MissReason("env", "MODE", "fast", "slow")),
        ("ENV MODE=fast", "ENV MODE=fast MORE=1", MissReason("env", "MORE", None, "1")),
        ("ENV MODE=fast\n", "", MissReason("env", "MODE", "fast", None)),
        ("ARG VERSION=1", "ARG VERSION=2", MissReason("arg", "VERSION", "1", "2")),
        ("ARG VERSION=1", "ARG VERSION=1 EXTRA", None),
        ("RUN echo", "USER 1\nRUN echo", MissReason("option", "user", "", "1")),
        (
            "RUN echo",
            'SHELL ["/bin/sh", "-e", "-c"]\nRUN echo',
            MissReason("option", "shell", "/bin/sh -c", "/bin/sh -e -c"),
        ),
        ("ENV MODE=fast", "ENV API_TOKEN=one MODE=fast", MissReason("env", "API_TOKEN", None, "(hidden)")),
    ],
)
def test_variables_and_settings_are_told_by_name(
    workshop: Workshop, old: str, new: str, expected: MissReason | None
) -> None:
    text = "FROM base\nARG VERSION=1\nENV MODE=fast\nRUN echo x\n"
    workshop.build(text)
    workshop.build(text.replace(old, new))
    assert told(workshop) == ({} if expected is None else {"RUN echo x": (expected,)})


def test_build_argument_is_told_with_both_values(workshop: Workshop) -> None:
    workshop.build(TEXT)
    workshop.build(TEXT, build_args={"VERSION": "7"})
    assert told(workshop)["RUN echo tools > /tools"] == (MissReason("arg", "VERSION", "1", "7"),)
    assert "the cache" not in in_words(told(workshop)["RUN echo tools > /tools"])
    assert in_words((MissReason("arg", "VERSION", "1", "7"),)) == 'ARG VERSION changed: "1" → "7"'


def test_value_that_is_probably_secret_is_never_kept(workshop: Workshop) -> None:
    text = "FROM base\nARG DB_PASSWORD\nRUN true\n"
    workshop.build(text, build_args={"DB_PASSWORD": "hunter2-first"})
    workshop.build(text, build_args={"DB_PASSWORD": "hunter2-second"})
    assert told(workshop) == {"RUN true": (MissReason("arg", "DB_PASSWORD", "(hidden)", "(hidden)"),)}
    workshop.store.database.all("PRAGMA wal_checkpoint(TRUNCATE)")
    assert b"hunter2" not in (workshop.store.root / "store.db").read_bytes()


def test_secret_that_is_missing_now_is_told_and_no_value_of_it(workshop: Workshop) -> None:
    text = "FROM base\nRUN --mount=type=secret,id=token true\n"
    proxy = {"HTTP_PROXY": "http://hunter3"}
    workshop.build(text, secrets={"token": b"hunter2"})
    step, changes = first_reason(workshop, text)
    assert step.startswith("RUN")
    assert changes == (MissReason("option", "secret token", "given", "missing"),)
    _, changes = first_reason(workshop, text, secrets={"token": b"hunter2"}, build_args=proxy)
    assert "hunter" not in repr(changes)
    assert {change.name for change in changes} >= {"proxies"}


def test_files_of_the_context_are_named(workshop: Workshop) -> None:
    workshop.build(TEXT)
    source = workshop.context / "src"
    (source / "a").write_text("other")
    (source / "b").unlink()
    (source / "new").write_text("n")
    step, changes = first_reason(workshop, TEXT.replace("/src/b", "/src/new").replace("cat", "cat", 1))
    assert step == "COPY src /src"
    assert changes == (MissReason("changed", "src/a"), MissReason("removed", "src/b"), MissReason("added", "src/new"))


def test_mode_of_a_file_is_told(workshop: Workshop) -> None:
    workshop.build(TEXT)
    os.chmod(workshop.context / "src" / "b", 0o755)
    assert first_reason(workshop, TEXT) == ("COPY src /src", (MissReason("mode", "src/b", "0644", "0755"),))


def test_touched_and_ignored_files_are_no_reason(workshop: Workshop) -> None:
    workshop.build(TEXT)
    os.utime(workshop.context / "src" / "a", (1, 1))
    (workshop.context / "unused").write_text("x")
    workshop.build(TEXT)
    assert told(workshop) == {}


def test_files_of_another_stage_are_named(workshop: Workshop) -> None:
    workshop.build(TEXT)
    (workshop.context / "src" / "a").write_text("other")
    workshop.build(TEXT)
    assert told(workshop)["COPY --from=build /out out"] == (MissReason("changed", "out"),)


def test_another_base_is_told_with_its_ids(workshop: Workshop) -> None:
    text = "FROM moving\nRUN echo x > /x\nRUN echo y > /y\n"
    one = workshop.build("FROM base\nLABEL v=1\n", outputs=(named("moving"),)).config_digest
    two = "FROM base\nRUN echo more > /more\n"
    workshop.build(text)
    other = workshop.build(two, outputs=(named("moving"),)).config_digest
    workshop.build(text)
    assert told(workshop)["RUN echo x > /x"] == (MissReason("base", "moving", one, other),)
    assert told(workshop)["RUN echo y > /y"] == (MissReason("parent", "[2/3] RUN echo x > /x"),)


def named(name: str) -> Output:
    return Output("image", "", (Reference.parse(name).with_default_tag(),))


def test_inserted_instruction_is_new_and_the_next_names_it(workshop: Workshop) -> None:
    text = "FROM base\nRUN echo a > /a\nRUN echo b > /b\n"
    workshop.build(text)
    workshop.build(text.replace("RUN echo b", "RUN echo between > /m\nRUN echo b"))
    assert told(workshop) == {
        "RUN echo between > /m": (MissReason("never-built"),),
        "RUN echo b > /b": (MissReason("parent", "[3/4] RUN echo between > /m"),),
    }


def test_result_that_was_pruned_is_said_to_be_gone(workshop: Workshop) -> None:
    workshop.build(TEXT)
    workshop.store.database.all("DELETE FROM leases")  # as if the build had ended long ago
    workshop.store.cache_use.remove([item for item in workshop.store.cache_use.items() if "tools" in item.description])
    workshop.build(TEXT)
    assert told(workshop)["RUN echo tools > /tools"] == (MissReason("evicted"),)


def test_no_cache_is_a_reason_of_its_own(workshop: Workshop) -> None:
    workshop.build(TEXT)
    workshop.build(TEXT, no_cache_stages=("build",))
    assert told(workshop)["COPY src /src"] == (MissReason("no-cache"),)
    workshop.build(TEXT, no_cache=True)
    assert set(told(workshop).values()) == {(MissReason("no-cache"),)}


def test_cached_builds_are_what_later_ones_are_compared_with(workshop: Workshop) -> None:
    text = "FROM base\nENV V={}\nRUN true\n"
    for version in ("1", "2", "1"):
        workshop.build(text.format(version))
    assert told(workshop) == {}
    workshop.build(text.format("3"))
    assert told(workshop) == {"RUN true": (MissReason("env", "V", "1", "3"),)}


def test_checkout_elsewhere_is_compared_by_its_steps(workshop: Workshop, tmp_path: Path) -> None:
    text = "FROM base\nARG V=1\nRUN echo compiled\n"
    workshop.build(text)
    workshop.context = tmp_path / "second-checkout"
    workshop.context.mkdir()
    workshop.build(text, build_args={"V": "2"})
    assert told(workshop) == {"RUN echo compiled": (MissReason("arg", "V", "1", "2"),)}


def test_record_that_the_step_itself_has_left_meanwhile_is_no_earlier_build(
    workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = Explainer.changes

    def when_recorded(explainer: Explainer, vertex: Vertex, outcome: StepAnswer) -> tuple[MissReason, ...]:
        eventually(
            lambda: workshop.store.cache.latest_for(op=outcome.op, before=math.inf) is not None, why="it is recorded"
        )
        return ask(explainer, vertex, outcome)

    monkeypatch.setattr(Explainer, "changes", when_recorded)
    test_checkout_elsewhere_is_compared_by_its_steps(workshop, tmp_path)


def test_lineage_that_is_given_beats_the_directory(workshop: Workshop, tmp_path: Path) -> None:
    workshop.build(TEXT, lineage="project/app")
    other = tmp_path / "second-checkout"
    (other / "src").mkdir(parents=True)
    for name in ("a", "b"):
        (other / "src" / name).write_text(name.upper())
    workshop.context = other
    step, changes = first_reason(workshop, TEXT, lineage="project/app")
    assert (step, changes) == ("COPY src /src", (MissReason("changed", "src/a"), MissReason("changed", "src/b")))


# One change after another


class Versions:
    """A project that changes one thing at a time, and knows which step has to tell what."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.salt = os.urandom(8).hex()  # so that no other version of the project is in the cache
        self.values = {"env": "e0", "arg": "a0", "user": "0", "command": "echo c0"}
        self.files = {"one": ("1", 0o644), "two": ("2", 0o644)}
        self.write()

    def text(self) -> str:
        return (
            f"FROM base\nRUN echo {self.salt} > /salt\n"
            f"ARG A={self.values['arg']}\nENV E={self.values['env']}\nRUN {self.values['command']}\n"
            f"COPY files /files/\nUSER {self.values['user']}\nRUN cat /files/* >/dev/null\n"
        )

    def write(self) -> None:
        target = self.directory / "files"
        target.mkdir(exist_ok=True)
        for path in target.iterdir():
            path.unlink()
        for name, (content, mode) in self.files.items():
            (target / name).write_text(content)
            (target / name).chmod(mode)

    def change(self, what: str, number: int) -> tuple[str, MissReason]:
        """Change one thing; returns the beginning of the instruction that is to tell it, and what."""
        run, old = f"RUN {self.values['command']}", self.values.get(what, "")
        if what in ("env", "arg"):
            self.values[what] = f"{what}{number}"
            return run, MissReason(what, what[0].upper(), old, self.values[what])
        if what == "command":
            self.values[what] = f"echo c{number}"
            return f"RUN echo c{number}", MissReason("instruction", "", f"RUN {old}", f"RUN echo c{number}")
        if what == "user":
            self.values[what] = str(number)
            return "RUN cat", MissReason("option", "user", old, str(number))
        name = f"extra{number}" if what == "added" else min(self.files)
        content, mode = self.files.get(name, ("", 0o644))
        if what == "removed":
            del self.files[name]
        elif what == "mode":
            self.files[name] = (content, 0o600 | number)
        else:
            self.files[name] = (f"content {number}", mode)
        self.write()
        modes = (f"{mode:04o}", f"{0o600 | number:04o}") if what == "mode" else (None, None)
        return "COPY files", MissReason(what, f"files/{name}", *modes)


_CHANGES = ["env", "arg", "command", "user", "added", "changed", "mode", "removed"]


@given(whats=st.lists(st.sampled_from(_CHANGES), min_size=5, max_size=6))
@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_each_change_is_told_by_the_first_step_that_it_concerns(workshop: Workshop, whats: list[str]) -> None:
    versions = Versions(workshop.context)
    workshop.build(versions.text())
    copied = [dict(versions.files)]
    for number, what in enumerate(whats, 1):
        if what == "removed" and len(versions.files) < 2:
            continue
        instruction, change = versions.change(what, number)
        workshop.build(versions.text())
        if what in ("removed", "added") and versions.files in copied:
            continue  # the COPY is cached from when it was so before
        copied.append(dict(versions.files))
        first, reasons = next(iter(told(workshop).items()))
        assert first.startswith(instruction)
        assert reasons == (change,)


# Pure parts, on many inputs

_Tree = dict[str, tuple[int, str, bytes]]
_TREES = st.dictionaries(
    st.text("abc/é", min_size=1, max_size=6).map(lambda text: text.strip("/") or "a"),
    st.tuples(
        st.sampled_from((0o100644, 0o100755, 0o040755, 0o120777)),
        st.sampled_from(("0:0", "1:1")),
        st.binary(max_size=4),
    ),
    max_size=8,
)


def listing(tree: _Tree, source: str = "src") -> Listing:
    fields = ["source", "0", ""]
    for path, (mode, owner, content) in sorted(tree.items()):
        fields += ["entry", path, f"{mode:o} {owner}", content.hex(), ""]
    return Listing((source.encode(),), os.fsencode("\0".join(fields)))


@given(old=_TREES, new=_TREES)
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_file_changes_are_exactly_the_differences(old: _Tree, new: _Tree) -> None:
    changes = file_changes(unpack(pack([listing(old)])), [listing(new)])
    found = {(change.kind, change.name) for change in changes}
    expected: set[tuple[str, str]] = set()
    for path in {*old, *new}:
        name = f"src/{path}"
        if path not in new:
            expected.add(("removed", name))
        elif path not in old:
            expected.add(("added", name))
        else:
            (was, was_owner, before), (mode, owner, after) = old[path], new[path]
            if before != after or was & 0o170000 != mode & 0o170000:
                expected.add(("changed", name))
            elif was != mode:
                expected.add(("mode", name))
            if was_owner != owner:
                expected.add(("owner", name))
    assert found == expected | {("mode", n) for k, n in found if k == "mode" and ("changed", n) in expected}


def test_a_few_differences_in_long_lists_are_found_without_splitting_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_by_source", None)
    old: _Tree = {f"d{n % 50}/entry/f{n}": (0o100644, "0:0", b"%d" % n) for n in range(5000)}
    new = old | {"d7/entry/f7": (0o100755, "0:0", b"7"), "d9/entry/f9": (0o100644, "0:0", b"!")}
    new["entry"] = new.pop("d8/entry/f8")
    changes = file_changes([listing(old)], [listing(new)])
    assert [(change.kind, change.name.removeprefix("src/")) for change in changes] == [
        ("mode", "d7/entry/f7"), ("removed", "d8/entry/f8"), ("changed", "d9/entry/f9"), ("added", "entry"),
    ]  # fmt: skip


def test_many_changed_files_are_counted() -> None:
    tree: _Tree = {f"f{number}": (0o100644, "0:0", b"") for number in range(MOST_CHANGES + 5)}
    changes = file_changes([listing({})], [listing(tree)])
    assert len(changes) == MOST_CHANGES + 1
    assert changes[-1].name == "and 5 more"
    assert in_words(changes).startswith("src/f0 added, src/f1 added, src/f10 added, and ")


@given(texts=st.lists(st.sampled_from(["RUN a", "RUN b", "COPY c /", "RUN d"]), max_size=6))
def test_unchanged_instructions_match_themselves(texts: list[str]) -> None:
    old = [StepDetail(str(n), text, {}, "", ("", ""), "", (), "") for n, text in enumerate(texts)]
    assert matching(old, texts) == old


def test_replaced_instruction_matches_what_it_replaces_unless_it_is_another_kind() -> None:
    old = [
        StepDetail(str(n), text, {}, "", ("", ""), "", (), "") for n, text in enumerate(("RUN a", "RUN b", "COPY c /"))
    ]
    assert matching(old, ["RUN a", "RUN B", "COPY c /"]) == old
    assert matching(old, ["RUN a", "COPY b /", "COPY c /"]) == [old[0], None, old[2]]
