"""What a build was asked for, in the words that ``cli.building.recording`` keeps."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cli.building.arguments import BuildArguments

_WHO: Final = re.compile("://[^/@]*@")
"""In an address: who asks, and the password."""


def asked_for(asked: BuildArguments) -> dict[str, Any]:
    """What a build was asked for, as it is kept. Of build arguments and secrets that is their names."""
    context = asked.context
    is_path = "://" not in context and context != "-" and not context.startswith("git@")
    found: dict[str, Any] = {
        "name": _name(asked),
        "context": os.path.abspath(context) if is_path else _WHO.sub("://", context).partition("?")[0],
        "file": asked.file or "",
        "target": asked.target,
        "tags": [str(name) for name in asked.names],
        "platforms": [str(platform) for platform in asked.platforms],
        "args": [text.partition("=")[0] for text in asked.build_args],
    }
    return {name: value for name, value in found.items() if value}


def _name(asked: BuildArguments) -> str:
    """As buildx calls a build: its directory, the Dockerfile where that has another name, the target."""
    context = _WHO.sub("://", asked.context).partition("?")[0]
    name = (
        context
        if context == "-"
        else os.path.basename(context.rstrip("/") if "://" in context else os.path.abspath(context))
    )
    if asked.file and asked.file != "-" and os.path.basename(asked.file) != "Dockerfile":
        name += f"/{os.path.basename(asked.file)}"
    return f"{name} ({asked.target})" if asked.target else name
