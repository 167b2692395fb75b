"""The registry as people look through it: repositories, tags, what an image or a layer has, what refers to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.digests import Digest
from core.errors import InvalidReferenceError, ShiplapError
from images.oci import INDEX_TYPES, Descriptor, History, ImageConfig, decode_config, decode_index, decode_manifest
from registry.errors import ErrorCode
from registry.server.documents import read_document
from registry.server.errors import SpecError, manifest_unknown
from registry.server.facts import Facts
from registry.server.listings import Listings, PackageLists
from registry.server.manifests import Manifest
from registry.server.survey import (
    ListedManifest,
    RepositorySummary,
    all_names,
    count_tags,
    count_untagged,
    newest_tags,
    repository_id,
    shown_names,
    summaries,
    tags_of,
    untagged,
)

if TYPE_CHECKING:
    from registry.server.registry import Registry

_REFERENCE_TYPE: Final = "vnd.docker.reference.type"
_REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
_SPDX: Final = "https://spdx.dev/Document"
_MAX_DOCUMENT_BYTES: Final = 64 << 20
_MAX_CONFIG_BYTES: Final = 4 << 20


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
    """A look through the registry. Thread-safe. lists: as of ``Listings``."""

    def __init__(self, registry: Registry, lists: PackageLists | None = None) -> None:
        self._registry = registry
        self.listings = Listings(registry, lists)
        self.facts = Facts(registry.manifests, registry.content)

    def names(self) -> list[str]:
        """The names of all repositories, hidden ones too."""
        return all_names(self._registry.rows)

    def shown_names(self) -> tuple[list[str], int]:
        """The names of all repositories that are not hidden; and how many others there are."""
        return shown_names(self._registry.rows, self._registry.settings.hidden_range)

    def summaries(self, names: Sequence[str]) -> list[RepositorySummary]:
        """These repositories in numbers, by name."""
        return summaries(self._registry.rows, names)

    def tags(self, repository: str, *, text: str = "", after: str = "", limit: int) -> list[ListedManifest]:
        """The newest first; see ``survey.newest_tags``. Raises SpecError 404."""
        rows = self._registry.rows
        return newest_tags(rows, repository_id(rows, repository), text=text, after=after, limit=limit)

    def untagged(self, repository: str, *, after: str = "", limit: int) -> list[ListedManifest]:
        """Manifests that nothing leads to, the newest first. Raises SpecError 404."""
        rows = self._registry.rows
        return untagged(rows, repository_id(rows, repository), after=after, limit=limit)

    def counts(self, repository: str) -> tuple[int, int]:
        """How many tags, and how many manifests that nothing leads to. Raises SpecError 404."""
        rows = self._registry.rows
        its = repository_id(rows, repository)
        return count_tags(rows, its), count_untagged(rows, its)

    def image(self, repository: str, reference: str) -> ImageView:
        """What a tag or digest names. Raises SpecError 404."""
        manifest = self._registry.manifests.find(repository, parse_reference(reference))
        data = self._registry.manifests.read(manifest)
        document = read_document(data, manifest.media_type)
        referrers = self._registry.manifests.referrers(repository, manifest.digest, artifact_type="", last="").items
        its = repository_id(self._registry.rows, repository)
        tags = tuple(tags_of(self._registry.rows, its, (manifest.digest,)).get(manifest.digest, ()))
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

    def picture(self, repository: str, reference: str, platform: str = "") -> tuple[ImageView, str]:
        """An image, and the digest of the index that it was found by; empty without one.

        Of an index its image for the platform, or the first one. Raises SpecError 404, also for what is no image.
        """
        view = self.image(repository, reference)
        if view.children:
            shown = [child for child in view.children if not child.attests]
            fits = [child for child in shown if _platform(child.descriptor) == platform]
            if not shown:
                raise manifest_unknown(reference)
            index = view.manifest.digest
            view = self.image(repository, (fits or shown)[0].descriptor.digest)
            if view.config is not None:
                return view, index
        if view.config is None:
            raise SpecError(404, ErrorCode.MANIFEST_UNKNOWN, f"{repository} {reference[:200]} is no image")
        return view, ""

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
        if descriptor.size > _MAX_CONFIG_BYTES:
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


def parse_reference(text: str) -> Digest | str:
    """A digest or a tag. Raises SpecError 404 for what is neither."""
    if ":" not in text:
        return text
    try:
        return Digest.parse(text)
    except InvalidReferenceError:
        raise manifest_unknown(text) from None


def _platform(descriptor: Descriptor) -> str:
    return str(descriptor.platform.normalised()) if descriptor.platform is not None else ""


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
