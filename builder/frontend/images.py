"""Finds the image that a name in FROM or ``--from`` means, else the stage that was probably meant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from builder.bases import NewStep
from core.errors import ShiplapError
from core.platforms import Platform
from core.suggestions import is_one_slip, nearest
from dockerfile_grammar import Dockerfile, Word
from images.errors import ImageNotFoundError
from images.summary import Image

ImageResolver: TypeAlias = Callable[[str, Platform | None, NewStep | None], Image]
"""From a name as written, and the platform if one is asked for, to an image. Raises ShiplapError for no image.

The last argument makes the step that shows a pull; None: no registry is asked.
"""

_SHORTEST_SURE: Final = 4


class ImageNames:
    """The names of images in one Dockerfile.

    new_step: makes the step that shows a pull.
    """

    def __init__(self, dockerfile: Dockerfile, resolve: ImageResolver, new_step: NewStep) -> None:
        self._dockerfile = dockerfile
        self._resolve = resolve
        self._new_step = new_step

    def image(self, name: str, word: Word, before: int, platform: Platform | None) -> Image:
        """Look an image up. The error names the place, and the stage that was probably meant.

        word: where the name stands, in stage number ``before``. No registry is asked for a name that is surely a
        mistyped stage name. Without a network, asking takes long; with one, the answer may be a stranger's image.
        """
        near = _nearest_stage(self._dockerfile, name, before)
        surely = near is not None and _is_surely_mistyped(self._dockerfile, name, near, word)
        try:
            return self._resolve(name, platform, None if surely else self._new_step)
        except ImageNotFoundError as error:
            hint = error.hint if near is None else f"did you mean the stage {near}?"
            if surely:
                hint = f"{hint} An image of that name is docker.io/library/{name}"
            raise self._dockerfile.error(error.message, word.span, hint=hint) from error
        except ShiplapError as error:
            raise self._dockerfile.error(error.message, word.span, hint=error.hint) from error


def _nearest_stage(dockerfile: Dockerfile, name: str, before: int) -> str | None:
    """The stage before stage number ``before`` that an image's name was probably meant to be; None for no such stage.

    A name with a tag, a digest or a host is no mistyped stage name.
    """
    if not set(name).isdisjoint(":@/"):
        return None
    return next(iter(nearest(name, [stage.name for stage in dockerfile.stages[:before] if stage.name])), None)


def _is_surely_mistyped(dockerfile: Dockerfile, name: str, stage: str, word: Word) -> bool:
    """Whether a name that is similar to a stage's can hardly be an image's. word: where the name stands.

    The difference has to be one slip in a word of some letters. It must not be a digit or a letter at the end: stages
    like ``nginx2`` or ``nodes`` are called after their images. And no other FROM may use an image of that name.
    """
    lower = name.lower()
    if len(name) < _SHORTEST_SURE or not is_one_slip(lower, stage):
        return False
    if stage.startswith(lower) or lower.startswith(stage) or _digits(lower) != _digits(stage):
        return False
    others = (each.base.text for each in dockerfile.stages if each.base is not word)
    return all(base.partition("@")[0].partition(":")[0].rpartition("/")[2].lower() != lower for base in others)


def _digits(text: str) -> list[str]:
    return [character for character in text if character.isdigit()]
