"""In-toto statements: a predicate about a subject.  Spec: in-toto attestation, spec/v0.1; what BuildKit writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import msgspec

from core.digests import Digest
from core.platforms import Platform
from core.references import Reference

_STATEMENT: Final = "https://in-toto.io/Statement/v0.1"
_NO_NAME: Final = "_"  # in-toto's name for a subject that only its digest identifies


class Statement(msgspec.Struct, frozen=True):
    """An in-toto statement about a manifest, encoded.

    about: the scanned stage or context that it describes; empty for the whole output.
    """

    predicate_type: str
    data: bytes
    about: str = ""


def statement(
    predicate_type: str,
    predicate: Mapping[str, Any],
    *,
    manifest: Digest,
    platform: Platform,
    names: Iterable[Reference],
    about: str = "",
) -> Statement:
    """A statement that ``predicate`` holds for an image.

    The image has this manifest, is for ``platform`` and goes out under ``names``.
    """
    subjects = [docker_purl(name, platform) for name in names] or [_NO_NAME]
    return _statement(predicate_type, predicate, [(name, manifest.algorithm, manifest.hex) for name in subjects], about)


def statement_of_files(
    predicate_type: str, predicate: Mapping[str, Any], files: Mapping[str, str], about: str = ""
) -> Statement:
    """A statement that ``predicate`` holds for files, given as name to sha256 in hexadecimal."""
    return _statement(predicate_type, predicate, [(name, "sha256", digest) for name, digest in files.items()], about)


def _statement(
    predicate_type: str, predicate: Mapping[str, Any], subjects: Iterable[tuple[str, str, str]], about: str
) -> Statement:
    document = {
        "_type": _STATEMENT,
        "predicateType": predicate_type,
        "subject": [{"name": name, "digest": {algorithm: digest}} for name, algorithm, digest in subjects],
        "predicate": predicate,
    }
    return Statement(predicate_type, msgspec.json.encode(document), about)


def docker_purl(name: Reference, platform: Platform) -> str:
    """The package URL of an image: ``pkg:docker/alpine@3.17?platform=linux%2Famd64``."""
    qualifiers = {"digest": str(name.digest)} if name.digest else {}
    named = name if name.digest else name.with_default_tag()
    return package_url("docker", named.familiar_name, named.tag or "", {**qualifiers, "platform": str(platform)})


def package_url(kind: str, name: str, version: str, qualifiers: Mapping[str, str] | None = None) -> str:
    """A package URL. name: with its namespace, slashes between.  Spec: package-url/purl-spec."""
    path = "/".join(quote(part, safe=":") for part in name.split("/"))
    written = f"pkg:{kind}/{path}" + (f"@{quote(version, safe=':')}" if version else "")
    known = {key: value for key, value in sorted((qualifiers or {}).items()) if value}
    return written + (
        "?" + "&".join(f"{key}={quote(value, safe=':')}" for key, value in known.items()) if known else ""
    )
