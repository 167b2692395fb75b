"""Registries and networks that fail: what arrives is right, or an error says what is wrong."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.digests import Digest
from core.errors import StorageFullError
from core.references import Reference
from images.errors import DigestMismatchError, ImagesError
from images.store import Store
from images.summary import Image
from images.verify import verify
from registry.client import Client, ClientConfig, RetryPolicy, pull, push
from registry.errors import (
    InvalidResponseError,
    RateLimitedError,
    RegistryError,
    ResponseError,
    TransferBrokenError,
    TransferCancelledError,
    UnsupportedContentError,
)
from tests.registry.conftest import layer_tar
from tests.toolkit.faulty import Answer, Fault, ScriptedRegistry, Seen, cutting_proxy, scripted_registry
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import DebianRegistry

_MakeImage = Callable[..., Image]
_ClientFor = Callable[..., Client]

OCI = "application/vnd.oci.image"


def status(number: int, **headers: str) -> Fault:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda seen, answer: Answer(number, named)


def cut_after(size: int) -> Fault:
    """The announced length, and then not all of it."""
    return lambda seen, answer: dataclasses.replace(answer, body=answer.body[:size], length=len(answer.body), cut=True)


def body(change: Callable[[bytes], bytes]) -> Fault:
    return lambda seen, answer: dataclasses.replace(answer, body=change(answer.body))


def add_image(
    registry: ScriptedRegistry, *, layers: int = 1, size: int = 600_000, tag: str = "1", foreign: str = ""
) -> tuple[Reference, list[str]]:
    """An image of incompressible gzip layers. Returns its name and the digests of the layers."""
    tars = [layer_tar(f"file-{number}", size) for number in range(layers)]
    blobs = [gzip.compress(tar, 1, mtime=0) for tar in tars]
    digests = [registry.add_blob(blob) for blob in blobs]
    rootfs = {"type": "layers", "diff_ids": [Digest.of(tar) for tar in tars]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}).encode()
    media_type = f"{OCI}.layer.nondistributable.v1.tar+gzip" if foreign else f"{OCI}.layer.v1.tar+gzip"
    more: dict[str, Any] = {"urls": [f"{foreign}/{digests[0]}"]} if foreign else {}
    entries = [
        {"mediaType": media_type, "digest": digest, "size": len(blob), **more}
        for digest, blob in zip(digests, blobs, strict=True)
    ]
    registry.add_manifest(tag, manifest(registry.add_blob(config), len(config), entries))
    return Reference.parse(f"{registry.host}/app:{tag}"), digests


def manifest(config: str, config_size: int, layers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", "digest": config, "size": config_size},
        "layers": layers,
    }


def test_broken_download_goes_on_by_range(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)
    scripted.fault(f"GET .*{layer}", cut_after(100_000), cut_after(0), cut_after(300_000))
    pull(name, store, client=client)
    ranges = [seen.headers.get("range") for seen in scripted.requests(f"GET .*{layer}")]
    assert ranges == [None, "bytes=100000-", "bytes=100000-", "bytes=400000-"]
    assert verify(store) == []


def test_broken_download_goes_on_where_ranges_are_unknown(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    name, (layer,) = add_image(scripted)
    scripted.knows_ranges = False
    scripted.fault(f"GET .*{layer}", cut_after(100_000), cut_after(50_000), cut_after(500_000))
    pull(name, store, client=client)
    assert len(scripted.requests(f"GET .*{layer}")) == 4
    assert verify(store) == []


def test_wrong_range_is_refused(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)
    wrong: Fault = lambda seen, answer: dataclasses.replace(answer, headers={"Content-Range": "bytes 7-9/10"})  # noqa: E731 - one of a list
    scripted.fault(f"GET .*{layer}", cut_after(100_000), wrong)
    with pytest.raises(InvalidResponseError, match="another range"):
        pull(name, store, client=client)


def test_download_that_gets_no_further_ends(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)
    scripted.fault(f"GET .*{layer}", cut_after(1000), *[cut_after(0)] * 50)
    with pytest.raises(TransferBrokenError, match="byte 1000 of") as caught:
        pull(name, store, client=client)
    assert caught.value.hint
    assert len(scripted.requests(f"GET .*{layer}")) <= 8


@pytest.mark.parametrize("number", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("what", ["/v2/$", "HEAD .*/manifests/", "GET .*/manifests/", "GET .*/blobs/"])
def test_passing_failures_are_tried_again(
    number: int, what: str, scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    name, _ = add_image(scripted, size=1000)
    scripted.fault(what, status(number), status(number, Retry_After="0"), None, status(number))
    pull(name, store, client=client)
    assert verify(store) == []


def test_registry_that_fails_while_a_download_goes_on(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)
    scripted.fault(f"GET .*{layer}", cut_after(100_000), status(503), status(502), None)
    pull(name, store, client=client)
    name, (layer,) = add_image(scripted, size=500_000, tag="2")
    scripted.fault(f"GET .*{layer}", cut_after(100_000), *[status(503)] * 50)
    with pytest.raises(ResponseError, match="503"):
        pull(name, store, client=client)
    assert len(scripted.requests(f"GET .*{layer}")) == 6


def test_limit_of_requests_that_stays_is_told(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, _ = add_image(scripted, size=1000)
    scripted.fault("/manifests/", *[status(429)] * 50)
    with pytest.raises(RateLimitedError, match="429 Too Many Requests") as caught:
        pull(name, store, client=client)
    assert caught.value.hint
    assert "wait a while" in caught.value.hint


def test_pause_that_is_too_long_is_not_made(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, _ = add_image(scripted, size=1000)
    scripted.fault("GET .*/manifests/", status(503, Retry_After="86400"))
    with pytest.raises(ResponseError) as caught:
        pull(name, store, client=client)
    assert caught.value.retry_after_s == 86400
    assert len(scripted.requests("GET .*/manifests/")) == 1


def test_not_found_is_not_tried_again(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    with pytest.raises(ResponseError):
        pull(Reference.parse(f"{scripted.host}/app:none"), store, client=client)
    assert len(scripted.requests("GET .*/manifests/")) == 1


def test_wrong_bytes_are_never_kept(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)
    flipped = body(lambda data: data[:5000] + bytes([data[5000] ^ 1]) + data[5001:])
    scripted.fault(f"GET .*{layer}", flipped)
    with pytest.raises(ImagesError):
        pull(name, store, client=client)
    assert store.images.list() == []
    assert not store.blobs.has(Digest(layer))
    pull(name, store, client=client)


def test_other_bytes_of_the_same_tar_are_another_blob(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    """gzip's header says which system compressed: the tar, and the length, stay as they are."""
    name, (layer,) = add_image(scripted)
    scripted.fault(f"GET .*{layer}", body(lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:]))
    with pytest.raises(ImagesError):
        pull(name, store, client=client)
    assert store.images.list() == []
    pull(name, store, client=client)


def test_layer_with_another_diff_id_is_refused(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    blob = gzip.compress(layer_tar("x"), 1)
    rootfs = {"type": "layers", "diff_ids": [Digest.of(b"something else")]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    entry = {"mediaType": f"{OCI}.layer.v1.tar+gzip", "digest": scripted.add_blob(blob), "size": len(blob)}
    scripted.add_manifest("1", manifest(scripted.add_blob(config), len(config), [entry]))
    with pytest.raises(DigestMismatchError):
        pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client)
    assert store.images.list() == []


@pytest.mark.parametrize("change", [lambda data: data + b"x" * 1000, lambda data: data[:-1] + b"x"])
def test_over_long_and_changed_config_is_refused(
    change: Callable[[bytes], bytes], scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    name, _ = add_image(scripted, size=1000)
    config = json.loads(scripted.manifests["1"][1])["config"]["digest"]
    scripted.fault(f"GET .*{config}", body(change))
    with pytest.raises(InvalidResponseError):
        pull(name, store, client=client)


def test_layer_that_does_not_end_is_refused(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)
    scripted.fault(f"GET .*{layer}", body(lambda data: data + bytes(1 << 20)))
    with pytest.raises(InvalidResponseError, match="more than its"):
        pull(name, store, client=client)


def test_manifest_with_another_digest_is_refused(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, _ = add_image(scripted, size=1000)
    scripted.fault("GET .*/manifests/", *[body(lambda data: data + b" ")] * 9)
    with pytest.raises(InvalidResponseError, match="has digest sha256:"):
        pull(name, store, client=client)


def test_manifest_of_over_four_mebibytes_is_refused(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    scripted.add_manifest("huge", b"{" + b" " * (4 << 20) + b"}")
    with pytest.raises(InvalidResponseError, match="over 4194304 bytes"):
        pull(Reference.parse(f"{scripted.host}/app:huge"), store, client=client)


@pytest.mark.parametrize(
    ("document", "media_type", "kind"),
    [
        (b"not json", f"{OCI}.manifest.v1+json", ImagesError),
        (b"[]", f"{OCI}.manifest.v1+json", ImagesError),
        (b"not json", "text/plain", InvalidResponseError),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws", UnsupportedContentError),
        (b'{"schemaVersion":1,"config":{},"layers":[]}', f"{OCI}.manifest.v1+json", ImagesError),
        (b'{"mediaType":"text/html"}', "text/html", UnsupportedContentError),
    ],
)
def test_documents_that_are_no_manifest_are_refused(
    document: bytes, media_type: str, kind: type[Exception], scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    scripted.add_manifest("bad", document, media_type)
    with pytest.raises(kind):
        pull(Reference.parse(f"{scripted.host}/app:bad"), store, client=client)


def test_artifact_is_no_image(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    document = manifest(scripted.add_blob(b"{}"), 2, [])
    document["config"]["mediaType"] = "application/vnd.example.chart.v1+json"
    scripted.add_manifest("chart", document)
    with pytest.raises(UnsupportedContentError, match=r"vnd\.example\.chart"):
        pull(Reference.parse(f"{scripted.host}/app:chart"), store, client=client)


def test_indexes_without_end_are_refused(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    digest, size = "sha256:" + "0" * 64, 1
    for depth in range(5):
        entry = {"mediaType": f"{OCI}.index.v1+json", "digest": digest, "size": size}
        index = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
        digest, size = scripted.add_manifest(f"depth-{depth}", index, f"{OCI}.index.v1+json"), len(index)
    with pytest.raises(UnsupportedContentError, match="nested"):
        pull(Reference.parse(f"{scripted.host}/app:depth-4"), store, client=client)


def test_redirect_elsewhere_takes_no_credentials_along(
    scripted: ScriptedRegistry, store: Store, client_for: _ClientFor
) -> None:
    from registry.credentials import Credentials

    name, (layer,) = add_image(scripted)
    with scripted_registry() as storage:
        storage.blobs = scripted.blobs
        away = f"http://{storage.host}/v2/app/blobs/{layer}"
        scripted.fault("/v2/$", status(401, WWW_Authenticate='Basic realm="test"'))
        scripted.fault(f"GET .*{layer}", *[status(307, Location=away)] * 2)
        storage.fault("GET", cut_after(100_000))
        pull(name, store, client=client_for(credentials=Credentials("alice", "s3cret")))
        assert all("authorization" in seen.headers for seen in scripted.requests("/manifests/|/blobs/"))
        assert [seen.headers.get("range") for seen in storage.seen] == [None, "bytes=100000-"]
        assert all("authorization" not in seen.headers for seen in storage.seen)


def test_endless_redirect_is_refused(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)
    scripted.fault(f"GET .*{layer}", *[status(302, Location=f"/v2/app/blobs/{layer}")] * 50)
    with pytest.raises(InvalidResponseError, match="over and over"):
        pull(name, store, client=client)


def test_foreign_layer_comes_from_its_url(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    with scripted_registry() as elsewhere:
        name, (layer,) = add_image(scripted, foreign=f"http://{elsewhere.host}/v2/x/blobs")
        elsewhere.blobs[layer] = scripted.blobs.pop(layer)
        pull(name, store, client=client)
        assert len(elsewhere.requests("GET .*blobs")) == 1


@pytest.mark.parametrize("url", ["http://plain.invalid/x", "file:///etc", "gopher://127.0.0.1/x"])
def test_foreign_layer_comes_from_no_odd_place(
    url: str, scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    name, (layer,) = add_image(scripted, size=1000, foreign=url)
    del scripted.blobs[layer]
    with pytest.raises(ResponseError, match="BLOB_UNKNOWN"):
        pull(name, store, client=client)


def test_mirror_is_asked_first_and_may_fail(scripted: ScriptedRegistry, store: Store, client_for: _ClientFor) -> None:
    name, (layer,) = add_image(scripted)
    with scripted_registry() as mirror:
        mirror.manifests, mirror.blobs = dict(scripted.manifests), dict(scripted.blobs)
        mirrors = {scripted.host: (f"http://{mirror.host}",)}
        del mirror.blobs[layer]
        pull(name, store, client=client_for(mirrors=mirrors))
        assert mirror.requests("GET .*/manifests/")
        assert not scripted.requests("GET .*/manifests/")
        assert scripted.requests(f"GET .*{layer}")
        mirror.manifests.clear()
        name, _ = add_image(scripted, size=2000, tag="2")
        pull(name, store, client=client_for(mirrors=mirrors))
        assert scripted.requests("GET .*/manifests/")


def test_mirror_that_fails_is_asked_once(
    scripted: ScriptedRegistry, store: Store, client_for: _ClientFor, recorder: Any
) -> None:
    name, _ = add_image(scripted, size=2000)
    with scripted_registry() as mirror:
        mirror.fault("", *[status(500)] * 100)
        pull(name, store, client=client_for(mirrors={scripted.host: (f"http://{mirror.host}",)}), monitor=recorder)
        assert len(mirror.requests("/manifests/")) == 6
    assert "does not help" in recorder.messages[0]


def test_proxy_is_used_for_others_than_loopback(scripted: ScriptedRegistry, store: Store, docker_config: Path) -> None:
    _, (layer,) = add_image(scripted)
    scripted.fault(f"GET .*{layer}", cut_after(100_000))
    proxy = f"http://{scripted.host}"
    far = "registry.invalid:5000"
    config = ClientConfig(docker_config, insecure=(far,), http_proxy=proxy, https_proxy=proxy)
    with Client(config, policy=RetryPolicy(base_s=0.001)) as client:
        pull(Reference.parse(f"{far}/app:1"), store, client=client)
    assert {seen.headers["host"] for seen in scripted.seen} == {far}


def test_full_disk_is_told_and_nothing_half_is_kept(
    privileged: None, scripted: ScriptedRegistry, tmp_path: Path, client: Client
) -> None:
    name, (layer,) = add_image(scripted, size=6_000_000)
    small = tmp_path / "small"
    small.mkdir()
    run_tool("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small)
    try:
        with Store.open(small) as full:
            with pytest.raises(StorageFullError) as caught:
                pull(name, full, client=client)
            assert caught.value.hint
            assert full.images.list() == []
            assert not full.blobs.has(Digest(layer))
            assert verify(full) == []
            name, _ = add_image(scripted, size=2000, tag="2")
            pull(name, full, client=client)
    finally:
        run_tool("umount", small)


def test_layers_of_a_pull_that_failed_are_not_fetched_again(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    name, layers = add_image(scripted, layers=3, size=20_000)
    scripted.fault(f"GET .*{layers[2]}", status(403))
    with pytest.raises(ResponseError):
        pull(name, store, client=client, parallel=1)
    pull(name, store, client=client)
    assert [len(scripted.requests(f"GET .*{layer}")) for layer in layers] == [1, 1, 2]


def test_first_failure_ends_the_other_layers(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, layers = add_image(scripted, layers=12, size=50_000)
    scripted.fault(f"GET .*{layers[0]}", status(403))
    with pytest.raises(ResponseError, match="403"):
        pull(name, store, client=client, parallel=2)
    assert not client.cancelled.is_set()
    pull(name, store, client=client)


def test_cancelled_pull_ends(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    name, (layer,) = add_image(scripted)

    def cancel(seen: Seen, answer: Answer) -> Answer:
        client.cancelled.set()
        return answer

    scripted.fault(f"GET .*{layer}", cancel)
    with pytest.raises(TransferCancelledError):
        pull(name, store, client=client)
    assert client.cancelled.is_set()


@pytest.mark.parametrize("cuts", [[(300_000, None)], [(500_000, None), (700_000, None), (200_000, None)]])
def test_broken_upload_goes_on(
    cuts: list[tuple[int | None, int | None]],
    plain_registry: DebianRegistry,
    store: Store,
    other_store: Store,
    client: Client,
    make_image: _MakeImage,
) -> None:
    path = f"broken/up-{len(cuts)}:1"
    with cutting_proxy(plain_registry.host) as proxy:
        name = Reference.parse(f"{proxy.host}/{path}")
        image = make_image(store, str(name), layers=1, size=3_000_000)
        proxy.cuts = list(cuts)
        push(name, store, client=client)
        assert proxy.made == len(cuts)
    pulled = pull(Reference.parse(f"{plain_registry.host}/{path}"), other_store, client=client)
    assert pulled.image.id == image.id


def test_broken_download_from_a_real_registry_goes_on(
    plain_registry: DebianRegistry, store: Store, other_store: Store, client: Client, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{plain_registry.host}/broken/down:1")
    image = make_image(store, str(name), layers=2, size=3_000_000)
    push(name, store, client=client)
    with cutting_proxy(plain_registry.host) as proxy:
        proxy.cuts = [(None, 400_000), (None, 900_000), (None, 100_000)]
        pulled = pull(Reference.parse(f"{proxy.host}/broken/down:1"), other_store, client=client)
        assert proxy.made == 3
    assert pulled.image.id == image.id
    assert verify(other_store) == []


def test_upload_that_gets_no_further_ends(
    plain_registry: DebianRegistry, store: Store, client_for: _ClientFor, make_image: _MakeImage
) -> None:
    with cutting_proxy(plain_registry.host) as proxy:
        name = Reference.parse(f"{proxy.host}/broken/never:1")
        make_image(store, str(name), layers=1, size=3_000_000)
        proxy.cuts = [(2000, None)] * 100
        with pytest.raises(RegistryError):
            push(name, store, client=client_for(policy=RetryPolicy(tries=3, base_s=0.001, cap_s=0.001)))
