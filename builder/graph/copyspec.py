"""COPY and ADD as data: what the frontend makes of an instruction, and part of the step's cache key."""

from __future__ import annotations

from typing import NamedTuple

from builder.paths import clean


class CopySpec(NamedTuple):
    """One COPY or ADD. All words are expanded.

    sources: as written.
    destination: absolute (WORKDIR joined), a trailing slash kept.
    heredocs: name and content.
    extract_archives: local tars are unpacked (ADD).
    link: the layer knows nothing of the image below.
    exclude: patterns as in .dockerignore, relative to each source.
    from_context: copied files belong to 0:0, not to their owner.
    is_add: an ADD, also one that unpacks nothing.
    named: the name that the only source gets in a directory, where that is not its own name.
    """

    sources: tuple[str, ...]
    destination: str
    chown: str = ""
    chmod: str = ""
    heredocs: tuple[tuple[str, bytes], ...] = ()
    extract_archives: bool = False
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    from_context: bool = True
    is_add: bool = False
    named: str = ""

    @property
    def verb(self) -> str:
        return "ADD" if self.is_add or self.extract_archives else "COPY"


def heredoc_file(name: str) -> str:
    """The name of a here-document in the directory that it is copied to; empty where no file can be made of it.

    BuildKit first makes the file in an empty directory, and copies it from there. So ``./a`` and ``x/../a`` are ``a``,
    and for ``w/a`` it says that there is no such file or directory.
    Source: moby/buildkit, solver/llbsolver/file/backend.go (mkfile).
    """
    path = clean(name)
    return "" if "/" in path else path
