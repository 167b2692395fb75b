"""Every error of the images room: one tree below ``ImagesError``.

(ShiplapError)
└── ImagesError
    ├── StoreError
    │   ├── StoreVersionError
    │   ├── StoreCorruptError
    │   ├── StoreLostError
    │   ├── StoreBusyError
    │   └── StoreAccessError
    ├── MissingBlobError
    │   └── DamagedBlobError
    ├── DigestMismatchError
    ├── InvalidDocumentError
    │   ├── InvalidConfigError
    │   └── InvalidManifestError
    ├── InvalidLayerError
    ├── InvalidArchiveError
    ├── UnsupportedCompressionError
    ├── CompressedDataError
    ├── LayerSourceError
    ├── ImageNotFoundError
    ├── AmbiguousImageError
    ├── ImageInUseError
    └── SnapshotError
"""

from __future__ import annotations

from core.errors import ShiplapError


class ImagesError(ShiplapError):
    """The root of this room's errors."""


# The store as a whole.


class StoreError(ImagesError):
    """The local store cannot be used."""


class StoreVersionError(StoreError):
    """The store was written by a newer Shiplap, whose schema this one does not know."""


class StoreCorruptError(StoreError):
    """The database or a file of the store is not what it was when it was written."""


class StoreLostError(StoreError):
    """Content is there, and the database that knows what it is, is not."""


class StoreBusyError(StoreError):
    """Another process held the database for longer than anyone should."""


class StoreAccessError(StoreError):
    """The store's directory cannot be made, read or written by this user."""


# Content.


class MissingBlobError(ImagesError):
    """A blob or layer is not in the store."""


class DamagedBlobError(MissingBlobError):
    """A blob's file no longer has the content that it is named for: it counts as missing until a good copy comes."""


class DigestMismatchError(ImagesError):
    """Bytes do not have the digest (or size) that they were announced with."""


class InvalidDocumentError(ImagesError):
    """JSON of an image does not follow the specification."""


class InvalidConfigError(InvalidDocumentError):
    """An image config cannot be read, or contradicts its layers."""


class InvalidManifestError(InvalidDocumentError):
    """A manifest, an index or a descriptor cannot be read."""


class InvalidLayerError(ImagesError):
    """A layer's tar is damaged, or holds what a layer must not hold (entries that lead outside, for example)."""


class InvalidArchiveError(ImagesError):
    """A file given to load or import is no archive of images or of a root filesystem."""


class UnsupportedCompressionError(ImagesError):
    """A layer is compressed in a way that this installation cannot read."""


class CompressedDataError(ImagesError):
    """Compressed data is damaged, ends early, or grows beyond what was allowed."""


class LayerSourceError(ImagesError):
    """A file could not be put into a layer: it changed while it was read, is unreadable, or fits no tar header."""


# Images and names.


class ImageNotFoundError(ImagesError):
    """No image has this name or ID."""


class AmbiguousImageError(ImagesError):
    """An ID prefix fits several images."""


class ImageInUseError(ImagesError):
    """Removing this image would take away more than the caller named; ``force`` does it."""


# Snapshots.


class SnapshotError(ImagesError):
    """A root filesystem could not be derived from layers."""
