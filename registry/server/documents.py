"""What the server must know of a manifest: its type, what it refers to, what it is about. Its bytes stay as they came.

Source: image-spec manifest.md and image-index.md; distribution-spec "Pushing Manifests". Manifests of unknown types are
taken as they are: whatever in them looks like a descriptor keeps its target from being collected.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from core.digests import Digest
from core.errors import InvalidReferenceError
from images.oci import INDEX_TYPES, MANIFEST_TYPES, OCI_INDEX, OCI_MANIFEST
from registry.server.errors import manifest_invalid

_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1"
_NOT_DISTRIBUTED: Final = ("nondistributable", "foreign")
_MAX_LOOSE_DEPTH: Final = 64


@dataclass(frozen=True, slots=True)
class LinkedDescriptor:
    """A descriptor in a manifest. required: the push fails when its target is not here."""

    digest: Digest
    size: int
    media_type: str
    required: bool = True

    @property
    def is_manifest(self) -> bool:
        return self.media_type in MANIFEST_TYPES or self.media_type in INDEX_TYPES


@dataclass(frozen=True, slots=True)
class Document:
    """A manifest, read.

    blobs: config and layers.
    children: of an index.
    loose: what else it seems to refer to.
    """

    media_type: str
    artifact_type: str = ""
    blobs: tuple[LinkedDescriptor, ...] = ()
    children: tuple[LinkedDescriptor, ...] = ()
    loose: tuple[Digest, ...] = ()
    subject: Digest | None = None
    annotations: dict[str, str] = field(default_factory=dict)

    def targets(self) -> set[Digest]:
        """Everything that this manifest keeps from being collected; not its subject."""
        return {reference.digest for reference in (*self.blobs, *self.children)} | set(self.loose)


def read_document(data: bytes, content_type: str) -> Document:
    """Check a manifest. content_type: of the request, parameters and all; may be empty. Raises SpecError 400."""
    tree = _parse(data)
    stated = tree.get("mediaType", "")
    if not isinstance(stated, str):
        raise manifest_invalid("mediaType is no string")
    media_type = content_type.partition(";")[0].strip().lower() or stated or _guess(tree)
    if stated and stated.lower() != media_type:
        raise manifest_invalid(f"mediaType {stated[:200]!r} differs from Content-Type {media_type[:200]!r}")
    if media_type.startswith(_SCHEMA_1):
        raise manifest_invalid("schema 1 is obsolete; push the image again with a current tool")
    annotations, subject = _annotations(tree), _subject(tree)
    artifact_type = tree.get("artifactType") or ""
    if not isinstance(artifact_type, str):
        raise manifest_invalid("artifactType is no string")
    if media_type in MANIFEST_TYPES:
        _check_version(tree)
        config = _descriptor(tree.get("config"), "config")
        layers = tuple(_layer(item, f"layers[{i}]") for i, item in enumerate(_list(tree, "layers")))
        return Document(
            media_type,
            artifact_type or config.media_type,
            blobs=(config, *layers),
            subject=subject,
            annotations=annotations,
        )
    if media_type in INDEX_TYPES:
        _check_version(tree)
        children = tuple(_descriptor(item, f"manifests[{i}]") for i, item in enumerate(_list(tree, "manifests")))
        return Document(media_type, artifact_type, children=children, subject=subject, annotations=annotations)
    loose = tuple(digest for digest in dict.fromkeys(_digests(tree, 0)) if digest != subject)
    return Document(media_type, artifact_type, loose=loose, subject=subject, annotations=annotations)


def _parse(data: bytes) -> dict[str, Any]:
    try:
        tree = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise manifest_invalid(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(tree, dict):
        raise manifest_invalid("expected a JSON object")
    return tree


def _guess(tree: dict[str, Any]) -> str:
    if isinstance(tree.get("manifests"), list):
        return OCI_INDEX
    if isinstance(tree.get("layers"), list):
        return OCI_MANIFEST
    raise manifest_invalid("neither Content-Type nor mediaType says what it is")


def _check_version(tree: dict[str, Any]) -> None:
    if tree.get("schemaVersion") != 2:
        raise manifest_invalid("schemaVersion is not 2")


def _list(tree: dict[str, Any], name: str) -> list[Any]:
    value = tree.get(name)
    if value is None:  # as Go writes an empty list
        return []
    if not isinstance(value, list):
        raise manifest_invalid(f"{name} is no list")
    return value


def _layer(value: Any, where: str) -> LinkedDescriptor:
    layer = _descriptor(value, where)
    if any(word in layer.media_type for word in _NOT_DISTRIBUTED):
        return LinkedDescriptor(layer.digest, layer.size, layer.media_type, required=False)
    return layer


def _descriptor(value: Any, where: str) -> LinkedDescriptor:
    if not isinstance(value, dict):
        raise manifest_invalid(f"{where} is no descriptor")
    media_type, size, digest = value.get("mediaType"), value.get("size"), value.get("digest")
    if not isinstance(media_type, str) or not media_type:
        raise manifest_invalid(f"{where} has no mediaType")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 63:
        raise manifest_invalid(f"{where} has no valid size")
    return LinkedDescriptor(_digest(digest, where), size, media_type)


def _digest(value: Any, where: str) -> Digest:
    try:
        return Digest.parse(value if isinstance(value, str) else "")
    except InvalidReferenceError:
        raise manifest_invalid(f"{where} has no valid digest") from None


def _subject(tree: dict[str, Any]) -> Digest | None:
    value = tree.get("subject")
    return None if value is None else _descriptor(value, "subject").digest


def _annotations(tree: dict[str, Any]) -> dict[str, str]:
    value = tree.get("annotations") or {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise manifest_invalid("annotations are not strings by name")
    return value


def _digests(value: Any, depth: int) -> Iterator[Digest]:
    if depth > _MAX_LOOSE_DEPTH:
        raise manifest_invalid(f"nested more than {_MAX_LOOSE_DEPTH} deep")
    if isinstance(value, dict):
        text = value.get("digest")
        if isinstance(text, str):
            with contextlib.suppress(InvalidReferenceError):  # of a type unknown to us: it may mean something else
                yield Digest.parse(text)
        for item in value.values():
            yield from _digests(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _digests(item, depth + 1)
