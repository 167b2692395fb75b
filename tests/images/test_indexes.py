"""Indexes in the store: several platforms under one name, and artifacts beside them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from core.digests import Digest
from core.platforms import Platform
from core.references import Reference
from images.archive import SavedImage, load, save, save_directory
from images.errors import ImageInUseError, ImageNotFoundError, InvalidManifestError, MissingBlobError
from images.indexes import StoredIndex
from images.oci import (
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    OciPlatform,
    decode_manifest,
    encode,
)
from images.packing import pack
from images.store import Store
from images.summary import Image
from images.verify import verify

ARM = Platform.parse("linux/arm64")
RISC = Platform.parse("linux/riscv64")
UNKNOWN = OciPlatform(architecture="unknown", os="unknown")


def image(store: Store, platform: Platform, content: bytes, *names: str) -> Image:
    with store.layers.writer() as writer:
        writer.write(content)
        diff_id = writer.commit()
    return store.images.put(ImageConfig.for_platform(platform), [diff_id], names=map(Reference.parse, names))


def attestation(store: Store, of: Descriptor) -> Descriptor:
    statement, config = store.blobs.put(b'{"statement":1}'), store.blobs.put(b'{"os":"unknown"}')
    manifest = Manifest(
        schema_version=2,
        media_type=OCI_MANIFEST,
        config=Descriptor(media_type=OCI_CONFIG, digest=config, size=16),
        layers=(Descriptor(media_type="application/vnd.in-toto+json", digest=statement, size=15),),
    )
    annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": str(of.digest)}
    data = encode(manifest)
    return Descriptor(
        media_type=OCI_MANIFEST,
        digest=store.blobs.put(data),
        size=len(data),
        platform=UNKNOWN,
        annotations=annotations,
    )


def multi(store: Store, name: str = "multi", *platforms: Platform) -> StoredIndex:
    """An index of layers ``NAME PLATFORM``, each with an attestation."""
    entries = []
    for platform in platforms or (ARM, Platform.host()):
        described = pack(store, image(store, platform, f"{name} {platform}".encode()))
        entries += [described, attestation(store, described)]
    index = Index(schema_version=2, media_type=OCI_INDEX, manifests=tuple(entries))
    return store.images.indexes.put(index, names=[Reference.parse(name)])


def test_a_name_of_an_index_stands_for_the_image_of_this_host(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = multi(store)
        assert store.images.resolve("multi").config.platform == Platform.host()
        assert store.images.resolve("multi", ARM).config.platform == ARM
        assert [entry.image is not None for entry in made.entries] == [True, False, True, False]
        assert [named.familiar for named in store.images.resolve("multi", ARM).names] == ["multi:latest"]
        found = store.images.find(Reference.parse("multi"))
        assert found is not None
        assert found.config.platform == Platform.host()
        assert verify(store) == []


def test_an_index_without_this_host_stands_for_its_first_image(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        multi(store, "far", RISC, Platform.parse("linux/s390x"))
        assert store.images.resolve("far").config.platform == RISC


def test_a_platform_that_the_index_lacks_is_not_found(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        multi(store)
        with pytest.raises(ImageNotFoundError) as caught:
            store.images.resolve("multi", RISC)
        assert caught.value.message == "multi:latest is not here for linux/riscv64"
        assert caught.value.hint == f"it is for linux/arm64, {Platform.host()}"


def test_index_and_manifests_are_found_by_digest(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = multi(store)
        by_digest = store.images.indexes.find(f"multi@{made.digest}")
        assert by_digest == made == store.images.indexes.find(made.digest)
        first = made.document.manifests[0]
        assert store.images.resolve(f"multi@{first.digest}").config.platform == ARM
        assert store.images.indexes.find(f"multi@{first.digest}") is None
        assert store.images.indexes.find("nothing") is None


def test_a_name_moves_between_images_and_indexes(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        plain = image(store, Platform.host(), b"plain", "app")
        made = multi(store, "app")
        assert store.images.get(plain.id).names == ()
        store.images.tag(Reference.parse("app"), plain.id)
        assert store.images.indexes.find("app") is None
        assert store.images.resolve("app").id == plain.id
        store.images.tag(Reference.parse("other"), made.digest)
        found = store.images.indexes.find("other")
        assert found is not None
        assert found.digest == made.digest


def test_removing_the_last_name_of_an_index_removes_what_only_it_has(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = multi(store)
        image(store, Platform.host(), b"mine", "mine")
        store.images.tag(Reference.parse("arm"), store.images.resolve("multi", ARM).id)
        store.images.tag(Reference.parse("again"), made.digest)
    with Store.open(tmp_path) as store:
        assert store.images.remove("again") == ["Untagged: again:latest"]
        lines = store.images.remove("multi")
        assert lines[:2] == ["Untagged: multi:latest", f"Deleted: {made.digest}"]
        assert len([line for line in lines if line.startswith("Deleted: ")]) == 3  # with this host's image and layer
        assert {name.familiar for found in store.images.list() for name in found.names} == {"arm:latest", "mine:latest"}
        assert store.images.indexes.list() == []
        assert verify(store) == []
        assert store.blobs.missing([made.digest, made.document.manifests[1].digest]) != []
        assert store.images.resolve("arm").config.platform == ARM


def test_an_image_of_an_index_goes_with_the_index(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = multi(store)
        with pytest.raises(ImageInUseError):
            store.images.remove(made.images[0].id, force=True)
        store.images.tag(Reference.parse("arm"), made.images[0].id)
        assert store.images.remove("arm") == ["Untagged: arm:latest"]


def test_prune_takes_indexes_without_names_and_keeps_all_of_others(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        old = multi(store, "app", ARM, RISC)
        multi(store, "app")
    with Store.open(tmp_path) as store:
        report = store.images.prune()
        assert f"deleted: {old.digest}" in report.lines
        assert report.images == 1  # the other index has arm64's too
        assert len(store.images.list()) == 2
        assert verify(store) == []
    with Store.open(tmp_path) as store:
        store.images.prune(all_unused=True)
        assert store.database.all("SELECT digest FROM blobs") == []


def test_an_index_needs_an_image_and_all_that_it_names(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        described = pack(store, image(store, ARM, b"arm"))
        lost = Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(b"lost"), size=4)
        with pytest.raises(MissingBlobError):
            store.images.indexes.put(Index(schema_version=2, manifests=(described, lost)))
        with pytest.raises(InvalidManifestError):
            store.images.indexes.put(Index(schema_version=2, manifests=(attestation(store, described),)))


@pytest.mark.parametrize("kind", ["tar", "directory"])
def test_an_index_is_saved_and_loaded_whole(tmp_path: Path, kind: str) -> None:
    with Store.open(tmp_path / "here") as store, Store.open(tmp_path / "there") as other:
        made = multi(store)
        saved = [SavedImage(made, made.names)]
        if kind == "tar":
            sink = io.BytesIO()
            save(store, saved, sink)
            sink.seek(0)
        else:
            save_directory(store, saved, tmp_path / "layout")
            sink = as_tar(tmp_path / "layout")
        loaded = load(other, sink)
        assert [image.config.platform for image in loaded] == [Platform.host()]
        found = other.images.indexes.find("multi")
        assert found is not None
        assert (found.digest, found.data) == (made.digest, made.data)
        assert [entry.descriptor for entry in found.entries] == [entry.descriptor for entry in made.entries]
        assert verify(other) == []


def test_one_platform_of_a_saved_index_can_be_loaded(tmp_path: Path) -> None:
    with Store.open(tmp_path / "here") as store, Store.open(tmp_path / "there") as other:
        made = multi(store)
        sink = io.BytesIO()
        save(store, [SavedImage(made, made.names)], sink)
        sink.seek(0)
        loaded = load(other, sink, platform=ARM)
        assert [image.config.platform for image in loaded] == [ARM]
        assert other.images.indexes.list() == []
        assert len(other.images.list()) == 1


def test_an_index_whose_layers_are_not_all_there_gives_the_image_of_this_host(tmp_path: Path) -> None:
    with Store.open(tmp_path / "here") as store, Store.open(tmp_path / "there") as other:
        made = multi(store)
        save_directory(store, [SavedImage(made, made.names)], tmp_path / "layout")
        arm = decode_manifest(store.blobs.read(made.document.manifests[0].digest))
        (tmp_path / "layout" / "blobs" / "sha256" / arm.layers[0].digest.hex).unlink()
        assert [image.config.platform for image in load(other, as_tar(tmp_path / "layout"))] == [Platform.host()]
        assert other.images.indexes.list() == []


def as_tar(directory: Path) -> io.BytesIO:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.add(directory, ".")
    sink.seek(0)
    return sink


def test_what_a_registry_calls_an_image_resolves(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        made = image(store, ARM, b"arm", "ci:5000/team/app")
        digest = Digest.of(b"a manifest at ci:5000")
        store.images.note_digest(Reference.parse("ci:5000/team/app"), digest, made.id)
        assert store.images.resolve(f"ci:5000/team/app@{digest}").id == made.id
        assert [found.familiar for found in store.images.digests(made.id)] == [f"ci:5000/team/app@{digest}"]
        with pytest.raises(ImageNotFoundError):
            store.images.resolve(f"ci:5000/other@{digest}")
