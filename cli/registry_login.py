"""Registry credentials for the worker of ``shiplap serve``: its user's own, and the built-in registry's."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from core.files import write_atomically
from core.settings import RegistrySettings


def write_credentials(directory: Path, registry: str, token: str) -> Path:
    """Write a ``config.json`` with what docker's has, and ``token`` for ``registry``, HOST[:PORT]; its directory.

    A ``credsStore`` is left out, for it would be asked in place of the file.
    """
    own = _read(RegistrySettings.from_environ().docker_config / "config.json")
    kept = {name: own[name] for name in ("auths", "credHelpers") if isinstance(own.get(name), dict)}
    auth = base64.b64encode(f"token:{token}".encode()).decode()
    kept["auths"] = {**kept.get("auths", {}), registry: {"auth": auth}}
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(directory / "config.json", json.dumps(kept).encode(), mode=0o600)
    return directory


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
