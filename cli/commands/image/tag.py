"""``shiplap image tag``."""

from __future__ import annotations

from typing import Final

from cli.declared import Argument, Command
from cli.options import image_name
from cli.store import open_store


def tag(root: str | None, /, *, source: str, target: str) -> int:
    """Give an image another name.

    A name that another image has moves to this one.

    \b
    shiplap image tag app registry.example.com/team/app:1.2
    """
    name = image_name(target)
    with open_store(root) as store:
        index = store.images.indexes.find(source)
        store.images.tag(name, index.digest if index else store.images.resolve(source).id)
    return 0


declared_command: Final = Command("tag", (Argument("source", "IMAGE"), Argument("target", "NAME[:TAG]")), (), tag)
