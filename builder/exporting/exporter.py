"""Where finished images go: the store, registries, archives, a tar or a directory of their files."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from builder.assembly import BuiltImage
from builder.errors import OutputError
from builder.request.output import Compression, Output, Packaging
from core.digests import Digest
from core.files import replacing, storage_errors
from core.namespaces import is_initial
from core.references import Reference
from images.errors import ImageNotFoundError
from images.oci import CREATED_ANNOTATION, OCI_MANIFEST, Descriptor, OciPlatform, decode_manifest, encode
from images.stacking import topmost_of_each
from images.store import Store
from images.summary import Image

if TYPE_CHECKING:  # most builds only put an image into the store
    from builder.attesting.attestor import Attestor
    from builder.exporting.packing import Attest, Packed
    from builder.exporting.push import Push
    from images.indexes import StoredIndex

_DEFAULT = Packaging()


class Exported(msgspec.Struct, frozen=True):
    """What went out.

    root: the manifest or index of the last output that is an image; None when no output is one.
    names: the names that this image has there.
    image: the image in the store, the first of several; None when no output puts it there.
    image_id: the config's digest; for several platforms or with attestations the index's digest, as in docker build.
    """

    root: Descriptor | None
    image: Image | None
    image_id: Digest
    is_index: bool = False
    names: tuple[Reference, ...] = ()


class Exporter:
    """Puts one build's images out.

    images: at least one, each for another platform.
    epoch: SOURCE_DATE_EPOCH.
    attest: makes the attestations of each image.
    push: sends to registries.
    several: a single image goes out in the way of several platforms' images, too.
    """

    def __init__(
        self,
        store: Store,
        images: Sequence[BuiltImage],
        *,
        epoch: int | None,
        attest: Attestor | None,
        push: Push,
        several: bool = False,
    ) -> None:
        self._store = store
        self._epoch = epoch
        self._attest = attest
        self._push = push
        self._images = tuple(images)
        self._several = several or len(images) > 1
        self._clamped: tuple[BuiltImage, ...] | None = None

    def put_out(self, outputs: Sequence[Output]) -> Exported:
        """Put each output out, in turn. A file appears whole or not at all.

        Raises OutputError, StorageFullError, and what a push raises.
        """
        done = Exported(None, None, self._id())
        for output in outputs:
            images = self._dated(output.packaging)
            if output.type == "image":
                exported = self._image(output, images)
            elif output.is_image:
                exported = self._archive(output, images)
            else:
                self._files(output, images)
                continue
            image = exported.image or done.image
            done = msgspec.structs.replace(exported, image=image, names=output.names)
        return done

    def _id(self) -> Digest:
        return Digest.of(encode(self._images[0].config))

    def _dated(self, packaging: Packaging) -> tuple[BuiltImage, ...]:
        """The images. If it was asked for, times in their new layers are clamped."""
        if packaging.rewrite_timestamp and self._epoch is None:
            raise OutputError("rewrite-timestamp without SOURCE_DATE_EPOCH", hint="set SOURCE_DATE_EPOCH=SECONDS")
        if self._epoch is None or packaging.rewrite_timestamp is False:
            return self._images
        if self._clamped is None:
            self._clamped = tuple(_clamped(self._store, image, self._epoch) for image in self._images)
        return self._clamped

    # Images

    def _image(self, output: Output, images: tuple[BuiltImage, ...]) -> Exported:
        if not self._several and self._attest is None and not output.push and output.packaging == _DEFAULT:
            return self._as_it_stands(output, images[0])
        from builder.exporting.packing import pack

        packed = pack(
            self._store,
            images,
            output.packaging,
            default="gzip" if output.push or self._several or self._attest else "none",
            attest=self._naming(output),
            index=self._several,
        )
        packed.keep(self._store)
        if not output.store and not output.push:
            return _exported(packed, None)
        known = self._is_known(packed)
        image, kept = self._keep(packed, [] if output.by_digest or not output.store else output.names)
        if output.push:
            self._push.send(kept, output.names, by_digest=output.by_digest)
        if not output.store and not known:
            self._store.images.remove(packed.root.digest if packed.is_index else image.id)
        return _exported(packed, image if output.store else None)

    def _as_it_stands(self, output: Output, built: BuiltImage) -> Exported:
        """An image of uncompressed layers, which is the quickest form and all that a store needs."""
        if not output.store:
            return Exported(None, None, self._id())
        image = self._store.images.put(built.config, built.diff_ids, names=output.names)
        data = self._store.blobs.read(image.manifest_digest)
        root = Descriptor(
            media_type=decode_manifest(data).media_type or OCI_MANIFEST,
            digest=image.manifest_digest,
            size=len(data),
            platform=OciPlatform.of(built.platform),
        )
        return Exported(root, image, image.id)

    def _is_known(self, packed: Packed) -> bool:
        """Whether the store already has the image, so that it has to stay there."""
        try:
            if packed.is_index:
                self._store.images.indexes.get(packed.root.digest)
            else:
                self._store.images.get(packed.images[0].id)
        except ImageNotFoundError:
            return False
        return True

    def _keep(self, packed: Packed, names: Sequence[Reference]) -> tuple[Image, Image | StoredIndex]:
        """Put the images into the store. Returns the first image, and what the names stand for."""
        store = self._store.images
        images = [
            store.put(
                each.config,
                each.built.diff_ids,
                names=[] if packed.is_index else names,
                manifest=packed.documents[each.manifest.digest],
            )
            for each in packed.images
        ]
        if packed.is_index:
            return images[0], store.indexes.put(packed.documents[packed.root.digest], names=names)
        return images[0], images[0]

    def _archive(self, output: Output, images: tuple[BuiltImage, ...]) -> Exported:
        from builder.exporting.packing import pack

        if output.type == "docker" and (self._several or self._attest is not None):
            what = "several platforms" if self._several else "attestations"
            raise OutputError(
                f"docker's archives have no room for {what}", hint="use type=oci, which skopeo and podman read too"
            )
        self._store.layers.fetch([diff_id for image in images for diff_id in image.diff_ids])
        # As BuildKit: layers of an OCI layout are compressed, for registries; docker unpacks its archives at once.
        default: Compression = "gzip" if output.type == "oci" else "none"
        packed = pack(
            self._store,
            images,
            output.packaging,
            default=default,
            attest=self._naming(output),
            index=self._several,
        )
        packed = _with_created(packed)
        packed.keep(self._store)
        self._write_layout(output, packed)
        return _exported(packed, None)

    def _write_layout(self, output: Output, packed: Packed) -> None:
        from images.layout import DirectoryTarget, Root, TarTarget, write_layout

        roots = [Root(packed.root, output.names)]
        if output.as_tar:
            with _opened(output.dest) as sink, TarTarget(sink) as target:
                write_layout(self._store, roots, target)
        else:
            with _output_errors(output.dest):
                write_layout(self._store, roots, DirectoryTarget(Path(output.dest)))

    def _naming(self, output: Output) -> Attest | None:
        """Attestations name their subject as the output does."""
        attest = self._attest
        return None if attest is None else lambda built, digest: attest.of_image(built, digest, output.names)

    # Files

    def _files(self, output: Output, images: tuple[BuiltImage, ...]) -> None:
        split = self._several if output.platform_split is None else output.platform_split
        if not split:
            self._check_overlap(images)
        if output.type == "local":
            for image in images:
                directory = os.path.join(output.dest, _directory(image)) if split else output.dest
                self._write_tree(image, directory, self._suffix(image, images, split=split))
        else:
            with _opened(output.dest) as sink:
                self._write_tar(images, sink, split=split)

    def _suffix(self, image: BuiltImage, images: Sequence[BuiltImage], *, split: bool) -> str:
        """The part of attestations' names by which several platforms' files differ in one directory."""
        return "" if split or len(images) == 1 else f".{_directory(image)}"

    def _check_overlap(self, images: Sequence[BuiltImage]) -> None:
        """Raises OutputError when two platforms have a file of the same name."""
        from images.flatten import flatten
        from images.tarheaders import DIRECTORY

        if len(images) == 1:
            return
        seen: dict[bytes, BuiltImage] = {}
        for image in images:
            with self._opened_layers(image) as layers:
                for entry, _ in flatten(layers):
                    other = seen.setdefault(entry.name, image) if entry.kind != DIRECTORY else image
                    if other is not image:
                        name = os.fsdecode(entry.name)
                        raise OutputError(
                            f"/{name} of {image.platform} is in the way of that of {other.platform}",
                            hint="leave platform-split=false out: each platform then has a directory",
                        )

    def _write_tar(self, images: Sequence[BuiltImage], sink: BinaryIO, *, split: bool) -> None:
        from images.flatten import write_merged
        from images.tarwriter import TarWriter

        writer = TarWriter(sink)
        for image in images:
            prefix = os.fsencode(f"{_directory(image)}/") if split else b""
            if prefix:
                writer.directory(prefix, 0o755, 0, 0, self._epoch or 0)
            with self._attested(image, self._suffix(image, images, split=split)) as layers:
                write_merged(layers, writer, prefix=prefix, mtime=self._epoch)
        writer.close()

    def _write_tree(self, image: BuiltImage, dest: str, suffix: str) -> None:
        from images.flatten import unpack_merged

        with self._attested(image, suffix) as layers, storage_errors(dest), _output_errors(dest):
            os.makedirs(dest, exist_ok=True)
            root = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                # As buildx: the files belong to whoever asked for them.
                unpack_merged(layers, root, owners=False, devices=os.geteuid() == 0 and is_initial(), mtime=self._epoch)
            finally:
                os.close(root)

    @contextlib.contextmanager
    def _attested(self, image: BuiltImage, suffix: str) -> Iterator[list[BinaryIO]]:
        """The image's layers, and one more with attestations of the files where they were asked for."""
        with self._opened_layers(image) as layers:
            if self._attest is not None:
                from builder.attesting import files

                statements = self._attest.of_files(image, files.digests(layers))
                for layer in layers:
                    layer.seek(0)
                mtime = int(time.time()) if self._epoch is None else self._epoch
                layers.append(files.layer(statements, suffix=suffix, mtime=mtime))
            yield layers

    @contextlib.contextmanager
    def _opened_layers(self, image: BuiltImage) -> Iterator[list[BinaryIO]]:
        with self._store.layers.open_checked(topmost_of_each(image.diff_ids)) as layers:
            yield layers


def _exported(packed: Packed, image: Image | None) -> Exported:
    image_id = packed.root.digest if packed.is_index else packed.images[0].id
    return Exported(packed.root, image, image_id, packed.is_index)


def _with_created(packed: Packed) -> Packed:
    """As in BuildKit, a layout's index says when the image was made. We use the image's own time: it stays the same."""
    created = packed.images[0].built.config.created
    if not created or CREATED_ANNOTATION in packed.root.annotations:
        return packed
    annotations = {**packed.root.annotations, CREATED_ANNOTATION: created}
    return msgspec.structs.replace(packed, root=msgspec.structs.replace(packed.root, annotations=annotations))


def _directory(image: BuiltImage) -> str:
    """What a platform's directory is called: ``linux_arm_v7``."""
    return str(image.platform).replace("/", "_")


def _clamped(store: Store, image: BuiltImage, epoch: int) -> BuiltImage:
    """The image, with times in its own layers clamped to the epoch. The base image's layers stay as they are."""
    from images.tarcopy import clamped_layer

    diff_ids = image.diff_ids
    own = [clamped_layer(store, diff_id, epoch) for diff_id in diff_ids[image.base_layers :]]
    return image.with_layers((*diff_ids[: image.base_layers], *own))


@contextlib.contextmanager
def _opened(dest: str) -> Iterator[BinaryIO]:
    """Open a file that takes its place when the block ends without an error; ``-`` is standard output."""
    if dest == "-":
        if sys.stdout.isatty():
            raise OutputError(
                "refusing to write an archive to a terminal", hint="redirect it, or name a file with dest="
            )
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(dest)
    if path.is_dir():
        raise OutputError(f"cannot write {dest}: it is a directory", hint="name a file: dest=image.tar")
    with _output_errors(dest), replacing(path) as file:
        yield file


@contextlib.contextmanager
def _output_errors(dest: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, PermissionError, FileExistsError) as error:
        raise OutputError(f"cannot write {dest}: {error.strerror}", hint="check the directory in dest=") from error
