"""Which stage ``--target`` means."""

from __future__ import annotations

from core.suggestions import suggestion
from dockerfile_grammar import Dockerfile


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
