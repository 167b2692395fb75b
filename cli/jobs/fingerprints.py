"""What stands for a secret in the keys of results that are kept here, so that nobody can guess it from them."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Final

from core.files import make_directory
from pipelines.keys.keyring import KeyRing

_FOLDER: Final = "ci"


def fingerprints(root: Path) -> Callable[[bytes], str]:
    """By a key of this root alone; made if there is none. Raises SecretError for a file that is no key."""
    make_directory(root / _FOLDER, mode=0o700)
    key = KeyRing(root / _FOLDER / "secret.key").current()
    return lambda value: hmac.digest(key, value, "sha256").hex()
