"""Making an image of what a container changed: docker's ``commit``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.digests import DiffID
from engine.fields import Fields
from images.diff import write_upper
from images.oci import ContainerConfig, Healthcheck, History, ImageConfig, RootFS, format_time
from images.tarwriter import TarWriter

if TYPE_CHECKING:
    from core.references import Reference
    from images.store import Store
    from images.summary import Image

# Members of docker's Config that an image's config has, and their names there.
_MEMBERS: Final[Mapping[str, str]] = {
    "User": "user",
    "ExposedPorts": "exposed_ports",
    "Env": "env",
    "Entrypoint": "entrypoint",
    "Cmd": "cmd",
    "Volumes": "volumes",
    "WorkingDir": "working_dir",
    "Labels": "labels",
    "StopSignal": "stop_signal",
    "Shell": "shell",
    "OnBuild": "on_build",
}
_LISTS: Final = ("Env", "Entrypoint", "Cmd", "Shell", "OnBuild")


def commit(
    store: Store,
    document: Mapping[str, Any],
    base: ImageConfig,
    lower: Callable[[], int | None],
    config: Mapping[str, Any],
    *,
    name: Reference | None,
    comment: str,
    author: str,
) -> Image:
    """Put an image of a container into the store, with what its upper directory has as one more layer.

    document: the container's ``spec.json``. base: the config of its image.
    lower: gives a descriptor of the layers below, merged. config: docker's Config, for the image.
    """
    diff_ids = [DiffID(diff_id) for diff_id in document["diff_ids"]]
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        written = write_upper(f"{document['upper']}/fs", lower, writer)
        writer.close()
        layer = blob.commit() if written.entries else None
    now = format_time(time.time())
    entry = History(
        created=now,
        created_by=" ".join(document["process"]["args"]),
        author=author,
        comment=comment,
        empty_layer=layer is None,
    )
    layers = (*diff_ids, *([layer] if layer is not None else ()))
    made = msgspec.structs.replace(
        base,
        created=now,
        author=author or base.author,
        config=container_config(Fields(dict(config), "Config")),
        history=(*base.history, entry),
        rootfs=RootFS(diff_ids=layers),
    )
    return store.images.put(made, layers, names=[name] if name is not None else [])


def container_config(asked: Fields) -> ContainerConfig:
    """Docker's Config as an image has it. Raises InvalidRequestError."""
    found: dict[str, Any] = {}
    for theirs, ours in _MEMBERS.items():
        if theirs in _LISTS:
            found[ours] = tuple(asked.texts(theirs))
        elif theirs in ("ExposedPorts", "Volumes"):
            found[ours] = {key: {} for key in asked.keys(theirs)}
        elif theirs == "Labels":
            found[ours] = asked.pairs(theirs)
        else:
            found[ours] = asked.text(theirs)
    if asked.has("Healthcheck"):
        health = asked.inner("Healthcheck")
        found["healthcheck"] = Healthcheck(
            test=tuple(health.texts("Test")),
            interval_ns=health.number("Interval"),
            timeout_ns=health.number("Timeout"),
            start_period_ns=health.number("StartPeriod"),
            start_interval_ns=health.number("StartInterval"),
            retries=health.number("Retries"),
        )
    return ContainerConfig(**found)
