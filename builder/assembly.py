"""The last step of a build: config, history and layers become an image config with all its times."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from builder.graph.rootfs import WrittenLayer
from builder.graph.vertices import PlannedImage
from core.digests import DiffID
from core.platforms import Platform
from images.oci import CREATED_ANNOTATION, History, ImageConfig, RootFS, format_time


class BuiltImage(msgspec.Struct, frozen=True):
    """One platform's image, complete.

    base_layers: how many of its layers, counted from the first, are the base image's.
    scanned: the layers of everything else that its SBOM describes, by name.
    """

    platform: Platform
    config: ImageConfig
    base_layers: int = 0
    scanned: tuple[tuple[str, tuple[DiffID, ...]], ...] = ()

    @property
    def diff_ids(self) -> tuple[DiffID, ...]:
        return self.config.rootfs.diff_ids

    def with_layers(self, diff_ids: Sequence[DiffID]) -> BuiltImage:
        """The same image with these layers in place of its own."""
        rootfs = RootFS(diff_ids=tuple(diff_ids))
        return msgspec.structs.replace(self, config=msgspec.structs.replace(self.config, rootfs=rootfs))


def image_config(planned: PlannedImage, layers: Sequence[WrittenLayer], *, epoch: int | None = None) -> ImageConfig:
    """The complete config.

    layers: all of the image's, base first.
    epoch: SOURCE_DATE_EPOCH; when given, it replaces every time.
    The same plan with the same layers gives the same bytes, so that a build from the cache gives the same image.
    """
    history = _with_times(planned.history, layers, epoch)
    created, container = history[-1].created if history else "", planned.config.config
    if planned.dates_label:
        container = msgspec.structs.replace(container, labels={**container.labels, CREATED_ANNOTATION: created})
    return msgspec.structs.replace(
        planned.config,
        created=created,
        config=container,
        history=history,
        rootfs=RootFS(diff_ids=tuple(layer.diff_id for layer in layers)),
    )


def _with_times(history: Sequence[History], layers: Sequence[WrittenLayer], epoch: int | None) -> tuple[History, ...]:
    """Give new entries their layer's time; an entry without a layer has the time of the layer before it.

    Entries before the first new layer get that layer's time rather than the base image's, as BuildKit does it.
    """
    own_layers = sum(not entry.created and not entry.empty_layer for entry in history)
    times = iter([_time(layer.created_at, epoch) for layer in layers[len(layers) - own_layers :]])
    dated = [
        entry if entry.created or entry.empty_layer else msgspec.structs.replace(entry, created=next(times))
        for entry in history
    ]
    first_new = next((i for i, entry in enumerate(history) if not entry.created), len(history))
    current = next((entry.created for entry in dated[first_new:] if entry.created), "")
    if not current and first_new:
        current = _time(0, epoch) if epoch is not None else dated[first_new - 1].created
    for i in range(first_new, len(dated)):
        current = dated[i].created or current
        if not dated[i].created:
            dated[i] = msgspec.structs.replace(dated[i], created=current)
    return tuple(dated)


def _time(seconds: float, epoch: int | None) -> str:
    return format_time(seconds if epoch is None else epoch)
