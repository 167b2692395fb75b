"""Contexts made for one build: known digests are taken as they are, and no stat data has to prove anything."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from builder.contexts.context import Context
from builder.contexts.filetree import SourceTree
from builder.copying.planner import CopySpec, Selection, content_digest, select, write_layer
from builder.errors import ContextChangedError, ContextDamagedError
from dockerfile_grammar.ignore import IgnorePatterns
from images.tarwriter import TarWriter
from tests.builder.copying_tools import CREATED_AT, Layer, make_tree, note_opened

ALL = CopySpec((".",), "/x/")


class Uploaded:
    """A context whose files are hard links to blobs of their own, as a worker makes it of what was uploaded."""

    def __init__(self, place: Path) -> None:
        self.blobs = place / "blobs"
        self.tree = place / "tree"
        self.blobs.mkdir()
        self.contents: dict[str, bytes] = {}

    def add(self, path: str, data: bytes) -> None:
        sha = hashlib.sha256(data)
        blob = self.blobs / sha.hexdigest()
        if not blob.exists():
            blob.write_bytes(data)
        (self.tree / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(blob, self.tree / path)
        self.contents[path] = sha.digest()

    def link_blobs_again(self) -> None:
        """Another run of the same context on this host."""
        for blob in list(self.blobs.iterdir()):
            os.link(blob, f"{blob}.linked")

    def known(self) -> Context:
        return Context.open_private(str(self.tree), "c", self.contents)


@pytest.fixture
def uploaded(tmp_path: Path) -> Uploaded:
    made = Uploaded(tmp_path)
    made.add("a", b"same")
    made.add("d/b", b"same")
    made.add("d/c", b"other")
    made.add("empty", b"")
    return made


def written(selection: Selection) -> Layer:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    write_layer(selection, None, writer, created_at=CREATED_AT)
    writer.close()
    return Layer(sink.getvalue())


def test_another_runs_links_to_the_same_blobs_change_nothing(uploaded: Uploaded) -> None:
    with uploaded.known() as context:
        selection = select(context.tree(), ALL)
        uploaded.link_blobs_again()
        digest = content_digest(selection)
        layer = written(selection)
        assert content_digest(select(context.tree(), ALL)) == digest
    assert layer.content == {"x/a": "same", "x/d/b": "same", "x/d/c": "other", "x/empty": ""}


def test_what_is_known_is_not_read_for_the_key_and_makes_the_same_key(
    uploaded: Uploaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apart = make_tree(tmp_path / "apart", {"a": "same", "d/b": "same", "d/c": "other", "empty": ""})
    with Context.open_directory(str(apart)) as context:
        expected = content_digest(select(context.tree(), ALL))
    opened = note_opened(monkeypatch)
    with uploaded.known() as context:
        assert content_digest(select(context.tree(), ALL)) == expected
        assert content_digest(select(context.tree(), CopySpec(("a", "d/c"), "/x/"))) is not None
    assert opened == []


def test_two_files_with_one_content_are_two_files_in_the_image(uploaded: Uploaded) -> None:
    with uploaded.known() as context:
        layer = written(select(context.tree(), ALL))
    assert [layer[name].type for name in ("x/a", "x/d/b")] == [tarfile.REGTYPE, tarfile.REGTYPE]


def test_what_is_ignored_stays_ignored(uploaded: Uploaded) -> None:
    with uploaded.known() as opened, opened.with_ignore(IgnorePatterns.of(["d/b"])) as context:
        layer = written(select(context.tree(), ALL))
    assert sorted(layer.content) == ["x/a", "x/d/c", "x/empty"]


def test_a_damaged_file_is_named_with_its_digest_and_nobody_is_blamed(uploaded: Uploaded) -> None:
    (uploaded.tree / "d/c").write_bytes(b"OTHER")
    with uploaded.known() as context:
        selection = select(context.tree(), ALL)
        content_digest(selection)
        with pytest.raises(ContextDamagedError, match="d/c in the build context c is damaged") as caught:
            written(selection)
    assert not isinstance(caught.value, ContextChangedError)
    assert caught.value.digest == hashlib.sha256(b"other").hexdigest()


def test_a_damaged_archive_is_found_before_anything_of_it_is_unpacked(tmp_path: Path) -> None:
    made = Uploaded(tmp_path)
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("f"))
    made.add("a.tar", data.getvalue())
    spec = CopySpec(("a.tar",), "/x/", extract_archives=True)
    with made.known() as context:
        made.link_blobs_again()
        assert written(select(context.tree(), spec)).names() == ["x", "x/f"]
        with (made.tree / "a.tar").open("r+b") as file:
            file.seek(len(data.getvalue()) - 1)
            file.write(b"!")
        with pytest.raises(ContextDamagedError, match=r"a\.tar"):
            written(select(context.tree(), spec))


def test_a_tree_of_our_own_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path / "own", {"f": "1"})
    with Context.open_private(str(tmp_path / "own"), "own") as context:
        assert not context.key  # nothing of it is remembered for a build that cannot come
        selection = select(context.tree(), ALL)
        content_digest(selection)
        monkeypatch.setattr(
            "builder.copying.layertar._HashingReader.read", None
        )  # it was written just now, but not by others
        assert written(selection).content == {"x/f": "1"}


def test_a_users_own_directory_is_still_watched(uploaded: Uploaded) -> None:
    with Context.open_directory(str(uploaded.tree)) as context:
        tree = context.tree()
        assert type(tree) is SourceTree
        selection = select(tree, ALL)
        uploaded.link_blobs_again()
        with pytest.raises(ContextChangedError):
            content_digest(selection)
