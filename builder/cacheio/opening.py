"""From ``--cache-from`` and ``--cache-to`` to the places that they name; registries are connected to at first use."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from builder.cacheio.places import CacheDirectories, CacheSource, CacheTarget
from builder.errors import CacheOptionError
from builder.request.cache import CacheFrom, CacheTo
from core.closing import Closing
from core.platforms import Platform
from core.references import Reference

if TYPE_CHECKING:
    from builder.bases import Connect
    from registry.client import Client


class CachePlaces(Closing):
    """Opens places for caches. Closing it closes the connections.

    connect: None where no registry may be asked.
    platform: the platform whose inline cache is meant, where an image is for several.
    directories: what ``type=local`` names; None: directories of this host.
    """

    def __init__(
        self, connect: Connect | None, platform: Platform, directories: CacheDirectories | None = None
    ) -> None:
        self._directories = directories
        self._connect = connect
        self._platform = platform
        self._client: Client | None = None
        self._read: list[Reference] = []
        self._stack = contextlib.ExitStack()

    def source(self, origin: CacheFrom) -> CacheSource:
        """Where to read. Nothing has been read yet."""
        if origin.type == "local":
            if self._directories is not None:
                return self._directories.source(origin)
            from builder.cacheio.layout import LayoutSource

            return LayoutSource(origin)
        from builder.cacheio.repository import RepositorySource

        name = Reference.parse(origin.location)
        source = RepositorySource(self._connected(), name, self._platform)
        self._read.append(name)
        return source

    def target(self, wanted: CacheTo) -> AbstractContextManager[CacheTarget]:
        """Where to write."""
        if wanted.type == "local":
            if self._directories is not None:
                return self._directories.target(wanted)
            from builder.cacheio.layout import LayoutTarget

            return LayoutTarget(wanted)
        from builder.cacheio.repository import RepositoryTarget

        return RepositoryTarget(self._connected(), Reference.parse(wanted.location), tuple(self._read))

    def _connected(self) -> Client:
        if self._connect is None:
            raise CacheOptionError("caches in registries cannot be used here: there is no connection to registries")
        if self._client is None:
            self._client = self._stack.enter_context(self._connect())
        return self._client

    def close(self) -> None:
        self._stack.close()
