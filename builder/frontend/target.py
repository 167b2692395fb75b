"""Which stage ``--target`` means, and which one a name that is no stage's was probably meant to be."""

from __future__ import annotations

from typing import Final

from core.suggestions import is_one_slip, nearest, suggestion
from dockerfile_grammar import Dockerfile, Word


def target_index(dockerfile: Dockerfile, wanted: str) -> int:
    """The number of the stage with this name; of the last one when ``wanted`` is empty. Numbers are no names.

    Raises DockerfileError.
    """
    stages = dockerfile.stages
    if not wanted:
        return len(stages) - 1
    stage = dockerfile.stage(wanted)
    if stage is not None:
        return stage.index
    names = [stage.name for stage in stages if stage.name]
    raise dockerfile.error(
        f"target stage {wanted!r} is not in the Dockerfile",
        stages[-1].from_.span,
        hint=_hint(dockerfile, wanted, names),
    )


def _hint(dockerfile: Dockerfile, wanted: str, names: list[str]) -> str:
    if wanted.isdecimal() and int(wanted) < len(dockerfile.stages):
        name = dockerfile.stages[int(wanted)].name
        return f"targets are names: write --target {name}" if name else "targets are names: write FROM … AS name"
    return suggestion(wanted, names) or f"stages: {', '.join(names) or 'none has a name'}"


_SHORTEST_SURE: Final = 4


def nearest_stage(dockerfile: Dockerfile, name: str, before: int) -> str | None:
    """The stage before stage number ``before`` that an image's name was probably meant to be; None for no such stage.

    What has a tag, a digest or a host is no stage's name that somebody mistyped.
    """
    if not set(name).isdisjoint(":@/"):
        return None
    return next(iter(nearest(name, [stage.name for stage in dockerfile.stages[:before] if stage.name])), None)


def is_surely_mistyped(dockerfile: Dockerfile, name: str, stage: str, word: Word) -> bool:
    """Whether a name that is like a stage's can hardly be an image's. word: where the name stands.

    It is one slip in a word of some letters, and neither a digit nor a letter at the end: a stage ``nginx2`` or
    ``nodes`` is called after its image. Nor does another FROM take the image of that name.
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
