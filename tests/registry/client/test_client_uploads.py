"""Uploads that go wrong at every step, to a real registry behind a relay that makes them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.references import Reference
from images.compression import CompressingWriter
from images.errors import DamagedBlobError
from images.store import Store
from images.summary import Image
from registry.client import Client, LayerProgress, pull, push
from registry.client.monitor import NullTransferMonitor
from registry.client.uploading import upload_location
from registry.errors import (
    DeniedError,
    InvalidResponseError,
    ResponseError,
    TransferBrokenError,
    TransferCancelledError,
)
from tests.toolkit.bounds import eventually
from tests.toolkit.damage import flip_byte
from tests.toolkit.faulty import Relay, RelayFault, relay
from tests.toolkit.registries import DebianRegistry
from tests.toolkit.uploads import upload_registry

_MakeImage = Callable[..., Image]
BIG, SMALL = 2_000_000, 1000
UNKNOWN = json.dumps({"errors": [{"code": "BLOB_UPLOAD_UNKNOWN", "message": "unknown upload"}]}).encode()


@pytest.fixture
def relayed(plain_registry: DebianRegistry) -> Any:
    with relay(plain_registry.host) as made:
        yield made


@pytest.mark.parametrize(
    ("case", "size", "faults"),
    [
        ("refused-start", SMALL, [RelayFault("POST", 503), RelayFault("POST", 429, headers={"Retry-After": "0"})]),
        ("lost-start", SMALL, [RelayFault("POST", None, reached=True)]),
        ("refused-put", SMALL, [RelayFault("PUT .*uploads", 503)]),
        ("lost-put", SMALL, [RelayFault("PUT .*uploads", None, reached=True)]),
        ("refused-patch", BIG, [RelayFault("PATCH", 502), RelayFault("PATCH", 429)]),
        ("dropped-patch", BIG, [RelayFault("PATCH", None)]),
        ("lost-patch", BIG, [RelayFault("PATCH", None, reached=True)]),
        ("upload-forgotten", BIG, [RelayFault("PATCH", 404, body=UNKNOWN)]),
        (
            "status-unknown",
            BIG,
            [RelayFault("PATCH", 500, reached=True), RelayFault("GET .*uploads", 404, body=UNKNOWN)],
        ),
        ("out-of-step", BIG, [RelayFault("PATCH", 416)]),
        ("refused-end", BIG, [RelayFault("PUT .*uploads", 500)]),
        ("lost-end", BIG, [RelayFault("PUT .*uploads", None, reached=True)]),
        ("refused-head", BIG, [RelayFault("HEAD", 503)]),
        ("refused-manifest", SMALL, [RelayFault("PUT .*manifests", 503), RelayFault("PUT .*manifests", None, True)]),
    ],
)
def test_push_succeeds_all_the_same(
    case: str,
    size: int,
    faults: list[RelayFault],
    relayed: Relay,
    plain_registry: DebianRegistry,
    store: Store,
    other_store: Store,
    client: Client,
    make_image: _MakeImage,
) -> None:
    name = Reference.parse(f"{relayed.host}/uploads/{case}:1")
    image = make_image(store, str(name), layers=1, size=size)
    relayed.faults = [RelayFault(f.pattern, f.status, f.reached, f.body, f.headers) for f in faults]
    pushed = push(name, store, client=client, parallel=1)
    assert relayed.faults == [], "every fault happened"
    pulled = pull(Reference.parse(f"{plain_registry.host}/uploads/{case}:1"), other_store, client=client)
    assert (pulled.digest, pulled.image.id) == (pushed.digest, image.id)


def test_broken_upload_goes_on_from_where_it_broke(store: Store, client: Client, make_image: _MakeImage) -> None:
    with upload_registry() as registry:
        name = Reference.parse(f"{registry.host}/x:1")
        image = make_image(store, str(name), layers=1, size=BIG)
        layer = store.layers.compressed(image.diff_ids[0], "gzip")
        registry.hang_up_after = [500_000, 700_000, 1001]
        push(name, store, client=client)
        assert registry.sent == [500_000, 700_000, 1001, layer.size - 1_201_001]
        last = layer.size - 1
        assert registry.ranges == [f"{start}-{last}" for start in (0, 500_000, 1_200_000, 1_201_001)]
        assert len(registry.blobs[layer.digest]) == layer.size


def test_upload_that_was_forgotten_begins_anew(store: Store, client: Client, make_image: _MakeImage) -> None:
    with upload_registry() as registry:
        name = Reference.parse(f"{registry.host}/x:1")
        image = make_image(store, str(name), layers=1, size=BIG)
        layer = store.layers.compressed(image.diff_ids[0], "gzip")
        registry.hang_up_after, registry.forget_after = [500_000, 0], True
        push(name, store, client=client)
        assert registry.ranges == [f"0-{layer.size - 1}"] * 3
        assert layer.digest in registry.blobs


def test_cancelled_upload_ends_within_a_chunk(store: Store, client: Client, make_image: _MakeImage) -> None:
    class Canceller(NullTransferMonitor):
        def layer(self, progress: LayerProgress) -> None:
            if progress.state == "Pushing" and progress.current_bytes:
                client.cancelled.set()

    with upload_registry() as registry:
        make_image(store, f"{registry.host}/x:1", layers=1, size=BIG)
        with pytest.raises(TransferCancelledError):
            push(Reference.parse(f"{registry.host}/x:1"), store, client=client, monitor=Canceller())
        assert sum(registry.sent) < BIG / 2
        assert not registry.blobs


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that are compressed and sent at the same time need not be as large as else."""
    monkeypatch.setattr("images.layers._SMALL_BYTES", BIG // 2)


def test_layer_is_sent_while_it_is_compressed(
    streamed: None, store: Store, client: Client, make_image: _MakeImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with upload_registry() as registry:
        name = Reference.parse(f"{registry.host}/x:1")
        image = make_image(store, str(name), layers=1, size=BIG)
        close = CompressingWriter.close

        def close_late(writer: CompressingWriter) -> None:
            eventually(lambda: registry.arrived > BIG / 2, why="some of the layer comes before the end is made")
            close(writer)

        monkeypatch.setattr(CompressingWriter, "close", close_late)
        push(name, store, client=client)
        layer = store.layers.compressed(image.diff_ids[0], "gzip")
        assert (registry.sent, registry.ranges) == ([layer.size], [""])
        assert registry.blobs[layer.digest] == store.blobs.read(layer.digest)


@pytest.mark.parametrize(
    ("takes_streams", "hang_up_after", "forget", "sent"),
    [
        (True, [500_000], False, [500_000, -500_000]),
        (True, [500_000, 200_000], True, [500_000, 200_000, 0]),
        (False, [], False, [0]),
    ],
)
def test_stream_that_breaks_or_is_not_taken_goes_on_as_any_upload(
    streamed: None, store: Store, client: Client, make_image: _MakeImage,
    takes_streams: bool, hang_up_after: list[int], forget: bool, sent: list[int],
) -> None:  # fmt: skip
    with upload_registry() as registry:
        registry.takes_streams, registry.hang_up_after, registry.forget_after = takes_streams, hang_up_after, forget
        name = Reference.parse(f"{registry.host}/x:1")
        image = make_image(store, str(name), layers=1, size=BIG)
        push(name, store, client=client)
        layer = store.layers.compressed(image.diff_ids[0], "gzip")
        assert registry.sent == [*sent[:-1], layer.size + sent[-1]]
        assert registry.blobs[layer.digest] == store.blobs.read(layer.digest)


def test_stream_that_was_taken_and_lost_is_sent_again(
    streamed: None, store: Store, client: Client, make_image: _MakeImage
) -> None:
    with upload_registry() as registry:
        registry.loses_streams = True
        name = Reference.parse(f"{registry.host}/x:1")
        image = make_image(store, str(name), layers=1, size=BIG)
        push(name, store, client=client)
        assert store.layers.compressed(image.diff_ids[0], "gzip").digest in registry.blobs


def test_layer_whose_blob_went_is_not_made_again_for_a_registry_that_has_it(
    streamed: None, tmp_path: Path, client: Client, make_image: _MakeImage
) -> None:
    with upload_registry() as registry:
        name = Reference.parse(f"{registry.host}/x:1")
        with Store.open(tmp_path / "root") as store:
            image = make_image(store, str(name), layers=1, size=BIG)
            first = push(name, store, client=client)
            with store.database.transaction() as connection:
                connection.execute("DELETE FROM blobs WHERE digest IN (SELECT digest FROM compressed)")
        sent = list(registry.sent)
        with Store.open(tmp_path / "root") as store:
            assert push(name._replace(tag="2"), store, client=client, image=image).digest == first.digest
        assert registry.sent == sent


def test_nothing_stays_of_a_stream_whose_layer_is_damaged(
    streamed: None, store: Store, client: Client, make_image: _MakeImage
) -> None:
    with upload_registry() as registry:
        name = Reference.parse(f"{registry.host}/x:1")
        image = make_image(store, str(name), layers=1, size=BIG)
        flip_byte(store.layers.path(image.diff_ids[0]))
        with pytest.raises(DamagedBlobError, match=image.diff_ids[0]):
            push(name, store, client=client)
        assert (registry.deleted, registry.uploads, registry.blobs, registry.manifests) == (1, {}, {}, {})
        assert not [thread for thread in threading.enumerate() if thread.name == "push-stream"]


@pytest.mark.parametrize(("most_bytes", "chunk"), [(1_000_000, 900_000), (250_000, 200_000)])
def test_what_a_proxy_finds_too_large_goes_in_chunks(
    most_bytes: int, chunk: int, store: Store, client: Client, make_image: _MakeImage
) -> None:
    with upload_registry() as registry:
        registry.most_bytes = most_bytes
        name = Reference.parse(f"{registry.host}/x:1")
        image = make_image(store, str(name), layers=1, size=BIG)
        layer = store.layers.compressed(image.diff_ids[0], "gzip")
        push(name, store, client=client)
        assert len(registry.blobs[layer.digest]) == layer.size
        starts = range(0, layer.size, chunk)
        assert registry.ranges == [f"{start}-{min(start + chunk, layer.size) - 1}" for start in starts]


def test_chunks_are_as_large_as_the_registry_wants_them(store: Store, client: Client, make_image: _MakeImage) -> None:
    with upload_registry() as registry:
        registry.most_bytes, registry.least_bytes = 1_200_000, 1_000_000
        name = Reference.parse(f"{registry.host}/x:1")
        make_image(store, str(name), layers=1, size=BIG)
        push(name, store, client=client)
        assert registry.ranges[:2] == ["0-999999", "1000000-1999999"]


def test_what_is_too_large_in_any_chunk_is_told(store: Store, client: Client, make_image: _MakeImage) -> None:
    with upload_registry() as registry:
        registry.most_bytes = 1000
        make_image(store, f"{registry.host}/x:1", layers=1, size=BIG)
        with pytest.raises(ResponseError, match="413"):
            push(Reference.parse(f"{registry.host}/x:1"), store, client=client)


def test_upload_may_break_often_while_it_gets_on(store: Store, client: Client, make_image: _MakeImage) -> None:
    with upload_registry() as registry:
        name = Reference.parse(f"{registry.host}/x:1")
        make_image(store, str(name), layers=1, size=BIG)
        registry.hang_up_after = [100_000] * 15
        push(name, store, client=client)
        assert len(registry.sent) == 16


def test_refusal_is_not_repeated(relayed: Relay, store: Store, client: Client, make_image: _MakeImage) -> None:
    name = Reference.parse(f"{relayed.host}/uploads/denied:1")
    make_image(store, str(name), layers=1)
    denied = json.dumps({"errors": [{"code": "DENIED", "message": "read only"}]}).encode()
    relayed.faults = [RelayFault("POST", 403, body=denied)]
    with pytest.raises(DeniedError, match="DENIED: read only"):
        push(name, store, client=client)
    assert len([seen for seen in relayed.seen if seen.method == "POST"]) == 1


def test_blob_that_the_registry_finds_wrong_is_told(
    relayed: Relay, store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{relayed.host}/uploads/wrong:1")
    make_image(store, str(name), layers=1)
    invalid = json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "no match"}]}).encode()
    relayed.faults = [RelayFault("PUT .*uploads", 400, body=invalid)]
    with pytest.raises(ResponseError, match="DIGEST_INVALID"):
        push(name, store, client=client)


def test_upload_that_always_breaks_ends(relayed: Relay, store: Store, client: Client, make_image: _MakeImage) -> None:
    name = Reference.parse(f"{relayed.host}/uploads/always:1")
    make_image(store, str(name), layers=1, size=BIG)
    relayed.faults = [RelayFault("PATCH", None) for _ in range(100)]
    with pytest.raises(TransferBrokenError, match="byte 0 of") as caught:
        push(name, store, client=client)
    assert caught.value.hint


def test_registry_that_takes_no_uploads_is_asked_six_times(
    relayed: Relay, store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{relayed.host}/uploads/none:1")
    make_image(store, str(name), layers=1)
    relayed.faults = [RelayFault("POST", 503) for _ in range(100)]
    with pytest.raises(ResponseError, match="503"):
        push(name, store, client=client)
    assert len([seen for seen in relayed.seen if seen.method == "POST"]) == 6


def test_mount_that_is_not_done_becomes_an_upload(
    relayed: Relay, store: Store, client: Client, make_image: _MakeImage
) -> None:
    first, second = (Reference.parse(f"{relayed.host}/uploads/mount-{number}:1") for number in (1, 2))
    image = make_image(store, str(first), layers=1)
    store.images.tag(second, image.id)
    push(first, store, client=client)
    relayed.seen.clear()
    relayed.faults = [RelayFault("POST .*mount=", 500), RelayFault("POST .*mount=", 405)]
    push(second, store, client=client)
    assert relayed.faults == []


class _Answer:
    status = 202

    def __init__(self, location: str) -> None:
        self.headers = {"Location": location}

    def read(self, size: int, /) -> bytes:
        return b""

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("/v2/x/blobs/uploads/1?_state=a", "https://ci:5000/v2/x/blobs/uploads/1?_state=a"),
        ("1", "https://ci:5000/v2/x/blobs/uploads/1"),
        ("https://ci:5000/u/1", "https://ci:5000/u/1"),
        ("https://storage.example/u/1", "https://storage.example/u/1"),
        ("http://ci:5000/u/1", "https://ci:5000/u/1"),
    ],
)
def test_locations_in_every_form(stated: str, expected: str) -> None:
    asked = "https://ci:5000/v2/x/blobs/uploads/"
    assert upload_location(_Answer(stated), asked, "https://ci:5000") == expected


@pytest.mark.parametrize("stated", ["", "http://elsewhere/u/1", "ftp://ci:5000/u/1"])
def test_locations_that_are_refused(stated: str) -> None:
    with pytest.raises(InvalidResponseError):
        upload_location(_Answer(stated), "https://ci:5000/v2/x/blobs/uploads/", "https://ci:5000")
