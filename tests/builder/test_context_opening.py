"""Contexts: directories, tars on standard input, and .dockerignore."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from builder.contexts.context import Context
from builder.copying.planner import CopySpec, select
from builder.errors import ContextError, SourceNotFoundError
from dockerfile_grammar.ignore import IgnorePatterns
from tests.builder.copying_tools import OLD, Bench, make_tree


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def names(context: Context, *sources: str) -> list[str]:
    selection = select(context.tree(), CopySpec(sources or (".",), "/x/"))
    return sorted(entry.path for entry in selection.entries())


def test_directory(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", {"f": "1", "d/g": "2"})
    with Context.open_directory(str(root)) as context:
        assert (context.name, context.key) == (str(root), os.path.realpath(root))
        assert names(context) == ["d", "d/g", "f"]
    assert context.fd == -1
    context.close()


def test_directory_stays_the_same_when_it_is_renamed(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", {"f": "1"})
    with Context.open_directory(str(root)) as context:
        root.rename(tmp_path / "elsewhere")
        make_tree(root, {"other": ""})
        assert names(context) == ["f"]


def test_missing_context_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="does not exist") as caught:
        Context.open_directory(str(tmp_path / "nope"))
    assert str(tmp_path / "nope") in (caught.value.hint or "")


def test_context_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    with pytest.raises(ContextError, match="is not a directory") as caught:
        Context.open_directory(str(tmp_path / "Dockerfile"))
    assert "-f" in (caught.value.hint or "")


def test_context_that_cannot_be_opened_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("builder.contexts.context.os.open", deny)
    with pytest.raises(ContextError, match="Permission denied"):
        Context.open_directory(str(tmp_path))


def test_empty_context_has_nothing(tmp_path: Path) -> None:
    with Context.empty(tmp_path) as context:
        assert names(context) == []
        with pytest.raises(SourceNotFoundError, match="the build context from standard input"):
            names(context, "f")


def test_reading_single_files(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "context", {"Dockerfile": "FROM x", "l": "-> Dockerfile", "d/": None, "p": os.mkfifo})
    (tmp_path / "outside").write_text("secret")
    (root / "out").symlink_to("../outside")
    with Context.open_directory(str(root), IgnorePatterns.of(["*"])) as context:
        assert context.read("Dockerfile") == b"FROM x"
        assert context.read("l") == b"FROM x"
        assert context.read("nope") is None
        assert context.read("Dockerfile/x") is None
        assert context.read("out") is None  # it leads to /outside of the context
        for odd in ("d", "p"):
            with pytest.raises(ContextError):
                context.read(odd)
        with pytest.raises(ContextError, match="bigger"):
            context.read("Dockerfile", limit_bytes=3)


# .dockerignore


def ignoring(bench: Bench, *patterns: str) -> Bench:
    bench.context(
        {"d/e/f": "1", "d/e/keep": "2", "d/k/g.txt": "3", "top": "4", "zz": "5", "lz": "-> zz", "lf": "-> d/e/f"}
    )
    os.chmod(bench.context_path / "d/e", 0o700)
    bench.ignore = IgnorePatterns.of(patterns)
    return bench


def test_ignored_files_are_not_copied(bench: Bench) -> None:
    ignoring(bench, "d/e", "z*")
    assert bench.copy(".", "/x").names() == ["x", "x/d", "x/d/k", "x/d/k/g.txt", "x/lf", "x/lz", "x/top"]


def test_included_again_below_an_ignored_directory(bench: Bench) -> None:
    ignoring(bench, "d/e", "!d/e/keep")
    layer = bench.copy("d", "/x")
    assert layer.names() == ["x", "x/e", "x/e/keep", "x/k", "x/k/g.txt"]
    assert layer["x/e"].mode == 0o700
    assert bench.copy("d/e", "/x").names() == ["x", "x/keep"]
    assert bench.copy("d/*", "/x/").names() == ["x", "x/g.txt", "x/keep"]


def test_everything_ignored_but_one_file(bench: Bench) -> None:
    ignoring(bench, "*", "!d/k/g.txt")
    assert bench.copy(".", "/x").names() == ["x", "x/d", "x/d/k", "x/d/k/g.txt"]


@pytest.mark.parametrize("written", ["zz", "lz", "d/e", "d/e/f", "lf"])
def test_ignored_sources_are_missing_also_behind_links(bench: Bench, written: str) -> None:
    ignoring(bench, "d/e", "z*")
    with pytest.raises(SourceNotFoundError, match="dockerignore"):
        bench.copy(written, "/x/")


def test_globs_do_not_match_what_is_ignored(bench: Bench) -> None:
    ignoring(bench, "d/e", "z*")
    assert bench.copy("z*", "/x/").names() == []
    assert bench.copy("d/*", "/x/").names() == ["x", "x/g.txt"]


def test_ignored_directories_are_not_walked(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from builder.contexts.filetree import SourceTree

    walked: list[str] = []
    open_directory = SourceTree.open_directory

    def counted(tree: SourceTree, path: str) -> int:
        walked.append(path)
        return open_directory(tree, path)

    monkeypatch.setattr(SourceTree, "open_directory", counted)
    ignoring(bench, "d/e", "!top")
    bench.select(CopySpec((".",), "/x"))
    assert "d/e" not in walked


# a tar on standard input


def tar(*members: tuple[str, bytes, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, what in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.uid, member.mtime = (
                kind,
                0o755 if kind == tarfile.DIRTYPE else 0o640,
                99,
                OLD,
            )
            data = what.encode() if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
                member.linkname = what
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


FILE, LINK, HARD, DIR = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE
CONTEXT = tar(
    ("./", DIR, ""), ("./d/", DIR, ""), ("./d/f", FILE, "1"), ("e/g", FILE, "2"), ("l", LINK, "d"), ("h", HARD, "d/f")
)

COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_tar_context_of_every_compression(tmp_path: Path, compression: str) -> None:
    stream = io.BytesIO(COMPRESSIONS[compression](CONTEXT))
    with Context.from_tar(stream, tmp_path) as context:
        assert names(context) == ["d", "d/f", "e", "e/g", "h", "l"]
        assert context.read("l/f") == b"1"
        entries = {entry.path: entry for entry in select(context.tree(), CopySpec((".",), "/x")).entries()}
        assert (entries["d/f"].mode & 0o7777, entries["d/f"].mtime, entries["d"].mtime) == (0o640, OLD, OLD)
        assert entries["h"].leader is entries["d/f"] or entries["d/f"].leader is entries["h"]
        assert context.key == ""


@pytest.mark.parametrize(
    "members",
    [
        [("l", LINK, "{outside}"), ("l/f", FILE, "x")],
        [("l", LINK, ".."), ("l/f", FILE, "x")],
        [("f", FILE, "1"), ("f/g", FILE, "2")],
        [("h", HARD, "missing")],
        [("l", LINK, "{outside}"), ("h", HARD, "l/secret")],
    ],
)
def test_tar_context_that_leads_out_or_contradicts_itself_is_an_error(
    tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    outside = make_tree(tmp_path / "outside", {"secret": "1"})
    data = tar(*((name, kind, what.format(outside=outside)) for name, kind, what in members))
    scratch = make_tree(tmp_path / "scratch", {})
    with pytest.raises(ContextError, match="cannot unpack the build context"):
        Context.from_tar(io.BytesIO(data), scratch)
    assert os.listdir(outside) == ["secret"]
    assert os.listdir(scratch) == ["context"]


def test_tar_context_names_are_kept_inside(tmp_path: Path) -> None:
    scratch = make_tree(tmp_path / "scratch", {})
    with Context.from_tar(io.BytesIO(tar(("../../up", FILE, "1"), ("/abs", FILE, "2"))), scratch) as context:
        assert names(context) == ["abs", "up"]
    assert not (tmp_path / "up").exists()


@pytest.mark.parametrize("data", [b"FROM scratch\n" * 100, CONTEXT[:700], gzip.compress(CONTEXT)[:-20]])
def test_stream_that_is_no_tar_is_an_error(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ContextError, match="standard input") as caught:
        Context.from_tar(io.BytesIO(data), tmp_path)
    assert "tar" in (caught.value.hint or "")


def test_tar_context_that_is_too_big_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.contexts.context._MAX_STDIN_BYTES", 1 << 20)
    with pytest.raises(ContextError):
        Context.from_tar(io.BytesIO(gzip.compress(tar(("f", FILE, "\0" * (2 << 20))))), tmp_path)


def test_holes_of_a_tar_context_stay_holes(tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.seek(8 << 30)
        file.write(b"end")
    command = ["tar", "--create", "--sparse", "--format=pax", "-C", str(tmp_path), "sparse"]
    data = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    scratch = make_tree(tmp_path / "scratch", {})
    with Context.from_tar(io.BytesIO(data), scratch):
        (unpacked,) = scratch.glob("*/sparse")
        assert unpacked.stat().st_size == (8 << 30) + 3
        assert unpacked.stat().st_blocks * 512 < 1 << 20
        with unpacked.open("rb") as file:
            file.seek(8 << 30)
            assert file.read() == b"end"


def test_tar_context_that_replaces_its_own_files(tmp_path: Path) -> None:
    data = tar(("f", FILE, "1"), ("f", FILE, "2"), ("l", LINK, "f"), ("l", FILE, "3"))
    with Context.from_tar(io.BytesIO(data), tmp_path) as context:
        assert (context.read("f"), context.read("l")) == (b"2", b"3")
