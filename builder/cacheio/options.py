"""``--cache-from`` and ``--cache-to`` in buildx's syntax: ``type=registry,ref=host/app:cache,mode=max``."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Final, TypeVar

from builder.errors import CacheOptionError
from builder.request.cache import CacheCompression, CacheFrom, CacheMode, CacheTo
from core.digests import Digest
from core.errors import InvalidReferenceError
from core.gobool import parse_bool
from core.references import Reference
from core.suggestions import suggestion

_Choice = TypeVar("_Choice", bound=str)

_ELSEWHERE: Final = ("gha", "s3", "azblob")
_MODES: Final[tuple[CacheMode, ...]] = ("min", "max")
_COMPRESSIONS: Final[tuple[CacheCompression, ...]] = ("gzip", "zstd", "uncompressed")
_LEVELS: Final[Mapping[CacheCompression, range]] = {"gzip": range(4), "zstd": range(1, 20), "uncompressed": range(1)}
_EXPORTED: Final = ("mode", "compression", "compression-level", "force-compression", "oci-mediatypes")
_EXPORTED_MORE: Final = ("image-manifest", "ignore-error")


def parse_cache_from(text: str) -> CacheFrom:
    """Parse one ``--cache-from``; a bare name means a registry. Raises CacheOptionError."""
    option = _Option("--cache-from", text)
    kind = option.type(("local", "registry"))
    if kind == "local":
        source = CacheFrom("local", option.needed("src"), option.take("tag") or "latest", _digest(option))
    else:
        source = CacheFrom("registry", _reference(option))
    option.end({"local": ("src", "tag", "digest"), "registry": ("ref",)}[kind])
    return source


def parse_cache_to(text: str) -> CacheTo:
    """Parse one ``--cache-to``; a bare name means a registry. Raises CacheOptionError."""
    option = _Option("--cache-to", text)
    kind = option.type(("local", "registry", "inline"))
    if kind == "inline":
        option.end(())
        return CacheTo("inline")
    location = option.needed("dest") if kind == "local" else _reference(option)
    compression = option.choice("compression", _COMPRESSIONS, "gzip")
    target = CacheTo(
        "local" if kind == "local" else "registry",
        location,
        (option.take("tag") if kind == "local" else "") or "latest",
        option.choice("mode", _MODES, "min"),
        compression,
        _level(option, compression),
        option.flag("ignore-error", default=False),
    )
    for name in ("oci-mediatypes", "image-manifest"):
        if not option.flag(name, default=True):
            raise option.error(f"{name}=false is not supported", hint="a cache is always an OCI image manifest")
    where = ("dest", "tag") if kind == "local" else ("ref",)
    option.end((*where, *_EXPORTED, *_EXPORTED_MORE))
    return target


class _Option:
    """One value, split into keys. Keys that nobody has taken by the end are not supported."""

    def __init__(self, name: str, text: str) -> None:
        self._name = name
        self._text = text
        self._members: dict[str, str] = {}
        if "=" not in text and text:
            self._members = {"type": "registry", "ref": text}
            return
        for member in next(csv.reader([text]), []):
            key, equals, value = member.partition("=")
            key = key.strip().lower()
            if not equals or not key:
                raise self.error(f"{member!r} is not key=value")
            if key in self._members:
                raise self.error(f"{key} is given twice")
            self._members[key] = value

    def error(self, reason: str, *, hint: str | None = None) -> CacheOptionError:
        return CacheOptionError(f"invalid {self._name} {self._text!r}: {reason}", hint=hint)

    def take(self, key: str) -> str:
        return self._members.pop(key, "")

    def type(self, types: tuple[str, ...]) -> str:
        kind = self.take("type")
        if kind in types:
            return kind
        if not kind:
            raise self.error("no type", hint=f"types: {', '.join(types)}")
        if kind == "inline":
            raise self.error("an inline cache is read from the image that has it", hint="write type=registry,ref=IMAGE")
        if kind in _ELSEWHERE:
            raise self.error(f"type={kind} is not supported", hint="type=registry keeps a cache beside the images")
        hint = suggestion(kind, types, form="type={}") or f"types: {', '.join(types)}"
        raise self.error(f"unknown type {kind!r}", hint=hint)

    def needed(self, key: str) -> str:
        value = self.take(key)
        if not value:
            raise self.error(f"{key} is missing", hint=f"write {key}=…")
        return value

    def choice(self, key: str, choices: tuple[_Choice, ...], default: _Choice) -> _Choice:
        value = self._members.pop(key, default)
        for choice in choices:
            if value == choice:
                return choice
        raise self.error(f"{key}={value} is none of {', '.join(choices)}")

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._members.pop(key, None)
        if value is None:
            return default
        said = parse_bool(value)
        if said is None:
            raise self.error(f"{key}={value} is neither true nor false")
        return said

    def end(self, known: tuple[str, ...]) -> None:
        if self._members:
            key = next(iter(self._members))
            supported = f"supported: type{''.join(f', {name}' for name in known)}"
            raise self.error(f"unsupported option {key!r}", hint=suggestion(key, known) or supported)


def _reference(option: _Option) -> str:
    text = option.needed("ref")
    try:
        return str(Reference.parse(text).with_default_tag())
    except InvalidReferenceError as error:
        raise option.error(error.message, hint=error.hint) from None


def _digest(option: _Option) -> str:
    text = option.take("digest")
    if not text:
        return ""
    try:
        return Digest.parse(text)
    except InvalidReferenceError as error:
        raise option.error(error.message, hint=error.hint) from None


def _level(option: _Option, compression: CacheCompression) -> int | None:
    """The compression level; None where a blob of any level will do."""
    forced = option.flag("force-compression", default=False)
    text = option.take("compression-level")
    levels = _LEVELS[compression]
    if not text:
        return {"gzip": 1, "zstd": 3, "uncompressed": 0}[compression] if forced else None
    if not (text.isascii() and text.isdigit()) or int(text) not in levels:
        raise option.error(
            f"compression-level={text} is no level of {compression}",
            hint=f"levels: {levels.start} to {levels.stop - 1}",
        )
    return int(text)
