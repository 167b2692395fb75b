"""SHA-256 of a few bytes, without OpenSSL, which ``hashlib`` loads: a short command is 3 ms shorter by that."""

from __future__ import annotations

try:
    from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # before Python 3.12
    from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]

__all__ = ["sha256"]
