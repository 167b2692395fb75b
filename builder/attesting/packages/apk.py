"""Alpine's packages: ``/lib/apk/db/installed``.

Format: apk-tools' apk-v2(5): stanzas, whose lines are a letter, a colon and a value.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.attesting.packages.model import OperatingSystem, Package, person, qualified


def packages(text: str, found_in: str, system: OperatingSystem) -> Iterator[Package]:
    """What the database has."""
    for stanza in text.split("\n\n"):
        # The first line of each letter counts: files and their checksums repeat letters further down.
        fields: dict[str, str] = {}
        for line in stanza.splitlines():
            if line[1:2] == ":":
                fields.setdefault(line[0], line[2:])
        name, version = fields.get("P", ""), fields.get("V", "")
        if name and version:
            origin = fields.get("o", "")
            upstream = "" if origin == name else origin
            yield Package(
                "apk",
                system.id or "alpine",
                name,
                version,
                found_in,
                qualified({"arch": fields.get("A", ""), "distro": system.distro, "upstream": upstream}),
                person(fields.get("m", "")),
            )
