"""The registry as people look through it: repositories, tags, what an image or a layer has, what refers to it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec
import zstandard

from core.digests import Digest
from core.errors import InvalidReferenceError, ShiplapError
from core.files import write_atomically
from images.contents import LayerEntry, read_entries
from images.oci import INDEX_TYPES, Descriptor, History, ImageConfig, decode_config, decode_index, decode_manifest
from registry.errors import ErrorCode
from registry.server.documents import read_document
from registry.server.errors import SpecError, manifest_unknown
from registry.server.manifests import Manifest
from registry.server.survey import RepositorySummary, TagSummary, list_repositories, list_tags

if TYPE_CHECKING:
    from registry.server.registry import Registry

_REFERENCE_TYPE: Final = "vnd.docker.reference.type"
_REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
_SPDX: Final = "https://spdx.dev/Document"
_MAX_DOCUMENT_BYTES: Final = 64 << 20
_MAX_LAYER_BYTES: Final = 64 << 30
_KEPT_LISTINGS: Final = 16
_entries: Final = msgspec.msgpack.Decoder(list[LayerEntry])


@dataclass(frozen=True, slots=True)
class LayerView:
    """A layer, or an instruction that left none (descriptor None). index: of the layers, from 0."""

    created_by: str
    descriptor: Descriptor | None
    index: int


@dataclass(frozen=True, slots=True)
class Child:
    """A manifest of an index. attests: the digest of the manifest that this one says something about."""

    descriptor: Descriptor
    attests: str


@dataclass(frozen=True, slots=True)
class ImageView:
    """A manifest.

    config, layers: of an image.
    children: of an index.
    size_bytes: what a pull takes, all of it.
    referrers: descriptors of what was pushed about it, as JSON.
    artifact: an OCI artifact that is no image has its type here, and its blobs in ``layers``.
    """

    manifest: Manifest
    config: ImageConfig | None
    layers: tuple[LayerView, ...]
    children: tuple[Child, ...]
    referrers: tuple[dict[str, Any], ...]
    tags: tuple[str, ...]
    size_bytes: int
    artifact: str
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class Package:
    """A package that an SBOM lists."""

    name: str
    version: str
    license: str


class Browser:
    """A look through the registry. Thread-safe.

    Listings of layers never change: they are kept in ``ROOT/serve/listings``.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._directory = registry.store.root / "serve" / "listings"
        self._lock = threading.Lock()
        self._listings: OrderedDict[Digest, list[LayerEntry]] = OrderedDict()

    def repositories(self) -> list[RepositorySummary]:
        """All but hidden ones, by name."""
        return list_repositories(self._registry.store, self._registry.settings.hidden_range)

    def tags(self, repository: str) -> list[TagSummary]:
        """The newest first. Raises SpecError 404."""
        return sorted(list_tags(self._registry.store, repository), key=lambda tag: (-tag.updated_at, tag.name))

    def image(self, repository: str, reference: str) -> ImageView:
        """What a tag or digest names. Raises SpecError 404."""
        manifest = self._registry.manifests.find(repository, parse_reference(reference))
        data = self._registry.manifests.read(manifest)
        document = read_document(data, manifest.media_type)
        referrers = self._registry.manifests.referrers(repository, manifest.digest, artifact_type="", last="").items
        tags = tuple(tag.name for tag in self.tags(repository) if tag.digest == manifest.digest)
        config: ImageConfig | None = None
        layers: tuple[LayerView, ...] = ()
        children: tuple[Child, ...] = ()
        size_bytes = manifest.size + sum(blob.size for blob in document.blobs)
        if manifest.media_type in INDEX_TYPES:
            children = tuple(_child(item) for item in decode_index(data).manifests)
            size_bytes += sum(child.descriptor.size for child in children)
        elif document.blobs:
            described = decode_manifest(data)
            config = self._config(repository, described.config)
            layers = _layers(config.history if config else (), described.layers)
        artifact = "" if config is not None or children else document.artifact_type
        return ImageView(
            manifest, config, layers, children, tuple(referrers), tags, size_bytes, artifact, document.annotations
        )

    def listing(self, repository: str, layer: Descriptor) -> list[LayerEntry]:
        """The entries of a layer. Raises SpecError 404, and ImagesError for what is no layer."""
        with self._lock:
            known = self._listings.get(layer.digest)
            if known is not None:
                self._listings.move_to_end(layer.digest)
                return known
        entries = self._kept(layer.digest) or self._read(repository, layer.digest)
        with self._lock:
            self._listings[layer.digest] = entries
            while len(self._listings) > _KEPT_LISTINGS:
                self._listings.popitem(last=False)
        return entries

    def packages(self, repository: str, view: ImageView, digest: str) -> list[Package]:
        """What the SBOM that ``view`` (an index) has for its manifest ``digest`` lists; empty when there is none."""
        for child in view.children:
            if child.attests == digest:
                return self._packages_of(repository, child.descriptor)
        return []

    def _packages_of(self, repository: str, descriptor: Descriptor) -> list[Package]:
        manifest = self._registry.manifests.find(repository, descriptor.digest)
        for layer in decode_manifest(self._registry.manifests.read(manifest)).layers:
            if layer.annotations.get("in-toto.io/predicate-type") == _SPDX and layer.size <= _MAX_DOCUMENT_BYTES:
                return _packages(self._blob(repository, layer.digest))
        return []

    def _config(self, repository: str, descriptor: Descriptor) -> ImageConfig | None:
        """None for what is no image's config."""
        if descriptor.size > _MAX_DOCUMENT_BYTES:
            return None
        try:
            return decode_config(self._blob(repository, descriptor.digest))
        except SpecError:
            raise
        except ShiplapError:
            return None

    def _blob(self, repository: str, digest: Digest) -> bytes:
        with self._registry.content.open(self._registry.content.find(repository, digest)) as file:
            return file.read()

    def _kept(self, digest: Digest) -> list[LayerEntry] | None:
        try:
            data = (self._directory / digest.hex).read_bytes()
        except FileNotFoundError:
            return None
        return _entries.decode(zstandard.decompress(data, max_output_size=1 << 30))

    def _read(self, repository: str, digest: Digest) -> list[LayerEntry]:
        with self._registry.content.open(self._registry.content.find(repository, digest)) as file:
            entries = read_entries(file, limit_bytes=_MAX_LAYER_BYTES)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self._directory / digest.hex, zstandard.compress(msgspec.msgpack.encode(entries)))
        return entries


def parse_reference(text: str) -> Digest | str:
    """A digest or a tag. Raises SpecError 404 for what is neither."""
    if ":" not in text:
        return text
    try:
        return Digest.parse(text)
    except InvalidReferenceError:
        raise manifest_unknown(text) from None


def _child(descriptor: Descriptor) -> Child:
    attests = ""
    if descriptor.annotations.get(_REFERENCE_TYPE) == "attestation-manifest":
        attests = descriptor.annotations.get(_REFERENCE_DIGEST, "")
    return Child(descriptor, attests)


def _layers(history: Sequence[History], layers: Sequence[Descriptor]) -> tuple[LayerView, ...]:
    """Layers with the instructions that made them; as many as there are of either."""
    found: list[LayerView] = []
    rest = iter(enumerate(layers))
    for step in history:
        if step.empty_layer:
            found.append(LayerView(step.created_by, None, -1))
            continue
        index, descriptor = next(rest, (-1, None))
        found.append(LayerView(step.created_by, descriptor, index))
    found += [LayerView("", descriptor, index) for index, descriptor in rest]
    return tuple(found)


def _packages(statement: bytes) -> list[Package]:
    """From an in-toto statement whose predicate is an SPDX document. Raises SpecError for what is none."""
    try:
        found = msgspec.json.decode(statement, type=_Statement).predicate.packages
    except msgspec.MsgspecError as error:
        raise SpecError(422, ErrorCode.MANIFEST_INVALID, f"the SBOM cannot be read: {error}") from error
    packages = [Package(item.name, item.version, item.license) for item in found]
    return sorted(packages, key=lambda package: (package.name, package.version))


class _SpdxPackage(msgspec.Struct):
    name: str
    version: str = msgspec.field(default="", name="versionInfo")
    license: str = msgspec.field(default="", name="licenseDeclared")


class _SpdxDocument(msgspec.Struct):
    packages: list[_SpdxPackage] = []


class _Statement(msgspec.Struct):
    predicate: _SpdxDocument
