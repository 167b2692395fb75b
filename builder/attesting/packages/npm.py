"""Packages of npm, yarn and pnpm: the ``package.json`` of each directory directly in a ``node_modules``."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from builder.attesting.packages.model import Package, person


class _Manifest(msgspec.Struct):
    name: str = ""
    version: str = ""
    author: object = None


def packages(text: str, found_in: str) -> Iterator[Package]:
    """At most one package. Raises ValueError unless ``text`` is a JSON object whose name and version are strings."""
    try:
        manifest = msgspec.json.decode(text.encode(), type=_Manifest)
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from error
    namespace, _, name = manifest.name.rpartition("/")
    if name and manifest.version:
        author = manifest.author
        if isinstance(author, dict):
            author = f"{author.get('name', '')} <{author.get('email', '')}>"
        supplier = person(author) if isinstance(author, str) else ""
        yield Package("npm", namespace, name, manifest.version, found_in, (), supplier)
