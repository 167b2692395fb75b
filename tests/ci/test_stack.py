"""What layers show a job, computed from listings: the merged files, what inputs leave, the key, and conflicts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ci.epoch import BEGINNING
from ci.patterns import compiled
from ci.workspace.errors import ConflictError, InputsError
from ci.workspace.listings import File, is_directory, listing_of, permissions
from ci.workspace.selection import select
from ci.workspace.stack import Stack
from ci.workspace.treeorder import order_of
from core.cancellation import asking
from core.digests import DiffID
from images.errors import InvalidLayerError
from images.flatten import flatten
from images.store import Store
from images.tarheaders import DIRECTORY, SYMLINK
from images.tarwriter import TarWriter
from tests.toolkit.layers import lay as write_layer

DIRECTORY_ENTRY: File = ("40755 0:0", "", "")
FILE_ENTRY: File = ("100644 0:0", "digest", "")


class Laid:
    """Writes layers of its store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __call__(self, files: Mapping[str, str | None], *, mode: int = 0o644) -> DiffID:
        return write_layer(self.store, files, mode=mode)


@pytest.fixture
def lay(tmp_path: Path) -> Iterator[Laid]:
    with Store.open(tmp_path / "root") as store:
        yield Laid(store)


def key(lay: Laid, *layers: DiffID, inputs: Sequence[str] | None = None) -> str:
    return Stack(lay.store, layers, inputs=inputs).content_key


def files_of(text: str) -> dict[str, File]:
    """Files by path; a slash at the end: a directory."""
    paths = sorted(text.split(), key=lambda path: order_of(path.rstrip("/")))
    return {
        path.rstrip("/"): ("40755 0:0", "", "") if path.endswith("/") else ("100644 0:0", "digest", "")
        for path in paths
    }


# What there is.


def test_layers_cover_each_other_by_overlays_rules(lay: Laid) -> None:
    base = lay({"a/x": "1", "a/y": "2", "b": "3", "c/d/e": "4", "f/g": "5", "h": "6"})
    over = lay({"a/x": "new", "b/now": "a directory", "c": None, "f": "a file", "h": None, "never": None})
    files = Stack(lay.store, [base, over]).files
    assert list(files) == ["a", "a/x", "a/y", "b", "b/now", "f"]
    assert not is_directory(files["f"])


def test_directories_that_layers_only_imply_are_there_and_look_as_below(lay: Laid) -> None:
    def plain(*names: bytes, link: bytes = b"") -> DiffID:
        with lay.store.layers.writer() as blob:
            writer = TarWriter(blob)
            for name in names:
                writer.file(name, 0o644, 0, 0, BEGINNING, 0, b"")
            if link:
                writer.hardlink(b"link", link, 0o644, 0, 0, BEGINNING)
            writer.close()
            return blob.commit()

    with lay.store.layers.writer() as blob:
        writer = TarWriter(blob)
        writer.directory(b"a", 0o700, 0, 0, BEGINNING)
        writer.close()
        below = blob.commit()
    stack = Stack(lay.store, [below, plain(b"a/b/c", b"x")], inputs=["x"])
    assert {path: permissions(file) for path, file in stack.files.items()} == {
        "a": 0o700, "a/b": 0o755, "a/b/c": 0o644, "x": 0o644,
    }  # fmt: skip
    assert stack.hidden == ["a"]
    with pytest.raises(InvalidLayerError, match="a hard link to a file that it does not have: 'link' to 'nowhere'"):
        listing_of(lay.store, plain(link=b"nowhere"))


def test_a_listing_is_read_once_and_kept(lay: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = lay({"a/b": "text", "l": "-> a/b", "gone": None, b"\xff\n".decode(errors="surrogateescape"): "odd"})
    first = listing_of(lay.store, layer)
    monkeypatch.setattr("ci.workspace.listings.TarReader", None)
    assert listing_of(lay.store, layer) == first
    assert list(first.files) == ["a", "a/b", "l", "\udcff\n"]
    assert first.files["l"] == ("120777 0:0", "a/b", "")
    assert first.removed == ["gone"]
    empty = lay({})
    monkeypatch.undo()
    assert listing_of(lay.store, empty) == listing_of(lay.store, empty)
    assert not listing_of(lay.store, empty).files


def test_reading_a_listing_ends_when_it_is_asked_to(lay: Laid) -> None:
    layer = lay({f"f{number}": "x" for number in range(100)})

    def question() -> None:
        raise KeyboardInterrupt

    with asking(question), pytest.raises(KeyboardInterrupt):
        listing_of(lay.store, layer)


NAMES = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
CONTENTS = st.one_of(st.none(), st.sampled_from(["1", "2", "/", "-> x"]))
LAYERS = st.lists(st.dictionaries(NAMES, CONTENTS, max_size=6), min_size=1, max_size=4)


def _consistent(files: Mapping[str, str | None]) -> dict[str, str | None]:
    """Without what lies below something that is no directory."""
    return {
        path: text
        for path, text in files.items()
        if not any(path.startswith(f"{other}/") and files[other] != "/" for other in files)
    }


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(layers=LAYERS)
def test_the_merged_files_are_those_of_an_export(lay: Laid, layers: list[dict[str, str | None]]) -> None:
    written = [lay(_consistent(files)) for files in layers]
    with contextlib.ExitStack() as stack:
        tars = [stack.enter_context(lay.store.layers.open(layer)) for layer in written]
        exported = {}
        for entry, chunks in flatten(tars):
            data = b"".join(data for _, data in chunks)
            what = "/" if entry.kind == DIRECTORY else entry.link if entry.kind == SYMLINK else data
            exported[os.fsdecode(entry.name)] = what
    files = Stack(lay.store, written).files
    assert list(files) == sorted(files, key=order_of)
    assert set(files) == set(exported)
    for path, (mode, what, _) in files.items():
        assert (exported[path] == "/") == (mode == "40755 0:0")
        if mode == "120777 0:0":
            assert exported[path] == os.fsencode(what)


# What inputs leave.


def test_inputs_hide_what_they_do_not_name_by_as_few_names_as_can_be() -> None:
    files = files_of("a/ a/x.py a/y.md b/ b/z.md b/sub/ b/sub/w.md c/ c/d/ c/d/e.py f.py g.md")
    visible, hidden = select(files, ["**/*.py"])
    assert visible == ["a", "a/x.py", "c", "c/d", "c/d/e.py", "f.py"]
    assert hidden == ["a/y.md", "b", "g.md"]
    assert select(files, ["c"]) == (["c", "c/d", "c/d/e.py"], ["a", "b", "f.py", "g.md"])
    assert select(files, ["c/**"]) == select(files, ["c"])
    assert select(files, ["!b", "!*.md"]).hidden == ["b", "g.md"]
    assert select(files, ["**"]).hidden == []


def test_a_pattern_that_names_nothing_is_named(lay: Laid) -> None:
    layer = lay({"src/a.py": "1"})
    for inputs, named in (
        (["src", "docs/**"], r"docs/\*\*"),
        (["*.md", "src"], r"\*\.md"),
        (["src/a.py/x"], "src/a.py/x"),
    ):
        with pytest.raises(InputsError, match=f"nothing in the workspace is what the input {named} names"):
            _ = Stack(lay.store, [layer], inputs=inputs).content_key
    assert Stack(lay.store, [layer], inputs=["src", "!docs"]).hidden == []


PATTERNS = st.lists(
    st.sampled_from(["a", "a/b", "*/c", "**/c", "b/**", "!a/b", "!**/b", "!c", "**", "a/*/b"]), min_size=1, max_size=4
)


@given(paths=st.sets(NAMES, max_size=12), patterns=PATTERNS)
def test_what_is_seen_is_what_patterns_mean_and_the_way_there(paths: set[str], patterns: list[str]) -> None:
    everything = {path[:at] for path in paths for at, c in enumerate(f"{path}/") if c == "/"}
    files: dict[str, File] = {
        path: ("40755 0:0", "", "")
        if any(other.startswith(f"{path}/") for other in everything)
        else ("100644 0:0", "", "")
        for path in sorted(everything, key=order_of)
    }
    meant = compiled(patterns)
    try:
        visible, hidden = select(files, patterns)
    except InputsError:
        return
    named = {path for path in files if meant.matches(path)}
    expected = {path for path in files if path in named or any(other.startswith(f"{path}/") for other in named)}
    assert set(visible) == expected
    assert len(visible) == len(expected)
    covered = {path for path in files if any(path == one or path.startswith(f"{one}/") for one in hidden)}
    assert covered == files.keys() - expected
    assert all(path.rpartition("/")[0] in expected or "/" not in path for path in hidden)


# The key.


def test_the_key_says_nothing_of_how_the_layers_are_cut(lay: Laid) -> None:
    whole = lay({"a/x": "1", "a/y": "2", "b": "3", "c/d": "-> e"})
    base, over = lay({"a/x": "old", "b": "3", "c": "file", "z/gone": "x"}), lay({"a/x": "1", "c/d": "-> e", "z": None})
    assert key(lay, base, over, lay({"a/y": "2"})) == key(lay, whole)
    assert key(lay, whole, lay({"other": "x"}), inputs=["a", "b", "c"]) == key(lay, whole)


def test_every_visible_difference_is_another_key(lay: Laid) -> None:
    base = {"a/x": "1", "l": "-> a"}
    keys = [
        key(lay, lay(base)),
        key(lay, lay({"a/x": "2", "l": "-> a"})),
        key(lay, lay({"a/y": "1", "l": "-> a"})),
        key(lay, lay({"a/x": "1", "l": "-> b"})),
        key(lay, lay({"a/x": "1", "l": "a"})),
        key(lay, lay({"a/x": "1", "l": "-> a"}, mode=0o755)),
        key(lay, lay({"a/x": "1", "l": "-> a", "empty": "/"})),
        key(lay, lay({"a/x": "1"})),
        key(lay),
    ]
    assert len(set(keys)) == len(keys)


def test_a_file_with_two_names_is_no_two_files(lay: Laid) -> None:
    def linked(*, as_link: bool) -> DiffID:
        with lay.store.layers.writer() as blob:
            writer = TarWriter(blob)
            writer.file(b"a", 0o644, 0, 0, BEGINNING, 1, b"x")
            if as_link:
                writer.hardlink(b"b", b"a", 0o644, 0, 0, BEGINNING)
            else:
                writer.file(b"b", 0o644, 0, 0, BEGINNING, 1, b"x")
            writer.close()
            return blob.commit()

    assert key(lay, linked(as_link=True)) != key(lay, linked(as_link=False))
    assert key(lay, linked(as_link=True)) == key(lay, linked(as_link=True))


def test_hidden_files_and_names_that_are_no_utf_8(lay: Laid) -> None:
    odd = os.fsdecode(b"d\xff/\xfe\n")
    one, other = lay({odd: "1", "x": "1"}), lay({odd: "1", "x": "2"})
    assert key(lay, one, inputs=["d*"]) == key(lay, other, inputs=["d*"])
    assert key(lay, one) != key(lay, other)
    assert Stack(lay.store, [one], inputs=["d*"]).hidden == ["x"]
    assert Stack(lay.store, [one], inputs=["x"]).hidden == [os.fsdecode(b"d\xff")]


# Conflicts.


class Jobs:
    """Jobs that left something: ``a`` and ``b`` beside each other, and what else a test adds."""

    def __init__(self, lay: Laid, **left: dict[str, str | None]) -> None:
        self._lay = lay
        self.left = [(job, lay(files)) for job, files in left.items()]
        self.before: dict[str, frozenset[str]] = {job: frozenset() for job in left}

    def refuse(self, inputs: Sequence[str] | None = None) -> None:
        Stack(self._lay.store, [], self.left, self.before, inputs).refuse_conflicts()


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ({"d/x": "1"}, {"d/x": "2"}, '"a" and "b" both output d/x, with different content, and neither job needs'),
        ({"d/x": "1"}, {"d/x/y": "2"}, '"a" and "b" both output d/x, once as a directory'),
        ({"d/x": "-> 1"}, {"d/x": "-> 2"}, '"a" and "b" both output d/x, with different content'),
        ({"d/x": None}, {"d/x": "2"}, '"a" removes d/x, "b" outputs d/x'),
        ({"d/x": "1"}, {"d": None}, '"b" removes d, "a" outputs d/x'),
        ({"d": None}, {"d/e": "/"}, '"a" removes d, "b" outputs d/e'),
    ],
)
def test_two_jobs_that_left_one_path_differently_are_both_named(
    lay: Laid, a: dict[str, str | None], b: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ConflictError, match=message):
        Jobs(lay, a=a, b=b).refuse()
    jobs = Jobs(lay, a=a, b=b)
    jobs.before["b"] = frozenset("a")
    jobs.refuse()  # one saw the other's


def test_permissions_that_differ_are_told_apart(lay: Laid) -> None:
    left = [("a", lay({"x": "1"})), ("b", lay({"x": "1"}, mode=0o755))]
    with pytest.raises(ConflictError, match='"a" and "b" both output x, with different permissions'):
        Stack(lay.store, [], left, {"a": frozenset(), "b": frozenset()}).refuse_conflicts()


def test_what_is_no_conflict(lay: Laid) -> None:
    Jobs(lay, a={"d/x": "1"}, b={"d/x": "1", "d/y": "2"}).refuse()
    Jobs(lay, a={"d": "/"}, b={"d/y": "2"}).refuse()
    Jobs(lay, a={"d/x": None}, b={"d/x": None, "d/y": "1"}).refuse()
    Jobs(lay, a={"d": None}, b={"d/x": None}).refuse()
    Jobs(lay, a={"d": None}, b={"e": "1", "de": "1"}).refuse()


def test_only_who_sees_the_path_is_refused(lay: Laid) -> None:
    jobs = Jobs(lay, a={"d/x": "1", "e/f": "1"}, b={"d/x": "2", "e": "1"})
    jobs.refuse(["other/**"])
    jobs.refuse(["**", "!d", "!e"])
    with pytest.raises(ConflictError, match="d/x"):
        jobs.refuse(["d"])
    with pytest.raises(ConflictError, match="e/f"):
        jobs.refuse(["e/*"])


def test_who_comes_after_both_decides(lay: Laid) -> None:
    for decision in ({"d/x": "3"}, {"d/x": None}, {"d": None}, {"d": "a file"}):
        jobs = Jobs(lay, a={"d/x": "1"}, b={"d/x": "2"}, c=decision)  # type: ignore[arg-type]
        with pytest.raises(ConflictError):
            jobs.refuse()
        jobs.before["c"] = frozenset("ab")
        jobs.refuse()
    jobs = Jobs(lay, a={"d/x": "1"}, b={"d/x": "2"}, c={"d/y": "3"})
    jobs.before["c"] = frozenset("ab")
    with pytest.raises(ConflictError, match='"a" and "b"'):
        jobs.refuse()


def test_jobs_in_a_row_are_not_even_read(lay: Laid, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = Jobs(lay, a={"x": "1"}, b={"x": "2"}, c={"x": "3"})
    jobs.before.update(b=frozenset("a"), c=frozenset("ab"))

    def refuse(store: Store, layer: DiffID) -> None:
        pytest.fail("a layer was read")

    monkeypatch.setattr("ci.workspace.stack.listing_of", refuse)
    jobs.refuse()


CHANGES = st.dictionaries(NAMES, CONTENTS, max_size=5).map(_consistent)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(base=st.dictionaries(NAMES, st.sampled_from(["1", "/"]), max_size=6).map(_consistent), a=CHANGES, b=CHANGES)
def test_without_a_conflict_the_order_of_two_jobs_does_not_matter(
    lay: Laid, base: dict[str, str | None], a: dict[str, str | None], b: dict[str, str | None]
) -> None:
    source, left = [lay(base)], [("a", lay(a)), ("b", lay(b))]
    beside: dict[str, frozenset[str]] = {"a": frozenset(), "b": frozenset()}
    one, other = Stack(lay.store, source, left, beside), Stack(lay.store, source, left[::-1], beside)

    def files(stack: Stack) -> dict[str, File]:
        return {path: file for path, file in stack.files.items() if not is_directory(file)}

    try:
        one.refuse_conflicts()
    except ConflictError:
        with pytest.raises(ConflictError):
            other.refuse_conflicts()
    else:
        assert files(one) == files(other)
