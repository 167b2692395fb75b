"""A digest is no right: what an image claims to consist of is fetched and checked, or confirmed by who has it."""

from __future__ import annotations

import dataclasses
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from core.digests import DiffID, Digest
from core.references import Reference
from core.trust import Domain, of_branch, of_fork, protected
from images.errors import DigestMismatchError
from images.store import Store
from images.summary import Image
from registry.client import Client, pull, push, shown_to_anybody
from registry.client.lazy import RegistryLayers
from registry.credentials import Credentials
from registry.errors import LayerUnavailableError, RegistryError, ResponseError
from tests.registry.client.test_client_faults import manifest, status
from tests.registry.conftest import layer_tar
from tests.toolkit.faulty import ScriptedRegistry, scripted_registry
from tests.toolkit.registries import DebianRegistry, debian_registry, token_service

_MakeImage: TypeAlias = Callable[..., Image]
SHOP = protected("shop")


def claim(registry: ScriptedRegistry, diff_id: str, blob: bytes, tag: str = "1") -> Reference:
    """An image whose config says that ``blob`` is the layer ``diff_id``."""
    import json

    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [diff_id]}}
    ).encode()
    digest = registry.add_blob(blob)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": len(blob)}
    registry.add_manifest(tag, manifest(registry.add_blob(config), len(config), [layer]))
    return Reference.parse(f"{registry.host}/app:{tag}")


def wrote(store: Store, name: str) -> DiffID:
    """A layer that somebody else made, in a session of its own."""
    with Store.open(store.root) as other, other.layers.writer() as writer:
        writer.write(layer_tar(name))
        diff_id = writer.commit()
        other.images.put(_config(), [diff_id], names=[Reference.parse(f"{name}:1")])
    return diff_id


def _config() -> Any:
    from core.platforms import Platform
    from images.oci import ImageConfig

    return ImageConfig.for_platform(Platform.parse("linux/amd64"))


def _needed(store: Store, diff_id: DiffID, client: Client) -> None:
    store.layers.fetch([diff_id], by=RegistryLayers(store, client))


@pytest.mark.parametrize("domain", [Domain(), SHOP, of_fork("shop", 7)])
@pytest.mark.parametrize("lazy", [True, False])
def test_claim_over_rubbish_is_not_given_the_layer_that_it_claims(
    scripted: ScriptedRegistry, store: Store, client: Client, domain: Domain, lazy: bool
) -> None:
    private = wrote(store, "private")
    store.act_for(domain)
    name = claim(scripted, private, gzip.compress(b"rubbish"))
    with pytest.raises((DigestMismatchError, LayerUnavailableError)):  # noqa: PT012 - lazily, it is told when needed
        image = pull(name, store, client=client, lazy=lazy).image
        _needed(store, image.diff_ids[0], client)
    assert store.layers.has(private) is domain.is_host


def test_claim_over_the_true_bytes_is_believed_when_they_came(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    tar = layer_tar("public")
    diff_id = wrote(store, "public")
    store.act_for(SHOP)
    blob = gzip.compress(tar)
    name = claim(scripted, diff_id, blob)
    pull(name, store, client=client)
    assert scripted.requests(f"GET .*{Digest.of(blob)}")
    assert store.layers.has(diff_id)


def held(store: Store, domain: Domain, name: Reference, client: Client) -> DiffID:
    """Pull for a domain in a session of its own, and need the layer."""
    with Store.open(store.root) as session:
        session.act_for(domain)
        (diff_id,) = pull(name, session, client=client, lazy=True).image.diff_ids
        _needed(session, diff_id, client)
        assert session.layers.has(diff_id)
    return diff_id


def test_registry_is_asked_once_a_project_and_a_fork_asks_for_itself(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    tar = layer_tar("base")
    blob = gzip.compress(tar)
    name = claim(scripted, Digest.of(tar), blob)
    digest = Digest.of(blob)
    asked = []
    for domain in (SHOP, of_branch("shop", "x"), protected("other"), of_fork("shop", 1), of_fork("shop", 1), SHOP):
        before = len(scripted.seen)
        held(store, domain, name, client)
        asked.append([seen.method for seen in scripted.seen[before:] if digest in seen.path])
    assert asked == [["GET"], [], ["HEAD"], ["HEAD"], [], []]


def test_registry_that_does_not_show_the_blob_is_obeyed(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    tar = layer_tar("base")
    blob = gzip.compress(tar)
    name = claim(scripted, Digest.of(tar), blob)
    held(store, SHOP, name, client)
    scripted.fault(f"HEAD .*{Digest.of(blob)}", *[status(403)] * 9)
    with pytest.raises(LayerUnavailableError, match="403"):
        held(store, protected("other"), name, client)
    assert held(store, SHOP, name, client)


def test_word_of_another_registry_is_not_enough_for_a_blob_that_it_may_not_have(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    """A registry can answer every HEAD with 200: who knows two digests would have the layer."""
    tar = layer_tar("private")
    blob = gzip.compress(tar)
    held(store, SHOP, claim(scripted, Digest.of(tar), blob), client)
    with scripted_registry() as liar:
        name = claim(liar, Digest.of(tar), blob)
        del liar.blobs[str(Digest.of(blob))]
        scripted.fault(f"/blobs/{Digest.of(blob)}", *[status(403)] * 9)
        liar.fault("HEAD .*/blobs/", *[lambda seen, answer: dataclasses.replace(answer, status=200)] * 9)
        with pytest.raises(LayerUnavailableError):
            held(store, protected("stranger"), name, client)
        assert not liar.requests("HEAD .*/blobs/")


def test_config_of_another_s_image_is_not_given_for_its_digest(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    private = wrote(store, "private")
    config = store.images.resolve("private:1").id
    store.act_for(SHOP)
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": private, "size": 10240}
    scripted.add_manifest("1", manifest(config, 200, [layer]))
    with pytest.raises(ResponseError, match="BLOB_UNKNOWN"):
        pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client, lazy=True)


def test_digest_that_is_named_has_to_be_shown_by_its_registry(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    tar = layer_tar("base")
    name = claim(scripted, Digest.of(tar), gzip.compress(tar))
    digest = pull(name, store, client=client, lazy=True).digest
    pinned = name._replace(tag=None, digest=digest)
    with Store.open(store.root) as session:
        session.act_for(protected("other"))
        assert not pull(pinned, session, client=client, lazy=True).fresh
        scripted.fault("/manifests/", *[status(404)] * 9)
        with pytest.raises(RegistryError):
            pull(pinned, session, client=client, lazy=True)
    assert not pull(pinned, store, client=client, lazy=True).fresh  # the host has what it has


def test_push_of_a_run_sends_no_blob_that_the_run_does_not_hold(
    scripted: ScriptedRegistry, plain_registry: DebianRegistry, store: Store, client: Client
) -> None:
    tar, own = layer_tar("private"), layer_tar("own")
    blob = gzip.compress(tar)
    held(store, SHOP, claim(scripted, Digest.of(tar), blob), client)
    with scripted_registry() as stranger, Store.open(store.root) as session:
        session.act_for(protected("stranger"))
        claims = claim(stranger, Digest.of(own), blob)  # the layer is its own, the blob is another's
        stranger.blobs.pop(str(Digest.of(blob)))
        image = pull(claims, session, client=client, lazy=True).image
        with session.layers.writer() as writer:
            writer.write(own)
            writer.commit()
        push(Reference.parse(f"{plain_registry.host}/stolen:1"), session, client=client, image=image)
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"http://{plain_registry.host}/v2/stolen/blobs/{Digest.of(blob)}")


def test_host_fetches_nothing_twice_of_what_was_checked(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: _MakeImage, recorder: Any
) -> None:
    name = Reference.parse(f"{plain_registry.host}/twice:1")
    make_image(store, str(name))
    push(name, store, client=client)
    store.images.remove(str(name))
    make_image(store, "kept", seed=1)
    pull(name, store, client=client)
    other = Reference.parse(f"{plain_registry.host}/twice:2")
    push(other, store, client=client, image=store.images.resolve(str(name)))
    pull(other, store, client=client, monitor=recorder)
    assert set(recorder.final.values()) <= {"Already exists"}


def test_image_is_common_when_its_registry_shows_it_to_anybody(
    store: Store, client_for: Callable[..., Client], make_image: _MakeImage, tmp_path: Path
) -> None:
    (tmp_path / "tokens").mkdir()
    alice = client_for(credentials=Credentials("alice", "s3cret"))
    with (
        token_service(tmp_path / "tokens") as service,
        debian_registry(tmp_path / "tokens", service.registry_config) as registry,
    ):
        found = {}
        for path in ("public/app", "alice/app"):
            name = Reference.parse(f"{registry.host}/{path}:1")
            make_image(store, str(name))
            digest = push(name, store, client=alice).digest
            found[path] = [shown_to_anybody(name, digest, store, alice) for _ in range(2)]
        assert found == {"public/app": [True, True], "alice/app": [False, False]}
        asked = [scopes for user, scopes in zip(service.users, service.asked, strict=True) if user != "alice"]
        assert asked.count(("repository:public/app:pull",)) == 1  # what was shown is not asked again
