"""Parses a Dockerfile once: its tree is remembered under its text's digest, and later builds do not import Lark."""

from __future__ import annotations

import functools
import hashlib

import dockerfile_grammar
from builder.codestamp import code_stamp
from dockerfile_grammar import Dockerfile, memo
from images.store import Store

_KIND = "parse"


def parse_remembered(text: bytes, name: str, store: Store) -> Dockerfile:
    """The tree of ``text``, which ``name`` stands for in messages. Raises DockerfileError."""
    key = hashlib.sha256(grammar_version() + text).hexdigest()
    known = store.cache.memo_get(_KIND, key)
    if known is not None and (dockerfile := memo.decode(known, name)) is not None:
        return dockerfile
    from dockerfile_grammar import parse

    dockerfile = parse(text, name)
    encoded = memo.encode(dockerfile)
    if encoded is not None:
        store.cache.memo_put(_KIND, key, encoded)
    return dockerfile


@functools.cache
def grammar_version() -> bytes:
    """A stamp of the grammar's files, which changes with them: a tree is valid only for the code that made it."""
    return hashlib.sha256(code_stamp(dockerfile_grammar)).digest()
