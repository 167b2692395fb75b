"""Large files of a stage: read from the tars of its layers, and not copied at all where the layer would be the same."""

from __future__ import annotations

import os

import pytest

from builder.copying import stagetree
from core.digests import DiffID
from images.layers import LayerStore
from images.tarwriter import StretchReader
from tests.builder.test_build import Workshop, built, workshop

__all__ = ["workshop"]  # a fixture
pytestmark = pytest.mark.usefixtures("privileged")

SIZE = 300_000
STAGE = "FROM base AS s\nCOPY --chmod=640 big other /\n"


@pytest.fixture
def read_in_tars(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Two files that count as large, and how much of such files was read in tars of layers."""
    monkeypatch.setattr(stagetree, "LARGE_BYTES", SIZE)
    for name in ("big", "other"):
        (workshop.context / name).write_bytes(name[:1].encode() + os.urandom(SIZE))
        os.utime(workshop.context / name, (1_700_000_000, 1_700_000_000))
    seen: list[int] = []
    read = StretchReader.read

    def noted(reader: StretchReader, size: int, /) -> bytes:
        data = read(reader, size)
        seen.append(len(data))
        return data

    monkeypatch.setattr(StretchReader, "read", noted)
    return seen


def layer_by_the_mount(workshop: Workshop, text: str, monkeypatch: pytest.MonkeyPatch) -> DiffID:
    """The last layer as it is when no file counts as large."""
    with monkeypatch.context() as patch:
        patch.setattr(stagetree, "LARGE_BYTES", 1 << 40)
        return built(workshop.build(text, no_cache=True)).diff_ids[-1]


@pytest.mark.parametrize(
    ("change", "in_tars"),
    [
        ("", 2),
        ("RUN true\n", 2),
        ("RUN cp -p /other /big\n", 1),
        ("RUN rm /big && ln /other /big\n", 0),
        ("RUN touch -d @5 /big && chmod 600 /other\n", 0),
        ("COPY --chmod=640 other /big\n", 2),
        ("RUN mkdir /d && mv /big /d && rm /other && mv /d/big /other && cp -p /other /big\n", 0),
    ],
)
def test_content_is_that_of_the_stage_whatever_came_after_its_layer(
    workshop: Workshop, read_in_tars: list[int], monkeypatch: pytest.MonkeyPatch, change: str, in_tars: int
) -> None:
    text = f"{STAGE}{change}FROM base\nCOPY --from=s /big /other /home/\n"
    image = built(workshop.build(text))
    assert sum(read_in_tars) == in_tars * (SIZE + 1), "once, for the key and for the layer"
    assert image.diff_ids[-1] == layer_by_the_mount(workshop, text, monkeypatch)


def test_layer_that_is_copied_whole_is_the_same_and_none_is_written(
    workshop: Workshop, read_in_tars: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = built(workshop.build(STAGE)).diff_ids[-1]
    written: list[object] = []
    writer = LayerStore.writer
    monkeypatch.setattr(LayerStore, "writer", lambda *a, **k: written.append(a) or writer(*a, **k))  # type: ignore[func-returns-value]
    text = f"{STAGE}FROM base\nRUN true\nCOPY --from=s /big /other /\n"
    assert built(workshop.build(text)).diff_ids[-1] == stage
    assert (len(written), sum(read_in_tars)) == (1, 0), "the RUN's"
    for another in (
        text.replace("/other /\n", "/\n"),
        text.replace("--from", "--chmod=600 --from"),
        text.replace("/other /\n", "/other /home/\n"),
    ):
        image = built(workshop.build(another))
        assert image.diff_ids[-1] == layer_by_the_mount(workshop, another, monkeypatch)
        assert image.diff_ids[-1] != stage


def test_cached_copy_is_found_though_nothing_was_asked_before_the_first_one(
    workshop: Workshop, read_in_tars: list[int]
) -> None:
    text = f"{STAGE}FROM base\nCOPY --from=s /big /home/\n"
    workshop.build(text)
    assert workshop.counts(text) == (0, 2)
    assert workshop.counts(text.replace("AS s\n", "AS s\nENV a=b\n")) == (0, 2)
    (workshop.context / "other").write_bytes(b"another")
    assert workshop.counts(text) == (1, 1), "what was copied is as it was"
