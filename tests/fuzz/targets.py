"""What is fuzzed: functions that take hostile bytes, may raise their own error, and nothing else, and must come back.

python -m tests.fuzz.run grammar --seconds 600
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from dockerfile_grammar import IgnorePatterns, parse
from dockerfile_grammar.errors import DockerfileError
from images.apply import apply_layer
from images.errors import InvalidLayerError
from images.tarheaders import normalise
from images.tarreader import TarReader

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_LIMIT: Final = 1 << 22  # bytes of one entry's content that are read


class Target(NamedTuple):
    """seeds: what mutations begin with. run: raises AssertionError, or an error that is not its own, for a finding.

    repair: makes checksums right again after a mutation, without which nothing behind them would be reached.
    """

    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes], None]
    repair: Callable[[bytes], bytes] = bytes


def _dockerfiles() -> list[bytes]:
    found = [path.read_bytes() for path in sorted((_CHECKOUT / "examples").glob("*/Dockerfile"))]
    return [
        *found,
        b"# syntax=docker/dockerfile:1\n# escape=`\nFROM a AS b\nRUN <<EOF <<-'X'\none\nEOF\n\ttwo\n\tX\n",
        b'FROM ${A:-b}\nRUN --mount=type=bind,from=x,target=/y ["a", "b"]\nCOPY --chmod=u+x --link a "b c" /d\n',
        b"FROM a\nENV a=b c='d e' f=\\\n g\nHEALTHCHECK --interval=5s CMD x\nONBUILD ADD <<E /f\n$x\nE\n",
    ]


def _grammar(data: bytes) -> None:
    try:
        dockerfile = parse(data, "Dockerfile")
    except DockerfileError:
        return
    lines = data.count(b"\n") + data.count(b"\r") + 1
    for stage in dockerfile.stages:
        for instruction in stage.instructions:
            assert 1 <= instruction.span.start.line <= instruction.span.end.line <= lines


def _ignore_files() -> list[bytes]:
    return [b"*.log\n!keep.log\n# note\n**/node_modules/\n[a-z]?/x\n", b"\xff\n\\!a\n[\n"]


def _ignore(data: bytes) -> None:
    try:
        patterns = IgnorePatterns.parse(data.decode("utf-8", "surrogateescape"), filename=".dockerignore")
    except DockerfileError:
        return
    for path in ("a", "a/b.log", "node_modules/x", "keep.log"):
        patterns.matches(path)


def _tars() -> list[bytes]:
    seeds = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w", format=kind) as archive:
            for name, member_type, target in (
                ("d", tarfile.DIRTYPE, ""),
                ("d/f", tarfile.REGTYPE, ""),
                ("d/" + "long" * (10 if kind == tarfile.USTAR_FORMAT else 40), tarfile.REGTYPE, ""),
                ("d/l", tarfile.SYMTYPE, "../../../etc"),
                ("d/h", tarfile.LNKTYPE, "d/f"),
                ("d/.wh.gone", tarfile.REGTYPE, ""),
                ("d/.wh..wh..opq", tarfile.REGTYPE, ""),
                ("d/p", tarfile.FIFOTYPE, ""),
            ):
                member = tarfile.TarInfo(name)
                member.type, member.linkname = member_type, target
                member.size = 700 if name == "d/f" else 0
                archive.addfile(member, io.BytesIO(b"x" * member.size))
        seeds.append(sink.getvalue())
    return seeds


def _with_checksums(data: bytes) -> bytes:
    """Whatever lies where a header may be and has ustar's magic gets the right checksum."""
    fixed = bytearray(data)
    for at in range(0, len(fixed) - 511, 512):
        if fixed[at + 257 : at + 262] == b"ustar":
            fixed[at + 148 : at + 156] = b" " * 8
            fixed[at + 148 : at + 156] = b"%06o\0 " % sum(fixed[at : at + 512])
    return bytes(fixed)


def _tar_reader(data: bytes) -> None:
    reader = TarReader(io.BytesIO(data))
    try:
        for entry in reader:
            if entry.size <= _LIMIT:
                assert len(reader.read(entry.size)) <= entry.size
            name = normalise(entry.name)
            assert not name.startswith(b"/")
            assert b".." not in name.split(b"/")
    except InvalidLayerError:
        return


def _tar_apply(data: bytes) -> None:
    """Nothing is made outside of the directory that the layer is unpacked to."""
    with tempfile.TemporaryDirectory(prefix="shiplap-fuzz-") as folder:
        root = Path(folder, "outer", "root")
        root.mkdir(parents=True)
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            apply_layer(io.BytesIO(data), fd, overlay=False)
        except InvalidLayerError:
            pass
        finally:
            os.close(fd)
        assert os.listdir(folder) == ["outer"]
        assert os.listdir(root.parent) == ["root"]


TARGETS: Final = {
    "grammar": Target(_dockerfiles, _grammar),
    "ignore": Target(_ignore_files, _ignore),
    "tar-reader": Target(_tars, _tar_reader, _with_checksums),
    "tar-apply": Target(_tars, _tar_apply, _with_checksums),
}
