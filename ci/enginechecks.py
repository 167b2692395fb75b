"""What lint says of jobs with an engine of their own."""

from __future__ import annotations

from typing import Final

from ci.document import MappingNode
from ci.model import Job
from ci.problems import Problems

_VARIABLE: Final = "DOCKER_HOST"


def check_engine(job: Job, node: MappingNode, problems: Problems) -> None:
    """Add what is wrong with a job beside its `engine`, if it has one."""
    value = node.get("engine")
    place = None if value is None else value.span  # none where `defaults` say it
    if not job.engine:
        return
    if str(job.network) == "none":
        problems.error(
            place,
            "a job with `network: none` has no `engine`",
            hint="what its containers reach, the job reaches: `docker run --network none` closes one container",
        )
    if _VARIABLE in job.env:
        problems.error(place, f"a job with `engine` is told its {_VARIABLE}: `env` cannot set it")
    if job.inputs is not None and job.reuse is None:
        problems.warning(
            place,
            "while its `inputs` stay as they are this job is not run again, whatever the images that its engine"
            " fetches have become by then",
            hint="name these by digest; or write `reuse: false`, or `reuse: true` if that is wanted",
        )
