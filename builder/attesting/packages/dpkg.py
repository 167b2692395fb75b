"""Debian's packages: ``/var/lib/dpkg/status``, or a file for each package below ``status.d`` (distroless images).

Format: deb822(5); dpkg's lib/dpkg/parse.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.attesting.packages.model import OperatingSystem, Package, person, qualified


def packages(text: str, found_in: str, system: OperatingSystem) -> Iterator[Package]:
    """The installed packages of a status file. A package that left only its configuration does not count."""
    for stanza in text.split("\n\n"):
        fields = _fields(stanza)
        name, version = fields.get("Package", ""), fields.get("Version", "")
        status = fields.get("Status", "install ok installed").split()
        if not name or not version or status[-1:] != ["installed"]:
            continue
        source, _, source_version = fields.get("Source", "").partition(" ")
        upstream = source + (f"@{source_version.strip('()')}" if source_version else "")
        yield Package(
            "deb",
            system.id or "debian",
            name,
            version,
            found_in,
            qualified({"arch": fields.get("Architecture", ""), "distro": system.distro, "upstream": upstream}),
            person(fields.get("Maintainer", "")),
        )


def _fields(stanza: str) -> dict[str, str]:
    """The fields of a stanza, the first line of each; continuation lines are dropped."""
    lines = (line.partition(":") for line in stanza.splitlines() if line and not line[0].isspace())
    return {name: value.strip() for name, _, value in lines}
