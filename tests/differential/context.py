"""What the cases copy: one build context, and one base image, with something of everything."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.differential.casefile import Case

_DAY_S = 86400
_EPOCH_S = 978307200  # 2001-01-01, so that copied times are told from those of the build


def write_context(directory: Path, case: Case | None = None) -> Path:
    """Write the context (a new directory) that all cases begin with, changed as one case asks. Returns directory."""
    for path in ("d/sub", "deep/one/two", "empty", "glob", "sticky", "hard", "spaced"):
        (directory / path).mkdir(parents=True)
    files = {
        "f": "file\n", "exec": "#!/bin/sh\necho ran\n", "setuid": "s", "private": "p", ".hidden": "hidden",
        "d/a": "a", "d/b": "bb", "d/sub/c": "ccc", "deep/one/x.txt": "x", "deep/one/two/y.txt": "y",
        "deep/z.md": "z", "glob/a.txt": "a", "glob/b.txt": "b", "glob/ab.md": "ab", "glob/[x]": "x",
        "glob/sub.txt/inner": "i", "hard/one": "linked", "spaced/a b": "space", "no-tar.tar": "no tar",
    }  # fmt: skip
    for path, content in {**files, **(case.files if case else {})}.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(content)
    os.link(directory / "hard/one", directory / "hard/two")
    links = {"link": "f", "dirlink": "d", "dangling": "nowhere", "outside": "../../etc/passwd", "absolute": "/d/a",
             "d/nested": "a", "d/up": "../f"}  # fmt: skip
    for path, target in {**links, **(case.links if case else {})}.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).symlink_to(target)
    plain = _archive()
    for name, data in {
        "plain.tar": plain, "packed.tar.gz": gzip.compress(plain, mtime=0), "packed.tar.bz2": bz2.compress(plain),
        "packed.tar.xz": lzma.compress(plain), "renamed.bin": plain,
    }.items():  # fmt: skip
        (directory / name).write_bytes(data)
    for name in case.archives if case else ():
        (directory / name).write_bytes(_ARCHIVES[name]())
    modes = {"exec": 0o755, "setuid": 0o4755, "private": 0o600, "sticky": 0o1777, "d/sub": 0o750, "d/b": 0o640}
    for path, mode in {**modes, **(case.modes if case else {})}.items():
        (directory / path).chmod(mode)
    _own_and_date(directory)
    return directory


def _own_and_date(directory: Path) -> None:
    """Owners are not root's (COPY is to make them so), and no two neighbours have the same time."""
    paths = sorted(directory.rglob("*"))
    for number, path in enumerate(reversed(paths)):
        mode = path.lstat().st_mode & 0o7777
        os.lchown(path, 1234, 4321)
        if not path.is_symlink():
            path.chmod(mode)  # chown took setuid away
        os.utime(path, (0, _EPOCH_S + number * _DAY_S), follow_symlinks=False)


def _archive() -> bytes:
    """A tar with owners, modes, a hard link and a symbolic one, for ADD."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _member(tar, "t", type=tarfile.DIRTYPE, mode=0o750, uid=7, gid=8)
        _member(tar, "t/file", b"in tar", mode=0o640, uid=7, gid=8)
        _member(tar, "t/exec", b"#!", mode=0o4755)
        _member(tar, "t/symlink", type=tarfile.SYMTYPE, linkname="file", mode=0o777)
        _member(tar, "t/hardlink", type=tarfile.LNKTYPE, linkname="t/file", mode=0o640, uid=7, gid=8)
        _member(tar, "no/parents/here", b"deep")
    return sink.getvalue()


def _archive_of_links() -> bytes:
    """A tar whose hard links have headers of their own, other than those of the files that they are names of."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as tar:

        def pair(name: str, link: str = "", **values: object) -> None:
            _member(tar, name, b"linked", mode=0o640, uid=7, gid=8)
            _member(tar, f"{name}-link", b"", type=tarfile.LNKTYPE, linkname=link or name, **values)

        pair("owner", mode=0o640, uid=9, gid=10)
        pair("mode", mode=0o4711, uid=7, gid=8)
        pair("time", mode=0o640, uid=7, gid=8, mtime=_EPOCH_S + 7 * _DAY_S)
        pair("dotted", link="./dotted", mode=0o604, uid=9, gid=10)
        pair("rooted", link="/rooted", mode=0o604, uid=9, gid=10)
        pair("in/deep", mode=0o604, uid=9, gid=10)
        pair("chain", mode=0o600, uid=9, gid=10)
        _member(tar, "chain-end", type=tarfile.LNKTYPE, linkname="chain-link", mode=0o644, uid=11, gid=12)
        _member(tar, "symlink", type=tarfile.SYMTYPE, linkname="owner", mode=0o777, uid=7, gid=8)
        _member(tar, "symlink-link", type=tarfile.LNKTYPE, linkname="symlink", mode=0o600, uid=9, gid=10)
        _member(tar, "fifo", type=tarfile.FIFOTYPE, mode=0o640, uid=7, gid=8)
        _member(tar, "fifo-link", type=tarfile.LNKTYPE, linkname="fifo", mode=0o604, uid=9, gid=10)
    return sink.getvalue()


def _archive_of(name: str) -> bytes:
    """A tar with one file."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _member(tar, name, b"deep")
    return sink.getvalue()


def write_base(busybox_tar: Path, target: Path) -> None:
    """The root filesystem that both builders import as ``base``: busybox, a few users, and things to copy onto."""
    with tarfile.open(busybox_tar) as source, tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for member in source:
            if member.name in ("./etc/passwd", "./etc/group"):
                continue
            tar.addfile(member, source.extractfile(member) if member.isreg() else None)
        _member(
            tar, "./etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )  # fmt: skip
        _member(tar, "./etc/group", b"root:x:0:\nstaff:x:50:app\nappgroup:x:1001:\nvideo:x:44:app,root\n")
        _member(tar, "./opt/owned", type=tarfile.DIRTYPE, mode=0o750, uid=1000, gid=1001)
        _member(tar, "./opt/owned/sub", type=tarfile.DIRTYPE, mode=0o700, uid=1000, gid=1001)
        _member(tar, "./opt/owned/file", b"of the base", mode=0o600, uid=1000, gid=1001)
        _member(tar, "./opt/owned/a", b"a of the base", mode=0o604, uid=1000, gid=1001)
        _member(tar, "./opt/full", type=tarfile.DIRTYPE)
        _member(tar, "./opt/full/a", type=tarfile.DIRTYPE)
        _member(tar, "./opt/full/a/x", b"x")
        _member(tar, "./opt/setuid", b"s", mode=0o6755, uid=1000, gid=1001)
        _member(tar, "./opt/hard1", b"two names")
        _member(tar, "./opt/hard2", type=tarfile.LNKTYPE, linkname="./opt/hard1")
        _member(tar, "./opt/glob.a", b"1")
        _member(tar, "./opt/glob.b", b"2")
        for name, to in (
            ("to-dir", "/opt/owned"), ("to-file", "/opt/owned/file"), ("to-nothing", "/opt/new"),
            ("relative", "owned"), ("opt/owned/nested", "file"), ("opt/owned/dirlink", "sub"),
        ):  # fmt: skip
            _member(tar, f"./{name}", type=tarfile.SYMTYPE, linkname=to, mode=0o777)


def _member(tar: tarfile.TarFile, name: str, data: bytes = b"", **values: object) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    member.mtime = _EPOCH_S - _DAY_S
    member.mode = 0o755 if values.get("type") == tarfile.DIRTYPE else 0o644
    for key, value in values.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


_ARCHIVES: Final[dict[str, Callable[[], bytes]]] = {
    "links.tar": _archive_of_links,
    "deep.tar": lambda: _archive_of("a/" * 900 + "f"),
    "too-long.tar": lambda: _archive_of("x" * 256),
    "too-deep.tar": lambda: _archive_of("a/" * 2047 + "abc"),
}
"""What ``@archive`` puts into a context, by name."""
