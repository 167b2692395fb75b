"""Whiteouts: names by which a layer says what of the layers below is gone. Spec: image-spec, layer.md, "Whiteouts"."""

from __future__ import annotations

import os
from typing import Final

from images.errors import InvalidLayerError

WHITEOUT_PREFIX: Final = b".wh."
"""``.wh.NAME``: NAME, in the same directory, is removed."""

METADATA_PREFIX: Final = b".wh..wh."
"""Of aufs's own files. All but ``OPAQUE_NAME`` say nothing."""

OPAQUE_NAME: Final = b".wh..wh..opq"
"""All that the directory has in layers below is removed."""


def hidden_name(name: bytes) -> bytes:
    """What the whiteout ``name`` (a last component) hides; empty for the opaque marker and aufs's other files.

    Raises InvalidLayerError when it says that the directory itself or its parent is gone.
    """
    if name.startswith(METADATA_PREFIX):
        return b""
    hidden = name.removeprefix(WHITEOUT_PREFIX)
    if hidden in (b"", b".", b".."):
        raise InvalidLayerError(f"the layer has a whiteout of nothing that can be removed: {os.fsdecode(name)!r}")
    return hidden
