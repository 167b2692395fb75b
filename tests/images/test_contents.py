"""What is in a layer, and what it changes below."""

from __future__ import annotations

import gzip
import io
import tarfile

import pytest

from images import contents
from images.contents import LayerEntry, Taken, change_of, directory, layer_diff, paths_below, read_entries
from images.errors import ImagesError, InvalidLayerError


def _tar(**files: bytes | None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(content or b""))
    return buffer.getvalue()


def _entries(**files: bytes | None) -> list[LayerEntry]:
    return read_entries(io.BytesIO(_tar(**files)))


def test_entries_of_a_compressed_layer() -> None:
    found = read_entries(io.BytesIO(gzip.compress(_tar(**{"./etc": None, "etc/motd": b"hello"}))))
    assert [(entry.path, entry.kind, entry.size) for entry in found] == [
        ("etc", "directory", 0),
        ("etc/motd", "file", 5),
    ]


def test_names_and_files_that_are_taken_have_limits_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_MAX_CHARACTERS", 30)
    monkeypatch.setattr(contents, "_MAX_TAKEN_BYTES", 10)
    taken = Taken(lambda path: path != "d")
    layer = _tar(a=b"12345", b=b"123456", c=b"12345", d=b"")
    assert len(read_entries(io.BytesIO(layer), taken=taken)) == 4
    assert taken.found == {"a": b"12345", "c": b"12345"}
    with pytest.raises(InvalidLayerError, match="30 characters"):
        _entries(**{"a" * 20: b"", "b" * 20: b""})


def test_whiteouts_are_what_they_remove() -> None:
    found = _entries(**{"a/.wh.b": b"", "c/.wh..wh..opq": b"", "c/.wh..wh.plnk": b""})
    assert [(entry.path, entry.kind) for entry in found] == [("a/b", "removed"), ("c", "emptied")]


def test_names_that_are_no_text_are_shown() -> None:
    tar = _tar(caf_=b"").replace(b"caf_", b"caf\xe9", 1)
    header = bytearray(tar[:512])
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    assert read_entries(io.BytesIO(bytes(header) + tar[512:]))[0].path == "caf\\xe9"


def test_too_much_is_refused() -> None:
    with pytest.raises(ImagesError, match="more than 1000 bytes"):
        read_entries(io.BytesIO(gzip.compress(_tar(big=bytes(100_000)))), limit_bytes=1000)


def test_what_is_below_is_what_all_layers_leave() -> None:
    base = _entries(**{"a/b/c": b"", "d": None, "d/e": b"", "f/g": b""})
    above = _entries(**{"a/.wh.b": b"", "d/.wh..wh..opq": b"", "d/h": b""})
    assert paths_below([base]) == {"a", "a/b", "a/b/c", "d", "d/e", "f", "f/g"}
    assert paths_below([base, above]) == {"a", "d", "d/h", "f", "f/g"}


def test_changes_are_counted_up_the_tree() -> None:
    below = paths_below([_entries(**{"etc": None, "etc/motd": b"x", "usr/doc/a": b""})])
    layer = _entries(**{"etc": None, "etc/motd": b"new", "etc/issue": b"1", "usr/.wh.doc": b"", "srv/x/y": b"22"})
    diff = layer_diff(layer, below)
    nodes = {node.name: node for node in directory(layer, diff)}
    assert list(nodes) == ["etc", "srv", "usr"]
    assert [(n.change, n.added, n.modified, n.removed, n.size) for n in nodes.values()] == [
        ("same", 1, 1, 0, 4), ("added", 1, 0, 0, 2), ("same", 0, 0, 1, 0),
    ]  # fmt: skip
    assert [(n.name, n.change) for n in directory(layer, diff, "etc")] == [("issue", "added"), ("motd", "modified")]
    assert [(n.name, n.kind) for n in directory(layer, diff, "usr")] == [("doc", "removed")]
    assert directory(layer, diff, "nowhere") == []
    assert change_of(layer[0], below) == "same"
