"""The options of ``shiplap build`` that say how a service is to queue the build."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])


class QueueOptions(NamedTuple):
    """The values as they were given. project: "" for the default one."""

    detach: bool = False
    project: str = ""
    priority: int | None = None
    worker_labels: tuple[str, ...] = ()

    def given(self) -> list[str]:
        """The names of the options that were given."""
        named = {
            "--detach": self.detach,
            "--project": bool(self.project),
            "--priority": self.priority is not None,
            "--worker-label": bool(self.worker_labels),
        }
        return [name for name, is_given in named.items() if is_given]

    def members(self) -> dict[str, Any]:
        """Of a request to queue a run, as the API has it."""
        priority = {} if self.priority is None else {"priority": self.priority}
        labels = {"worker_labels": list(self.worker_labels)} if self.worker_labels else {}
        return {"project": self.project or "default", **priority, **labels}


_DETACH = click.option(
    "--detach", is_flag=True, help="With a server: print the run's URL, and do not wait for its end."
)
_PROJECT = click.option(
    "--project", metavar="NAME", default="", help="With a server: which project the run belongs to."
)
_PRIORITY = click.option(
    "--priority", type=click.IntRange(-100, 100), help="With a server: runs with more go first.  [default: 0]"
)
_WORKER_LABEL = click.option(
    "--worker-label", "worker_labels", metavar="LABEL", multiple=True,
    help="With a server: only on workers with this label. Repeatable.",
)  # fmt: skip


def queue_options(command: _Decorated) -> _Decorated:
    """``--detach``, ``--project``, ``--priority`` and ``--worker-label``, as one argument ``queueing``."""

    @functools.wraps(command)
    def gathered(
        *args: Any, detach: bool, project: str, priority: int | None, worker_labels: tuple[str, ...], **others: Any
    ) -> Any:
        return command(*args, queueing=QueueOptions(detach, project, priority, worker_labels), **others)

    decorated: Any = gathered
    for decorate in (_WORKER_LABEL, _PRIORITY, _PROJECT, _DETACH):
        decorated = decorate(decorated)
    return decorated  # type: ignore[no-any-return]  # the same function to click
