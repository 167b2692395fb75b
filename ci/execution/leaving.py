"""What a failed job of commands leaves for a shell in it: layers of what it wrote, and its container as data."""

from __future__ import annotations

import time
from typing import Final

from ci.execution.ending import Ending
from ci.execution.engine import VARIABLE
from ci.execution.keeping import why_not
from ci.execution.prepared import Commands
from ci.execution.services import owner_of
from ci.execution.steps import Numbering
from ci.failedfiles import FailedFiles, NewFiles, SecretPlace
from ci.outcome import JobTools
from ci.workspace.workspace import upper_layer
from containers.spec import ContainerSpec
from core.events import StepOutput
from images.snapshots import Upper

KEEPING: Final = "[internal] keep what the job left"


def keep_left(
    commands: Commands, spec: ContainerSpec, upper: Upper, tools: JobTools, numbering: Numbering, ending: Ending
) -> None:
    """Write and keep it, once the container has ended. A step tells what came of that.

    upper: what the job changed of its image.
    Raises JobCancelledError. Nothing else: the job failed by its own fault, and that is what it says.
    """
    if tools.keep is None:
        return
    keep = tools.keep
    with numbering.shown(KEEPING) as step:
        why = why_not(lambda: keep(_written(commands, spec, upper, tools)), ending)
        told = f"not kept: {why}" if why else "kept for an hour: `shiplap runs shell` opens a shell in it"
        numbering.emit(StepOutput(step.id, 1, f"{told}\n".encode("utf-8", "replace"), time.time()))


def _written(commands: Commands, spec: ContainerSpec, upper: Upper, tools: JobTools) -> NewFiles:
    job = commands.job
    changed = upper_layer(tools.store, tools.launcher, upper, spec.layers)
    workspace, size = commands.workspace.layers_left()
    hidden = {name for name, _ in commands.secrets.variables}
    hidden |= {VARIABLE[0]} if job.engine else set()  # it has ended
    return NewFiles(
        FailedFiles(
            root=(*commands.image.layers, changed),
            workspace=workspace,
            env=tuple((name, value) for name, value in spec.env if name not in hidden),
            cwd=spec.cwd,
            user=spec.user,
            owner=owner_of(spec.user, spec.layers, tools),
            has_network=spec.network != "none",
            limits=job.limits,
            secrets=tuple(
                SecretPlace(str(each.name), "" if each.file else str(each.variable or each.name), str(each.file or ""))
                for each in job.secrets
                if each.name in commands.secrets.values
            ),
            had_secrets=commands.may_see_secrets,
            caches=commands.cache_places,
            git=commands.git_place,
            services=tuple(str(each.service.name) for each in commands.beside),
        ),
        size + tools.store.layers.size(changed),
    )
