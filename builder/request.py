"""What one build is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from builder.cacheio.spec import CacheFrom, CacheTo
from builder.contexts import Context
from builder.output import Output
from core.platforms import Platform

if TYPE_CHECKING:
    from containers.spec import Network

__all__ = ["BuildRequest", "Output"]


class BuildRequest(msgspec.Struct, frozen=True):
    """dockerfile_name: as the user wrote it, for messages. context: open until the build has ended.
    pull: ask the registry even for images that are in the store. secrets: content by ID, for RUN's mounts.
    no_cache_stages: names of stages whose steps all run, whatever the cache has."""

    dockerfile: bytes
    dockerfile_name: str
    context: Context
    outputs: tuple[Output, ...] = (Output("image"),)
    target: str = ""
    build_args: Mapping[str, str] = msgspec.field(default_factory=dict)
    labels: Mapping[str, str] = msgspec.field(default_factory=dict)
    no_cache: bool = False
    pull: bool = False
    platform: Platform = msgspec.field(default_factory=Platform.host)
    network: Network = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()
    source_date_epoch: int | None = None
    secrets: Mapping[str, bytes] = msgspec.field(default_factory=dict)
    no_cache_stages: tuple[str, ...] = ()
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()
