"""Images in the registry: repositories, tags, layers and the changes in each, referrers; and deleting."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from flask import Blueprint, Response, current_app, g, redirect, request

from images.contents import directory, paths_below
from images.errors import ImagesError
from images.oci import Descriptor
from pipelines.errors import ConflictError, InvalidRequestError, NotFoundError
from registry.server.browse import Browser, ImageView, parse_reference
from registry.server.errors import SpecError
from web.backing import registry, service
from web.guard import require
from web.guard.rights import may_repository, readable
from web.pages.frame import page

blueprint: Final = Blueprint("image_pages", __name__)

_BROWSER: Final = "shiplap-browser"
_MAX_NODES: Final = 2000
_MAX_PACKAGES: Final = 5000


@blueprint.get("/images")
def list_repositories() -> Response:
    """All repositories."""
    text = request.args.get("text", "").strip().lower()
    every = _browser().repositories()
    names = set(readable(service(), g.rights, (found.name for found in every)))
    seen = [found for found in every if found.name in names]
    found = [repository for repository in seen if text in repository.name.lower()]
    return page("images.html", repositories=found, text=text, notice=_notice())


@blueprint.get("/images/<path:repository>")
def show_repository(repository: str) -> Response:
    """The tags of a repository."""
    with _translated():
        return page(
            "repository.html",
            repository=repository,
            tags=_browser().tags(repository),
            host=request.host,
            notice=_notice(),
        )


@blueprint.get("/images/<path:repository>/-/<reference>")
def show_image(repository: str, reference: str) -> Response:
    """A manifest: an image with its layers and config, or an index with its platforms."""
    with _translated():
        view = _browser().image(repository, reference)
        packages = []
        index = request.args.get("index", "")
        if view.config is not None and index:
            packages = _browser().packages(repository, _browser().image(repository, index), view.manifest.digest)
    joint = ":" if ":" not in reference else "@"
    return page(
        "image.html",
        repository=repository,
        reference=reference,
        view=view,
        index=index,
        packages=packages[:_MAX_PACKAGES],
        package_count=len(packages),
        name=f"{request.host}/{repository}{joint}{reference}",
        may_delete=may_repository(service(), g.rights, "build", repository),
    )


@blueprint.get("/images/<path:repository>/-/<reference>/layers/<int:number>")
def show_layer(repository: str, reference: str, number: int) -> Response:
    """One directory of a layer, and what the layer changes there in the layers below."""
    path = request.args.get("path", "").strip("/")
    with _translated():
        view = _browser().image(repository, reference)
        layers = _layers(view)
        if number >= len(layers):
            raise NotFoundError(f"the image has {len(layers)} layers")
        entries = _browser().listing(repository, layers[number])
        below = paths_below(_browser().listing(repository, layer) for layer in layers[:number])
    nodes = directory(entries, below, path)
    made = next((layer for layer in view.layers if layer.index == number), None)
    return page(
        "layer.html",
        repository=repository,
        reference=reference,
        number=number,
        count=len(layers),
        layer=layers[number],
        made=made,
        path=path,
        nodes=nodes[:_MAX_NODES],
        hidden=max(0, len(nodes) - _MAX_NODES),
        entries=len(entries),
    )


@blueprint.post("/images/<path:repository>/-/<reference>/delete")
@require("member")
def delete(repository: str, reference: str) -> Response:
    """Take a tag away, or a manifest with all its tags."""
    with _translated():
        registry().manifests.delete(repository, parse_reference(reference))
    left = any(found.name == repository and found.tags for found in _browser().repositories())
    response = redirect(f"/images/{repository}?done=deleted" if left else "/images?done=deleted", 303)
    assert isinstance(response, Response)
    return response


def _browser() -> Browser:
    """The browser of this application's registry; it keeps listings of layers in memory."""
    found = current_app.extensions.get(_BROWSER)
    if found is None:
        found = current_app.extensions[_BROWSER] = Browser(registry())
    assert isinstance(found, Browser)
    return found


def _layers(view: ImageView) -> list[Descriptor]:
    return [layer.descriptor for layer in view.layers if layer.descriptor is not None]


def _notice() -> str | None:
    return "It was deleted. Its space is free after the next garbage collection." if "done" in request.args else None


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """Turn the registry's errors into this room's."""
    try:
        yield
    except SpecError as error:
        if error.status == 404:
            raise NotFoundError(error.message) from error
        if error.status == 409:
            raise ConflictError(error.message) from error
        raise InvalidRequestError(error.message) from error
    except ImagesError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error
