"""What comes in URLs, parsed once: repository names, tags and digests.

Source: distribution-spec "Pulling manifests".
"""

from __future__ import annotations

import re
from typing import Final

from core.digests import Digest
from core.errors import InvalidReferenceError
from registry.errors import ErrorCode
from registry.server.errors import SpecError, manifest_unknown

_COMPONENT: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_MAX_NAME: Final = 255


def parse_name(text: str) -> str:
    """A repository's name. Raises SpecError 400 NAME_INVALID."""
    if len(text) > _MAX_NAME or not _NAME.fullmatch(text):
        raise SpecError(400, ErrorCode.NAME_INVALID, "invalid repository name", detail={"name": text[:_MAX_NAME]})
    return text


def is_name(text: str) -> bool:
    """Whether ``text`` can name a repository."""
    return len(text) <= _MAX_NAME and _NAME.fullmatch(text) is not None


def parse_digest(text: str) -> Digest:
    """A digest of an algorithm that is supported here. Raises SpecError 400 DIGEST_INVALID."""
    try:
        return Digest.parse(text)
    except InvalidReferenceError:
        raise SpecError(
            400,
            ErrorCode.DIGEST_INVALID,
            "invalid digest: expected sha256: and 64, or sha512: and 128 lower-case hexadecimal digits",
            detail={"digest": text[:200]},
        ) from None


def parse_tag(text: str) -> str:
    """A tag to be written. Raises SpecError 400 TAG_INVALID."""
    if not _TAG.fullmatch(text):
        raise SpecError(400, ErrorCode.TAG_INVALID, "invalid tag", detail={"tag": text[:200]})
    return text


def parse_reference(text: str) -> Digest | str:
    """A digest, or a tag to be looked up; what can be no tag does not exist. Raises SpecError 400 or 404."""
    if ":" in text:
        return parse_digest(text)
    if not _TAG.fullmatch(text):
        raise manifest_unknown(text)
    return text
