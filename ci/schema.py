"""The JSON Schema of pipeline files, for editors: made from the language's own declaration."""

from __future__ import annotations

from typing import Any, Final

from ci.language.pipelines import PIPELINE

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def pipeline_schema() -> dict[str, Any]:
    """What a file may look like. It cannot say everything: lint also knows names, cycles and patterns."""
    return {"$schema": _DIALECT, "title": "Shiplap pipeline", **PIPELINE.schema()}
