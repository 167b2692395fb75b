"""Images of the built-in registry, by project: whoever may read its project may look, who maintains it may delete."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Final, TypeAlias

import msgspec

from images.errors import ImagesError
from pipelines.errors import ConflictError, InvalidRequestError
from registry.server.browse import Browser, parse_reference
from registry.server.errors import SpecError
from web.backing import registry
from web.calls import Call
from web.endpoints import Api
from web.errors import NotFoundError
from web.guard.rights import readable

api: Final = Api("images")

Repository: TypeAlias = Annotated[
    str, msgspec.Meta(max_length=255, pattern=r"^[a-z0-9][a-z0-9._/-]*$", description="A repository: web/app")
]
Reference: TypeAlias = Annotated[
    str,
    msgspec.Meta(max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._:+-]*$", description="A tag or a digest: latest"),
]
_NONE: Final = {404: "There is no such image, or this web process has no registry"}


class RepositoryInfo(msgspec.Struct, frozen=True):
    """A repository in numbers. size_bytes: of distinct content; what several share counts in each."""

    name: str
    tags: int
    size_bytes: int


class RepositoryList(msgspec.Struct, frozen=True):
    """By name. next: the ``after`` of the next part; null: that was all."""

    repositories: list[RepositoryInfo]
    next: str | None


class TagInfo(msgspec.Struct, frozen=True):
    """A tag. digest: of the manifest that it points to. updated_at: since when, in seconds since the epoch."""

    name: str
    digest: str
    updated_at: float


class TagList(msgspec.Struct, frozen=True):
    """The newest first. next: the ``after`` of the next part; null: that was all."""

    tags: list[TagInfo]
    next: str | None


class ImageLayer(msgspec.Struct, frozen=True):
    """What an instruction left. digest, size_bytes: null where it left no layer."""

    created_by: str
    digest: str | None
    size_bytes: int | None


class ImagePlatform(msgspec.Struct, frozen=True):
    """A manifest of an index. platform: OS/ARCHITECTURE; "" where none is said. attests: of what it says something."""

    digest: str
    platform: str
    size_bytes: int
    attests: str


class ImageInfo(msgspec.Struct, frozen=True):
    """An image, an index of images, or an artifact.

    size_bytes: what a pull takes, all of it.
    config: of an image: what it runs, by the names of the OCI image specification; null for what is no image.
    layers: in order, an image's. platforms: an index's manifests.
    """

    digest: str
    media_type: str
    tags: list[str]
    size_bytes: int
    annotations: dict[str, str]
    platform: str
    config: dict[str, Any] | None
    layers: list[ImageLayer]
    platforms: list[ImagePlatform]


class ListQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a list is wanted. text: only what has this in its name. after: ``next`` of the part before."""

    text: Annotated[str, msgspec.Meta(max_length=255)] = ""
    after: Annotated[str, msgspec.Meta(max_length=400)] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=500)] = 100


@api.endpoint("GET", "/images", scope="read", errors=_NONE)
def list_repositories(call: Call, query: ListQuery) -> RepositoryList:
    """List repositories of the built-in registry: those of the projects that the sender may read."""
    browser, settings, wanted = Browser(registry()), registry().settings, query.text.lower()
    names = [name for name in browser.names() if name > query.after and wanted in name and not settings.is_hidden(name)]
    seen = list(itertools.islice(readable(call.service, call.rights, names), query.limit + 1))
    found = browser.summaries(seen[: query.limit])
    more = found[-1].name if len(seen) > query.limit else None
    return RepositoryList([RepositoryInfo(each.name, each.tags, each.size_bytes) for each in found], more)


@api.endpoint("GET", "/images/{repository}/-/tags", scope="read", errors=_NONE)
def list_tags(call: Call, repository: Repository, query: ListQuery) -> TagList:
    """List the tags of a repository."""
    del call
    with translated(repository):
        found = Browser(registry()).tags(repository, text=query.text, after=query.after, limit=query.limit + 1)
    shown = found[: query.limit]
    tags = [TagInfo(each.tag, str(each.manifest.digest), each.at) for each in shown]
    return TagList(tags, shown[-1].cursor if len(found) > query.limit else None)


@api.endpoint("GET", "/images/{repository}/-/manifests/{reference}", scope="read", errors=_NONE)
def show_image(call: Call, repository: Repository, reference: Reference) -> ImageInfo:
    """Show what a tag or a digest names: an image with its layers, or an index with its platforms."""
    del call
    with translated(repository):
        view = Browser(registry()).image(repository, reference)
    config = view.config
    return ImageInfo(
        str(view.manifest.digest),
        view.manifest.media_type,
        list(view.tags),
        view.size_bytes,
        view.annotations,
        f"{config.os}/{config.architecture}" if config else "",
        msgspec.to_builtins(config.config, str_keys=True) if config else None,
        [
            ImageLayer(layer.created_by, *(_of(layer.descriptor) if layer.descriptor else (None, None)))
            for layer in view.layers
        ],
        [
            ImagePlatform(
                str(child.descriptor.digest), _platform(child.descriptor.platform), child.descriptor.size, child.attests
            )
            for child in view.children
        ],
    )


@api.endpoint(
    "DELETE", "/images/{repository}/-/manifests/{reference}", scope="maintain", status=204,
    errors={**_NONE, 409: "The tag is immutable"},
)  # fmt: skip
def delete_image(call: Call, repository: Repository, reference: Reference) -> None:
    """Take a tag away; or, by its digest, a manifest with all its tags. Its space is free after a collection."""
    del call
    with translated(repository):
        registry().manifests.delete(repository, parse_reference(reference))


def _of(descriptor: Any) -> tuple[str, int]:
    return str(descriptor.digest), descriptor.size


def _platform(platform: Any) -> str:
    return "" if platform is None else f"{platform.os}/{platform.architecture}"


@contextlib.contextmanager
def translated(repository: str) -> Iterator[None]:
    """Turn the registry's errors into this room's. What jobs output is no image for people: it is not there."""
    if registry().settings.is_hidden(repository):
        raise NotFoundError(f"there is no repository {repository}")
    try:
        yield
    except SpecError as error:
        if error.status == 404:
            raise NotFoundError(error.message) from error
        if error.status in (409, 405, 403):
            raise ConflictError(error.message) from error
        raise InvalidRequestError(error.message) from error
    except ImagesError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
