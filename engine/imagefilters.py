"""Which images docker's filters let through: ``GET /images/json``, ``docker image ls --filter``."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from core.references import Reference
from engine.errors import InvalidRequestError, NoSuchImageError
from engine.filters import checked, labels_match
from engine.making import resolve
from engine.times import asked_moment
from images.oci import parse_time
from images.store import Store

if TYPE_CHECKING:
    from core.platforms import Platform
    from images.summary import Image

_KNOWN: Final = ("dangling", "label", "before", "since", "reference", "until")


def matching(store: Store, images: list[Image], filters: Any) -> list[Image]:
    """Those of the images that docker's filters let through, with the names that they let through.

    Raises InvalidRequestError, NoSuchImageError.
    """
    wanted = checked(filters, _KNOWN)
    if dangling := wanted.get("dangling"):
        if dangling[-1].lower() not in ("1", "0", "true", "false"):
            raise InvalidRequestError(f"invalid filter 'dangling=[{dangling[-1]}]'")
        is_wanted = dangling[-1].lower() in ("1", "true")
        images = [image for image in images if (not image.names) == is_wanted]
    if labels := wanted.get("label"):
        images = [image for image in images if labels_match(labels, image.config.config.labels)]
    for bound in wanted.get("before", ()):
        moment = created(found(store, bound))
        images = [image for image in images if created(image) < moment]
    for bound in wanted.get("since", ()):
        moment = created(found(store, bound))
        images = [image for image in images if created(image) > moment]
    for text in wanted.get("until", ()):
        until = asked_moment(text) / 1e9
        images = [image for image in images if created(image) < until]
    if patterns := wanted.get("reference"):
        images = _referenced(images, patterns)
    return images


def _referenced(images: list[Image], patterns: Sequence[str]) -> list[Image]:
    """Those that have a name like one of these, with only such names."""
    chosen = []
    for image in images:
        names = tuple(name for name in image.names if any(_is_like(name, pattern) for pattern in patterns))
        if names:
            chosen.append(image._replace(names=names))
    return chosen


def _is_like(name: Reference, pattern: str) -> bool:
    """As Go's path.Match: ``*`` and ``?`` stand for anything but a slash; with or without tag, short or whole."""
    shown = (name.familiar, name.familiar_name, str(name), name.name)
    return any(
        text.count("/") == pattern.count("/")
        and all(
            fnmatch.fnmatchcase(part, wanted) for part, wanted in zip(text.split("/"), pattern.split("/"), strict=True)
        )
        for text in shown
    )


def found(store: Store, name: str, platform: Platform | None = None) -> Image:
    """An image by name or ID. platform: of an index. Raises NoSuchImageError, in docker's words."""
    try:
        return resolve(store, name, platform)
    except InvalidRequestError as error:
        raise NoSuchImageError(error.message) from error


def created(image: Image) -> int:
    """When it was made, in seconds since the epoch."""
    return int(parse_time(image.config.created)) if image.config.created else int(image.created_at)
