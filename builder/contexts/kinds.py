"""What may stand under the name of a named context."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from builder.contexts.context import Context
    from builder.graph.vertices import GitOp, HttpOp
    from core.platforms import Platform


class NamedImage(NamedTuple):
    """A named context that is an image; ``scratch`` has no files.

    others: names by platform, where ``name`` is one platform's image.
    """

    name: str
    others: Mapping[str, str] = MappingProxyType({})

    def name_for(self, platform: Platform) -> str:
        return self.others.get(str(platform), self.name)


NamedContext: TypeAlias = "Context | NamedImage | HttpOp | GitOp"
"""A directory, an image, a file by URL or a git repository."""
