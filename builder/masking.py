"""The output of steps without the build's secrets, however it is cut into pieces."""

from __future__ import annotations

import re
from collections.abc import Iterable

from core.masking import MASK, forms_of


class OutputMasker:
    """Masks one stream. What may be the beginning of a secret is held back until the next piece, or the end, tells."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self._forms = tuple(forms)
        self._first = frozenset(form[0] for form in self._forms)
        self._longest = max(map(len, self._forms), default=0)
        self._pattern = re.compile(b"|".join(map(re.escape, self._forms)))
        self._pending = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown now that ``data`` has come."""
        if not self._forms:
            return data
        data = self._pending + data
        cut = self._cut(data)
        self._pending = data[cut:]
        return self._pattern.sub(MASK.encode(), data[:cut])

    def finish(self) -> bytes:
        """What has been held back."""
        rest, self._pending = self._pending, b""
        return self._pattern.sub(MASK.encode(), rest) if self._forms else rest

    def _cut(self, data: bytes) -> int:
        """Up to where nothing that comes later can change what is a secret."""
        # No form has a line feed, so that none reaches over the last one.
        for start in range(max(data.rfind(b"\n") + 1, len(data) - self._longest + 1, 0), len(data)):
            if data[start] in self._first and self._begins_a_form(data[start:]):
                for match in self._pattern.finditer(data):
                    if match.start() < start < match.end():
                        return match.start()
                return start
        return len(data)

    def _begins_a_form(self, end: bytes) -> bool:
        return any(len(form) > len(end) and form.startswith(end) for form in self._forms)


def secret_forms(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """Everything that gives one of the secrets away, longest first, as bytes of output."""
    return tuple(form.encode("utf-8", "surrogateescape") for form in forms_of(secrets))
