"""What one build is asked to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import msgspec

from builder.contexts import Context
from core.platforms import Platform
from core.references import Reference

if TYPE_CHECKING:
    from containers.spec import Network

OutputType: TypeAlias = Literal["image", "oci", "docker", "tar", "local"]
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)


class Output(msgspec.Struct, frozen=True):
    """One ``-o`` value.

    dest: a path; ``-`` is standard output (oci, docker, tar only); empty for image.
    names: under which names the image goes out (image, oci, docker).
    """

    type: OutputType
    dest: str = ""
    names: tuple[Reference, ...] = ()


class BuildRequest(msgspec.Struct, frozen=True):
    """dockerfile_name: as the user wrote it, for messages. context: open until the build has ended.
    pull: ask the registry even for images that are in the store. secrets: content by ID, for RUN's mounts."""

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
