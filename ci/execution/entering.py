"""The way into the container of a job for people, as long as its command runs."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ci.failedfiles import Entrance
from ci.outcome import JobTools
from containers.handles import Container
from containers.spec import ContainerSpec


class Entering:
    """Opens the way once the container is there, and closes it at the end of the context.

    was_used: somebody was in the container; known once it is closed.
    """

    def __init__(self, tools: JobTools) -> None:
        self._tools = tools
        self._entrance: Entrance | None = None
        self.was_used = False

    def begin(self, container: Container, spec: ContainerSpec) -> None:
        """The container runs. May be said again and again."""
        if self._entrance is None and self._tools.entrance is not None:
            self._entrance = self._tools.entrance(container, spec)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entrance is not None:
            self.was_used = self._entrance.close()
