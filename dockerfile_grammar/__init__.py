"""The Dockerfile language: text to typed instructions with source spans. No I/O here (but for ``__main__``).

``parse`` gives an ``ast.Dockerfile``; ``expand`` resolves variables in its words; ``mounts.parse_mount`` reads a RUN
mount once its variables can be; ``IgnorePatterns`` is ``.dockerignore``; ``match`` is Go's filepath.Match. The language
is defined by the ``.lark`` grammars beside this file. Nothing in here knows of images, builds or the disk.
"""

from dockerfile_grammar.ast import Dockerfile, Instruction, Stage, Word
from dockerfile_grammar.errors import DockerfileError
from dockerfile_grammar.expansion import expand, expand_body, expand_with_names, expand_words
from dockerfile_grammar.globs import match
from dockerfile_grammar.ignore import IgnorePatterns
from dockerfile_grammar.parsing import parse, parse_onbuild
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
    "parse_onbuild",
]
