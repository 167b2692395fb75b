"""Attestations: what an index in the store states about its images, as BuildKit attaches it.

An attestation manifest names the manifest that it is about in an annotation; its layers are in-toto statements.
Source: moby/buildkit/docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from core.platforms import Platform
from images.oci import MAX_DOCUMENT_BYTES, decode_manifest
from images.store import Store

IN_TOTO: Final = "application/vnd.in-toto+json"
PREDICATE_TYPE: Final = "in-toto.io/predicate-type"
REFERENCE_TYPE: Final = "vnd.docker.reference.type"
REFERENCE_DIGEST: Final = "vnd.docker.reference.digest"
ATTESTATION_MANIFEST: Final = "attestation-manifest"


class Attestation(NamedTuple):
    """One statement, encoded, about the image for ``platform`` (None when its index does not say)."""

    platform: Platform | None
    predicate_type: str
    statement: bytes


def attestations(store: Store, name: str) -> Iterator[Attestation]:
    """All statements about the images that ``name`` stands for; none about what is no index.

    When nothing has that name, raises ImageNotFoundError or another error of ``resolve``.
    """
    index = store.images.indexes.find(name)
    if index is None:
        store.images.resolve(name)
        return
    platforms = {
        entry.descriptor.digest: entry.descriptor.platform.normalised()
        for entry in index.entries
        if entry.descriptor.platform is not None
    }
    for entry in index.entries:
        described = entry.descriptor.annotations
        if described.get(REFERENCE_TYPE) != ATTESTATION_MANIFEST:
            continue
        subject = described.get(REFERENCE_DIGEST, "")
        platform = next((platform for digest, platform in platforms.items() if digest == subject), None)
        for layer in decode_manifest(store.blobs.read(entry.descriptor.digest)).layers:
            if layer.media_type == IN_TOTO and layer.size <= MAX_DOCUMENT_BYTES * 64:
                yield Attestation(platform, layer.annotations.get(PREDICATE_TYPE, ""), store.blobs.read(layer.digest))
