"""Which variables probably hold secrets, by their names.  Source: moby/buildkit, SecretsUsedInArgOrEnv."""

from __future__ import annotations

import re

_SECRET = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NO_SECRET = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)


def names_a_secret(name: str) -> bool:
    """Whether a variable of this name is to be taken for a secret: ``API_KEY``, and not ``PUBLIC_KEY``."""
    return _SECRET.search(name) is not None and _NO_SECRET.search(name) is None
