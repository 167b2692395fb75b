"""Hashes of passwords: scrypt (RFC 7914), 16 MiB and about 50 ms each, with the parameters beside the hash."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import threading
from typing import Final

MIN_LENGTH: Final = 8
"""The least length of passwords that people choose, in characters.  NIST SP 800-63B, 5.1.1.2."""

MAX_LENGTH: Final = 1024

_LOG_N: Final = 14

DECOY: Final = f"scrypt${_LOG_N}${'A' * 22}==${'A' * 43}="
"""A hash of no known password. Checking a password against it takes as long as against a user's own."""

_AT_ONCE: Final = 4

_slots = threading.BoundedSemaphore(_AT_ONCE)  # a flood of log-ins is to take time, not all the memory


def hash_password(password: str) -> str:
    """A salted hash."""
    salt = os.urandom(16)
    return f"scrypt${_LOG_N}${_text(salt)}${_text(_scrypt(password, salt, _LOG_N))}"


def password_fits(password: str, hashed: str) -> bool:
    """Whether ``hashed`` is a hash of ``password``."""
    _, log_n, salt, expected = hashed.split("$")
    made = _scrypt(password, base64.b64decode(salt), int(log_n))
    return hmac.compare_digest(made, base64.b64decode(expected))


def _scrypt(password: str, salt: bytes, log_n: int) -> bytes:
    data = password.encode(errors="surrogatepass")
    with _slots:
        return hashlib.scrypt(data, salt=salt, n=1 << log_n, r=8, p=1, maxmem=64 << 20, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
