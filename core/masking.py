"""Secrets are masked before anything of a log is stored or sent: as they are, and in the forms that tools print them.

Forms: the whole value and each of its lines; base64 (both alphabets) at each of the three alignments, and as
``base64`` wraps it at 76 columns; URL-encoded, JSON-escaped, shell-quoted, and hexadecimal in both cases.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
MIN_LENGTH: Final = 4
"""Shorter values cannot be masked without making logs unreadable, so they are refused as secrets."""

_BASE64_LINE_BYTES: Final = 57  # 76 columns


class Masker:
    """Masks text. ``longest`` is how many characters a form of a secret may have, for those who cut text up."""

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        forms = forms_of(secrets)
        self.longest = len(forms[0]) if forms else 0
        self._pattern = re.compile("|".join(map(re.escape, forms))) if forms else None
        self._by_first: dict[str, list[str]] = {}
        for form in forms:
            self._by_first.setdefault(form[0], []).append(form)

    def mask(self, text: str) -> str:
        """``text`` with every form of every secret replaced."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def safe(self, text: str) -> int:
        """Up to where ``text`` may be shown for a while: what comes next may not turn its end into a secret."""
        for start in range(max(0, len(text) - self.longest + 1), len(text)):
            rest = text[start:]
            if any(form.startswith(rest) for form in self._by_first.get(rest[0], ())):
                return start
        return len(text)

    def cut(self, text: str) -> int:
        """Up to where ``text`` may be masked and passed on when more of the same line is to come."""
        if self._pattern is None:
            return len(text)
        end = max(0, len(text) - self.longest + 1)
        for match in self._pattern.finditer(text):
            if match.start() < end < match.end():
                return match.end()
        return end


def forms_of(secrets: Iterable[bytes]) -> list[str]:
    """Everything that gives one of the secrets away, longest first. No form has a line feed in it."""
    return sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)


def _forms(secret: bytes) -> Iterator[str]:
    """Everything of MIN_LENGTH or more that gives the secret, or a line of it, away."""
    values = {secret, secret.strip(), *(line.strip() for line in secret.splitlines())}
    for value in values:
        if len(value) >= MIN_LENGTH:
            yield from (form for form in _encoded(value) if len(form) >= MIN_LENGTH)


def _encoded(value: bytes) -> Iterator[str]:
    text = value.decode("utf-8", "replace")
    if "\n" not in text:
        yield text
        yield shlex.quote(text).strip("'")
    yield quote(text, safe="")
    yield quote_plus(text)
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield value.hex()
    yield value.hex().upper()
    yield from _base64(value)


def _base64(value: bytes) -> Iterator[str]:
    """The part of the encoding that depends on nothing but the value, at each alignment; and its wrapped lines."""
    for alignment in range(3):
        before = (8 * alignment + 5) // 6  # characters that what stands before has a share in
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            text = encode(bytes(alignment) + value).decode().rstrip("=")
            if len(text) - before > MIN_LENGTH:
                yield text[before:]  # where the value is the end of what was encoded
                if (alignment + len(value)) % 3:
                    yield text[before:-1]  # the last character depends on what follows
    if len(value) > _BASE64_LINE_BYTES:
        for start in range(0, len(value), _BASE64_LINE_BYTES):
            line = base64.b64encode(value[start : start + _BASE64_LINE_BYTES]).decode().rstrip("=")
            if len(line) > 2 * MIN_LENGTH:
                yield line
                if len(line) % 4:
                    yield line[:-1]
