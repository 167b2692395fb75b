"""Packages by the operating systems' databases that are plain text, for whoever has these files and no store.

Debian's and Alpine's are; an rpm database is not, nor are those of languages found without a walk over all files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from builder.attesting.packages import apk, dpkg
from builder.attesting.packages.model import OperatingSystem

_DPKG: Final = re.compile(r"var/lib/dpkg/(?:status|status\.d/(?!.*\.md5sums$)[^/]+)")
_APK: Final = re.compile(r"(?:usr/)?lib/apk/db/installed")


def is_database(path: str) -> bool:
    """Whether a file of an image lists packages. path: without a slash in front."""
    return bool(_DPKG.fullmatch(path) or _APK.fullmatch(path))


def names_and_versions(files: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """The packages that these databases list. files: by path. What is no database is as good as an empty one."""
    found: set[tuple[str, str]] = set()
    for path, data in files.items():
        read = dpkg.packages if _DPKG.fullmatch(path) else apk.packages
        text = data.decode("utf-8", "replace")
        found.update((each.name, each.version) for each in read(text, f"/{path}", OperatingSystem()))
    return sorted(found)
