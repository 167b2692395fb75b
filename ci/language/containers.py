"""What a container of a pipeline file is made with, a job's or a service's: its image, its secrets, its limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ci.language.names import (
    ANY_JOB_FORM,
    ARGS,
    FILLED,
    INSIDE,
    SECRET_NAME,
    SETTABLE,
    VARIABLE_FORM,
    absolute_fault,
    reference_fault,
)
from ci.language.scalars import Decimal, Flag, Size, Whole, Words
from ci.language.shapes import Either, Fields, Key, ListOf, Made
from ci.model import Image, ImageBuild, Limits, Secret

IMAGE_BUILD: Final[dict[str, Key]] = {
    "context": Key(INSIDE, "the directory whose files may be copied"),
    "file": Key(INSIDE, "the Dockerfile; without it, the context's"),
    "target": Key(FILLED, "the stage"),
    "args": Key(ARGS, "build arguments"),
    "secrets": Key(ListOf(SECRET_NAME, most=50), "secrets that its RUN steps may mount"),
}


def from_path(kind: Callable[..., Any]) -> Callable[[str], Any]:
    """What makes a build of a context alone."""
    return lambda path: kind(context=path)


_IMAGE_OF_BUILD: Final = Either(
    scalar=Made(INSIDE, from_path(ImageBuild)), mapping=Fields("`build` of an image", ImageBuild, IMAGE_BUILD)
)
IMAGE: Final = Either(
    scalar=Made(Words("the name of an image", r"\S+", fault=reference_fault), lambda name: Image(reference=name)),
    mapping=Fields(
        "`image`", Image,
        {"build": Key(_IMAGE_OF_BUILD, "a Dockerfile of the repository"),
         "job": Key(Words("the name of a job", ANY_JOB_FORM, is_verbatim=True),
                    "a `build` job of this pipeline, which is a need as well")},
    ),
)  # fmt: skip

_SECRET: Final = Either(
    scalar=Made(Words("the name of a secret", VARIABLE_FORM, is_verbatim=True), Secret),
    mapping=Fields("a secret", Secret, {
        "name": Key(SECRET_NAME, "its name", is_required=True),
        "as": Key(SETTABLE, "the variable that has its value", "variable"),
        "file": Key(Words("a path", fault=absolute_fault, is_verbatim=True), "the file that has its value"),
        "optional": Key(Flag(), "whether the job runs without it"),
    }),
)  # fmt: skip
SECRETS: Final = ListOf(_SECRET, most=50)

_LIMITS: Final[dict[str, Key]] = {
    "memory": Key(Size(), "memory"),
    "cpus": Key(Decimal(), "processors"),
    "pids": Key(Whole(1, 4_000_000), "processes"),
    "disk": Key(Size(), "what it writes"),
    "shm": Key(Size(), "`/dev/shm`; browsers want more than 64m"),
}
LIMITS: Final = Fields("`limits`", Limits, _LIMITS)
