"""Which of an index's images runs on a platform.  Source: ``Only`` in containerd's platforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from core.platforms import Platform
from images.oci import INDEX_TYPES, MANIFEST_TYPES, Descriptor

_ARM_VERSIONS: Final = ("v8", "v7", "v6", "v5")


def preferences(wanted: Platform) -> list[Platform]:
    """What a machine of this platform runs, best first."""

    def on(architecture: str, variant: str = "") -> Platform:
        return Platform.parse("/".join(part for part in (wanted.os, architecture, variant) if part))

    if wanted.architecture == "amd64":
        levels = ("v4", "v3", "v2")
        own = levels[levels.index(wanted.variant) :] if wanted.variant in levels else ()
        return [*(on("amd64", level) for level in own), on("amd64"), on("386")]
    if wanted.architecture == "arm64":
        newer = [wanted] if wanted.variant else []
        return [*newer, on("arm64"), *(on("arm", version) for version in _ARM_VERSIONS)]
    if wanted.architecture == "arm" and wanted.variant in _ARM_VERSIONS:
        return [on("arm", version) for version in _ARM_VERSIONS[_ARM_VERSIONS.index(wanted.variant) :]]
    return [wanted]


def runs_here(platform: Platform) -> bool:
    """Whether this machine's processor runs programs for the platform. Variants are not told apart."""
    return platform[:2] in {known[:2] for known in preferences(Platform.host())}


def choose(manifests: Sequence[Descriptor], wanted: Platform) -> Descriptor | None:
    """The entry that fits best, the first of equals; one that states no platform only when nothing else fits."""
    candidates = [entry for entry in manifests if is_image(entry)]
    for platform in preferences(wanted):
        for entry in candidates:
            if entry.platform is not None and entry.platform.normalised() == platform:
                return entry
    return next((entry for entry in candidates if entry.platform is None), None)


def offered(manifests: Sequence[Descriptor]) -> list[str]:
    """The platforms that an index has, for messages."""
    return list(
        dict.fromkeys(str(entry.platform.normalised()) for entry in manifests if is_image(entry) and entry.platform)
    )


def is_image(entry: Descriptor) -> bool:
    """Whether it is neither an attestation (whose platform is unknown/unknown) nor another artifact."""
    if entry.media_type not in MANIFEST_TYPES | INDEX_TYPES or entry.artifact_type:
        return False
    return entry.platform is None or entry.platform.os != "unknown"
