"""Packages by databases that somebody else read out of an image."""

from __future__ import annotations

from builder.attesting.packages.databases import is_database, names_and_versions

_DPKG = (
    b"Package: libc6\nStatus: install ok installed\nVersion: 2.41-12\n\n"
    b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
)
_TZ = b"Package: tz\nVersion: 3\n"
_APK = b"P:musl\nV:1.2.5-r9\n\nP:busybox\nV:1.37\n"


def test_databases_of_both_systems_are_known_and_read() -> None:
    files = {
        "var/lib/dpkg/status": _DPKG,
        "var/lib/dpkg/status.d/base": b"Package: tz\nVersion: 3\n",
        "lib/apk/db/installed": _APK,
    }
    assert all(is_database(path) for path in files)
    assert not any(is_database(path) for path in ("var/lib/dpkg/status.d/a.md5sums", "x/var/lib/dpkg/status", "status"))
    assert names_and_versions(files) == [("busybox", "1.37"), ("libc6", "2.41-12"), ("musl", "1.2.5-r9"), ("tz", "3")]


def test_garbage_is_no_package() -> None:
    assert names_and_versions({"var/lib/dpkg/status": bytes(range(256)), "lib/apk/db/installed": b"\n\n:::"}) == []
