"""A parsed Dockerfile as bytes and back, for remembering parses: decoding needs neither Lark nor the grammars.

The bytes are data, never code. Only the code that made them can use them: keep them under a key of this package's
version and the digest of the Dockerfile's text.
"""

from __future__ import annotations

import functools
import threading
from typing import Final

import msgspec

from dockerfile_grammar.ast import Dockerfile

_FIRST: Final = threading.Lock()
"""Held while msgspec learns the types: it has no lock of its own for that, and two threads at once crash it."""


def encode(dockerfile: Dockerfile) -> bytes | None:
    """The whole tree, source lines included; None for a file whose comments are no UTF-8, which msgpack cannot hold."""
    try:
        return msgspec.msgpack.encode(dockerfile)
    except UnicodeEncodeError:
        return None


def decode(data: bytes, filename: str) -> Dockerfile | None:
    """The tree that was encoded, under its present name; None when the bytes are none that this code made."""
    with _FIRST:
        decoder = _decoder()
    try:
        dockerfile = decoder.decode(data)
    except msgspec.MsgspecError:
        return None
    if dockerfile.filename == filename:
        return dockerfile
    return msgspec.structs.replace(dockerfile, source=msgspec.structs.replace(dockerfile.source, filename=filename))


@functools.cache
def _decoder() -> msgspec.msgpack.Decoder[Dockerfile]:
    return msgspec.msgpack.Decoder(Dockerfile)
