"""The format of a cache elsewhere: a manifest, a config with the records, and the layers that they name.

    manifest   OCI image manifest, artifactType CACHE_ARTIFACT; each layer has the annotation DIFF_ID
    config     {"records": [{"key", "op", "diffID", "created", "duration", "description"}, …]}, sorted by key

The manifest may lack a record's layer: mode=min has only the layers of the image. Such a record still names its step's
result, which is enough as long as nothing needs the files. Records that come in are checked. A record is a few hashes,
numbers and a line of text; it can only name layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

import msgspec

from builder.errors import CacheFormatError
from builder.request.cache import INLINE_MEMBER
from core.digests import DiffID, Digest
from core.errors import InvalidReferenceError
from images.oci import OCI_MANIFEST, Descriptor, ImageConfig, Manifest, encode
from images.records import CacheRecord

CACHE_ARTIFACT: Final = "application/vnd.shiplap.cache.v1"
CACHE_CONFIG: Final = "application/vnd.shiplap.cache.config.v1+json"
DIFF_ID: Final = "containerd.io/uncompressed"

MAX_RECORDS_BYTES: Final = 32 << 20
_MAX_TIME: Final = 253402300799.0  # the end of the year 9999
_Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=_MAX_TIME)]


class _Record(msgspec.Struct, frozen=True, rename={"diff_id": "diffID"}):
    key: _Hash
    op: _Hash
    diff_id: str
    created: _Seconds
    duration: _Seconds
    description: Annotated[str, msgspec.Meta(max_length=65536)]


class _Records(msgspec.Struct, frozen=True):
    records: tuple[_Record, ...]


def encode_records(records: Iterable[CacheRecord]) -> bytes:
    """The config blob; the same bytes for the same records. Those without a layer are left out."""
    return msgspec.json.encode(_document(records))


def decode_records(data: bytes) -> list[CacheRecord]:
    """The records of a config blob. Raises CacheFormatError."""
    try:
        return _checked(msgspec.json.decode(data, type=_Records))
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CacheFormatError(f"the cache's records cannot be read: {error}") from error


def inline_records(config: ImageConfig) -> list[CacheRecord] | None:
    """The records of an image's inline cache; None when it has none. Raises CacheFormatError."""
    member = config.extra.get(INLINE_MEMBER)
    if member is None:
        return None
    try:
        return _checked(msgspec.convert(member, _Records))
    except msgspec.MsgspecError as error:
        raise CacheFormatError(f"the image's inline cache cannot be read: {error}") from error


def with_inline_records(config: ImageConfig, records: Iterable[CacheRecord] | None) -> ImageConfig:
    """The config with these records as its inline cache. None removes the inline cache, also the base image's."""
    extra = {name: value for name, value in config.extra.items() if name != INLINE_MEMBER}
    if records is not None:
        extra[INLINE_MEMBER] = msgspec.to_builtins(_document(records))
    return msgspec.structs.replace(config, extra=extra)


def cache_manifest(records: bytes, layers: Mapping[DiffID, Descriptor]) -> bytes:
    """The manifest of a cache with these records and layers."""
    return encode(
        Manifest(
            schema_version=2,
            media_type=OCI_MANIFEST,
            artifact_type=CACHE_ARTIFACT,
            config=config_descriptor(records),
            layers=tuple(
                msgspec.structs.replace(layer, annotations={DIFF_ID: str(diff_id)}) for diff_id, layer in layers.items()
            ),
        )
    )


def config_descriptor(records: bytes) -> Descriptor:
    return Descriptor(media_type=CACHE_CONFIG, digest=Digest.of(records), size=len(records))


def layers_of(manifest: Manifest) -> dict[DiffID, Descriptor]:
    """The layers of a cache's manifest by diff ID. Raises CacheFormatError."""
    found: dict[DiffID, Descriptor] = {}
    for layer in manifest.layers:
        try:
            found[DiffID.parse(layer.annotations.get(DIFF_ID, ""))] = layer
        except InvalidReferenceError as error:
            raise CacheFormatError(f"layer {layer.digest} of the cache has no annotation {DIFF_ID}") from error
    return found


def is_cache(manifest: Manifest) -> bool:
    return manifest.config.media_type == CACHE_CONFIG


def _document(records: Iterable[CacheRecord]) -> dict[str, Any]:
    known = [
        {
            "key": record.key,
            "op": record.op,
            "diffID": str(record.diff_id),
            "created": record.created_at,
            "duration": record.duration_s,
            "description": record.description,
        }
        for record in sorted(records)
        if record.diff_id is not None
    ]
    return {"records": known}


def _checked(document: _Records) -> list[CacheRecord]:
    try:
        return [
            CacheRecord(r.key, r.op, DiffID.parse(r.diff_id), r.created, r.duration, r.description)
            for r in document.records
        ]
    except InvalidReferenceError as error:
        raise CacheFormatError(f"a record of the cache names no layer: {error.message}") from error
