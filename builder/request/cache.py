"""Values of ``--cache-from`` and ``--cache-to``, parsed: where a cache comes from and goes to."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

CacheMode: TypeAlias = Literal["min", "max"]
CacheCompression: TypeAlias = Literal["gzip", "zstd", "uncompressed"]


INLINE_MEMBER: Final = "shiplap.cache.v1"
"""The member of an image's config that holds the records of an inline cache."""


class CacheFrom(NamedTuple):
    """One ``--cache-from``.

    location: a directory with an OCI layout (local), or the name of a cache or of an image with an inline cache
    (registry).
    tag, digest: which of a layout's manifests; a digest beats the tag.
    optional: nobody is warned when there is no such cache in the registry (yet).
    """

    type: Literal["local", "registry"]
    location: str
    tag: str = "latest"
    digest: str = ""
    optional: bool = False

    def __str__(self) -> str:
        return self.location


class CacheTo(NamedTuple):
    """One ``--cache-to``.

    location: a directory (local), a name (registry), nothing (inline: it goes into the image).
    mode: ``min`` has the layers of the image that is built, ``max`` those of all its stages.
    level: of the compression; None: a blob of any level will do.
    ignore_error: a cache that cannot be written is a warning.
    """

    type: Literal["local", "registry", "inline"]
    location: str = ""
    tag: str = "latest"
    mode: CacheMode = "min"
    compression: CacheCompression = "gzip"
    level: int | None = None
    ignore_error: bool = False

    def __str__(self) -> str:
        return self.location
