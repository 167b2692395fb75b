"""What a build hands back. Nothing of ``builder`` below ``build`` and ``recall`` needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from builder.bases import NewStep
    from builder.cacheio.buildcache import BuildCache
    from core.digests import DiffID, Digest
    from core.platforms import Platform
    from core.references import Reference
    from images.oci import Descriptor
    from images.summary import Image


class BuildResult(NamedTuple):
    """What was built.

    image: None when no output puts it into the store; of several platforms, the first.
    config_digest: of the image's config, its ID; for an index, the index's digest.
    root: the manifest or index of the last output that is an image; None when no output is one.
    names: the names that this image has there.
    id: of this build; nothing else uses it.
    executed: the steps that ran; FROM does not count.
    cached: the steps that the cache answered; FROM does not count.
    layers: the layer of each step that made one, by the step's ID.
    cache: the records that answered or were made, to be written elsewhere.
    new_step: makes a step for what follows, such as a push. ``cache`` may still show steps of its own, so all step
    numbers come from here.
    """

    id: str
    image: Image | None
    config_digest: Digest
    root: Descriptor | None
    is_index: bool
    names: tuple[Reference, ...]
    executed: int
    cached: int
    layers: Mapping[int, DiffID]
    cache: BuildCache
    new_step: NewStep

    @property
    def manifest_digest(self) -> Digest:
        """The digest of the manifest or index that went out; the image's ID where only files did."""
        return self.config_digest if self.root is None else self.root.digest


class RecalledResult(NamedTuple):
    """As ``BuildResult``, for a build with the same outcome as one before. Its image is in the store."""

    id: str
    config_digest: Digest
    manifest_digest: Digest
    manifest_size: int
    media_type: str
    platform: Platform
    names: tuple[Reference, ...]
    cached: int
    executed: int = 0
    is_index: bool = False

    @property
    def root(self) -> Descriptor:
        """The image's manifest."""
        from images.oci import Descriptor, OciPlatform

        return Descriptor(
            media_type=self.media_type,
            digest=self.manifest_digest,
            size=self.manifest_size,
            platform=OciPlatform.of(self.platform),
        )
