"""Layers of a few files, as jobs and their source have them: every directory has an entry, and all have one time."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ci.epoch import BEGINNING
from ci.workspace.treeorder import order_of
from core.digests import DiffID
from images.store import Store
from images.tarwriter import TarWriter


def lay(store: Store, files: Mapping[str, str | None], *, mode: int = 0o644) -> DiffID:
    """Write a layer.

    files: by path, what stands for a file: its text; ``-> x`` a link to x; ``/`` a directory; None: it is removed.
    """
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        made: set[str] = set()
        for path, text in sorted(files.items(), key=lambda item: order_of(item[0])):
            for at in [at for at, character in enumerate(path) if character == "/"]:
                if path[:at] not in made:
                    made.add(path[:at])
                    writer.directory(os.fsencode(path[:at]), 0o755, 0, 0, BEGINNING)
            name = os.fsencode(path)
            if text is None:
                writer.whiteout(name)
            elif text == "/":
                made.add(path)
                writer.directory(name, 0o755, 0, 0, BEGINNING)
            elif text.startswith("-> "):
                writer.symlink(name, os.fsencode(text[3:]), 0, 0, BEGINNING)
            else:
                writer.file(name, mode, 0, 0, BEGINNING, len(text.encode()), text.encode())
        writer.close()
        return blob.commit()
