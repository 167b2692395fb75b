"""What pages show of the registry: tags by age, what nothing leads to, facts, listings; and rules made on pages."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from core.cancellation import check
from core.digests import Digest
from images.comparing import ChangedName
from images.contents import LayerEntry
from images.oci import Descriptor
from registry.server.background import WANTED_S, Background, Say
from registry.server.browse import Browser
from registry.server.collect import collect
from registry.server.errors import SpecError, blob_unknown
from registry.server.listings import Compared
from registry.server.manifests import Deleted
from registry.server.settings import Policy, Retention, ServerSettings, settings_from
from registry.server.survey import newest_tags, repository_id
from tests.registry.server.conftest import Bench
from tests.registry.server.serving import OCI_INDEX, OCI_LAYER, OCI_MANIFEST, manifest_of
from tests.toolkit.bounds import eventually
from tests.web.browser.stock import layer_tar

CONFIG = json.dumps({"architecture": "arm64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()


def push(bench: Bench, tag: str, *, name: str = "team/app", marker: str = "") -> Digest:
    """An image of its own; a second later than the last one."""
    bench.clock.now += 1
    layer = f"layer {marker or tag}".encode()
    for blob in (CONFIG, layer):
        bench.client.push_blob(blob, name=name)
    manifest = manifest_of(CONFIG, [layer])
    assert bench.client.put_manifest(manifest, tag, name=name).status_code == 201
    return Digest.of(manifest)


def described_as(layer: bytes) -> Descriptor:
    return Descriptor(media_type=OCI_LAYER, digest=Digest.of(layer), size=len(layer))


def test_tags_are_listed_by_age_in_parts(bench: Bench) -> None:
    for tag in ("a", "c", "b", "d"):
        push(bench, tag)
    push(bench, "a", marker="again")
    browser = Browser(bench.registry)
    first = browser.tags("team/app", limit=2)
    rest = browser.tags("team/app", after=first[-1].cursor, limit=9)
    assert [[each.tag for each in part] for part in (first, rest)] == [["a", "d"], ["b", "c"]]
    assert [each.tag for each in browser.tags("team/app", text="C", limit=9)] == ["c"]


@pytest.mark.parametrize("cursor", ["x,y", "1e999,a", "nan,a", ",", "'", "5"])
def test_a_cursor_of_garbage_breaks_nothing(bench: Bench, cursor: str) -> None:
    push(bench, "a")
    rows = bench.registry.rows
    newest_tags(rows, repository_id(rows, "team/app"), after=cursor, limit=5)


def test_what_nothing_leads_to_is_told_from_parts_and_referrers(bench: Bench) -> None:
    lost = push(bench, "a", marker="lost")
    kept = push(bench, "a")
    child = push(bench, "child")
    descriptor = {"mediaType": OCI_MANIFEST, "digest": child, "size": len(manifest_of(CONFIG, [b"layer child"]))}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [descriptor]}).encode()
    assert bench.client.put_manifest(index, "many", media_type=OCI_INDEX).status_code == 201
    bench.registry.manifests.delete("team/app", "child")
    about = json.loads(manifest_of(CONFIG, [b"layer child"])) | {"subject": descriptor}
    assert (
        bench.client.put_manifest(json.dumps(about).encode(), Digest.of(json.dumps(about).encode())).status_code == 201
    )
    browser = Browser(bench.registry)
    assert [each.manifest.digest for each in browser.untagged("team/app", limit=9)] == [lost]
    assert browser.counts("team/app") == (2, 1)
    many = browser.tags("team/app", text="many", limit=1)[0]
    facts = browser.facts.of("team/app", many.manifest)
    assert (facts.platforms, facts.ids, facts.kind) == (("linux/arm64",), (str(Digest.of(CONFIG)),), "")
    assert facts.size_bytes == len(index) + descriptor["size"] + len(CONFIG) + len(b"layer child")  # type: ignore[operator]
    assert kept


def test_facts_of_garbage_are_its_size(bench: Bench) -> None:
    config = b"\x00 no config"
    bench.client.push_blob(config)
    bench.client.push_blob(b"x")
    manifest = manifest_of(config, [b"x"])
    assert bench.client.put_manifest(manifest, "odd").status_code == 201
    browser = Browser(bench.registry)
    facts = browser.facts.of("team/app", browser.tags("team/app", limit=1)[0].manifest)
    assert (facts.size_bytes, facts.platforms) == (len(manifest) + len(config) + 1, ())


def test_many_are_deleted_in_one_go_but_for_immutable_ones(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(settings_from({"repository": [{"pattern": "*", "immutable_tags": ["v*"]}]}, access="open"))
    fixed = push(bench, "v1")
    for tag in ("a", "b"):
        push(bench, tag)
    done = bench.registry.manifests.delete_all("team/app", ["a", "v1", "nothing", fixed, "b", "a"])
    assert done == Deleted(("a", "b"), ("v1", fixed), ("nothing",))
    assert [each.tag for each in Browser(bench.registry).tags("team/app", limit=9)] == ["v1"]


def test_rules_of_pages_hold_at_once_for_every_process(bench: Bench, make_bench: Callable[..., Bench]) -> None:
    other = make_bench()
    push(bench, "v1")
    changed = bench.registry.rules.set("team/app", Policy("", immutable_tags=("v*",), quota_bytes=10_000))
    assert (changed.before, changed.after) == (None, Policy("team/app", 10_000, ("v*",)))
    with pytest.raises(SpecError, match="immutable"):
        other.registry.manifests.delete("team/app", "v1")
    assert other.registry.settings.policy("team/app").quota_bytes == 10_000
    assert other.registry.settings.policy("team/other").quota_bytes is None
    changed = other.registry.rules.set("team/app", Policy(""))
    assert (changed.before is not None, changed.after) == (True, None)
    bench.registry.manifests.delete("team/app", "v1")


def test_the_file_wins_member_by_member(make_bench: Callable[..., Bench]) -> None:
    document = {"repository": [{"pattern": "team/*", "quota": "1 kB", "mirror": "r.example"}]}
    bench = make_bench(settings_from(document, access="open"))
    bench.registry.rules.set("team/app", Policy("", quota_bytes=9, untagged_days=3.0, retention=Retention(keep_last=1)))
    found = bench.registry.settings.policy("team/app")
    assert (found.quota_bytes, found.untagged_days, found.mirror) == (1000, 3.0, "r.example")
    assert found.retention == Retention(keep_last=1)


def test_retention_of_a_page_is_what_is_collected(bench: Bench) -> None:
    for tag in ("a", "b", "c"):
        push(bench, tag)
    bench.registry.rules.set("team/app", Policy("", retention=Retention(keep_last=1)))
    bench.clock.now += 1e6
    assert collect(bench.registry).tags == 2


@pytest.mark.parametrize(
    "wanted",
    [
        Policy("", quota_bytes=-1),
        Policy("", untagged_days=float("nan")),
        Policy("", immutable_tags=("a b",)),
        Policy("", immutable_tags=("x",) * 51),
        Policy("", retention=Retention()),
        Policy("", retention=Retention(keep_last=0)),
        Policy("", retention=Retention(keep_last=1, tags=())),
    ],
)
def test_rules_that_nobody_can_mean_are_refused(bench: Bench, wanted: Policy) -> None:
    with pytest.raises(SpecError):
        bench.registry.rules.set("team/app", wanted)
    assert bench.registry.rules.of("team/app") is None


def test_hidden_repositories_have_no_rules(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(ServerSettings(access="open", hidden="runs/"))
    bench.registry.rules.set("runs/p", Policy("", quota_bytes=1))
    assert bench.registry.settings.policy("runs/p").quota_bytes is None


def test_what_a_layer_holds_is_said_only_where_the_layer_is(bench: Bench) -> None:
    """A manifest may name a layer that its repository lacks: its listing, known from another one, stays unsaid."""
    layer = bytes(1024)  # an empty tar
    bench.client.push_blob(layer, name="secret/app")
    described = described_as(layer)
    listings = Browser(bench.registry).listings
    assert listings.get("secret/app", described) == []
    eventually(lambda: listings.changes("secret/app", [described]).found is not None)
    for ask in (
        lambda: listings.get("team/app", described),
        lambda: listings.changes("team/app", [described]),
        lambda: listings.compared(("team/app", [described]), ("secret/app", [])),
    ):
        with pytest.raises(SpecError):
            ask()


def test_what_goes_while_it_is_read_is_no_fault_for_others_who_have_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = bytes(1024)
    for name in ("team/app", "team/other"):
        bench.client.push_blob(layer, name=name)
    listings = Browser(bench.registry).listings
    get, gone = listings.get, threading.Event()

    def goes(repository: str, layer: Descriptor) -> list[LayerEntry]:
        if repository == "team/app":
            gone.set()
            raise blob_unknown(layer.digest)
        return get(repository, layer)

    monkeypatch.setattr(listings, "get", goes)
    assert listings.changes("team/app", [described_as(layer)]).found is None
    eventually(gone.is_set)
    eventually(lambda: listings.changes("team/other", [described_as(layer)]).found is not None)


def test_a_layer_of_garbage_is_a_fault_that_is_told(bench: Bench) -> None:
    layer = b"no tar at all" * 100
    bench.client.push_blob(layer)
    described = described_as(layer)
    listings = Browser(bench.registry).listings
    eventually(lambda: bool(listings.changes("team/app", [described]).fault))
    assert listings.changes("team/app", [described]).found is None


def test_work_that_nobody_wants_any_more_is_given_up(tmp_path: Path) -> None:
    now = [0.0]
    began, ended = threading.Event(), threading.Event()

    def endless(say: Say) -> bytes:
        say("for ever")
        began.set()
        try:
            while True:
                check()
                time.sleep(0.001)
        finally:
            ended.set()

    work = Background(tmp_path / "results", clock=lambda: now[0])
    assert work.ask("endless", endless).data is None
    eventually(began.is_set)
    now[0] += WANTED_S
    assert work.ask("endless", endless).progress == "for ever"  # it is wanted from now on, again
    now[0] += WANTED_S + 1
    eventually(ended.is_set)
    eventually(lambda: work.ask("quick", lambda say: b"done").data == b"done")


def test_results_that_nobody_asked_for_make_room_for_others(tmp_path: Path) -> None:
    work = Background(tmp_path / "results", most_bytes=25)
    for age, key in enumerate("cab"):
        work.store(key, b"0123456789")
        os.utime(tmp_path / "results" / key, (0, 1000 - age))
    assert work.stored("b")
    eventually(lambda: work.ask("d", lambda say: b"0123456789").data is not None)
    eventually(lambda: {key for key in "abcd" if work.stored(key)} == {"b", "d"})


@pytest.mark.parametrize("error", [ZeroDivisionError("of ours"), OSError(5, "Input/output error", "/secret/place")])
def test_work_that_fails_stops_no_other_and_is_tried_again(tmp_path: Path, error: Exception) -> None:
    now = [0.0]

    def failing(say: Say) -> bytes:
        raise error

    work = Background(tmp_path / "results", clock=lambda: now[0])
    eventually(lambda: work.ask("failing", failing).fault.startswith("it cannot be read: "))
    assert "secret" not in work.ask("failing", failing).fault
    eventually(lambda: work.ask("quick", lambda say: b"done").data == b"done")
    now[0] += 61
    eventually(lambda: work.ask("failing", lambda say: b"now").data == b"now")


def test_a_result_that_is_damaged_is_made_again(bench: Bench) -> None:
    layer = bytes(1024)
    bench.client.push_blob(layer)
    described = described_as(layer)
    listings = Browser(bench.registry).listings
    eventually(lambda: listings.changes("team/app", [described]).found is not None)
    for path in (bench.store.root / "serve" / "listings").iterdir():
        path.write_bytes(b"damaged")
    again = Browser(bench.registry).listings
    eventually(lambda: again.changes("team/app", [described]).found is not None)


class _Lines:
    """Package lists of a made-up system: NAME VERSION lines in ``etc/packages``."""

    def is_database(self, path: str) -> bool:
        return path == "etc/packages"

    def names_and_versions(self, files: Mapping[str, bytes]) -> list[tuple[str, str]]:
        lines = b"".join(files.values()).decode().splitlines()
        return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def test_packages_are_compared_by_the_databases_that_are_seen_in_the_images(bench: Bench) -> None:
    layers = [
        layer_tar({"etc/packages": b"libc 1\ntide 1\n"}),
        layer_tar({"etc/packages": b"libc 1\ntide 2\nnew 1\n"}),
        layer_tar({"etc/.wh.packages": b""}),
    ]
    for layer in layers:
        bench.client.push_blob(layer)
    base, above, gone = (described_as(layer) for layer in layers)
    listings = Browser(bench.registry, _Lines()).listings

    def compared(old: list[Descriptor], new: list[Descriptor]) -> Compared:
        eventually(lambda: listings.compared(("team/app", old), ("team/app", new)).found is not None)
        found = listings.compared(("team/app", old), ("team/app", new)).found
        assert found is not None
        return found

    found = compared([base], [base, above])
    assert found.packages == [ChangedName("new", (), ("1",)), ChangedName("tide", ("1",), ("2",))]
    assert (found.files.modified, found.files.added) == (1, 0)
    assert compared([base], [base, gone]).packages is None
    for path in (bench.registry.store.root / "serve" / "listings").glob("*.databases-*"):
        path.unlink()  # as when others need the room
    assert compared([base], [above]).packages == found.packages
