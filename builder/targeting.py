"""Which stage ``--target`` means."""

from __future__ import annotations

from dockerfile_grammar import Dockerfile


def target_index(dockerfile: Dockerfile, wanted: str) -> int:
    """The number of the stage with this name or number; of the last one when ``wanted`` is empty.

    Raises DockerfileError.
    """
    stages = dockerfile.stages
    if not wanted:
        return len(stages) - 1
    stage = dockerfile.stage(wanted)
    if stage is not None:
        return stage.index
    if wanted.isdecimal() and int(wanted) < len(stages):
        return int(wanted)
    from difflib import get_close_matches

    names = [stage.name for stage in stages if stage.name]
    near = get_close_matches(wanted.lower(), names, 1)
    raise dockerfile.error(
        f"target stage {wanted!r} is not in the Dockerfile",
        stages[-1].from_.span,
        hint=f'did you mean "{near[0]}"?' if near else f"stages: {', '.join(names) or 'none has a name'}",
    )
