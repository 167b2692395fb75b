"""A read-only layer of a root filesystem, as data: what ``images`` derives and ``containers`` mounts.

A root filesystem is a sequence of these, base first. Overlay conventions hold in each of them: a 0/0 character device
is a whiteout, the extended attribute ``user.overlay.opaque=y`` makes a directory opaque.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias


class DirectoryLayer(NamedTuple):
    """A directory on disk whose files have the owners that the container is to see (before ID mapping)."""

    path: str


class ErofsLayer(NamedTuple):
    """An EROFS image without data of its own: its blocks are in the ``device`` file, a layer's tar."""

    image: str
    device: str


RootLayer: TypeAlias = DirectoryLayer | ErofsLayer
