"""What a build on a server sends: each file of the context with its digest, and the Dockerfile whatever is ignored."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.contexts.opening import open_source
from builder.errors import ContextError
from cli.remote.manifest import ELSEWHERE, Manifest, describe

_AT = 1_700_000_000
_TEXT = b"FROM scratch\n"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Path]:
    """A directory with a Dockerfile, in which this test works."""
    directory = tmp_path / "context"
    directory.mkdir()
    (directory / "Dockerfile").write_bytes(_TEXT)
    before = os.getcwd()
    os.chdir(directory)
    yield directory
    os.chdir(before)


def described(
    context: Path | str, file: str | None = None, *, stdin: bytes = b"", cache: Path | None = None
) -> Manifest:
    source = open_source(str(context), file, stdin=io.BytesIO(stdin), scratch=Path("/tmp"))
    with source.context:
        return describe(source, str(context), file, cache=cache)


def entries(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """The entries by path, each of which comes once."""
    found = {entry["path"]: entry for entry in manifest.entries}
    assert len(found) == len(manifest.entries)
    return found


def test_every_kind_of_file_is_told_with_mode_and_time(context: Path) -> None:
    (context / "d").mkdir(mode=0o750)
    (context / "d" / "run").write_bytes(b"content")
    (context / "d" / "run").chmod(0o755)
    (context / "link").symlink_to("d/run")
    for path in ("d/run", "Dockerfile", "d", "link"):
        os.utime(context / path, (_AT, _AT), follow_symlinks=False)
    manifest = described(context)
    assert manifest.dockerfile == "Dockerfile"
    assert entries(manifest) == {
        "Dockerfile": {
            "path": "Dockerfile", "type": "file", "mode": stat.S_IMODE((context / "Dockerfile").stat().st_mode),
            "mtime": _AT, "size": len(_TEXT), "digest": sha256(_TEXT),
        },
        "d": {"path": "d", "type": "directory", "mode": 0o750, "mtime": _AT},
        "d/run": {
            "path": "d/run", "type": "file", "mode": 0o755, "mtime": _AT, "size": 7, "digest": sha256(b"content"),
        },
        "link": {"path": "link", "type": "link", "mode": 0o777, "mtime": _AT, "target": "d/run"},
    }  # fmt: skip
    assert set(manifest.blobs) == {sha256(_TEXT), sha256(b"content")}


def test_content_is_there_once_and_is_read_from_its_first_byte(context: Path) -> None:
    (context / "a").write_bytes(b"same")
    (context / "b").write_bytes(b"same")
    os.link(context / "a", context / "c")
    source = open_source(str(context), None, stdin=io.BytesIO(), scratch=Path("/tmp"))
    with source.context:
        manifest = describe(source, str(context), None, cache=None)
        blob = manifest.blobs[sha256(b"same")]
        assert blob.size_bytes == 4
        for _ in range(2):
            with blob.open() as file:
                assert file.read() == b"same"
    found = entries(manifest)
    assert [found[path]["digest"] for path in "abc"] == [sha256(b"same")] * 3


def test_time_before_the_epoch_is_the_epoch(context: Path) -> None:
    (context / "old").touch()
    os.utime(context / "old", (-5, -5))
    assert entries(described(context))["old"]["mtime"] == 0


def test_sockets_and_fifos_are_not_sent(context: Path) -> None:
    os.mkfifo(context / "fifo")
    assert set(entries(described(context))) == {"Dockerfile"}


def test_name_that_is_no_text_is_refused_with_ways_out(context: Path) -> None:
    (context / os.fsdecode(b"\xff")).touch()
    with pytest.raises(ContextError, match="is not UTF-8: such names cannot be sent to a server") as refused:
        described(context)
    assert refused.value.hint == "rename it, list it in .dockerignore, or build on this machine: --host local"
    (context / os.fsdecode(b"\xff")).unlink()
    (context / "link").symlink_to(os.fsdecode(b"\xff"))
    with pytest.raises(ContextError, match="is not UTF-8"):
        described(context)
    (context / "link").unlink()
    (context / "ä").touch()
    assert "ä" in entries(described(context))


def test_dockerfile_and_its_ignore_file_are_sent_though_they_are_ignored(context: Path) -> None:
    (context / ".dockerignore").write_text("*\n")
    before = int(time.time())
    manifest = described(context)
    found = entries(manifest)
    assert set(found) == {"Dockerfile", ".dockerignore"}
    assert (found["Dockerfile"]["mode"], found["Dockerfile"]["size"]) == (0o644, len(_TEXT))
    assert before <= found["Dockerfile"]["mtime"] <= time.time()
    with manifest.blobs[sha256(b"*\n")].open() as file:
        assert file.read() == b"*\n"


def test_dockerfile_in_an_ignored_directory_comes_with_the_directories_above_it(context: Path) -> None:
    (context / "a" / "b").mkdir(parents=True)
    (context / "a" / "b" / "app.Dockerfile").write_bytes(b"FROM scratch\nENV A=1\n")
    (context / "a" / "b" / "app.Dockerfile.dockerignore").write_text("a\n")
    manifest = described(context, "a/b/app.Dockerfile")
    assert manifest.dockerfile == "a/b/app.Dockerfile"
    found = entries(manifest)
    assert set(found) == {"Dockerfile", "a", "a/b", "a/b/app.Dockerfile", "a/b/app.Dockerfile.dockerignore"}
    for path in ("a", "a/b"):
        assert found[path] == {"path": path, "type": "directory", "mode": 0o755, "mtime": 0}
    order = [entry["path"] for entry in manifest.entries]
    assert order.index("a") < order.index("a/b") < order.index("a/b/app.Dockerfile")


def test_dockerfile_outside_of_the_context_is_sent_by_a_name_of_its_own(context: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"FROM scratch\nENV A=1\n")
    (context / ".dockerignore").write_text("docs\n")
    manifest = described(context, "../other")
    assert manifest.dockerfile == ELSEWHERE
    found = entries(manifest)
    assert found[ELSEWHERE]["digest"] == sha256(b"FROM scratch\nENV A=1\n")
    ignore = f"docs\n\n/{ELSEWHERE}\n/{ELSEWHERE}.dockerignore\n".encode()
    assert found[f"{ELSEWHERE}.dockerignore"]["digest"] == sha256(ignore), "it is in no image"
    (tmp_path / "other.dockerignore").write_text("src\n")
    own = described(context, "../other").blobs
    assert sha256(f"src\n\n/{ELSEWHERE}\n/{ELSEWHERE}.dockerignore\n".encode()) in own


def test_dockerfile_on_standard_input_is_sent_by_that_name(context: Path) -> None:
    manifest = described(context, "-", stdin=b"FROM scratch\nENV B=2\n")
    assert manifest.dockerfile == ELSEWHERE
    assert entries(manifest)[ELSEWHERE]["digest"] == sha256(b"FROM scratch\nENV B=2\n")
    alone = described("-", stdin=b"FROM scratch\n")
    assert set(entries(alone)) == {ELSEWHERE, f"{ELSEWHERE}.dockerignore"}


def test_dockerfile_is_found_in_the_context_by_whatever_path(context: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(context)
    for file in (str(context / "Dockerfile"), str(tmp_path / "link" / "Dockerfile"), "./Dockerfile"):
        assert described(context, file).dockerfile == "Dockerfile"


def test_hashes_of_unchanged_files_are_remembered(context: Path, tmp_path: Path) -> None:
    (context / "big").write_bytes(bytes(1 << 20))
    os.utime(context / "big", (_AT, _AT))
    cache = tmp_path / "cache" / "stats"
    first = described(context, cache=cache)
    (remembered,) = cache.iterdir()
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert described(context, cache=cache).entries == first.entries
    cache = tmp_path / "file"
    cache.touch()
    assert described(context, cache=cache).entries == first.entries, "a cache that cannot be written is none"
