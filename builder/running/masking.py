"""Masks the build's secrets in the output of steps, however the output is cut into pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from core.masking import MASK, FormFinder, forms_of

_MASK: Final = MASK.encode()


class OutputMasker:
    """Masks one stream. What may begin a secret is held back until the next piece, or the end, decides."""

    def __init__(self, forms: Iterable[bytes]) -> None:
        self._finder = FormFinder(forms)
        self._pending = b""

    def feed(self, data: bytes) -> bytes:
        """What may be shown now that ``data`` has come."""
        if not self._finder.longest:
            return data
        data = self._pending + data
        cut = self._cut(data)
        self._pending = data[cut:]
        return self._finder.replace(data[:cut], _MASK)

    def finish(self) -> bytes:
        """What has been held back."""
        rest, self._pending = self._pending, b""
        return self._finder.replace(rest, _MASK)

    def _cut(self, data: bytes) -> int:
        """The position up to which later bytes cannot change what is a secret."""
        # No form contains a line feed, so no form reaches across the last one.
        line = data.rfind(b"\n") + 1
        for start in range(max(line, len(data) - self._finder.longest + 1), len(data)):
            if self._finder.begins_form(data[start:]):
                for found, end in self._finder.spans(data[line:]):
                    if line + found < start < line + end:
                        return line + found
                return start
        return len(data)


def secret_forms(secrets: Iterable[bytes]) -> tuple[bytes, ...]:
    """Everything that gives one of the secrets away, longest first, as bytes of output."""
    return tuple(form.encode("utf-8", "surrogateescape") for form in forms_of(secrets))
