"""Which packages are found in an image's files."""

from __future__ import annotations

import sqlite3
import struct
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from builder.attesting.packages.model import OperatingSystem
from builder.attesting.packages.scan import Contents, scan
from core.digests import DiffID
from images.store import Store
from images.tarwriter import TarWriter
from tests.toolkit.foreign import run_tool

OS_RELEASE = 'ID=debian\nVERSION_ID="13"\nPRETTY_NAME="Debian GNU/Linux 13 (trixie)"\n'
STATUS = """\
Package: libc6
Status: install ok installed
Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>
Architecture: amd64
Source: glibc (2.41-1)
Version: 2.41-1+b1
Description: GNU C Library
 Package: not-this

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""
APK = """\
C:Q1x=
P:musl
V:1.2.5-r9
A:x86_64
o:musl
m:Timo <timo@alpinelinux.org>
F:lib
R:x
P:no

P:so
V:1
o:src
"""
METADATA = (
    "Metadata-Version: 2.1\nName: Typing_Extensions\nVersion: 4.12\nAuthor-email: Guido <g@python.org>\n\nName: no\n"
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as opened:
        yield opened


def layer(store: Store, files: Mapping[str, bytes]) -> DiffID:
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        for name, data in files.items():
            writer.file(name.encode(), 0o644, 0, 0, 0, len(data), data)
        writer.close()
        return blob.commit()


def found(store: Store, *layers: Mapping[str, bytes]) -> Contents:
    return scan(store, [layer(store, files) for files in layers])


def names(contents: Contents) -> list[tuple[str, str, str, str]]:
    return [(each.kind, each.namespace, each.name, each.version) for each in contents.packages]


def test_dpkg(store: Store) -> None:
    contents = found(store, {"etc/os-release": OS_RELEASE.encode(), "var/lib/dpkg/status": STATUS.encode()})
    assert contents.system == OperatingSystem("debian", "13", "Debian GNU/Linux 13 (trixie)")
    (package,) = contents.packages
    assert (package.kind, package.namespace, package.name, package.version) == ("deb", "debian", "libc6", "2.41-1+b1")
    assert dict(package.qualifiers) == {"arch": "amd64", "distro": "debian-13", "upstream": "glibc@2.41-1"}
    assert package.supplier == "Person: GNU Libc Maintainers (debian-glibc@lists.debian.org)"
    assert package.found_in == "/var/lib/dpkg/status"


def test_dpkg_without_a_package_manager(store: Store) -> None:
    stanza = b"Package: base\nVersion: 1\nArchitecture: all\n"
    contents = found(store, {"var/lib/dpkg/status.d/base": stanza, "var/lib/dpkg/status.d/base.md5sums": stanza})
    assert names(contents) == [("deb", "debian", "base", "1")]


def test_apk(store: Store) -> None:
    contents = found(store, {"lib/apk/db/installed": APK.encode(), "etc/os-release": b"ID=alpine\nVERSION_ID=3.22.1\n"})
    assert names(contents) == [("apk", "alpine", "musl", "1.2.5-r9"), ("apk", "alpine", "so", "1")]
    assert dict(contents.packages[0].qualifiers) == {"arch": "x86_64", "distro": "alpine-3.22.1"}
    assert dict(contents.packages[1].qualifiers)["upstream"] == "src"


def test_python_and_npm(store: Store) -> None:
    contents = found(
        store,
        {
            "usr/lib/python3/dist-packages/typing_extensions-4.12.dist-info/METADATA": METADATA.encode(),
            "usr/lib/python3/dist-packages/old.egg-info": b"Name: old\nVersion: 0.1\n",
            "app/package.json": b'{"name": "not-installed", "version": "1.0.0"}',
            "app/node_modules/left-pad/package.json": b'{"name": "left-pad", "version": "1.3.0", "author": "A <a@b>"}',
            "app/node_modules/@types/node/package.json": b'{"name": "@types/node", "version": "24.1.0"}',
            "app/node_modules/left-pad/test/package.json": b'{"name": "part", "version": "1.0.0"}',
            "app/node_modules/broken/package.json": b'{"name": ["list"]}',
        },
    )
    assert names(contents) == [
        ("npm", "", "left-pad", "1.3.0"),
        ("npm", "@types", "node", "24.1.0"),
        ("pypi", "", "old", "0.1"),
        ("pypi", "", "typing-extensions", "4.12"),
    ]
    assert contents.unreadable == ("/app/node_modules/broken/package.json",)


def test_rpm(store: Store, tmp_path: Path) -> None:
    database = rpm_database(
        tmp_path / "rpmdb.sqlite",
        [
            {
                1000: "bash",
                1001: "5.2",
                1002: "3.fc42",
                1003: 2,
                1011: "Fedora",
                1022: "x86_64",
                1044: "bash.src.rpm",
            },
            {1000: "gpg-pubkey", 1001: "105ef944"},
        ],
    )
    contents = found(
        store, {"usr/lib/sysimage/rpm/rpmdb.sqlite": database, "etc/os-release": b"ID=fedora\nVERSION_ID=42\n"}
    )
    assert names(contents) == [("rpm", "fedora", "bash", "5.2-3.fc42")]
    (package,) = contents.packages
    assert dict(package.qualifiers) == {
        "arch": "x86_64",
        "distro": "fedora-42",
        "epoch": "2",
        "upstream": "bash.src.rpm",
    }
    assert package.supplier == "Organization: Fedora"


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_damaged_rpm_database_is_told_of(store: Store, tmp_path: Path, size: int) -> None:
    database = rpm_database(tmp_path / "rpmdb.sqlite", [{1000: "bash", 1001: "5.2"}])
    contents = found(store, {"var/lib/rpm/rpmdb.sqlite": database[:size]})
    assert contents.packages == ()
    assert contents.unreadable == ("/var/lib/rpm/rpmdb.sqlite",)


def test_only_what_is_left_in_the_image_counts(store: Store) -> None:
    base = {"var/lib/dpkg/status": STATUS.encode(), "app/node_modules/a/package.json": b'{"name":"a","version":"1"}'}
    upgraded = STATUS.replace("2.41-1+b1", "2.42-1").encode()
    contents = found(store, base, {"var/lib/dpkg/status": upgraded, "app/.wh.node_modules": b""})
    assert names(contents) == [("deb", "debian", "libc6", "2.42-1")]


def test_a_debian_image_has_what_dpkg_says(store: Store, debian_tar: Path, tmp_path: Path) -> None:
    with debian_tar.open("rb") as stream:
        diff_id = store.layers.import_compressed(stream)
    with tarfile.open(debian_tar) as tar:
        tar.extract("./var/lib/dpkg/status", tmp_path, filter="data")
    (tmp_path / "var/lib/dpkg/info").mkdir()
    form = "${Package} ${Version} ${Architecture}\n"
    listed = run_tool("dpkg-query", f"--admindir={tmp_path / 'var/lib/dpkg'}", "-W", "-f", form).splitlines()
    contents = scan(store, [diff_id])
    ours = [f"{each.name} {each.version} {dict(each.qualifiers)['arch']}" for each in contents.packages]
    assert sorted(ours) == sorted(listed)
    assert len(ours) > 50


def rpm_database(path: Path, packages: list[dict[int, str | int]]) -> bytes:
    """A database as rpm writes it, with these tags: texts and numbers."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    for tags in packages:
        index, data = b"", b""
        for tag, value in tags.items():
            data += b"\0" * (-len(data) % 4)
            kind = 4 if isinstance(value, int) else 6
            index += struct.pack(">IIII", tag, kind, len(data), 1)
            data += struct.pack(">I", value) if isinstance(value, int) else value.encode() + b"\0"
        header = struct.pack(">II", len(tags), len(data)) + index + data
        connection.execute("INSERT INTO Packages (blob) VALUES (?)", (header,))
    connection.commit()
    connection.close()
    return path.read_bytes()
