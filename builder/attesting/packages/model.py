"""A package, whoever installed it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class OperatingSystem(msgspec.Struct, frozen=True):
    """What ``/etc/os-release`` says: ``debian``, ``13``, ``Debian GNU/Linux 13 (trixie)``. Empty where it is silent."""

    id: str = ""
    version: str = ""
    name: str = ""

    @property
    def distro(self) -> str:
        """As package URLs name it: ``debian-13``."""
        return "-".join(part for part in (self.id, self.version) if part)

    @classmethod
    def parse(cls, text: str) -> OperatingSystem:
        """Read the file.  Spec: os-release(5)."""
        members = dict(line.partition("=")[::2] for line in text.splitlines() if not line.startswith("#"))
        plain = {key: value.strip().strip("\"'") for key, value in members.items()}
        return cls(plain.get("ID", ""), plain.get("VERSION_ID", ""), plain.get("PRETTY_NAME", ""))


class Package(msgspec.Struct, frozen=True, order=True):
    """One installed package.

    kind, namespace, qualifiers: of its package URL (``deb``, ``debian``, ``arch``).
    found_in: the file that lists the package.
    supplier: who made the package, as SPDX has it: ``Person: …`` or ``Organization: …``; empty when nobody says.
    """

    kind: str
    namespace: str
    name: str
    version: str
    found_in: str
    qualifiers: tuple[tuple[str, str], ...] = ()
    supplier: str = ""


def qualified(members: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Qualifiers that say something, sorted."""
    return tuple(sorted((key, value) for key, value in members.items() if value))


def person(text: str) -> str:
    """``Ada <ada@example.org>`` as SPDX writes it; empty for nobody."""
    name, _, address = text.partition("<")
    name, address = name.strip(), address.rstrip("> \n")
    if not name:
        return ""
    return f"Person: {name} ({address})" if address else f"Organization: {name}"
