"""``--change``: Dockerfile instructions that set an imported image's config, by the builder's own rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import CommandError
from core.platforms import Platform

if TYPE_CHECKING:
    from builder.bases import NewStep
    from images.oci import ImageConfig
    from images.summary import Image

_NAME = "--change"
_ALLOWED = (
    "CMD",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "HEALTHCHECK",
    "LABEL",
    "ONBUILD",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
)


def changed_config(platform: Platform, changes: Sequence[str], *, scratch: Path) -> ImageConfig:
    """The config of an empty image after ``changes``, each one instruction.

    scratch: a directory for temporary files.
    Raises CommandError for instructions that are about files, and DockerfileError for malformed ones.
    """
    from images.oci import ImageConfig

    if not changes:
        return ImageConfig.for_platform(platform)
    from builder.contexts.context import Context
    from builder.frontend.stages import plan
    from builder.request.request import BuildRequest
    from dockerfile_grammar import parse, parse_change

    for change in changes:
        instruction = parse_change(change, filename=_NAME)
        if instruction.NAME not in _ALLOWED:
            raise CommandError(
                f"{_NAME} {change!r}: {instruction.NAME} is not possible here", hint=f"possible: {', '.join(_ALLOWED)}"
            )
    dockerfile = parse("\n".join(("FROM scratch", *changes, "")), _NAME)
    with Context.empty(scratch) as context:
        request = BuildRequest(b"", _NAME, context, platforms=(platform,))
        return plan(dockerfile, request, _no_image).plan.image.config


def _no_image(name: str, platform: Platform | None, new_step: NewStep | None) -> Image:
    del platform, new_step
    raise CommandError(f"{_NAME} needs no image, and asked for {name}")
