"""Images, names, removal and pruning."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from core.digests import DiffID, Digest
from core.errors import InvalidReferenceError
from core.platforms import Platform
from core.references import Reference
from images.errors import (
    AmbiguousImageError,
    ImageInUseError,
    ImageNotFoundError,
    InvalidConfigError,
    MissingBlobError,
)
from images.oci import ContainerConfig, History, ImageConfig, RootFS, decode_manifest, encode
from images.records import NAMING_LAYERS, OF_LAYERS, CacheRecord
from images.store import Store
from images.summary import Image
from images.verify import verify

LINUX = Platform("linux", "amd64")


def layer(store: Store, content: bytes) -> DiffID:
    with store.layers.writer() as writer:
        writer.write(content)
        return writer.commit()


def image(store: Store, *names: str, layers: tuple[bytes, ...] = (), author: str = "") -> Image:
    diff_ids = [layer(store, content) for content in layers]
    config = ImageConfig(architecture="amd64", os="linux", author=author)
    made = store.images.put(config, diff_ids)
    for name in names:
        store.images.tag(Reference.parse(name), made.id)
    return store.images.get(made.id)


def blobs(root: Path) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(root / "blobs" / "sha256")}


def test_an_image_has_config_manifest_layers_and_size(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app:1", layers=(b"one", b"three"))
        assert made.diff_ids == (DiffID.of(b"one"), DiffID.of(b"three"))
        assert made.config.rootfs.diff_ids == made.diff_ids
        assert made.size_bytes == 8
        assert made.id == Digest.of(store.blobs.read(made.id))
        manifest = decode_manifest(store.blobs.read(made.manifest_digest))
        assert manifest.config.digest == made.id
        assert [d.size for d in manifest.layers] == [3, 5]
        assert [name.familiar for name in made.names] == ["app:1"]
        assert verify(store) == []


def test_a_config_given_as_bytes_is_kept_to_the_letter(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_id = layer(store, b"x")
        text = b'{"os":"linux",  "architecture":"amd64","rootfs":{"type":"layers","diff_ids":["%s"]},"odd":1}'
        made = store.images.put(text % diff_id.encode(), [diff_id])
        assert store.blobs.read(made.id) == text % diff_id.encode()
        assert made.config.extra == {"odd": 1}


def test_config_and_layers_must_agree_and_layers_must_exist(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_id = layer(store, b"x")
        config = ImageConfig(architecture="amd64", os="linux", rootfs=RootFS(diff_ids=(diff_id,)))
        with pytest.raises(InvalidConfigError):
            store.images.put(config, [])
        with pytest.raises(MissingBlobError):
            store.images.put(ImageConfig(architecture="amd64", os="linux"), [DiffID.of(b"absent")])
        with pytest.raises(InvalidConfigError):
            store.images.put(b"{}", [])


def test_putting_unsynced_layers_into_an_image_makes_them_durable(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        with store.layers.writer(sync=False) as writer:
            writer.write(b"layer")
            diff_id = writer.commit()
        store.images.put(ImageConfig.for_platform(LINUX), [diff_id])
        assert store.database.all("SELECT digest FROM blobs WHERE volatile") == []


def test_names_can_be_given_in_the_same_transaction(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        old = image(store, "app")
        names = [Reference.parse("app"), Reference.parse("app:2")]
        made = store.images.put(ImageConfig(architecture="arm64", os="linux"), [], names=names)
        assert [name.familiar for name in made.names] == ["app:2", "app:latest"]
        assert store.images.get(old.id).names == ()


def test_a_name_moves_and_its_old_image_stays_without_it(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        old = image(store, "app", author="old")
        new = image(store, "app", author="new")
        assert store.images.resolve("app").id == new.id
        assert store.images.get(old.id).names == ()
        assert [found.id for found in store.images.list()] == [new.id, old.id]


def test_names_resolve_as_docker_reads_them(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app", "ghcr.io/us/app:2")
        hexadecimal = made.id.hex
        for text in (
            "app",
            "app:latest",
            "docker.io/library/app",
            "ghcr.io/us/app:2",
            made.id,
            f"sha256:{hexadecimal[:10]}",
            hexadecimal,
            hexadecimal[:12],
            hexadecimal[:4],
            f"app@{made.manifest_digest}",
            f"app@{made.id}",
            made.manifest_digest,
        ):
            assert store.images.resolve(text).id == made.id, text
        assert store.images.find(Reference.parse("nothing")) is None
        assert store.images.find(Reference.parse(f"other@{made.id}")) is None


@pytest.mark.parametrize("text", ["ap", "app:2", "zzz", "abcd", "sha256:" + "0" * 64, "0" * 64, "0" * 12])
def test_what_resolves_to_nothing_says_so(tmp_path: Path, text: str) -> None:
    with Store.open(tmp_path) as store:
        image(store, "app:1")
        with pytest.raises(ImageNotFoundError, match=re.escape(text)) as caught:
            store.images.resolve(text)
        assert caught.value.hint


def test_similar_names_are_the_hint(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        image(store, "webshop:latest", "tool:3")
        with pytest.raises(ImageNotFoundError) as caught:
            store.images.resolve("webshpo")
        assert caught.value.hint == "did you mean webshop:latest?"
        with pytest.raises(ImageNotFoundError) as caught:
            store.images.resolve("tool")
        assert caught.value.hint == "did you mean tool:3?"
        with pytest.raises(InvalidReferenceError):
            store.images.resolve("No Name!")


def test_a_prefix_of_two_ids_is_ambiguous(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app")
        twin = made.id[:12] + ("0" if made.id[12] != "0" else "1") + made.id[13:]
        with store.database.transaction() as connection:
            connection.execute("INSERT INTO images VALUES (?, ?, 0, 0)", (twin, made.manifest_digest))
        with pytest.raises(AmbiguousImageError):
            store.images.resolve(made.id.hex[:5])
        assert store.images.resolve(made.id.hex[:6]).id == made.id


def test_removing_one_of_two_names_leaves_the_image(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app:1", "app:2")
        assert store.images.remove("app:1") == ["Untagged: app:1"]
        assert [name.familiar for name in store.images.get(made.id).names] == ["app:2"]


def test_removing_the_last_name_removes_image_and_layers(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app:1", layers=(b"layer",))
        store.layers.compressed(made.diff_ids[0], "gzip")
    with Store.open(tmp_path) as store:
        lines = store.images.remove("app:1")
        assert lines == ["Untagged: app:1", f"Deleted: {made.id}", f"Deleted: {made.diff_ids[0]}"]
        assert blobs(tmp_path) == set()
        assert store.images.list() == []


def test_removing_by_id_wants_force_when_there_are_several_names(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app:1", "other")
        with pytest.raises(ImageInUseError, match="app:1, other:latest") as caught:
            store.images.remove(made.id.short)
        assert caught.value.hint
        assert "--force" in caught.value.hint
        lines = store.images.remove(made.id.short, force=True)
        assert lines[:2] == ["Untagged: app:1", "Untagged: other:latest"]
        with pytest.raises(ImageNotFoundError):
            store.images.remove(made.id)


def test_layers_that_others_use_stay_when_an_image_goes(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        first = image(store, "a", layers=(b"shared", b"mine", b"cached"), author="a")
        image(store, "b", layers=(b"shared",), author="b")
        store.cache.put(CacheRecord("key", "op", first.diff_ids[2], 1.0, 1.0, "RUN"))
    with Store.open(tmp_path) as store:
        lines = store.images.remove("a")
        assert f"Deleted: {first.diff_ids[1]}" in lines
        assert store.layers.missing(first.diff_ids) == [first.diff_ids[1]]
        assert verify(store) == []


def test_untag_leaves_the_image_and_wants_a_name_that_exists(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app")
        store.images.untag(Reference.parse("app"))
        assert store.images.get(made.id).names == ()
        with pytest.raises(ImageNotFoundError):
            store.images.untag(Reference.parse("app"))
        with pytest.raises(ImageNotFoundError):
            store.images.tag(Reference.parse("x"), Digest.of(b"absent"))


def test_prune_takes_images_without_name_and_garbage_only(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        image(store, "app", layers=(b"old" * 5000,), author="old")
        named = image(store, "app", layers=(b"new" * 5000,), author="new")
        layer(store, b"garbage" * 5000)
    orphan = tmp_path / "blobs" / "sha256" / ("0" * 64)
    orphan.write_bytes(b"from a killed process")
    with Store.open(tmp_path) as store:
        report = store.images.prune()
        assert report.images == 1
        assert [line.partition(":")[0] for line in report.lines] == ["deleted"]
        assert report.freed_bytes >= 15_000 + 35_000
        assert blobs(tmp_path) == {named.id, named.manifest_digest, *named.diff_ids}
        again = store.images.prune()
        assert (again.images, again.freed_bytes) == (0, 0)


def test_prune_all_takes_named_images_too_and_respects_age(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        image(store, "app", layers=(b"x",))
    with Store.open(tmp_path) as store:
        assert store.images.prune(all_unused=True, until=time.time() - 3600).images == 0
        report = store.images.prune(all_unused=True)
        assert report.lines[0] == "untagged: app:latest"
        assert blobs(tmp_path) == set()


def test_prune_of_the_cache_takes_records_by_age_of_use(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_id = layer(store, b"cached")
        store.cache.put(CacheRecord("key", "op", diff_id, 1.0, 1.0, "RUN"))
        store.cache.memo_put("kind", "key", b"memo")
    with Store.open(tmp_path) as store:
        assert store.images.prune().records == 0
        assert store.images.prune(cache=True, until=time.time() - 3600).records == 0
        assert store.images.prune(cache=True).records == 1
        assert store.cache.get("key") is None
        assert store.cache.memo_get("kind", "key") is None
        assert blobs(tmp_path) == set()


def test_what_is_remembered_of_a_layer_goes_with_it(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        gone, kept = layer(store, b"gone"), layer(store, b"kept")
        store.cache.put(CacheRecord("key", "op", kept, 1.0, 1.0, "RUN"))
        for kind in OF_LAYERS:
            store.cache.memo_put_all(kind, {gone: b"memo", kept: b"memo"})
        for kind in NAMING_LAYERS:
            store.cache.memo_put_all(kind, {"one": gone.encode() + b"memo", "two": kept.encode() + b"memo"})
    with Store.open(tmp_path) as store:
        store.images.prune()
        for kind in OF_LAYERS:
            assert [store.cache.memo_get(kind, diff_id) for diff_id in (gone, kept)] == [None, b"memo"]
        for kind in NAMING_LAYERS:
            assert [store.cache.memo_get(kind, key) for key in ("one", "two")] == [None, kept.encode() + b"memo"]


def test_what_another_session_has_leased_survives_prune_and_rm(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app", layers=(b"layer",))
        store.cache.put(CacheRecord("key", "op", layer(store, b"cached"), 1.0, 1.0, "RUN"))
    with Store.open(tmp_path) as builder, Store.open(tmp_path) as cleaner:
        builder.images.resolve("app")
        found = builder.cache.get("key")
        assert found is not None
        assert found.diff_id is not None
        cleaner.images.prune(all_unused=True, cache=True)
        assert builder.images.resolve("app").id == made.id
        cleaner.images.remove("app")
        assert [found.names for found in cleaner.images.list()] == [()]
        builder.images.tag(Reference.parse("again"), made.id)
        assert cleaner.images.remove("again") == ["Untagged: again:latest"]
        with builder.layers.open(made.diff_ids[0]) as file:
            assert file.read() == b"layer"
        assert builder.blobs.read(made.id)
        with builder.layers.open(found.diff_id) as file:
            assert file.read() == b"cached"
        builder.close()
        cleaner.images.prune(all_unused=True, cache=True)
    assert blobs(tmp_path) == set()


def test_history_pairs_entries_with_layers(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        diff_ids = [layer(store, b"1"), layer(store, b"22"), layer(store, b"333")]
        history = (History(created_by="a"), History(created_by="b", empty_layer=True), History(created_by="c"))
        config = ImageConfig(architecture="amd64", os="linux", history=history)
        entries = store.images.history(store.images.put(config, diff_ids))
    assert [(e.entry.created_by, e.size_bytes, e.diff_id) for e in entries] == [
        ("a", 1, diff_ids[0]),
        ("b", 0, None),
        ("c", 2, diff_ids[1]),
        ("", 3, diff_ids[2]),
    ]


def test_verify_finds_changed_short_and_lost_blobs(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app", layers=(b"one", b"two", b"three"))
        directory = tmp_path / "blobs" / "sha256"
        (directory / made.diff_ids[0].hex).write_bytes(b"ONE")
        (directory / made.diff_ids[1].hex).write_bytes(b"t")
        (directory / made.diff_ids[2].hex).unlink()
        found = {problem.digest: problem.what for problem in verify(store)}
    assert "has digest" in found[made.diff_ids[0]]
    assert found[made.diff_ids[1]] == "1 bytes, expected 3"
    assert found[made.diff_ids[2]] == "the file is missing"


def test_verify_finds_rows_that_are_of_another_image(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, "app", layers=(b"one", b"two"))
        other = image(store, "other", layers=(b"three", b"four"))
        assert verify(store) == []
        with store.database.transaction() as connection:
            for position, diff_id in enumerate(reversed(made.diff_ids)):
                row = (diff_id, made.id, position)
                connection.execute("UPDATE image_layers SET diff_id = ? WHERE image_id = ? AND position = ?", row)
        assert {problem.digest: problem.what for problem in verify(store)} == {
            made.id: "the config names other layers than the store"
        }
        with store.database.transaction() as connection:
            for position, diff_id in enumerate(made.diff_ids):
                row = (diff_id, made.id, position)
                connection.execute("UPDATE image_layers SET diff_id = ? WHERE image_id = ? AND position = ?", row)
            manifest = "(SELECT manifest_digest FROM images WHERE id = ?)"
            connection.execute(f"UPDATE images SET manifest_digest = {manifest} WHERE id = ?", (other.id, made.id))
        assert {problem.digest: problem.what for problem in verify(store)} == {
            made.id: "the manifest names another config or other layers"
        }


def test_a_config_of_every_member_survives_the_store(tmp_path: Path) -> None:
    config = ImageConfig(architecture="arm64", variant="v8", os="linux", config=ContainerConfig(env=("A=b",)))
    with Store.open(tmp_path) as store:
        made = store.images.put(config, [])
        assert encode(made.config) == store.blobs.read(made.id)
        assert made.config.platform == Platform("linux", "arm64")
