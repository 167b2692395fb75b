"""Short-lived Bearer tokens, as docker's token specification describes: JSON Web Tokens, signed with HMAC-SHA256.

Source: distribution "Token Authentication Specification"; RFC 7519, RFC 7515. Only this server reads them, so a key of
its own (``ROOT/serve/token.key``) signs them.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core.files import fsync_directory, make_directory

_HEADER: Final = {"alg": "HS256", "typ": "JWT"}
_LEEWAY_S: Final = 5
_KEY_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Scope:
    """``repository:NAME:pull,push``: what is asked for, or what was granted."""

    kind: str
    name: str
    actions: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Scope | None:
        """None when it is no scope. A name may have colons (a port)."""
        kind, _, rest = text.partition(":")
        name, _, actions = rest.rpartition(":")
        if not kind or not name:
            return None
        return cls(kind.partition("(")[0], name, tuple(action for action in actions.split(",") if action))

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(self.actions)}"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says. user: "" for nobody in particular."""

    user: str
    scopes: tuple[Scope, ...]

    def covers(self, kind: str, name: str, action: str) -> bool:
        return any(
            scope.kind == kind and scope.name == name and (action in scope.actions or "*" in scope.actions)
            for scope in self.scopes
        )


class TokenSigner:
    """Signs and verifies Bearer tokens. Thread-safe."""

    def __init__(self, key: bytes, *, lifetime_s: int, clock: Callable[[], float] = time.time) -> None:
        self._key = key
        self.lifetime_s = lifetime_s
        self._clock = clock

    def sign(self, claims: Claims, *, audience: str) -> tuple[str, float]:
        """A token, and when it was issued (seconds since the epoch)."""
        now = int(self._clock())
        payload = {
            "iss": "shiplap",
            "sub": claims.user,
            "aud": audience,
            "iat": now,
            "nbf": now - _LEEWAY_S,
            "exp": now + self.lifetime_s,
            "jti": secrets.token_hex(8),
            "access": [{"type": s.kind, "name": s.name, "actions": list(s.actions)} for s in claims.scopes],
        }
        head = f"{_encode(_HEADER)}.{_encode(payload)}"
        return f"{head}.{_base64(self._signature(head))}", now

    def verify(self, token: str) -> Claims | None:
        """What the token says; None when it is not ours, expired, or no token."""
        head, _, signature = token.rpartition(".")
        if not hmac.compare_digest(_base64(self._signature(head)).encode(), signature.encode(errors="replace")):
            return None
        # From here on it is what ``sign`` made.
        payload: dict[str, Any] = json.loads(_unbase64(head.partition(".")[2]))
        if not payload["nbf"] <= self._clock() < payload["exp"] + _LEEWAY_S:
            return None
        scopes = [Scope(entry["type"], entry["name"], tuple(entry["actions"])) for entry in payload["access"]]
        return Claims(payload["sub"], tuple(scopes))

    def _signature(self, head: str) -> bytes:
        return hmac.digest(self._key, head.encode(errors="replace"), "sha256")


def load_key(path: Path) -> bytes:
    """The signing key; made on first use, by whichever process is first."""
    make_directory(path.parent, mode=0o700)
    if not path.exists():
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
        os.unlink(temporary)
        fsync_directory(path.parent)
    return path.read_bytes()


def parse_scopes(texts: Sequence[str]) -> list[Scope]:
    """Scopes of a request: the parameter may be repeated, and have several with spaces between."""
    return [scope for text in texts for word in text.split() if (scope := Scope.parse(word)) is not None]


def _encode(value: object) -> str:
    return _base64(json.dumps(value, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
