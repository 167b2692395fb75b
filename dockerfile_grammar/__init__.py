"""The Dockerfile language: text to typed instructions with source spans. No I/O here (but for ``__main__``).

``parse`` gives an ``ast.Dockerfile``; ``expand`` resolves variables in its words; ``mounts.parse_mount`` reads a RUN
mount once its variables can be; ``IgnorePatterns`` is ``.dockerignore``; ``match`` is Go's filepath.Match. The language
is defined by the ``.lark`` grammars beside this file. Nothing in here knows of images, builds or the disk.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dockerfile_grammar.ast import Dockerfile, Instruction, Stage, Word
    from dockerfile_grammar.errors import DockerfileError
    from dockerfile_grammar.expansion import expand, expand_body, expand_with_names, expand_words
    from dockerfile_grammar.globs import match
    from dockerfile_grammar.ignore import IgnorePatterns
    from dockerfile_grammar.parsing import parse, parse_change, parse_onbuild
    from dockerfile_grammar.source import Position, Source, Span

__all__ = [
    "Dockerfile",
    "DockerfileError",
    "IgnorePatterns",
    "Instruction",
    "Position",
    "Source",
    "Span",
    "Stage",
    "Word",
    "expand",
    "expand_body",
    "expand_with_names",
    "expand_words",
    "match",
    "parse",
    "parse_change",
    "parse_onbuild",
]

# Imported when first asked for: a build whose Dockerfile is remembered needs the tree, and neither parser nor patterns.
_HOMES = {
    "ast": ("Dockerfile", "Instruction", "Stage", "Word"),
    "errors": ("DockerfileError",),
    "expansion": ("expand", "expand_body", "expand_with_names", "expand_words"),
    "globs": ("match",),
    "ignore": ("IgnorePatterns",),
    "parsing": ("parse", "parse_change", "parse_onbuild"),
    "source": ("Position", "Source", "Span"),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
