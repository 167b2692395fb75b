"""Opens the values of ``--build-context``, which replace stages or images of a Dockerfile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.contexts.context import Context
from builder.contexts.dockerfiles import read_ignore_patterns
from builder.contexts.kinds import NamedContext, NamedImage
from builder.errors import ContextError
from builder.graph.vertices import GitOp, HttpOp
from builder.remotes.giturls import check_url, is_http_url, parse_git
from core.platforms import Platform
from core.references import Reference
from images.store import Store

_IMAGE, _LAYOUT, _TARGET = "docker-image://", "oci-layout://", "target:"
_FILE_NAME = "context"  # BuildKit's name of a file by URL


def open_named_context(value: str, store: Store, platforms: Sequence[Platform]) -> NamedContext:
    """Open what ``value`` means: a directory, ``docker-image://``, ``oci-layout://``, a git repository, a URL.

    store: receives the images of a layout.
    platforms: which of a layout's images to take, at least one.
    A repository or a URL is fetched later, by the build. The caller closes a Context.
    Raises ContextError, InvalidReferenceError, InvalidUrlError, ImagesErrors.
    """
    if value.startswith(_IMAGE):
        name = value.removeprefix(_IMAGE)
        return NamedImage(name if name == "scratch" else str(Reference.parse(name)))
    if value.startswith(_LAYOUT):
        return _layout(value.removeprefix(_LAYOUT), store, platforms)
    if value.startswith(_TARGET):
        raise ContextError(
            f"{value}: a context cannot be another target", hint="target: is for bake files; name a directory or image"
        )
    reference = parse_git(value, context=True)
    if reference is not None:
        return GitOp(reference, bool(reference.keep_git_dir))
    if is_http_url(value):
        check_url(value)
        return HttpOp(value, _FILE_NAME)
    context = Context.open_directory(value)
    try:
        return context.with_ignore(read_ignore_patterns(context))
    except BaseException:
        context.close()
        raise


def _layout(value: str, store: Store, platforms: Sequence[Platform]) -> NamedImage:
    """``DIRECTORY``, ``DIRECTORY:TAG`` or ``DIRECTORY@DIGEST``."""
    from images.readlayout import read_layout

    path, at, digest = value.partition("@")
    tag = ""
    if not at and not Path(path).is_dir() and ":" in path.rpartition("/")[2]:
        path, _, tag = path.rpartition(":")
    found = {
        str(platform): read_layout(store, Path(path), tag=tag, digest=digest, platform=platform).id
        for platform in platforms
    }
    return NamedImage(found[str(platforms[0])], found)
