"""Platforms: ``os/architecture[/variant]``, normalised as containerd does it."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Self

from core.errors import InvalidReferenceError

_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
}
_PART = re.compile(r"[A-Za-z0-9_.-]+")


class Platform(NamedTuple):
    """An operating system and a processor; ``variant`` is empty where there is none or it is the default one."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``linux/arm64/v8``, ``linux/amd64`` or ``arm64``. Raises InvalidReferenceError."""
        parts = text.strip().split("/")
        if not 1 <= len(parts) <= 3 or not all(_PART.fullmatch(part) for part in parts):
            raise InvalidReferenceError(
                f"invalid platform {text!r}", hint="expected os/architecture[/variant]: linux/amd64"
            )
        if len(parts) == 1 and parts[0].lower() != "linux":
            parts = ["linux", *parts]
        system = parts[0].lower()
        architecture = parts[1].lower() if len(parts) > 1 else cls.host().architecture
        architecture, variant = _ARCHITECTURES.get(architecture, (architecture, ""))
        if len(parts) == 3:
            variant = parts[2].lower()
        if architecture == "arm" and not variant:
            variant = "v7"
        if (architecture, variant) in {("arm64", "v8"), ("arm64", "8"), ("amd64", "v1")}:
            variant = ""
        return cls(system, architecture, variant)

    @classmethod
    def host(cls) -> Self:
        """The platform of this machine."""
        machine = os.uname().machine
        return cls("linux", *_ARCHITECTURES.get(machine, (machine, "")))

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)
