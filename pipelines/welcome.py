"""A service's greeting once it serves: a short summary for a person at a terminal, JSON lines for any other reader."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from pipelines.jsonlogs import MEMBERS, JsonFormatter


class Welcome(NamedTuple):
    """What a person needs to know after starting a service.

    url: its address on this machine.
    base: the base of addresses that others open: the public URL, where there is one.
    root: the directory where everything is kept.
    token_file: the file with the administrator's token.
    link: the secret of the link that makes the first user; None once there are users.
    builds: whether a worker is among the processes that were started.
    """

    url: str
    base: str
    root: Path
    token_file: Path
    link: str | None
    builds: bool = True

    def say(self, out: TextIO) -> None:
        """Print it at once: whoever reads may go away after the first line."""
        lines = self.summary() if out.isatty() else self._json()
        out.write("".join(f"{line}\n" for line in lines))
        out.flush()

    def summary(self) -> Iterator[str]:
        """The lines for people."""
        yield f"Shiplap serves at {self.base}"
        yield ""
        if self.link is not None:
            yield "  Nobody can sign in yet. Make the first user, an administrator, once:"
            yield f"    {self._link}"
        yield "  Build here, from any directory with a Dockerfile:"
        yield f"    shiplap --host {self.url} build -t app ."
        yield f"  Everything is in {self.root}, the administrator's token in {self.token_file}"
        yield ""
        if self.builds:
            yield "Ctrl-C ends it: runs that are being built may finish."
        else:
            yield "Runs wait for a worker: shiplap worker. Ctrl-C ends the pages only; what workers build goes on."

    def _json(self) -> Iterator[str]:
        yield _line(f"Shiplap serves at {self.url}", url=self.url)
        yield _line(f"The administrator's token is in {self.token_file}", file=str(self.token_file))
        if self.link is not None:
            yield _line(f"Make the first user, an administrator: {self._link}", link=self._link)

    @property
    def _link(self) -> str:
        return f"{self.base}/welcome?link={self.link}"


def _line(message: str, **members: Any) -> str:
    record = logging.LogRecord(__name__, logging.INFO, __file__, 0, message, (), None)
    setattr(record, MEMBERS, members)
    return JsonFormatter().format(record)
