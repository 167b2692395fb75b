"""What two images differ in."""

from __future__ import annotations

import random
import time

import pytest

from core.cancellation import asking
from core.platforms import Platform
from images.comparing import (
    ChangedName,
    ChangedPath,
    ChangedSetting,
    LayerPair,
    TooManyEntriesError,
    compare_files,
    compare_settings,
    compare_versions,
    merged,
    pair_layers,
)
from images.contents import LayerEntry, Visible, layer_diffs
from images.errors import InvalidLayerError
from images.oci import ContainerConfig, ImageConfig
from tests.toolkit.bounds import stretched


def _file(path: str, content: bytes = b"1", **more: object) -> LayerEntry:
    return LayerEntry(path, "file", len(content), 0o644, content=content, **more)  # type: ignore[arg-type]


def _dir(path: str, mode: int = 0o755) -> LayerEntry:
    return LayerEntry(path, "directory", mode=mode)


def _gone(path: str) -> LayerEntry:
    return LayerEntry(path, "removed")


def _changes(old: list[list[LayerEntry]], new: list[list[LayerEntry]]) -> list[tuple[str, str, tuple[str, ...]]]:
    sides = [merged((f"{side}{at}", layer) for at, layer in enumerate(its)) for side, its in (("o", old), ("n", new))]
    return [(each.path, each.change, each.what) for each in compare_files(*sides, limit=100).paths]


def test_a_rebuilt_layer_with_the_same_files_changes_nothing() -> None:
    layer = [_dir("etc"), _file("etc/motd")]
    assert _changes([layer], [list(layer)]) == []


def test_each_kind_of_change_is_named() -> None:
    old = [_dir("d"), _file("a"), _file("b"), _file("c"), _file("gone"), LayerEntry("l", "symlink", link="a")]
    new = [
        _dir("d", 0o700), _file("a", b"2"), LayerEntry("b", "file", 1, 0o755, content=b"1"),
        LayerEntry("c", "file", 1, 0o644, 3, 4, content=b"1"), LayerEntry("l", "symlink", link="b"), _file("new"),
    ]  # fmt: skip
    assert _changes([old], [new]) == [
        ("a", "modified", ("content",)),
        ("b", "modified", ("mode",)),
        ("c", "modified", ("owner",)),
        ("d", "modified", ("mode",)),
        ("gone", "removed", ()),
        ("l", "modified", ("link",)),
        ("new", "added", ()),
    ]


def test_content_of_the_same_length_is_told_apart() -> None:
    assert _changes([[_file("a", b"1")]], [[_file("a", b"2")]]) == [("a", "modified", ("content",))]


def test_whiteouts_and_opaque_directories_hide_what_is_below_and_nothing_of_their_own_layer() -> None:
    base = [_dir("d"), _file("d/x"), _file("d/y"), _file("e/z")]
    above = [_gone("d/x"), LayerEntry("e", "emptied"), _file("e/new")]
    assert _changes([base], [base, above]) == [
        ("d/x", "removed", ()), ("e/new", "added", ()), ("e/z", "removed", ()),
    ]  # fmt: skip
    assert _changes([[_file("d/y")]], [[_file("d/y")], [_gone("d"), _file("d/y")]]) == []


def test_a_file_in_place_of_a_directory_takes_what_was_in_it() -> None:
    assert _changes([[_dir("d"), _file("d/x")]], [[_dir("d"), _file("d/x")], [_file("d")]]) == [
        ("d", "modified", ("kind", "mode")), ("d/x", "removed", ()),
    ]  # fmt: skip


def test_a_hard_link_is_the_file_that_it_leads_to() -> None:
    linked = [_file("a"), LayerEntry("b", "hardlink", link="a")]
    assert _changes([[_file("a"), _file("b")]], [linked]) == []
    assert _changes([linked], [linked, [_file("a", b"2")]]) == [
        ("a", "modified", ("content",)), ("b", "modified", ("content",)),
    ]  # fmt: skip


def test_directories_count_where_nothing_in_them_says_it() -> None:
    assert _changes([[]], [[_dir("a"), _dir("a/b"), _file("a/b/c"), _dir("empty")]]) == [
        ("a/b/c", "added", ()), ("empty", "added", ()),
    ]  # fmt: skip


def test_more_paths_than_are_listed_are_counted() -> None:
    new = merged([("n", [_file(f"{at:03}") for at in range(50)])])
    found = compare_files({}, new, limit=2)
    assert (found.added, found.hidden, found.size_change, found.paths[0]) == (
        50, 48, 50, ChangedPath("000", "added", "file", new_size=1),
    )  # fmt: skip


def test_whiteouts_cost_what_they_hide() -> None:
    paths = [f"usr/lib/p{at % 300}/f{at}" for at in range(10_000)]
    old = merged([("base", [_file(path) for path in paths])])
    began = time.thread_time()
    new = merged(
        [("base", [_file(path) for path in paths]), ("top", [_gone(path) for path in paths[::2]]), ("last", [])]
    )
    found = compare_files(old, new, limit=1000)
    assert (found.removed, found.added, found.modified) == (5_000, 0, 0)
    assert time.thread_time() - began < stretched(8)


def test_a_comparison_ends_when_it_has_to() -> None:
    class Enough(Exception):
        pass

    def question() -> None:
        raise Enough

    layer = [_file("a")]
    with asking(question), pytest.raises(Enough):
        merged([("n", layer)])
    with asking(question), pytest.raises(Enough):
        compare_files({}, {"a": ("n", layer[0])}, limit=1)


def test_what_strangers_wrote_has_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("images.comparing.MAX_ENTRIES", 3)
    with pytest.raises(TooManyEntriesError, match="more than 3 entries"):
        merged([("a", [_file("1"), _file("2")]), ("b", [_file("3"), _file("4")])])
    monkeypatch.setattr("images.contents._MAX_CHARACTERS", 10_000)
    with pytest.raises(InvalidLayerError, match="characters together"):
        Visible().apply([_file("a/" * 1000 + "b")])


def test_the_walk_over_layers_finds_what_a_naive_one_does() -> None:
    """Against sets of paths, for layers made at random."""
    rng = random.Random(20)
    names = [f"{a}{b}{c}" for a in ("x", "y") for b in ("", "/x", "/y") for c in ("", "/x")]
    for _ in range(300):
        layers = [
            [
                rng.choice((_file, _dir, _gone, lambda path: LayerEntry(path, "emptied")))(rng.choice(names))
                for _ in range(rng.randint(0, 5))
            ]
            for _ in range(3)
        ]
        seen: set[str] = set()
        for layer in layers:
            for entry in layer:
                if entry.kind in ("removed", "emptied"):
                    seen = {path for path in seen if not path.startswith(f"{entry.path}/")}
                    seen -= {entry.path} if entry.kind == "removed" else set()
            for entry in layer:
                if entry.kind == "removed":
                    continue
                parts = entry.path.split("/")
                seen |= {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
                if entry.kind not in ("directory", "emptied"):
                    seen = {path for path in seen if not path.startswith(f"{entry.path}/")}
        visible = Visible()
        for layer in layers:
            visible.apply(layer)
        assert set(visible.paths()) == seen, layers


def test_changes_of_each_layer() -> None:
    layers = [[_dir(""), _dir("etc"), _file("etc/a"), _file("b")], [_dir("etc"), _file("etc/a", b"2"), _gone("b")]]
    assert [(each.added, each.modified, each.removed) for each in layer_diffs(layers)] == [(3, 0, 0), (0, 1, 1)]


def test_names_are_compared_with_all_of_their_versions() -> None:
    old = [("libc", "1"), ("tide", "2"), ("tide", "1"), ("gone", "1"), ("same", "1")]
    new = [("libc", "2"), ("tide", "1"), ("tide", "2"), ("new", "1"), ("same", "1")]
    assert compare_versions(old, new) == [
        ChangedName("gone", ("1",), ()), ChangedName("libc", ("1",), ("2",)), ChangedName("new", (), ("1",)),
    ]  # fmt: skip


def test_layers_stand_beside_those_that_they_took_the_place_of() -> None:
    assert pair_layers(["base", "a", "b"], ["base", "c", "b", "d"]) == [
        LayerPair(0, 0, True), LayerPair(1, 1, False), LayerPair(2, 2, True), LayerPair(None, 3, False),
    ]  # fmt: skip


def test_settings_are_compared_one_by_one() -> None:
    plain = ImageConfig.for_platform(Platform.parse("linux/amd64"))

    def with_config(**members: object) -> ImageConfig:
        return ImageConfig(architecture="amd64", os="linux", config=ContainerConfig(**members))  # type: ignore[arg-type]

    new = with_config(env=("A=1", "B=x=y"), labels={"l": "v"}, cmd=("sh", "-c"))
    assert compare_settings(plain, new) == [
        ChangedSetting("command", "", '["sh","-c"]'),
        ChangedSetting("environment A", "", "1"),
        ChangedSetting("environment B", "", "x=y"),
        ChangedSetting("label l", "", "v"),
    ]
