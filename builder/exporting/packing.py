"""From built images to documents: config, manifest, and the index of several platforms or of attestations.

What BuildKit's exporter writes: moby/buildkit, exporter/containerimage/writer.go; its docs/attestations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from builder.assembly import BuiltImage
from builder.attesting.statements import Statement
from builder.errors import OutputError
from builder.request.output import AnnotationLevel, Compression, Packaging
from core.digests import DiffID, Digest
from core.platforms import Platform
from images.attestations import ATTESTATION_MANIFEST, IN_TOTO, PREDICATE_TYPE, REFERENCE_DIGEST, REFERENCE_TYPE
from images.oci import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_LAYER_GZIP,
    DOCKER_LAYER_ZSTD,
    DOCKER_MANIFEST,
    DOCKER_MANIFEST_LIST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCI_LAYER_ZSTD,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    OciPlatform,
    RootFS,
    encode,
)
from images.store import Store

_UNKNOWN: Final = OciPlatform(architecture="unknown", os="unknown")
_DOCKER_TYPES: Final = {
    OCI_MANIFEST: DOCKER_MANIFEST,
    OCI_INDEX: DOCKER_MANIFEST_LIST,
    OCI_CONFIG: DOCKER_CONFIG,
    OCI_LAYER: DOCKER_LAYER,
    OCI_LAYER_GZIP: DOCKER_LAYER_GZIP,
}
_OCI_TYPES: Final = {docker: oci for oci, docker in _DOCKER_TYPES.items()} | {DOCKER_LAYER_ZSTD: OCI_LAYER_ZSTD}
_DEFAULT_LEVELS: Final[dict[Compression, int]] = {"gzip": 1, "zstd": 3}


Attest: TypeAlias = Callable[[BuiltImage, Digest], Sequence[Statement]]
"""Makes the attestations of an image, from the image and its manifest's digest."""


class PackedImage(msgspec.Struct, frozen=True):
    """One platform's image: its config, and its manifest."""

    built: BuiltImage
    config: bytes
    manifest: Descriptor

    @property
    def id(self) -> Digest:
        return Digest.of(self.config)


class Packed(msgspec.Struct, frozen=True):
    """What goes out. root: of the manifest, or of the index. documents: all but the layers, by digest."""

    root: Descriptor
    images: tuple[PackedImage, ...]
    documents: dict[Digest, bytes]

    @property
    def is_index(self) -> bool:
        return self.root.digest != self.images[0].manifest.digest

    def keep(self, store: Store) -> None:
        """Put the documents into the store, where they stay at least as long as this session."""
        for data in self.documents.values():
            store.blobs.put(data, sync=False)


def pack(
    store: Store,
    images: Sequence[BuiltImage],
    packaging: Packaging,
    *,
    default: Compression,
    attest: Attest | None = None,
    index: bool = False,
) -> Packed:
    """Make the documents of ``images``, and the compressed layers that they name.

    index: write an index even for a single image without attestations.
    default: how layers are compressed unless ``packaging`` says so; with "none" the base's layers are not kept as they
    came, either.
    Raises OutputError for annotations that have no place, MissingBlobError.
    """
    packer = _Packer(store, packaging, default)
    packed = tuple(packer.image(image) for image in images)
    statements = [(each, attest(each.built, each.manifest.digest)) for each in packed] if attest else []
    root = packer.root(packed, [(each, found) for each, found in statements if found], index=index)
    packer.check_annotations([image.platform for image in images], indexed=root.digest != packed[0].manifest.digest)
    return Packed(root, packed, packer.documents)


class _Packer:
    def __init__(self, store: Store, packaging: Packaging, default: Compression) -> None:
        self._store = store
        self._packaging = packaging
        self._as_it_came = default != "none" and not packaging.force
        self._compression = packaging.compression or default
        self.documents: dict[Digest, bytes] = {}

    def image(self, built: BuiltImage) -> PackedImage:
        config = encode(built.config)
        manifest = encode(
            Manifest(
                schema_version=2,
                media_type=self._type(OCI_MANIFEST),
                config=self._document(OCI_CONFIG, config),
                layers=tuple(self._layer(diff_id) for diff_id in built.config.rootfs.diff_ids),
                annotations=self._annotations("manifest", built.platform),
            )
        )
        descriptor = msgspec.structs.replace(
            self._document(OCI_MANIFEST, manifest),
            platform=OciPlatform.of(built.platform),
            annotations=self._annotations("manifest-descriptor", built.platform),
        )
        return PackedImage(built, config, descriptor)

    def root(
        self,
        images: Sequence[PackedImage],
        statements: Sequence[tuple[PackedImage, Sequence[Statement]]],
        *,
        index: bool,
    ) -> Descriptor:
        """The manifest of a single image without attestations, else an index; images come first, as in BuildKit."""
        if len(images) == 1 and not statements and not index:
            return images[0].manifest
        if statements and not self._packaging.oci:
            raise OutputError("docker's media types have no attestations", hint="leave oci-mediatypes=false out")
        document = Index(
            schema_version=2,
            media_type=self._type(OCI_INDEX),
            manifests=(
                *(each.manifest for each in images),
                *(self._attestation(each.manifest.digest, said) for each, said in statements),
            ),
            annotations=self._annotations("index", None),
        )
        root = self._document(OCI_INDEX, encode(document))
        return msgspec.structs.replace(root, annotations=self._annotations("index-descriptor", None))

    def _attestation(self, subject: Digest, statements: Iterable[Statement]) -> Descriptor:
        """A manifest whose layers are statements; its config is there because registries want one."""
        layers = tuple(
            msgspec.structs.replace(
                self._document(IN_TOTO, statement.data), annotations={PREDICATE_TYPE: statement.predicate_type}
            )
            for statement in statements
        )
        diff_ids = tuple(DiffID(layer.digest) for layer in layers)
        config = encode(ImageConfig(architecture="unknown", os="unknown", rootfs=RootFS(diff_ids=diff_ids)))
        manifest = Manifest(
            schema_version=2, media_type=OCI_MANIFEST, config=self._document(OCI_CONFIG, config), layers=layers
        )
        return msgspec.structs.replace(
            self._document(OCI_MANIFEST, encode(manifest)),
            platform=_UNKNOWN,
            annotations={REFERENCE_DIGEST: str(subject), REFERENCE_TYPE: ATTESTATION_MANIFEST},
        )

    def check_annotations(self, platforms: Sequence[Platform], *, indexed: bool) -> None:
        """Raises OutputError for the first annotation that found no place."""
        for annotation in self._packaging.annotations:
            if annotation.level.startswith("index") and not indexed:
                raise OutputError(
                    f"annotation {annotation.name}: there is no index, with one platform and no attestation",
                    hint="put it on the manifest: --annotation manifest:NAME=VALUE",
                )
            if annotation.platform is not None and annotation.platform not in platforms:
                raise OutputError(
                    f"annotation {annotation.name}: nothing is built for {annotation.platform}",
                    hint="platforms: " + ", ".join(map(str, platforms)),
                )

    def _layer(self, diff_id: DiffID) -> Descriptor:
        found = self._came_as(diff_id) if self._as_it_came else None
        if found is None:
            layers, compression = self._store.layers, self._compression
            if compression == "none":
                found = Descriptor(media_type=OCI_LAYER, digest=Digest(diff_id), size=layers.size(diff_id))
            else:
                # The level is always given, so that an earlier build's blob does not choose the digest.
                level = self._packaging.level
                level = _DEFAULT_LEVELS[compression] if level is None else level
                found = layers.compressed(diff_id, compression, level)
        return msgspec.structs.replace(found, media_type=self._type(found.media_type))

    def _came_as(self, diff_id: DiffID) -> Descriptor | None:
        """The compressed blob that the layer came as. It may be here, or still at its registry, where it may stay."""
        layers = self._store.layers
        if layers.away((diff_id,)) and (origin := layers.origin(diff_id)) is not None:
            return Descriptor(media_type=origin.blob.media_type, digest=origin.blob.digest, size=origin.blob.size)
        return layers.original(diff_id)

    def _document(self, media_type: str, data: bytes) -> Descriptor:
        digest = Digest.of(data)
        self.documents[digest] = data
        return Descriptor(media_type=self._type(media_type), digest=digest, size=len(data))

    def _type(self, media_type: str) -> str:
        return (_OCI_TYPES if self._packaging.oci else _DOCKER_TYPES).get(media_type, media_type)

    def _annotations(self, level: AnnotationLevel, platform: Platform | None) -> dict[str, str]:
        return {
            annotation.name: annotation.value
            for annotation in self._packaging.annotations
            if annotation.level == level and annotation.platform in (None, platform)
        }
