"""Garbage collection, retention and the settings that say how."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from images.verify import verify
from registry.server.collect import collect, expired_tags
from registry.server.errors import ServerSettingsError
from registry.server.settings import Policy, Retention, ServerSettings, load_settings, parse_size, settings_from
from tests.registry.server.conftest import Bench
from tests.registry.server.serving import OCI_INDEX, OCI_MANIFEST, descriptor, digest_of, index_of, manifest_of

_DAY = 86400.0


def _age(bench: Bench, days: float) -> None:
    bench.clock.now += days * _DAY


def _files(bench: Bench) -> set[str]:
    return {path.name for path in (bench.store.root / "blobs" / "sha256").iterdir()}


def _collected_files(bench: Bench) -> set[str]:
    """Collect as if the blobs, too, had been written long ago."""
    with bench.store.database.transaction() as connection:
        connection.execute("UPDATE blobs SET created_at = 0")
    collect(bench.registry)
    return _files(bench)


def test_unreferenced_blob_goes_after_the_grace_period(bench: Bench) -> None:
    digest = bench.client.push_blob(b"orphan")
    bench.client.push_image("v1")
    report = collect(bench.registry)
    assert (report.blobs, report.manifests, report.tags) == (0, 0, 0)
    _age(bench, 2)
    report = collect(bench.registry)
    assert report.blobs == 1
    assert f"unlinked blob: team/app@{digest}" in report.lines
    assert bench.client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 404
    assert digest.hex not in _collected_files(bench)
    assert verify(bench.store) == []


def test_what_an_image_has_stays(bench: Bench) -> None:
    manifest = bench.client.push_image("v1")
    index = index_of([manifest])
    bench.client.put_manifest(index, "multi", media_type=OCI_INDEX)
    bench.client("DELETE", "/v2/team/app/manifests/v1")
    before = _files(bench)
    _age(bench, 400)
    assert _collected_files(bench) == before
    assert bench.client("GET", f"/v2/team/app/manifests/{digest_of(manifest)}").data == manifest


def test_blob_that_a_client_was_told_is_here_stays_for_its_manifest(bench: Bench) -> None:
    digest = bench.client.push_blob(b"layer")
    _age(bench, 0.99)
    assert bench.client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 200
    _age(bench, 0.5)
    collect(bench.registry)
    assert bench.client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 200


def test_deleted_image_frees_its_space_unless_another_repository_has_it(bench: Bench) -> None:
    manifest = bench.client.push_image("v1", layers=(b"shared", b"own"))
    bench.client.push_blob(b"shared", name="other/app")
    bench.client.push_blob(b"{}", name="other/app")
    bench.client.put_manifest(manifest_of(b"{}", [b"shared"]), "v1", name="other/app")
    bench.client("DELETE", f"/v2/team/app/manifests/{digest_of(manifest)}")
    _age(bench, 2)
    files = _collected_files(bench)
    assert digest_of(b"shared").hex in files
    assert not {digest_of(b"own").hex, digest_of(manifest).hex} & files
    assert bench.client("GET", "/v2/team/app/tags/list").status_code == 404  # an empty repository is none


def test_local_images_and_the_registry_keep_each_others_content(bench: Bench) -> None:
    digest = bench.client.push_blob(b"{}")
    layer = bench.client.push_blob(b"layer")
    bench.client.put_manifest(manifest_of(b"{}", [b"layer"]), "v1")
    bench.store.images.prune(all_unused=True, cache=True)
    assert bench.client.blob(layer) == b"layer"
    assert bench.client("HEAD", f"/v2/team/app/blobs/{digest}").status_code == 200


def test_untagged_manifests_stay_unless_the_rules_say_otherwise(make_bench: Callable[..., Bench]) -> None:
    keeping = make_bench()
    manifest = keeping.client.push_image()
    _age(keeping, 400)
    assert collect(keeping.registry).manifests == 0
    strict = make_bench(ServerSettings(access="open", policies=(Policy("*", untagged_days=7),)))
    assert collect(strict.registry).manifests == 1
    assert strict.client("HEAD", f"/v2/team/app/manifests/{digest_of(manifest)}").status_code == 404


def test_referrers_live_as_long_as_their_subject(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(ServerSettings(access="open", policies=(Policy("*", untagged_days=7),)))
    subject = bench.client.push_image("v1")
    signature = bench.client.push_image(subject=descriptor(subject, OCI_MANIFEST))
    about_it = bench.client.push_image(subject=descriptor(signature, OCI_MANIFEST))
    _age(bench, 30)
    assert collect(bench.registry).manifests == 0
    bench.client("DELETE", "/v2/team/app/manifests/v1")
    assert collect(bench.registry).manifests == 3
    assert bench.client("HEAD", f"/v2/team/app/manifests/{digest_of(about_it)}").status_code == 404


def test_retention_removes_tags_and_what_only_they_led_to(make_bench: Callable[..., Bench]) -> None:
    rules = Policy("team/*", retention=Retention(keep_last=2, keep_tags=("v*",)))
    bench = make_bench(ServerSettings(access="open", policies=(rules,)))
    pushed = {}
    for tag in ("v1", "one", "two", "three", "four"):
        pushed[tag] = bench.client.push_image(tag, layers=(tag.encode(),))
        _age(bench, 1)
    bench.client.push_image("one", name="other/app")
    _age(bench, 5)
    report = collect(bench.registry)
    assert (report.tags, report.manifests) == (2, 2)
    assert bench.client("GET", "/v2/team/app/tags/list").json == {"name": "team/app", "tags": ["four", "three", "v1"]}
    assert bench.client("HEAD", f"/v2/team/app/manifests/{digest_of(pushed['one'])}").status_code == 404
    assert bench.client("GET", "/v2/other/app/tags/list").json == {"name": "other/app", "tags": ["one"]}


def test_retention_leaves_what_was_tagged_within_the_grace_period(make_bench: Callable[..., Bench]) -> None:
    """Whoever pushes a tag may be about to move it to where the rules keep it."""
    rules = Policy("*", retention=Retention(keep_tags=("v*",)))
    bench = make_bench(ServerSettings(access="open", policies=(rules,)))
    bench.client.push_image("new")
    _age(bench, 0.9)
    assert collect(bench.registry).tags == 0
    _age(bench, 0.2)
    assert collect(bench.registry).tags == 1


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        (Retention(keep_last=1), ["old", "v1"]),
        (Retention(keep_days=10), ["old"]),
        (Retention(keep_tags=("v*", "new")), ["old"]),
        (Retention(keep_last=0, keep_days=1), ["v1", "old"]),
        (Retention(keep_last=3), []),
        (Retention(keep_last=1, tags=("old", "v*")), ["old"]),
        (Retention(keep_days=1, tags=("new",)), []),
        (Retention(keep_days=1, tags=()), []),
    ],
)
def test_retention_rules(rules: Retention, gone: list[str]) -> None:
    now = 100 * _DAY
    tags = [("old", now - 50 * _DAY), ("v1", now - 5 * _DAY), ("new", now)]
    assert sorted(expired_tags(tags, rules, Policy("*"), now)) == sorted(gone)
    assert "v1" not in expired_tags(tags, rules, Policy("*", immutable_tags=("v*",)), now)


def test_uploads_expire_by_their_last_byte(bench: Bench) -> None:
    uploads = bench.store.root / "serve" / "uploads"
    old, young = bench.client.begin(), bench.client.begin()
    bench.client("PATCH", young, data=b"hello")
    for location, days in ((old, 8), (young, 6)):
        moment = bench.clock.now + 8 * _DAY - days * _DAY
        os.utime(uploads / location.rpartition("/")[2], (moment, moment))
    (uploads / ("f" * 32)).touch()  # what a server killed in `begin` leaves
    os.utime(uploads / ("f" * 32), (0, 0))
    _age(bench, 8)
    assert collect(bench.registry).uploads == 1
    assert bench.client("GET", old).status_code == 404
    assert bench.client("GET", young).headers["Range"] == "0-4"
    assert [path.name for path in uploads.iterdir()] == [young.rpartition("/")[2]]


def test_pushes_during_collections_are_never_left_with_holes(bench: Bench) -> None:
    """With no grace period at all, a push may be refused; what was accepted has all its parts."""
    bench.clock.now += 10
    stop = threading.Event()

    def collecting() -> None:
        while not stop.is_set():
            collect(bench.registry, grace_s=-1)

    accepted = []
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(collecting)
        for number in range(30):
            layer = f"layer {number}".encode()
            bench.client.push_blob(b"{}")
            bench.client.push_blob(layer)
            manifest = manifest_of(b"{}", [layer])
            response = bench.client.put_manifest(manifest, f"v{number}")
            assert response.status_code in (201, 404)
            if response.status_code == 201:
                accepted.append(layer)
        stop.set()
        running.result()
    for layer in accepted:
        assert bench.client.blob(digest_of(layer)) == layer
    assert verify(bench.store) == []


def test_settings_file(tmp_path: Path) -> None:
    path = tmp_path / "registry.toml"
    path.write_text(
        """
        anonymous_pull = true
        grace_s = 60
        [[repository]]
        pattern = "team/*"
        quota = "20 GiB"
        immutable_tags = ["v*"]
        [repository.retention]
        keep_last = 20
        keep_tags = ["latest"]
        [[repository]]
        pattern = "hub/*"
        mirror = "registry.example"
        """
    )
    settings = load_settings(path, access="users")
    assert (settings.anonymous_pull, settings.grace_s, settings.access) == (True, 60, "users")
    team = settings.policy("team/app")
    assert team == Policy("team/*", 20 << 30, ("v*",), retention=Retention(20, None, ("latest",)))
    assert settings.policy("hub/x").mirror == "registry.example"
    assert settings.policy("other") == Policy("*")


@pytest.mark.parametrize(
    "document",
    [
        {"anonymous_pul": True},
        {"access": "open"},
        {"grace_s": "long"},
        {"grace_s": True},
        {"repository": [{"quota": "1 GB"}]},
        {"repository": [{"pattern": "*", "quota": "lots"}]},
        {"repository": [{"pattern": "*", "quotas": "1 GB"}]},
        {"repository": [{"pattern": "*", "immutable_tags": "v*"}]},
        {"repository": [{"pattern": "*", "retention": {}}]},
        {"repository": [{"pattern": "*", "retention": {"keep": 3}}]},
    ],
)
def test_settings_that_are_refused(document: dict[str, object]) -> None:
    with pytest.raises(ServerSettingsError):
        settings_from(document, access="users")


@pytest.mark.parametrize("text", [None, "no = toml = here", "\xff"])
def test_settings_file_that_is_none(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "registry.toml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ServerSettingsError, match=str(path)):
        load_settings(path, access="users")


@pytest.mark.parametrize(
    ("text", "size"), [("5", 5), (7, 7), ("1 kB", 1000), ("1KiB", 1024), ("1.5 GiB", 3 << 29), ("2M", 2_000_000)]
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size
