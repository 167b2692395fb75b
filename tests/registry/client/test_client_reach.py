"""A client of a service's run connects to public addresses only, whoever sends it where."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from core.reach import Reach
from core.references import Reference
from images.store import Store
from images.summary import Image
from registry.client import Client, ClientConfig, pull, push
from registry.credentials import Credentials
from registry.errors import OutOfBoundsError, RegistryError, UnreachableError
from tests.registry.client.test_client_faults import add_image, status
from tests.registry.conftest import HASTY
from tests.toolkit.faulty import ScriptedRegistry, scripted_registry
from tests.toolkit.registries import Authority, DebianRegistry, debian_registry, token_service

_MakeImage: TypeAlias = Callable[..., Image]
_BoundedFor: TypeAlias = Callable[..., Client]


def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


@pytest.fixture
def bounded(docker_config: Path) -> Iterator[_BoundedFor]:
    """Opens clients that reach public addresses, and what is named; every name is an address of this machine."""
    opened: list[Client] = []

    def open_client(*allowed: str, **members: object) -> Client:
        credentials = members.pop("credentials", None)
        reach = Reach(public_only=True, allowed=allowed, resolve=here)
        config = ClientConfig(docker_config, reach=reach, **members)  # type: ignore[arg-type]
        opened.append(Client(config, credentials=lambda _: credentials, policy=HASTY))  # type: ignore[arg-type,return-value]
        return opened[-1]

    yield open_client
    for client in opened:
        client.close()


def test_registry_inside_is_refused_and_not_asked(
    scripted: ScriptedRegistry, store: Store, bounded: _BoundedFor
) -> None:
    name, _ = add_image(scripted)
    with pytest.raises(OutOfBoundsError, match=r"127\.0\.0\.1 has the address 127\.0\.0\.1, which is not a public one"):
        pull(name, store, client=bounded())
    port = scripted.host.partition(":")[2]
    with pytest.raises(OutOfBoundsError, match=r"inside\.test has the address"):
        pull(Reference.parse(f"inside.test:{port}/app:1"), store, client=bounded(insecure=("inside.test",)))
    assert not scripted.seen
    assert pull(name, store, client=bounded(scripted.host)).fresh


def test_registry_that_is_let_through_by_name_is_found_and_called_by_it(
    plain_registry: DebianRegistry, store: Store, other_store: Store, bounded: _BoundedFor, make_image: _MakeImage
) -> None:
    port = plain_registry.host.partition(":")[2]
    name = Reference.parse(f"own.test:{port}/reach/app:1")
    image = make_image(store, str(name))
    push(name, store, client=bounded(f"own.test:{port}", insecure=("own.test",)))
    assert pull(name, other_store, client=bounded(f"own.test:{port}", insecure=("own.test",))).image.id == image.id


def test_certificate_has_to_be_of_the_name_and_not_of_the_address(
    tmp_path: Path, authority: Authority, store: Store, bounded: _BoundedFor, make_image: _MakeImage
) -> None:
    certificate, key = authority.issue("named", sans="DNS:own.test")
    tls = {"http": {"tls": {"certificate": str(certificate), "key": str(key)}}}
    (tmp_path / "tls").mkdir()
    with debian_registry(tmp_path / "tls", tls) as registry:
        port = registry.host.partition(":")[2]
        for host in ("own.test", "other.test"):
            (tmp_path / "certs.d" / f"{host}:{port}").mkdir(parents=True)
            (tmp_path / "certs.d" / f"{host}:{port}" / "ca.crt").write_bytes(authority.ca.read_bytes())
        client = bounded("own.test", "other.test", certificates=(tmp_path / "certs.d",))
        for host in ("own.test", "other.test"):
            make_image(store, f"{host}:{port}/app:1")
        push(Reference.parse(f"own.test:{port}/app:1"), store, client=client)
        with pytest.raises(RegistryError, match="x509: Hostname mismatch"):
            push(Reference.parse(f"other.test:{port}/app:1"), store, client=client)


def test_token_service_inside_is_refused_and_not_asked(
    tmp_path: Path, store: Store, bounded: _BoundedFor, make_image: _MakeImage
) -> None:
    (tmp_path / "tokens").mkdir()
    with (
        token_service(tmp_path / "tokens") as service,
        debian_registry(tmp_path / "tokens", service.registry_config) as registry,
    ):
        name = Reference.parse(f"{registry.host}/alice/app:1")
        make_image(store, str(name))
        alice = Credentials("alice", "s3cret")
        with pytest.raises(OutOfBoundsError, match="not a public one"):
            push(name, store, client=bounded(registry.host, credentials=alice))
        assert not service.asked
        realm = service.realm.removeprefix("http://").removesuffix("/token")
        push(name, store, client=bounded(registry.host, realm, credentials=alice))
        assert service.asked


@pytest.mark.parametrize("way", ["Location", "urls"])
def test_what_a_blob_is_redirected_to_is_refused_and_not_asked(
    scripted: ScriptedRegistry, store: Store, bounded: _BoundedFor, way: str
) -> None:
    with scripted_registry() as inside:
        foreign = f"http://{inside.host}/v2/x/blobs" if way == "urls" else ""
        name, (layer,) = add_image(scripted, foreign=foreign)
        inside.blobs[layer] = scripted.blobs[layer]
        if way == "urls":
            del scripted.blobs[layer]
        else:
            place = f"http://{inside.host}/v2/app/blobs/{layer}"
            scripted.fault(f"GET .*{layer}", *[status(307, Location=place)] * 9)
        with pytest.raises(RegistryError):
            pull(name, store, client=bounded(scripted.host))
        assert not inside.seen
        pull(name, store, client=bounded(scripted.host, inside.host))
        assert inside.seen


def test_mirror_of_the_administrators_is_let_through(tmp_path: Path, scripted: ScriptedRegistry, store: Store) -> None:
    from core.settings import RegistrySettings

    name, _ = add_image(scripted)
    (tmp_path / "registries.json").write_text(f'{{"mirrors": {{"far.test": ["http://{scripted.host}"]}}}}')
    reach = Reach(public_only=True, resolve=here)
    config = ClientConfig.load(RegistrySettings.from_environ({}), tmp_path, reach=reach)
    with Client(config, policy=HASTY) as client:
        assert pull(Reference.parse(f"far.test/app:{name.tag}"), store, client=client).fresh


def test_name_that_is_looked_up_in_vain_is_tried_again(store: Store, docker_config: Path) -> None:
    asked = []

    def fails(host: str, port: int) -> list[str]:
        asked.append(host)
        raise OSError("no name server answers")

    config = ClientConfig(docker_config, reach=Reach(public_only=True, resolve=fails))
    with Client(config, policy=HASTY) as client, pytest.raises(UnreachableError, match=r"address of far\.test"):
        pull(Reference.parse("far.test/app:1"), store, client=client)
    assert len(asked) > 1
