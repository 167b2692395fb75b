"""All that a registry has, taken out and taken in by another: names, tags, parts, and what was damaged on the way."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.digests import Digest
from images.store import Store
from registry.server.app import application
from registry.server.browse import Browser
from registry.server.errors import SpecError
from registry.server.portable import PortableRepository, add_content, add_manifest, add_rules, list_repositories
from registry.server.registry import Registry
from registry.server.settings import Policy, Retention, ServerSettings
from tests.registry.server.conftest import Bench, Clock
from tests.registry.server.serving import InProcess, digest_of, manifest_of

LAYER, CONFIG = b"layer" * 100, b"{}"
MANIFEST = manifest_of(CONFIG, [LAYER])
OTHER = manifest_of(CONFIG, [], annotations={"a": "b"})


@pytest.fixture
def full(make_bench: Callable[..., Bench]) -> Bench:
    """team/app with two tags of one manifest and one of another; other/app with the same layer."""
    bench = make_bench()
    client = bench.client
    for name in ("team/app", "other/app"):
        client.push_blob(LAYER, name=name)
        client.push_blob(CONFIG, name=name)
    for tag in ("v1", "latest"):
        assert client.put_manifest(MANIFEST, tag).status_code == 201
    assert client.put_manifest(OTHER, "v2").status_code == 201
    return bench


@pytest.fixture
def empty(tmp_path: Path, clock: Clock) -> Iterator[Bench]:
    """A registry of another store."""
    with Store.open(tmp_path / "empty") as store:
        registry = Registry(store, ServerSettings(access="open"), clock=clock)
        yield Bench(store, registry, clock, InProcess(application(registry).test_client()))
        registry.close()


def test_everything_is_listed(full: Bench) -> None:
    other, team = list_repositories(full.registry)
    assert (other.name, team.name) == ("other/app", "team/app")
    assert other.manifests == ()
    assert {(each.digest, each.content, each.media_type, each.tags) for each in team.manifests} == {
        (digest_of(MANIFEST), digest_of(MANIFEST), "application/vnd.oci.image.manifest.v1+json", ("latest", "v1")),
        (digest_of(OTHER), digest_of(OTHER), "application/vnd.oci.image.manifest.v1+json", ("v2",)),
    }
    blobs = {(digest_of(LAYER), digest_of(LAYER), 500), (digest_of(CONFIG), digest_of(CONFIG), 2)}
    for repository in (other, team):
        assert {(each.digest, each.content, each.size) for each in repository.blobs} == blobs
    assert team.contents() == {Digest(digest_of(data)) for data in (LAYER, CONFIG, MANIFEST, OTHER)}


def test_rules_of_repositories_are_carried(full: Bench, empty: Bench) -> None:
    full.registry.rules.set("team/app", Policy("", 5_000, ("v*",), 2.5, Retention(keep_last=3)))
    for repository in list_repositories(full.registry):
        add_rules(empty.registry, repository)
    assert empty.registry.rules.of("team/app") == full.registry.rules.of("team/app")
    assert empty.registry.rules.of("other/app") is None
    for rules in ("{", '{"quota_bytes": -1}', '{"retention": {"keep_last": "all"}}'):
        with pytest.raises(SpecError):
            add_rules(empty.registry, PortableRepository("team/app", (), (), rules))


def carried(full: Registry, empty: Registry) -> None:
    repositories = list_repositories(full)
    for data in (LAYER, CONFIG):
        add_content(empty, repositories, Digest(digest_of(data)), io.BytesIO(data))
    for repository in repositories:
        for manifest in repository.manifests:
            data = MANIFEST if manifest.digest == digest_of(MANIFEST) else OTHER
            add_manifest(empty, repository.name, manifest, data)


def test_another_registry_has_it_all(full: Bench, empty: Bench) -> None:
    carried(full.registry, empty.registry)
    assert list_repositories(empty.registry) == list_repositories(full.registry)
    assert empty.client("GET", "/v2/team/app/manifests/latest").data == MANIFEST
    with empty.client("GET", f"/v2/other/app/blobs/{digest_of(LAYER)}") as blob:
        assert blob.data == LAYER
    carried(full.registry, empty.registry)  # once more changes nothing
    assert list_repositories(empty.registry) == list_repositories(full.registry)


def test_content_that_no_repository_lists_is_passed_over(full: Bench, empty: Bench) -> None:
    add_content(empty.registry, list_repositories(full.registry), Digest(digest_of(b"x")), io.BytesIO(b"x"))
    assert list_repositories(empty.registry) == []


def test_damaged_content_is_taken_in_by_nobody(full: Bench, empty: Bench) -> None:
    with pytest.raises(SpecError, match="digest"):
        add_content(
            empty.registry, list_repositories(full.registry), Digest(digest_of(LAYER)), io.BytesIO(b"other bytes")
        )
    assert list_repositories(empty.registry) == []
    assert [name for name in empty.registry.store.tmp.iterdir() if "restored" in name.name] == []


def test_tags_that_both_have_are_those_that_come_in(full: Bench, empty: Bench) -> None:
    empty.client.push_blob(CONFIG)
    assert empty.client.put_manifest(OTHER, "latest").status_code == 201
    carried(full.registry, empty.registry)
    assert empty.client("GET", "/v2/team/app/manifests/latest").data == MANIFEST


def test_layers_are_looked_through_once_and_kept(full: Bench) -> None:
    """Of several layers, by the pages' browser: also by another process, and in their order."""

    def tar(name: str) -> bytes:
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as writer:
            writer.addfile(tarfile.TarInfo(name))
        return sink.getvalue()

    layers = [tar(name) for name in ("a", "b", "c")]
    for layer in layers:
        full.client.push_blob(layer)
    assert full.client.put_manifest(manifest_of(CONFIG, layers), "three").status_code == 201
    for _ in range(2):
        browser = Browser(full.registry)
        views = browser.image("team/app", "three").layers
        described = [view.descriptor for view in views if view.descriptor is not None]
        found = [browser.listings.get("team/app", each) for each in described]
        assert [[entry.path for entry in entries] for entries in found] == [["a"], ["b"], ["c"]]
        assert browser.listings.get("team/app", described[0]) is found[0]
