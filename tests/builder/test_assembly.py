"""Times of an image and its history."""

from collections.abc import Sequence

from builder.assembly import image_config
from builder.graph.rootfs import WrittenLayer
from builder.graph.vertices import PlannedImage
from core.digests import DiffID
from core.platforms import Platform
from images.oci import History, ImageConfig, encode

CONFIG = ImageConfig.for_platform(Platform("linux", "amd64"))
OLD = "2020-01-01T00:00:00Z"
FIRST, SECOND = "1970-01-01T00:16:40Z", "1970-01-01T00:33:20Z"
BASE = WrittenLayer(DiffID.of(b"base"), 0.0)
LAYERS = [BASE, WrittenLayer(DiffID.of(b"1"), 1000.0), WrittenLayer(DiffID.of(b"2"), 2000.0)]


def entry(text: str, *, empty: bool = False, created: str = "") -> History:
    return History(created_by=text, empty_layer=empty, created=created)


def created(*history: History, layers: Sequence[WrittenLayer] = LAYERS, epoch: int | None = None) -> list[str]:
    config = image_config(PlannedImage(None, CONFIG, history, Platform.host()), layers, epoch=epoch)
    assert config.created == (config.history[-1].created if config.history else "")
    return [item.created for item in config.history]


def test_entry_without_layer_has_the_time_of_the_layer_before_it() -> None:
    history = [entry("base", created=OLD), entry("RUN 1"), entry("ENV", empty=True), entry("RUN 2")]
    assert created(*history) == [OLD, FIRST, FIRST, SECOND]


def test_entries_before_the_first_new_layer_have_its_time_and_not_the_bases() -> None:
    history = [entry("base", created=OLD), entry("ARG", empty=True), entry("RUN 1"), entry("RUN 2")]
    assert created(*history) == [OLD, FIRST, FIRST, SECOND]


def test_metadata_only_build_keeps_the_bases_time() -> None:
    assert created(entry("base", created=OLD), entry("LABEL", empty=True), layers=[BASE]) == [OLD, OLD]


def test_source_date_epoch_stands_for_every_new_time() -> None:
    history = [entry("base", created=OLD), entry("ARG", empty=True), entry("RUN 1"), entry("RUN 2")]
    assert created(*history, epoch=5) == [OLD, *["1970-01-01T00:00:05Z"] * 3]


def test_image_from_scratch_without_layers_has_no_time() -> None:
    assert created(entry("LABEL", empty=True), layers=[]) == [""]


def test_same_plan_and_layers_give_the_same_bytes() -> None:
    planned = PlannedImage(None, CONFIG, (entry("base", created=OLD), entry("RUN 1"), entry("RUN 2")), Platform.host())
    assert encode(image_config(planned, LAYERS)) == encode(image_config(planned, LAYERS))
