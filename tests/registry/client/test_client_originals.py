"""The compressed blobs that layers came in: when they go, how they come back, and what a push says that lacks one."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from core.digests import Digest
from core.references import Reference
from images.originals import release
from images.store import Store
from images.summary import Image
from images.verify import verify
from registry.client import Client, pull, push
from registry.client.pulling import Pulled
from tests.registry.conftest import Recorder, layer_tar
from tests.toolkit.registries import DebianRegistry
from tests.toolkit.uploads import upload_registry

_MakeImage = Callable[..., Image]


def blobs_of(root: Path) -> set[str]:
    return {f"sha256:{name}" for name in os.listdir(root / "blobs" / "sha256")}


def pulled(root: Path, name: Reference, client: Client) -> Pulled:
    """Pull as a process of its own does, which holds nothing afterwards."""
    with Store.open(root) as store:
        return pull(name, store, client=client)


@pytest.fixture
def pushed(plain_registry: DebianRegistry, other_store: Store, client: Client, make_image: _MakeImage) -> Reference:
    """An image of two layers that we have pushed."""
    name = Reference.parse(f"{plain_registry.host}/originals/{os.urandom(4).hex()}:1")
    make_image(other_store, str(name), size=300_000)
    push(name, other_store, client=client)
    return name


@pytest.fixture
def pushed_by_others(pushed: Reference, other_store: Store, client: Client) -> Reference:
    """The same, compressed as we do not by ourselves."""
    push(pushed, other_store, client=client, compression="zstd")
    return pushed


def test_what_is_made_again_byte_for_byte_goes_and_comes_back_for_a_push(
    tmp_path: Path, pushed: Reference, client: Client
) -> None:
    root = tmp_path / "root"
    there = pulled(root, pushed, client)
    with Store.open(root) as store:
        came_as = {Digest(digest) for (digest,) in store.database.all("SELECT digest FROM compressed")}
        assert len(came_as & blobs_of(root)) == 2
        with Store.open(root) as other:
            other.blobs.lease(came_as)
            assert release(store) == 0, "another process may be about to send them"
        assert release(store) > 600_000
        assert not came_as & blobs_of(root)
        assert verify(store) == []
        assert release(store) == 0
        with upload_registry() as elsewhere:
            name = Reference.parse(f"{elsewhere.host}/x:1")
            assert push(name, store, client=client, image=there.image).digest == there.digest
            assert came_as <= set(elsewhere.blobs)


def test_what_others_compressed_stays(tmp_path: Path) -> None:
    packed = gzip.compress(layer_tar("theirs"), 9, mtime=0)
    with Store.open(tmp_path) as store:
        store.layers.import_compressed(io.BytesIO(packed))
    with Store.open(tmp_path) as store:
        assert release(store) == 0
        assert Digest.of(packed) in blobs_of(tmp_path)


@pytest.fixture
def sparing(client_for: Callable[..., Client]) -> Client:
    """A client of whom the administrator wants that no gzip stays."""
    return client_for(keeps_pulled=False)


def test_what_does_not_stay_is_fetched_where_it_came_from_and_no_digest_changes(
    tmp_path: Path, pushed_by_others: Reference, sparing: Client
) -> None:
    root = tmp_path / "root"
    there = pulled(root, pushed_by_others, sparing)
    with Store.open(root) as store:
        content = sum(store.layers.size(diff_id) for diff_id in there.image.diff_ids)
        assert sum(path.stat().st_size for path in (root / "blobs" / "sha256").iterdir()) < 1.05 * content
        assert verify(store) == []
        with upload_registry() as elsewhere:
            name = Reference.parse(f"{elsewhere.host}/x:1")
            assert push(name, store, client=sparing, image=there.image).digest == there.digest
            assert len(elsewhere.blobs) == 3


def test_push_that_cannot_have_a_blob_back_says_so_before_it_sends_anything(
    tmp_path: Path, pushed_by_others: Reference, sparing: Client, client: Client, recorder: Recorder
) -> None:
    root = tmp_path / "root"
    there = pulled(root, pushed_by_others, sparing)
    with Store.open(root) as store, upload_registry() as elsewhere:
        with store.database.transaction() as connection:
            connection.execute("UPDATE origins SET repository = ?", (f"{elsewhere.host}/gone",))
        seen: list[int] = []
        say = recorder.message

        def message(text: str) -> None:
            seen.append(len(elsewhere.uploads) + len(elsewhere.blobs))
            say(text)

        recorder.message = message  # type: ignore[method-assign]
        name = Reference.parse(f"{elsewhere.host}/x:1")
        digest = push(name, store, client=client, image=there.image, monitor=recorder).digest
        (told,) = [number for number, text in enumerate(recorder.messages) if "the image gets another digest" in text]
        assert f"{elsewhere.host}/gone" in recorder.messages[told]
        assert seen[told] == 0
        assert digest != there.digest


def test_each_form_that_a_repository_has_of_a_layer_is_fetched_there(
    tmp_path: Path, pushed: Reference, other_store: Store, sparing: Client, client: Client
) -> None:
    root = tmp_path / "root"
    first = pulled(root, pushed, sparing)
    again = pushed._replace(tag="2")
    push(again, other_store, client=client, image=other_store.images.resolve(str(pushed)), compression="zstd")
    second = pulled(root, again, sparing)
    assert second.image.id == first.image.id
    assert second.digest != first.digest
    with Store.open(root) as store:
        assert verify(store) == []
        with store.database.transaction() as connection:  # as another project may have noted it
            connection.execute(
                "INSERT INTO origins SELECT diff_id, ?, digest, size, media_type, noted_at + 1 FROM origins",
                (f"{pushed.domain}/nobodys",),
            )
        with upload_registry() as elsewhere:
            name = Reference.parse(f"{elsewhere.host}/x:1")
            assert push(name, store, client=sparing, image=first.image).digest == first.digest


def test_what_no_place_is_known_for_is_found_again_by_a_pull(
    tmp_path: Path, pushed_by_others: Reference, sparing: Client
) -> None:
    root = tmp_path / "root"
    there = pulled(root, pushed_by_others, sparing)
    assert not pulled(root, pushed_by_others, sparing).fresh
    with Store.open(root) as store, store.database.transaction() as connection:
        connection.execute("DELETE FROM origins")
    assert pulled(root, pushed_by_others, sparing).fresh
    assert not pulled(root, pushed_by_others, sparing).fresh
    with Store.open(root) as store, upload_registry() as elsewhere:
        assert verify(store) == []
        name = Reference.parse(f"{elsewhere.host}/x:1")
        assert push(name, store, client=sparing, image=there.image).digest == there.digest


def test_what_stayed_away_is_fetched_once_for_a_push(
    tmp_path: Path, pushed_by_others: Reference, sparing: Client
) -> None:
    with Store.open(tmp_path / "root") as store:
        there = pull(pushed_by_others, store, client=sparing, lazy=True)
    with Store.open(tmp_path / "root") as store, upload_registry() as elsewhere:
        name = Reference.parse(f"{elsewhere.host}/x:1")
        assert push(name, store, client=sparing, image=there.image).digest == there.digest
        assert len(store.layers.away(there.image.diff_ids)) == 2
