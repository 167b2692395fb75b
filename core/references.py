"""Image references as docker writes and normalises them.

``ubuntu`` is ``docker.io/library/ubuntu:latest``; ``localhost/x`` and ``host:5000/x`` name a registry, ``user/x`` does
not.  Source: distribution/reference (grammar in its doc comment) and docker's ``familiarizeName``.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Self

from core.digests import Digest
from core.errors import InvalidReferenceError

DEFAULT_DOMAIN = "docker.io"
_OFFICIAL_PREFIX = "library/"
_LEGACY_DOMAIN = "index.docker.io"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
"""What is called so in a registry, as a regular expression. No part of it is ``..``."""

_PATH = re.compile(PATH)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DOMAIN_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_DOMAIN_LABEL}(?:\.{_DOMAIN_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?")
_ID = re.compile(r"[0-9a-f]{64}")
_MAX_NAME = 255


class Reference(NamedTuple):
    """A normalised name: where (domain), what (path), and which (tag and/or digest, either may be None)."""

    domain: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse and normalise, adding no tag. Raises InvalidReferenceError with a hint for the usual slips."""
        rest, digest = text, None
        if "@" in rest:
            rest, _, digest_text = rest.partition("@")
            digest = Digest.parse(digest_text)
        tag = None
        colon = rest.rfind(":")
        if colon > rest.rfind("/"):
            rest, tag = rest[:colon], rest[colon + 1 :]
            if not _TAG.fullmatch(tag):
                raise InvalidReferenceError(
                    f"invalid tag {tag!r} in image name {text!r}",
                    hint="a tag has letters, digits, '_', '.' and '-', at most 128, and starts with no '.' or '-'",
                )
        domain, path = _split_domain(rest)
        if not _DOMAIN.fullmatch(domain):
            raise InvalidReferenceError(f"invalid registry {domain!r} in image name {text!r}")
        if not _PATH.fullmatch(path):
            lower = path.lower()
            hint = f"image names are lower case: {rest.lower()!r}" if path != lower and _PATH.fullmatch(lower) else None
            raise InvalidReferenceError(f"invalid image name {text!r}", hint=hint)
        if _ID.fullmatch(rest):
            raise InvalidReferenceError(
                f"invalid image name {text!r}: 64 hexadecimal digits mean an image ID", hint=f"write sha256:{rest}"
            )
        if len(domain) + 1 + len(path) > _MAX_NAME:
            raise InvalidReferenceError(f"image name of over {_MAX_NAME} characters: {text[:60]!r}…")
        return cls(domain, path, tag, digest)

    @property
    def name(self) -> str:
        """Domain and path, without tag and digest: ``docker.io/library/ubuntu``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The name as docker prints it: ``ubuntu``, ``user/app``, ``ghcr.io/user/app``."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        return self.path.removeprefix(_OFFICIAL_PREFIX) if self.path.count("/") == 1 else self.path

    @property
    def familiar(self) -> str:
        """As docker prints it, with tag and digest."""
        return self.familiar_name + self._suffix()

    def with_default_tag(self) -> Reference:
        """The same, tagged ``latest`` unless it has a tag or a digest."""
        return self if self.tag or self.digest else self._replace(tag="latest")

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix()


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    is_domain = bool(slash) and ("." in first or ":" in first or first == "localhost" or first.lower() != first)
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, text)
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL_PREFIX + path
    return domain, path
