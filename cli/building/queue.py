"""The options of ``shiplap build`` that say how a service is to queue the build."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cli.declared import Option
from cli.options import given_params


class QueueOptions(NamedTuple):
    """The values as they were given. project: "" for the default one."""

    detach: bool = False
    project: str = ""
    priority: int | None = None
    worker_labels: tuple[str, ...] = ()
    pipeline: str = ""
    params: tuple[str, ...] = ()

    def given(self) -> list[str]:
        """The names of the options that were given."""
        named = {
            "--detach": self.detach,
            "--project": bool(self.project),
            "--priority": self.priority is not None,
            "--worker-label": bool(self.worker_labels),
            "--pipeline": bool(self.pipeline),
            "--param": bool(self.params),
        }
        return [name for name, is_given in named.items() if is_given]

    def members(self) -> dict[str, Any]:
        """The members of the API's request to queue a run."""
        priority = {} if self.priority is None else {"priority": self.priority}
        labels = {"worker_labels": list(self.worker_labels)} if self.worker_labels else {}
        pipeline = {"pipeline": self.pipeline} if self.pipeline else {}  # older servers refuse this member
        params = {"params": given_params(self.params)} if self.params else {}
        return {"project": self.project or "default", **priority, **labels, **pipeline, **params}


QUEUE_OPTIONS: Final = (
    Option(("--detach",), "With a server: print the run's URL, and do not wait for its end.", flag=True),
    Option(("--project",), "With a server: which project the run belongs to.", metavar="NAME", default=""),
    Option(("--priority",), "With a server: runs with more go first.  [default: 0]", between=(-100, 100)),
    Option(
        ("--worker-label",),
        "With a server: only on workers with this label. Repeatable.",
        metavar="LABEL",
        dest="worker_labels",
        multiple=True,
    ),
    Option(
        ("--pipeline",),
        "With a server: run this pipeline of the git repository that PATH names.",
        metavar="NAME",
        default="",
    ),
    Option(
        ("--param",),
        "With a server: give a parameter of that pipeline a value. Repeatable.",
        metavar="NAME=VALUE",
        dest="params",
        multiple=True,
    ),
)
"""Their values are the members of ``QueueOptions``."""
