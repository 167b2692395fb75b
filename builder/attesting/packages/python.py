"""Python's packages: ``*.dist-info/METADATA``, ``*.egg-info/PKG-INFO`` and ``*.egg-info`` files.

Format: "Core metadata specifications" of packaging.python.org: an e-mail's header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.attesting.packages.model import Package, person


def packages(text: str, found_in: str) -> Iterator[Package]:
    """At most one package."""
    fields: dict[str, str] = {}
    for line in text.partition("\n\n")[0].splitlines():
        name, colon, value = line.partition(": ")
        if colon and not line[0].isspace():
            fields.setdefault(name.lower(), value.strip())
    name, version = fields.get("name", ""), fields.get("version", "")
    if name and version:
        author = fields.get("author-email") or fields.get("author", "")
        yield Package("pypi", "", re.sub(r"[-_.]+", "-", name).lower(), version, found_in, (), person(author))
