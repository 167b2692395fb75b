"""The JSON documents of OCI images, typed: descriptors, manifests, indexes, and image configs with docker's additions.

Members have the specification's names on disk and Python's names here. Empty members are left out exactly where the Go
structs say ``omitempty``. Members that these structs do not know are kept in ``extra`` and written after the known
ones, because a child's config is derived from its base's. (Annotations are no texts here: msgspec would take
milliseconds to evaluate them.)

Sources: image-spec descriptor.md, manifest.md, image-index.md, config.md; moby/docker-image-spec for ``Healthcheck``,
``OnBuild`` and ``Shell``.  ``encode`` is deterministic: equal documents give equal bytes, hence equal digests.
"""

import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec

from core.digests import DiffID, Digest
from core.errors import InvalidReferenceError
from core.platforms import Platform
from images.errors import InvalidConfigError, InvalidDocumentError, InvalidManifestError

OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD: Final = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_MANIFEST_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_LAYER_ZSTD: Final = "application/vnd.docker.image.rootfs.diff.tar.zstd"

MANIFEST_TYPES: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEX_TYPES: Final = frozenset({OCI_INDEX, DOCKER_MANIFEST_LIST})
CONFIG_TYPES: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})

CREATED_ANNOTATION: Final = "org.opencontainers.image.created"
REF_NAME_ANNOTATION: Final = "org.opencontainers.image.ref.name"
CONTAINERD_NAME_ANNOTATION: Final = "io.containerd.image.name"  # the full name, as docker save writes it

MAX_DOCUMENT_BYTES: Final = 4 << 20  # what registries accept for a manifest (distribution-spec)


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON object. ``extra``: members that the struct does not know, as builtin Python values."""

    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class OciPlatform(_Document, frozen=True, kw_only=True):
    """Where an image runs, as JSON; ``core.platforms.Platform`` is the value to compare."""

    architecture: str
    os: str
    os_version: str = msgspec.field(default="", name="os.version")
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    variant: str = ""

    @classmethod
    def of(cls, platform: Platform) -> "OciPlatform":
        return cls(architecture=platform.architecture, os=platform.os, variant=platform.variant)

    def normalised(self) -> Platform:
        return _normalised(self.os, self.architecture, self.variant)


class Descriptor(_Document, frozen=True, kw_only=True, rename="camel"):
    """What a blob is, how large (``size``: bytes), and its digest."""

    media_type: str
    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0)]
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] = msgspec.field(default_factory=dict)
    data: str = ""
    platform: OciPlatform | None = None
    artifact_type: str = ""


class Manifest(_Document, frozen=True, kw_only=True, rename="camel"):
    """One image: its config and its layers, base first. Also docker's schema 2, which has the same members."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Index(_Document, frozen=True, kw_only=True, rename="camel"):
    """Manifests of one image for several platforms; the ``index.json`` of a layout; docker's manifest list."""

    schema_version: int
    media_type: str = ""
    artifact_type: str = ""
    manifests: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict)


class Healthcheck(_Document, frozen=True, kw_only=True, rename="pascal"):
    """How an image's containers are to be checked.

    test: () inherits, ("NONE",), ("CMD", …) or ("CMD-SHELL", command). Durations are nanoseconds; 0 inherits.
    """

    test: tuple[str, ...] = ()
    interval_ns: int = msgspec.field(default=0, name="Interval")
    timeout_ns: int = msgspec.field(default=0, name="Timeout")
    start_period_ns: int = msgspec.field(default=0, name="StartPeriod")
    start_interval_ns: int = msgspec.field(default=0, name="StartInterval")
    retries: int = 0


class ContainerConfig(_Document, frozen=True, kw_only=True, rename="pascal"):
    """How a container of the image starts. The keys of exposed_ports and volumes are what counts; values are {}."""

    user: str = ""
    exposed_ports: dict[str, Any] = msgspec.field(default_factory=dict)
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    volumes: dict[str, Any] = msgspec.field(default_factory=dict)
    working_dir: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    stop_signal: str = ""
    args_escaped: bool = False
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


class History(_Document, frozen=True, kw_only=True):
    """What made one layer, or changed only metadata (``empty_layer``). ``created`` is RFC 3339, see format_time."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


class RootFS(_Document, frozen=True, kw_only=True):
    """The layers' uncompressed digests, base first."""

    type: str = "layers"
    diff_ids: tuple[DiffID, ...] = ()


class ImageConfig(_Document, frozen=True, kw_only=True):
    """An image: its digest is the image's ID. Members are in the order in which BuildKit writes them (sorted)."""

    architecture: str
    author: str = ""
    config: ContainerConfig = msgspec.field(default_factory=ContainerConfig)
    created: str = ""
    history: tuple[History, ...] = ()
    os: str
    os_features: tuple[str, ...] = msgspec.field(default=(), name="os.features")
    os_version: str = msgspec.field(default="", name="os.version")
    rootfs: RootFS = msgspec.field(default_factory=RootFS)
    variant: str = ""

    @classmethod
    def for_platform(cls, platform: Platform) -> "ImageConfig":
        """The config of an image without layers, as ``FROM scratch`` gives it."""
        return cls(architecture=platform.architecture, os=platform.os, variant=platform.variant)

    def on_platform(self, platform: Platform) -> "ImageConfig":
        """The config of an image that was asked for by platform: that platform counts, not the base's."""
        same = (self.os, self.architecture) == (platform.os, platform.architecture)
        variant = platform.variant if platform.variant or not same else self.variant
        return msgspec.structs.replace(self, os=platform.os, architecture=platform.architecture, variant=variant)

    @property
    def platform(self) -> Platform:
        return _normalised(self.os, self.architecture, self.variant)


_D = TypeVar("_D", bound=_Document)


def encode(document: _Document) -> bytes:
    """The document as compact JSON; the same bytes for equal documents."""
    return msgspec.json.encode(_to_builtins(document))


def to_builtins(document: _Document) -> dict[str, Any]:
    """The document as ``encode`` writes it, as values that ``json`` takes."""
    return _to_builtins(document)


def decode_config(data: bytes) -> ImageConfig:
    """Read an image config. Raises InvalidConfigError."""
    try:
        return _decode(data, ImageConfig, "image config")
    except InvalidDocumentError as error:
        raise InvalidConfigError(error.message, hint=error.hint) from error


def decode_manifest(data: bytes) -> Manifest:
    """Read an OCI or docker schema 2 manifest. Raises InvalidManifestError."""
    manifest = _decode_manifest(data, Manifest, "image manifest")
    if manifest.schema_version != 2:
        raise InvalidManifestError(
            f"image manifest has schemaVersion {manifest.schema_version}, expected 2",
            hint="schema 1 is obsolete; push the image again with a current tool",
        )
    if manifest.media_type and manifest.media_type not in MANIFEST_TYPES:
        raise InvalidManifestError(f"not an image manifest: mediaType {manifest.media_type[:100]!r}")
    return manifest


def decode_index(data: bytes) -> Index:
    """Read an OCI index or a docker manifest list. Raises InvalidManifestError."""
    index = _decode_manifest(data, Index, "image index")
    if index.schema_version != 2:
        raise InvalidManifestError(f"image index has schemaVersion {index.schema_version}, expected 2")
    if index.media_type and index.media_type not in INDEX_TYPES:
        raise InvalidManifestError(f"not an image index: mediaType {index.media_type[:100]!r}")
    return index


def format_time(seconds: float) -> str:
    """Seconds since the epoch as Go's RFC3339Nano in UTC: no trailing zeros in the fraction, ``Z``."""
    microseconds = round(seconds * 1_000_000)
    whole, fraction = divmod(microseconds, 1_000_000)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{fraction:06d}".rstrip("0") if fraction else "") + "Z"


_FIRST: Final = threading.Lock()
"""msgspec learns a type at the first conversion to it, without a lock of its own: two threads at once crash it."""

_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def parse_time(text: str) -> float:
    """Seconds since the epoch of an RFC 3339 time, 0.0 for Go's zero time. Raises InvalidConfigError."""
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError(text)
        zone = "+00:00" if match[4] in "Zz" else match[4]
        seconds = datetime.fromisoformat(f"{match[1]}T{match[2]}{zone}").timestamp()
    except (ValueError, OverflowError) as error:
        raise InvalidConfigError(
            f"not a time: {text[:60]!r}", hint="expected RFC 3339, as 2024-05-06T07:08:09Z"
        ) from error
    return max(0.0, seconds + float(match[3] or 0))


def _decode_manifest(data: bytes, kind: type[_D], what: str) -> _D:
    try:
        return _decode(data, kind, what)
    except InvalidDocumentError as error:
        raise InvalidManifestError(error.message, hint=error.hint) from error


def _decode(data: bytes, kind: type[_D], what: str) -> _D:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise InvalidDocumentError(f"{what} of {len(data)} bytes; the limit is {MAX_DOCUMENT_BYTES}")
    try:
        tree = msgspec.json.decode(data)
        if not isinstance(tree, dict):
            raise InvalidDocumentError(f"{what}: expected a JSON object, got {type(tree).__name__}")
        with _FIRST:
            return msgspec.convert(_sorted_out(tree, kind), kind, dec_hook=_digest_from)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidDocumentError(f"{what}: {error}") from error
    except InvalidReferenceError as error:
        raise InvalidDocumentError(f"{what}: {error.message}", hint=error.hint) from error


def _sorted_out(tree: dict[str, Any], kind: type[_Document]) -> dict[str, Any]:
    """Put what ``kind`` does not know aside as ``extra``, drop nulls (Go's nil is absent), and so on downwards."""
    members = _MEMBERS[kind]
    known: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for name, value in tree.items():
        nested = members.get(name, _UNKNOWN)
        if nested is _UNKNOWN:
            extra[name] = value
        elif value is None:
            continue
        elif nested is None:
            known[name] = value
        elif isinstance(value, dict):
            known[name] = _sorted_out(value, nested)
        elif isinstance(value, list):
            known[name] = [_sorted_out(item, nested) if isinstance(item, dict) else item for item in value]
        else:
            known[name] = value
    if extra:
        known["extra"] = extra
    return known


def _to_builtins(document: _Document) -> dict[str, Any]:
    kind = type(document)
    always = _ALWAYS.get(kind, frozenset())
    out: dict[str, Any] = {}
    for name, member in _FIELDS[kind]:
        value = getattr(document, name)
        if value or name in always or isinstance(value, _Document):
            out[member] = _plain(value)
    for member, value in document.extra.items():
        out.setdefault(member, value)
    return out


def _plain(value: object) -> object:
    if isinstance(value, _Document):
        return _to_builtins(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Digest):
        return str.__str__(value)
    if isinstance(value, dict):
        return dict(sorted(value.items()))  # as Go writes maps
    return value


def _digest_from(kind: type, value: object) -> object:
    if issubclass(kind, Digest) and isinstance(value, str):
        return kind.parse(value)
    raise ValueError(f"expected a digest, got {type(value).__name__}")


def _normalised(system: str, architecture: str, variant: str) -> Platform:
    try:
        return Platform.parse("/".join(part for part in (system, architecture, variant) if part))
    except InvalidReferenceError:
        return Platform(system, architecture, variant)  # unknown words stay as they are; they match no host


_UNKNOWN: Final = _Document  # no member is a bare _Document, so this can mean "not a member"

_NESTED: Final[Mapping[type[_Document], Mapping[str, type[_Document]]]] = {
    Descriptor: {"platform": OciPlatform},
    Manifest: {"config": Descriptor, "layers": Descriptor, "subject": Descriptor},
    Index: {"manifests": Descriptor, "subject": Descriptor},
    ContainerConfig: {"healthcheck": Healthcheck},
    ImageConfig: {"config": ContainerConfig, "history": History, "rootfs": RootFS},
}
_KINDS: Final[tuple[type[_Document], ...]] = (
    OciPlatform,
    Descriptor,
    Manifest,
    Index,
    Healthcheck,
    ContainerConfig,
    History,
    RootFS,
    ImageConfig,
)
# For each kind: attribute and member name in writing order; and member name -> the kind nested there, or None.
_FIELDS: Final[Mapping[type[_Document], tuple[tuple[str, str], ...]]] = {
    kind: tuple(
        pair for pair in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True) if pair[0] != "extra"
    )
    for kind in _KINDS
}
_MEMBERS: Final[Mapping[type[_Document], Mapping[str, type[_Document] | None]]] = {
    kind: {member: _NESTED.get(kind, {}).get(name) for name, member in _FIELDS[kind]} for kind in _KINDS
}
# Members that are written even when empty: required ones, and those that Go does not call omitempty.
_ALWAYS: Final[Mapping[type[_Document], frozenset[str]]] = {
    OciPlatform: frozenset({"architecture", "os"}),
    Descriptor: frozenset({"media_type", "digest", "size"}),
    Manifest: frozenset({"schema_version", "config", "layers"}),
    Index: frozenset({"schema_version", "manifests"}),
    ImageConfig: frozenset({"architecture", "config", "os", "rootfs"}),
    RootFS: frozenset({"type", "diff_ids"}),
}
