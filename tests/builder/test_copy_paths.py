"""Properties of path resolution: whatever the links say, it is what the kernel does after chroot, and stays inside."""

from __future__ import annotations

import os
import posixpath
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from builder.contexts.filetree import SourceTree
from builder.contexts.patterns import has_wildcards
from builder.copying.destination import Destination
from builder.copying.modes import parse_chmod
from builder.errors import CopyError
from builder.paths import clean, join, resolve, split
from core.kernel import RESOLVE_IN_ROOT, openat2
from tests.builder.copying_tools import directory_fd, make_tree

PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "l", "m"])
PATHS = st.lists(PARTS, max_size=7).map("/".join)


class Links:
    """A ``Lookup`` of nothing but links, and directories for all other names."""

    def __init__(self, links: Mapping[str, str]) -> None:
        self._links = links

    def mode(self, path: str) -> int | None:
        return stat.S_IFLNK if path in self._links else stat.S_IFDIR

    def link_target(self, path: str) -> str:
        return self._links[path]


@given(PATHS)
def test_clean_is_posix_normalisation_below_the_root(path: str) -> None:
    assert "/" + clean(path) == posixpath.normpath("/" + path).replace("//", "/")
    assert clean(clean(path)) == clean(path)


@given(PATHS, PATHS)
def test_join_and_split_are_inverse(parent: str, name: str) -> None:
    parent, name = clean(parent), clean(name).replace("/", "_")
    assume(name)
    assert split(join(parent, name)) == (parent, name)


@given(PATHS, st.dictionaries(st.sampled_from(["l", "m", "a/l", "a/m", "b/l"]), PATHS))
def test_resolved_paths_are_clean_and_free_of_links(path: str, links: dict[str, str]) -> None:
    lookup = Links(links)
    try:
        real = resolve(lookup, clean(path))
    except CopyError:
        return  # a circle
    assert clean(real) == real
    assert resolve(lookup, real) == real
    prefixes = ["/".join(real.split("/")[:depth]) for depth in range(1, real.count("/") + 2)]
    assert not any(prefix in links for prefix in prefixes)


@settings(deadline=None)  # it makes directories and links, which takes what it takes on a busy machine
@given(PATHS, st.dictionaries(st.sampled_from(["l", "m", "a/l", "a/m", "b/l"]), PATHS.filter(bool)))
def test_resolution_agrees_with_the_kernel(path: str, links: dict[str, str]) -> None:
    path = clean(path)
    with tempfile.TemporaryDirectory() as base:
        root = make_tree(Path(base) / "root", {"a/b/c/": None, "a/c": "1", "b/a/": None, "c/": None})
        for name, target in links.items():
            os.symlink(target, root / name)
        with directory_fd(root) as fd:
            assert fd is not None
            lookups = (SourceTree(fd, "the tree"), Destination(fd))
            try:
                expected = openat2(fd, path or ".", os.O_PATH, resolve=RESOLVE_IN_ROOT)
            except OSError:
                return  # nothing there, or a circle
            try:
                for lookup in lookups:
                    found = openat2(
                        fd, resolve(lookup, path) or ".", os.O_PATH | os.O_NOFOLLOW, resolve=RESOLVE_IN_ROOT
                    )
                    try:
                        assert os.path.samestat(os.fstat(found), os.fstat(expected))
                    finally:
                        os.close(found)
            finally:
                os.close(expected)


@given(st.text("ab*?[]\\/", max_size=8))
def test_escaped_wildcards_are_none(text: str) -> None:
    escaped = "".join("\\" + character for character in text)
    assert not has_wildcards(escaped)
    assert has_wildcards(escaped + "*")


_clauses = st.from_regex(r"\A[ugoa]{0,2}[-+=]([ugo]|[rwxXst]{0,3})\Z")


@given(st.lists(_clauses, min_size=1, max_size=3).map(",".join), st.integers(0, 0o7777), st.booleans())
def test_symbolic_chmod_keeps_the_type_and_repeating_it_changes_nothing(text: str, mode: int, directory: bool) -> None:
    chmod = parse_chmod(text)
    assert chmod is not None
    before = (stat.S_IFDIR if directory else stat.S_IFREG) | mode
    after = chmod.apply(before)
    assert stat.S_IFMT(after) == stat.S_IFMT(before)
    if "X" not in text and not any(letter in clause[1:] for clause in text.split(",") for letter in "ugo"):
        assert chmod.apply(after) == after
