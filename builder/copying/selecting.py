"""Selects the files of a COPY or ADD: globs, symbolic links named directly, ignore patterns. Reads no content.

A source that is a directory stands for what is in it, never for itself. A source that is a symbolic link, named or
matched, stands for what it leads to; links further down stay links.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterator

import msgspec

from builder.contexts.filetree import PathFilter, SelectedFile, SourceTree
from builder.contexts.patterns import IgnoreFilter, IncludeFilter, check_glob, glob_match, has_wildcards
from builder.errors import CopyError, SourceNotFoundError
from builder.graph.copyspec import CopySpec
from builder.paths import clean, join, resolve, split
from core.cancellation import check
from core.fetchable import is_fetchable
from core.suggestions import did_you_mean, nearest


class Source(msgspec.Struct, frozen=True):
    """One source of a copy: a file (``top``), or a directory (``top`` is None) as the ``entries`` in it.

    written: the word of the Dockerfile.
    path: where the source really is in the tree.
    name: its name when it is put into a directory; a link keeps its own name.
    """

    written: str
    path: str
    name: str
    top: SelectedFile | None
    entries: list[SelectedFile]


class Selection(msgspec.Struct, frozen=True):
    """All sources of one instruction, in its order; those of one glob by name.

    looked_at_ns: a moment before the first stat, nanoseconds since the epoch.
    """

    tree: SourceTree
    spec: CopySpec
    sources: tuple[Source, ...]
    looked_at_ns: int

    def entries(self) -> Iterator[SelectedFile]:
        for source in self.sources:
            if source.top is not None:
                yield source.top
            yield from source.entries


def select(tree: SourceTree, spec: CopySpec, *, clock_ns: Callable[[], int] = time.time_ns) -> Selection:
    """Find and stat what ``spec`` copies from ``tree``.

    A glob that matches nothing selects nothing; a name that is not there raises SourceNotFoundError.
    """
    looked_at_ns = clock_ns()
    sources: list[Source] = []
    excluded = IgnoreFilter.of(spec.exclude) if spec.exclude else None
    for written in spec.sources:
        if is_fetchable(written) and tree.stat_unfiltered(clean(written)) is None:
            raise CopyError(
                f"{spec.verb} {written}: {spec.verb} takes files, and no URL or git repository", hint="ADD is for these"
            )
        if spec.parents:
            sources += _with_parents(tree, spec, written, excluded)
        else:
            for path in _expand(tree, spec, written, written):
                sources += _one(tree, spec, written, path, excluded=excluded)
    return Selection(tree, spec, tuple(sources), looked_at_ns)


def _with_parents(tree: SourceTree, spec: CopySpec, written: str, excluded: PathFilter | None) -> Iterator[Source]:
    """``--parents``: the walk starts at the part before ``/./``; the rest is a pattern whose directories are kept."""
    start, pivot, pattern = written.partition("/./")
    if not pivot:
        start, pattern = "", written
    pattern = clean(pattern)
    if not has_wildcards(start) and not has_wildcards(pattern):
        whole = join(clean(start), pattern)
        if tree.stat(resolve(tree, whole)) is None:
            raise _not_found(tree, spec, written, whole)
    included = IncludeFilter(pattern) if pattern else None
    for path in _expand(tree, spec, written, start):
        yield from _one(tree, spec, written, path, included=included, excluded=excluded)


def _one(
    tree: SourceTree,
    spec: CopySpec,
    written: str,
    path: str,
    *,
    included: PathFilter | None = None,
    excluded: PathFilter | None = None,
) -> Iterator[Source]:
    real = resolve(tree, path)
    st = tree.stat(real)
    if st is None:
        raise _not_found(tree, spec, written, path)
    name = spec.named or split(path)[1]
    if stat.S_ISDIR(st.st_mode):
        entries = tree.walk(real, included=included, excluded=excluded)
        if not entries and tree.ignores(real):
            raise _not_found(tree, spec, written, path)
        yield Source(written, real, name, None, entries)
    elif not stat.S_ISSOCK(st.st_mode) and (excluded is None or excluded.wants(name)):
        yield Source(written, real, name, tree.entry(real), [])


def _expand(tree: SourceTree, spec: CopySpec, written: str, pattern: str) -> list[str]:
    """The paths that a word means. Links are followed up to the first wildcard, and not after it."""
    path = clean(pattern)
    if not has_wildcards(path):
        return [path]
    try:
        check_glob(path)
    except ValueError as error:
        raise CopyError(
            f"{spec.verb} {written}: the pattern is malformed", hint="a '[' needs its ']'; write \\[ for the character"
        ) from error
    parts = path.split("/")
    first = next(index for index, part in enumerate(parts) if has_wildcards(part))
    base = resolve(tree, "/".join(parts[:first]))
    mode = tree.mode(base)
    if mode is None or not stat.S_ISDIR(mode):
        raise _not_found(tree, spec, written, "/".join(parts[:first]))
    return list(_glob(tree, base, parts[first:]))


def _glob(tree: SourceTree, base: str, parts: list[str]) -> Iterator[str]:
    """Match a glob, depth first. It has a stack of its own, since a Dockerfile chooses the number of parts."""
    pending: list[tuple[str, Iterator[str]]] = [(base, iter(tree.names(base)))]
    while pending:
        check()
        above, names = pending[-1]
        name = next(names, None)
        if name is None:
            pending.pop()
            continue
        if not glob_match(parts[len(pending) - 1], name):
            continue
        path = join(above, name)
        mode = tree.mode(path)
        if mode is None:
            continue
        if len(parts) > len(pending):
            if stat.S_ISDIR(mode):
                pending.append((path, iter(tree.names(path))))
        elif not stat.S_ISDIR(mode) or not tree.ignores(path) or tree.walk(path):
            yield path


def _not_found(tree: SourceTree, spec: CopySpec, written: str, path: str) -> SourceNotFoundError:
    real = resolve(tree, path)
    message = f'{spec.verb} {written}: "/{path}" not found in {tree.label}'
    if real != path:
        message += f' (a symbolic link leads to "/{real}")'
    if tree.stat_unfiltered(real) is not None:
        return SourceNotFoundError(
            f"{message}: .dockerignore excludes it",
            hint=f"add the line !{real} to the end of .dockerignore",
            word=written,
        )
    return SourceNotFoundError(message, hint=_near(tree, real) or _advice(spec), word=written)


def _advice(spec: CopySpec) -> str:
    if spec.from_context:
        return "paths are relative to the build context, and files outside of it cannot be copied"
    return "sources of COPY --from start at the root of that stage, whatever its WORKDIR is"


def _near(tree: SourceTree, path: str) -> str | None:
    """The hint that names an existing path similar to ``path``."""
    parent, name = split(path)
    mode = tree.mode(parent)
    while mode is None or not stat.S_ISDIR(mode):
        parent, name = split(parent)
        mode = tree.mode(parent)
    names = [other for other in tree.names(parent) if tree.stat(join(parent, other)) is not None]
    return did_you_mean([join(parent, found) for found in nearest(name, names)])
