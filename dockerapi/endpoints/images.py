"""Images that are here: listed, looked at, named, removed, saved, loaded."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import flask

from core.errors import InvalidReferenceError
from core.references import Reference
from dockerapi import answering, asking, imagedocs
from dockerapi.endpoints.archive import streamed
from dockerapi.errors import bad, not_done
from dockerapi.versions import has
from engine.errors import NoSuchImageError
from engine.filters import checked
from engine.times import asked_moment
from images.errors import ImageNotFoundError

if TYPE_CHECKING:
    from engine.engine import Engine

bp = flask.Blueprint("images", __name__)


@bp.get("/images/json")
def listed() -> flask.Response:
    """Those that fit."""
    engine = asking.engine()
    version = asking.version()
    containers = None
    if asking.flag("manifests") or has("containers-counted", version):
        containers = _containers(engine)
    with imagedocs.opened(engine) as store:
        found = imagedocs.listed(
            store,
            asking.filters(),
            shared=asking.flag("shared-size"),
            users=containers if has("containers-counted", version) else None,
            manifests=containers if asking.flag("manifests") else None,
        )
    if not has("empty-tags", version):
        found = imagedocs.with_none(found)
    return answering.document(found, kind="images")


def _containers(engine: Engine) -> dict[str, list[str]]:
    """The IDs of the containers of each image."""
    found: dict[str, list[str]] = {}
    for each in engine.containers(every=True):
        found.setdefault(each["ImageID"], []).append(each["Id"])
    return found


@bp.get("/images/<path:name>/json")
def inspect(name: str) -> flask.Response:
    """All about one. manifests: with all that its index names."""
    engine = asking.engine()
    platform = asking.platform() if has("image-of-platform", asking.version()) else None
    is_whole = asking.flag("manifests")
    if platform is not None and is_whole:
        raise bad("conflicting options: manifests and platform options cannot both be set")
    with imagedocs.opened(engine) as store:
        image = imagedocs.found(store, name, platform)
        document = imagedocs.inspected(store, image)
        if is_whole:
            document |= imagedocs.of_index(store, image, _containers(engine))
        return answering.document(document, kind="image")


@bp.get("/images/<path:name>/history")
def history(name: str) -> flask.Response:
    """How it was made."""
    platform = asking.platform() if has("history-of-platform", asking.version()) else None
    with imagedocs.opened(asking.engine()) as store:
        return answering.document(imagedocs.history(store, imagedocs.found(store, name, platform)))


@bp.post("/images/<path:name>/tag")
def tag(name: str) -> flask.Response:
    """Give it one more name."""
    engine = asking.engine()
    repository, label = asking.text("repo"), asking.text("tag")
    target = Reference.parse(f"{repository}:{label}" if label else repository).with_default_tag()
    if target.digest is not None:
        raise bad("refusing to create a tag with a digest reference")
    with imagedocs.opened(engine) as store:
        image = imagedocs.found(store, name)
        index = store.images.indexes.find(name)
        store.images.tag(target, index.digest if index else image.id)
    imagedocs.note(engine, "tag", str(image.id), target.familiar, image.config.config.labels)
    return flask.Response(status=201)


@bp.delete("/images/<path:name>")
def remove(name: str) -> flask.Response:
    """Remove a name, and with its last one the image."""
    engine = asking.engine()
    if asking.texts("platforms"):
        raise not_done("an image of one platform is not removed by itself: its index names it")
    with imagedocs.opened(engine) as store:
        image = imagedocs.found(store, name)
        try:
            lines = store.images.remove(name, force=asking.flag("force"))
        except ImageNotFoundError as error:
            raise NoSuchImageError(error.message) from error
    found = _told(lines)
    for each in found:
        action, what = ("untag", "Untagged") if "Untagged" in each else ("delete", "Deleted")
        imagedocs.note(engine, action, str(image.id), each[what] if action == "untag" else "")
    return answering.document(found)


@bp.post("/images/prune")
def prune() -> flask.Response:
    """Remove those without a name; with dangling=false all that no container is of."""
    wanted = checked(asking.filters(), ("dangling", "until", "label", "label!"))
    dangling = (wanted.get("dangling") or ["true"])[-1].lower() in ("1", "true")
    moments = [asked_moment(text) / 1e9 for text in wanted.get("until", ())]
    with imagedocs.opened(asking.engine()) as store:
        among = None
        if wanted.get("label") or wanted.get("label!"):
            among = imagedocs.with_labels(store, wanted.get("label", ()), wanted.get("label!", ()))
        report = store.images.prune(all_unused=not dangling, until=min(moments) if moments else None, among=among)
    return answering.document({"ImagesDeleted": _told(report.lines) or None, "SpaceReclaimed": report.freed_bytes})


def _told(lines: list[str]) -> list[dict[str, str]]:
    """What was printed, as docker's members."""
    found = []
    for line in lines:
        word, _, what = line.partition(": ")
        if word.capitalize() in ("Untagged", "Deleted"):
            found.append({word.capitalize(): what})
    return found


@bp.get("/images/get")
def save_several() -> flask.Response:
    """Images as one tar."""
    names = [name for text in asking.texts("names") for name in text.split(",") if name]
    if not names:
        raise bad("no image was named")
    return _saved(names)


@bp.get("/images/<path:name>/get")
def save(name: str) -> flask.Response:
    """An image as a tar."""
    return _saved([name])


def _saved(names: list[str]) -> flask.Response:
    from images.archive import SavedImage
    from images.archive import save as write_archive

    engine = asking.engine()
    platform = asking.platform()
    with imagedocs.opened(engine) as store:
        for name in names:
            imagedocs.found(store, name)

    def write(sink: socket.socket) -> None:
        with imagedocs.opened(engine) as store, sink.makefile("wb") as file:
            images = []
            for name in names:
                index = store.images.indexes.find(name) if platform is None else None
                image = store.images.resolve(name, platform)
                images.append(SavedImage(index or image, _asked_name(name, image.names)))
            write_archive(store, images, file)

    return streamed(write)


def _asked_name(text: str, names: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """The name by which it was found; empty when it was found by ID, as in docker."""
    try:
        name = Reference.parse(text).with_default_tag()
    except InvalidReferenceError:
        return ()
    return (name,) if name in names else ()


@bp.post("/images/load")
def load() -> flask.Response:
    """Images out of a tar."""
    from images.archive import load as read_archive

    engine = asking.engine()
    platform = asking.platform()
    with imagedocs.opened(engine) as store:
        images = read_archive(store, flask.request.stream, platform=platform)

    def lines() -> Iterator[bytes]:
        for image in images:
            for name in image.names:
                yield answering.encoded({"stream": f"Loaded image: {name.familiar}\n"})
            if not image.names:
                yield answering.encoded({"stream": f"Loaded image ID: {image.id}\n"})

    for image in images:
        imagedocs.note(engine, "load", str(image.id), str(image.names[0].familiar if image.names else image.id))
    return answering.pieces(lines())


def import_tar() -> flask.Response:
    """Make an image of a root file system's tar: ``POST /images/create`` with ``fromSrc``."""
    import time

    import msgspec

    from core.platforms import Platform
    from engine.committing import container_config
    from engine.fields import Fields
    from engine.instructions import changed
    from images.archive import import_rootfs
    from images.oci import History, ImageConfig, format_time

    engine = asking.engine()
    if asking.text("fromSrc") != "-":
        raise not_done("an import from a URL is not done: send the tar, as docker import - does")
    repository, label = asking.text("repo"), asking.text("tag")
    names = [Reference.parse(f"{repository}:{label}" if label else repository).with_default_tag()] if repository else []
    changes = [line for text in asking.texts("changes") for line in text.splitlines() if line.strip()]
    config = container_config(Fields(changed({}, changes), "Config"))
    moment = format_time(time.time())
    message = asking.text("message") or "Imported from -"
    document: ImageConfig = msgspec.structs.replace(
        ImageConfig.for_platform(asking.platform() or Platform.host()),
        created=moment,
        config=config,
        history=(History(created=moment, comment=message),),
    )
    with imagedocs.opened(engine) as store:
        image = import_rootfs(store, flask.request.stream, document, names)
    imagedocs.note(engine, "import", str(image.id), names[0].familiar if names else "")
    return answering.pieces(iter([answering.encoded({"status": str(image.id)})]))
