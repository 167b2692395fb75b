from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import zstandard

from core.digests import DiffID, Digest
from core.platforms import Platform
from core.references import Reference
from images.archive import SavedImage, import_rootfs, load, save, save_directory
from images.compression import CompressingWriter
from images.errors import DigestMismatchError, ImagesError, InvalidArchiveError
from images.oci import ContainerConfig, ImageConfig
from images.store import Store
from images.summary import Image
from images.tarwriter import TarWriter


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "other") as opened:
        yield opened


def put_layer(store: Store, build: Callable[[TarWriter], None]) -> DiffID:
    with store.layers.writer() as layer:
        writer = TarWriter(layer)
        build(writer)
        writer.close()
        return layer.commit()


def base(writer: TarWriter) -> None:
    writer.directory(b"etc", 0o755, 0, 0, 1000)
    writer.file(b"etc/old", 0o644, 0, 0, 1000, 3, b"old")
    writer.file(b"etc/kept", 0o4755, 0, 0, 1000, 300_000, b"k" * 300_000)
    writer.file("etc/grün".encode(), 0o600, 0, 0, 1000, 0, b"", {"user.key": b"value"})


def change(writer: TarWriter) -> None:
    writer.directory(b"etc", 0o755, 0, 0, 1000)
    writer.whiteout(b"etc/old")
    writer.file(b"etc/new", 0o644, 1, 2, 1000, 3, b"new")
    writer.hardlink(b"hard", b"etc/new", 0o644, 1, 2, 1000)


def make_image(store: Store, *builds: Callable[[TarWriter], None], name: str = "", cmd: str = "/bin/true") -> Image:
    config = ImageConfig(
        architecture=Platform.host().architecture,
        os="linux",
        created="2024-01-02T03:04:05Z",
        config=ContainerConfig(cmd=(cmd,)),
    )
    image = store.images.put(config, [put_layer(store, build) for build in builds])
    if name:
        store.images.tag(Reference.parse(name), image.id)
    return store.images.get(image.id)


def saved(store: Store, *images: Image, compression: Literal["none", "gzip", "zstd"] = "none") -> bytes:
    sink = io.BytesIO()
    save(store, [SavedImage(image, image.names) for image in images], sink, compression=compression)
    return sink.getvalue()


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            assert member.name not in found
            found[member.name] = file.read()
        return found


def archived(files: dict[str, bytes | str | None]) -> io.BytesIO:
    """A tar of files (bytes) and symbolic links (text)."""
    sink = io.BytesIO()
    writer = TarWriter(sink)
    for name, content in files.items():
        if isinstance(content, str):
            writer.symlink(name.encode(), content.encode(), 0, 0, 0)
        elif content is not None:
            writer.file(name.encode(), 0o644, 0, 0, 0, len(content), content)
    writer.close()
    sink.seek(0)
    return sink


def run(*command: str | Path) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


# Saving.


def test_an_archive_has_what_docker_and_oci_tools_look_for(store: Store) -> None:
    image = make_image(store, base, change, name="app:1")
    files = members(saved(store, image))
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    layers = [f"blobs/sha256/{diff_id.hex}" for diff_id in image.diff_ids]
    assert json.loads(files["manifest.json"]) == [
        {"Config": f"blobs/sha256/{image.id.hex}", "RepoTags": ["app:1"], "Layers": layers}
    ]
    assert json.loads(files["repositories"]) == {"app": {"1": image.diff_ids[-1].hex}}
    (descriptor,) = json.loads(files["index.json"])["manifests"]
    assert descriptor["digest"] == image.manifest_digest
    assert descriptor["annotations"] == {
        "io.containerd.image.name": "docker.io/library/app:1",
        "org.opencontainers.image.ref.name": "1",
    }
    for name, content in files.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(content).hexdigest() == name.rpartition("/")[2]


def test_saving_is_deterministic_and_writes_shared_layers_once(store: Store) -> None:
    one = make_image(store, base, name="one")
    two = make_image(store, base, change, name="two", cmd="/bin/false")
    data = saved(store, one, two)
    assert data == saved(store, one, two)
    assert len([name for name in members(data) if name.startswith("blobs/")]) == 2 + 2 + 2  # manifests, configs, layers


def test_names_without_a_tag_and_images_without_a_name_are_saved_without(store: Store) -> None:
    image = make_image(store, base)
    sink = io.BytesIO()
    pinned = Reference.parse(f"app@{image.manifest_digest}")
    save(store, [SavedImage(image, (pinned,))], sink)
    files = members(sink.getvalue())
    assert json.loads(files["manifest.json"])[0]["RepoTags"] is None
    assert "annotations" not in json.loads(files["index.json"])["manifests"][0]


def test_a_directory_layout_has_the_same_files(store: Store, tmp_path: Path) -> None:
    image = make_image(store, base, change, name="app:1")
    for _ in range(2):
        save_directory(store, [SavedImage(image, image.names)], tmp_path / "layout")
    found = {
        str(path.relative_to(tmp_path / "layout")): path.read_bytes()
        for path in (tmp_path / "layout").rglob("*")
        if path.is_file()
    }
    assert found == members(saved(store, image))
    assert json.loads(run("skopeo", "inspect", "--config", f"oci:{tmp_path}/layout"))["config"]["Cmd"] == ["/bin/true"]


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_foreign_tools_accept_an_archive(
    store: Store, tmp_path: Path, compression: Literal["none", "gzip", "zstd"]
) -> None:
    assert os.geteuid() == 0, "umoci unpacks owners: run this test as root"
    image = make_image(store, base, change, name="example.com/team/app:1")
    path = tmp_path / "app.tar"
    path.write_bytes(saved(store, image, compression=compression))

    config = json.loads(run("skopeo", "inspect", "--config", f"oci-archive:{path}"))
    assert tuple(config["rootfs"]["diff_ids"]) == image.diff_ids
    inspected = json.loads(run("skopeo", "inspect", f"docker-archive:{path}"))
    assert len(inspected["Layers"]) == 2
    assert json.loads(run("skopeo", "list-tags", f"docker-archive:{path}"))["Tags"] == ["example.com/team/app:1"]
    for transport in ("oci-archive", "docker-archive"):
        copy = tmp_path / transport
        run("skopeo", "copy", "--insecure-policy", f"{transport}:{path}", f"oci:{copy}:1")
        if compression != "zstd":  # umoci knows gzip
            run("umoci", "unpack", "--image", f"{copy}:1", tmp_path / f"{transport}-bundle")
            etc = tmp_path / f"{transport}-bundle" / "rootfs" / "etc"
            assert sorted(file.name for file in etc.iterdir()) == ["grün", "kept", "new"]
            assert (etc / "new").stat().st_nlink == 2
            assert os.getxattr(etc / "grün", "user.key") == b"value"
            assert oct((etc / "kept").stat().st_mode) == "0o104755"
    assert run("tar", "--list", "--file", path)


# Loading.


@pytest.mark.parametrize("compression", ["none", "gzip", "zstd"])
def test_what_was_saved_loads_as_the_same_image(
    store: Store, other: Store, compression: Literal["none", "gzip", "zstd"]
) -> None:
    first = make_image(store, base, change, name="app:1")
    second = make_image(store, base, name="localhost:5000/second", cmd="/bin/false")
    store.images.tag(Reference.parse("also:2"), first.id)
    first = store.images.get(first.id)
    loaded = load(other, io.BytesIO(saved(store, first, second, compression=compression)))
    assert [(image.id, image.diff_ids) for image in loaded] == [(image.id, image.diff_ids) for image in (first, second)]
    assert [sorted(map(str, image.names)) for image in loaded] == [
        ["docker.io/library/also:2", "docker.io/library/app:1"],
        ["localhost:5000/second:latest"],
    ]
    for image in (first, second):
        assert other.images.get(image.id).names == image.names
        for diff_id in image.diff_ids:
            assert Digest.of(other.blobs.read(diff_id)) == diff_id
    if compression != "none":
        layer = store.layers.compressed(first.diff_ids[0], compression)
        assert other.layers.compressed(first.diff_ids[0], compression) == layer  # kept as it came


def test_an_archive_without_layers_saves_and_loads(store: Store, other: Store) -> None:
    image = make_image(store, name="empty")
    assert load(other, io.BytesIO(saved(store, image)))[0].diff_ids == ()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_compressed_archive_loads_from_a_pipe(store: Store, other: Store, encoder: str) -> None:
    image = make_image(store, base, name="app:1")
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as pipe:
        assert pipe.stdin is not None
        assert pipe.stdout is not None
        pipe.stdin.write(ENCODERS[encoder](saved(store, image)))
        pipe.stdin.close()
        assert load(other, pipe.stdout)[0].id == image.id


def docker_archive(store: Store, image: Image) -> dict[str, Any]:
    """As docker save wrote them until version 24: image-spec v1.2, with a second layer that repeats the first."""
    first, second = (store.blobs.read(diff_id) for diff_id in image.diff_ids)
    config = store.blobs.read(image.id)
    manifest = [
        {
            "Config": f"{image.id.hex}.json",
            "RepoTags": ["app:1", "other:2"],
            "Layers": ["aaaa/layer.tar", "bbbb/layer.tar"],
        }
    ]
    return {
        "aaaa/VERSION": b"1.0",
        "aaaa/json": b"{}",
        "aaaa/layer.tar": first,
        "bbbb/layer.tar": second,
        f"{image.id.hex}.json": config,
        "manifest.json": json.dumps(manifest).encode(),
        "repositories": b"{}",
    }


def test_a_docker_archive_loads(store: Store, other: Store) -> None:
    image = make_image(store, base, change)
    (loaded,) = load(other, archived(docker_archive(store, image)))
    assert (loaded.id, loaded.diff_ids) == (image.id, image.diff_ids)
    assert list(map(str, loaded.names)) == ["docker.io/library/app:1", "docker.io/library/other:2"]


def test_a_docker_archive_may_repeat_layers_by_symlinks_and_compress_them(store: Store, other: Store) -> None:
    image = make_image(store, base, base)
    files = docker_archive(store, image)
    files["aaaa/layer.tar"] = gzip.compress(files["aaaa/layer.tar"])
    files["bbbb/layer.tar"] = "../aaaa/layer.tar"
    assert load(other, archived(files))[0].diff_ids == image.diff_ids


def test_what_skopeo_writes_loads(store: Store, other: Store, tmp_path: Path) -> None:
    image = make_image(store, base, change, name="app:1")
    (tmp_path / "app.tar").write_bytes(saved(store, image))
    source = f"docker-archive:{tmp_path}/app.tar"
    for transport, suffix in (("docker-archive", ":copy:3"), ("oci-archive", ":example.com/copy:4")):
        target = tmp_path / f"{transport}.tar"
        run("skopeo", "copy", "--insecure-policy", source, f"{transport}:{target}{suffix}")
        with target.open("rb") as stream:
            (loaded,) = load(other, stream)
        assert loaded.diff_ids == image.diff_ids
        assert [name.familiar for name in loaded.names] == [suffix[1:]]


def oci_files(store: Store, image: Image) -> dict[str, bytes]:
    files = members(saved(store, image))
    return {name: data for name, data in files.items() if name not in ("manifest.json", "repositories")}


def add_blob(files: dict[str, bytes], document: dict[str, Any]) -> dict[str, Any]:
    data = json.dumps(document).encode()
    digest = hashlib.sha256(data).hexdigest()
    files[f"blobs/sha256/{digest}"] = data
    return {"mediaType": document["mediaType"], "digest": f"sha256:{digest}", "size": len(data)}


def test_of_an_image_for_several_platforms_the_hosts_is_taken(store: Store, other: Store) -> None:
    image = make_image(store, base)
    files = oci_files(store, image)
    (mine,) = json.loads(files["index.json"])["manifests"]
    nothing = {"mediaType": mine["mediaType"], "digest": "sha256:" + "0" * 64, "size": 5}
    index = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            nothing | {"platform": {"os": "linux", "architecture": "s390x"}},
            mine,
            nothing | {"platform": {"os": "unknown", "architecture": "unknown"}},
        ],
    }
    top = add_blob(files, index) | {"annotations": {"io.containerd.image.name": "docker.io/library/multi:1"}}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    (loaded,) = load(other, archived(dict(files)))
    assert (loaded.id, [name.familiar for name in loaded.names]) == (image.id, ["multi:1"])
    with pytest.raises(InvalidArchiveError, match="no image for plan9/386"):
        load(other, archived(dict(files)), platform=Platform("plan9", "386"))


def test_layers_that_the_store_has_may_be_missing(store: Store, other: Store) -> None:
    image = make_image(store, base)
    files = oci_files(store, image)
    del files[f"blobs/sha256/{image.diff_ids[0].hex}"]
    with pytest.raises(InvalidArchiveError, match="lacks blobs/sha256/"):
        load(other, archived(dict(files)))
    put_layer(other, base)
    assert load(other, archived(dict(files)))[0].id == image.id


# Damaged and hostile archives.


def test_a_flipped_byte_anywhere_in_a_blob_is_noticed(store: Store, other: Store) -> None:
    image = make_image(store, base, change, name="app:1")
    good = members(saved(store, image))
    for name in good:
        if name.startswith("blobs/"):
            files: dict[str, Any] = dict(good)
            data = bytearray(files[name])
            data[len(data) // 2] ^= 1
            files[name] = bytes(data)
            with pytest.raises(ImagesError):
                load(other, archived(files))
    assert other.images.list() == []


def test_a_docker_archive_whose_layers_are_not_the_configs_is_refused(store: Store, other: Store) -> None:
    image = make_image(store, base, change)
    files = docker_archive(store, image)
    swapped = files | {"aaaa/layer.tar": files["bbbb/layer.tar"], "bbbb/layer.tar": files["aaaa/layer.tar"]}
    with pytest.raises(DigestMismatchError):
        load(other, archived(swapped))
    manifest = json.loads(files["manifest.json"])
    manifest[0]["Layers"].pop()
    with pytest.raises(InvalidArchiveError, match="has 1 layers, but its config lists 2"):
        load(other, archived(files | {"manifest.json": json.dumps(manifest).encode()}))
    wrong_config = files | {f"{image.id.hex}.json": files[f"{image.id.hex}.json"] + b" "}
    with pytest.raises(DigestMismatchError, match="config"):
        load(other, archived(wrong_config))


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{}x",
        b"[1]",
        b'[{"Config": 5}]',
        b'[{"Config": "../../etc/passwd"}]',
        b'[{"Config": "missing.json"}]',
        b'{"Config": "x"}',
        b"[" * 100_000,
        b'[{"Config": "manifest.json", "RepoTags": ["UPPER"], "Layers": []}]',
        b'[{"Config": "manifest.json", "Layers": ["\\ud800"]}]',
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(other: Store, manifest: bytes) -> None:
    with pytest.raises(ImagesError):
        load(other, archived({"manifest.json": manifest}))


def test_links_lead_nowhere_but_into_the_archive(store: Store, other: Store) -> None:
    image = make_image(store, base, base)
    files = docker_archive(store, image)
    for target in ("/etc/passwd", "../../../etc/passwd", "layer.tar", "../bbbb/layer.tar"):
        with pytest.raises(InvalidArchiveError):
            load(other, archived(files | {"bbbb/layer.tar": target}))


@pytest.mark.parametrize("length", [0, 100, 512, 1024, 5000, 300_000])
def test_a_truncated_archive_is_refused(store: Store, other: Store, length: int) -> None:
    image = make_image(store, base, name="app:1")
    data = saved(store, image)
    for cut in (data[:length], gzip.compress(data)[: length // 200]):
        with pytest.raises(ImagesError):
            load(other, io.BytesIO(cut))
    assert other.images.list() == []


def test_what_is_no_archive_is_refused_with_advice(store: Store, other: Store) -> None:
    with pytest.raises(InvalidArchiveError, match="not an archive of images"):
        load(other, io.BytesIO(b"this is a text" * 100))
    with pytest.raises(InvalidArchiveError) as caught:
        load(other, archived({"etc/passwd": b"root"}))
    assert "image import" in str(caught.value.hint)
    with pytest.raises(InvalidArchiveError) as caught:
        load(other, archived({"repositories": b"{}"}))
    assert "1.10" in str(caught.value.hint)


# Importing a root filesystem.


@pytest.mark.parametrize("encoder", [None, *ENCODERS])
def test_a_root_filesystem_becomes_an_image_of_one_layer(store: Store, encoder: str | None) -> None:
    sink = io.BytesIO()
    writer = TarWriter(sink)
    base(writer)
    writer.close()
    tar = sink.getvalue() + bytes(512 * 18)  # GNU tar's padding belongs to the layer
    stream = io.BytesIO(ENCODERS[encoder](tar) if encoder else tar)
    config = ImageConfig(architecture="amd64", os="linux", created="2024-01-01T00:00:00Z")
    image = import_rootfs(store, stream, config, [Reference.parse("debian")], source="rootfs.tar")
    assert image.diff_ids == (Digest.of(tar),)
    assert list(map(str, image.names)) == ["docker.io/library/debian:latest"]
    (history,) = image.config.history
    assert (history.comment, history.created) == ("Imported from rootfs.tar", "2024-01-01T00:00:00Z")


@pytest.mark.parametrize(
    "data",
    [b"", bytes(1024), b"no tar at all" * 100, gzip.compress(b"no tar " * 1000), archived({"../x": b""}).getvalue()],
    ids=["empty", "zeros", "text", "compressed", "outside"],
)
def test_what_is_no_root_filesystem_is_refused(store: Store, data: bytes) -> None:
    with pytest.raises(InvalidArchiveError, match=r"cannot import -"):
        import_rootfs(store, io.BytesIO(data), ImageConfig(architecture="amd64", os="linux"))
    assert store.images.list() == []


def test_a_root_filesystem_that_is_cut_off_is_refused(store: Store) -> None:
    sink = io.BytesIO()
    with CompressingWriter(sink, "gzip") as compressor:
        writer = TarWriter(compressor)
        base(writer)
        writer.close()
    with pytest.raises(ImagesError, match="ends"):
        import_rootfs(store, io.BytesIO(sink.getvalue()[:-20]), ImageConfig(architecture="amd64", os="linux"))
