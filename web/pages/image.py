"""An image: its layers as lapped boards with what each changes, the files of one, settings, and what is about it."""

from __future__ import annotations

from typing import Any, Final

from flask import Blueprint, Response, g, request

from core.digests import Digest
from images.contents import ListedName, directory
from images.oci import Descriptor
from pipelines.errors import NotFoundError
from pipelines.runs.trail import Maker
from registry.server.browse import ImageView
from registry.server.errors import SpecError
from registry.server.listings import Answer, ListedLayer
from web.backing import browser, registry, service
from web.guard.rights import may_repository
from web.pages.frame import page
from web.pages.images import translated
from web.pages.trail import Chip, maker_of, own_registries, trail_of_image

blueprint: Final = Blueprint("image_page", __name__)

_MAX_NODES: Final = 2000
_MAX_PACKAGES: Final = 5000
_OTHERS: Final = 30
MOST_LAYERS: Final = 500
"""Of an image whose files are shown. Kernels put together fewer; a manifest of a stranger may have thousands."""


@blueprint.get("/images/<path:repository>/-/<reference>")
def show_image(repository: str, reference: str) -> Response:
    """A manifest: an image with its layers and config, or an index with its platforms."""
    with translated():
        view = browser().image(repository, reference)
        layers = layers_of(view)
        shown = _page(repository, reference, view)
        if view.config is not None and 0 < len(layers) <= MOST_LAYERS:
            shown |= _layer(repository, view, layers, len(layers) - 1, "")
    return page("image.html", **shown)


@blueprint.get("/images/<path:repository>/-/<reference>/layers/<int:number>")
def show_layer(repository: str, reference: str, number: int) -> Response:
    """An image with one of its layers chosen, and a directory in that; for htmx, only the layers and the files."""
    with translated():
        view = browser().image(repository, reference)
        layers = layers_of(view)
        if view.config is None or number >= len(layers) or len(layers) > MOST_LAYERS:
            raise NotFoundError(f"the image has {len(layers)} layers; files are shown of {MOST_LAYERS} at most")
        shown = _layer(repository, view, layers, number, request.args.get("path", "").strip("/")[:4096])
        if request.headers.get("HX-Request"):
            where = {"repository": repository, "reference": reference, "view": view}
            return page("image_layers.html", **where, index=_index(), **shown)
        return page("image.html", **(_page(repository, reference, view) | shown))


def layers_of(view: ImageView) -> list[Descriptor]:
    """The layers of an image, base first."""
    return [layer.descriptor for layer in view.layers if layer.descriptor is not None]


def _page(repository: str, reference: str, view: ImageView) -> dict[str, Any]:
    """What the page says beside layers and files."""
    index, digest = _index(), view.manifest.digest
    packages = []
    if view.config is not None and index:
        packages = browser().packages(repository, browser().image(repository, index), digest)
    facts = browser().facts.of(repository, view.manifest)
    maker = maker_of(repository, digest)
    joint = ":" if ":" not in reference else "@"
    short = reference if ":" not in reference else Digest(reference).hex[:12]
    here = Chip("image", f"{repository}{joint}{short}", request.path, title=digest, is_here=True)
    others = [each.tag for each in browser().tags(repository, limit=_OTHERS + 1) if each.manifest.digest != digest]
    return {
        "repository": repository,
        "reference": reference,
        "view": view,
        "facts": facts,
        "index": index,
        "packages": packages[:_MAX_PACKAGES],
        "package_count": len(packages),
        "name": f"{request.host}/{repository}{joint}{reference}",
        "maker": maker,
        "others": others[:_OTHERS],
        "trail": trail_of_image(maker, here, facts.ids),
        "is_immutable": ":" not in reference and registry().settings.policy(repository).is_immutable(reference),
        "may_delete": may_repository(service(), g.rights, "maintain", repository),
        "number": None,
        "asked": None,
        "notice": None,
    }


def _layer(repository: str, view: ImageView, layers: list[Descriptor], number: int, path: str) -> dict[str, Any]:
    """The boards with their counts, and the files of the chosen layer: as far as they are known by now.

    before, old: the run that made the image before this one, and the layers of that.
    """
    before, old = _before(repository, view, maker_of(repository, view.manifest.digest))
    asked: Answer[ListedLayer] = browser().listings.layer(repository, layers, number)
    diffs = browser().listings.changes(repository, layers).found or []
    nodes: list[ListedName] = []
    if asked.found is not None:
        nodes = directory(asked.found.entries, asked.found.diff, path)
    made = next((layer for layer in view.layers if layer.index == number), None)
    return {
        "number": number,
        "count": len(layers),
        "layer": layers[number],
        "made": made,
        "path": path,
        "asked": asked,
        "diffs": diffs,
        "nodes": nodes[:_MAX_NODES],
        "hidden": max(0, len(nodes) - _MAX_NODES),
        "entries": len(asked.found.entries) if asked.found is not None else 0,
        "before": before,
        "old": old,
    }


def _before(repository: str, view: ImageView, maker: Maker | None) -> tuple[Maker | None, frozenset[str]]:
    """The run of the same branch that made another image here before, and the layers of that."""
    before = None if maker is None else service().trails.made_before(maker, own_registries())
    if before is None or view.config is None:
        return None, frozenset()
    try:
        older, _ = browser().picture(repository, before.manifest, str(view.config.platform))
    except SpecError:  # it is not here any more
        return None, frozenset()
    return before, frozenset(layer.digest for layer in layers_of(older))


def _index() -> str:
    return request.args.get("index", "")[:200]
