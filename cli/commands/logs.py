"""``shiplap logs``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

import click

from cli.containers.command import container_command
from cli.containers.opening import opened
from cli.containers.times import fixed_time

if TYPE_CHECKING:
    from engine.logs import LogEntry


@container_command("logs")
@click.argument("name", metavar="CONTAINER")
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until it has ended.")
@click.option("-t", "--timestamps", is_flag=True, help="With the time of each line.")
@click.option("--since", metavar="TIME", default="", help="From then on: a time, or how long ago, as in 10m.")
@click.option("--until", metavar="TIME", default="", help="Up to then.")
@click.option("-n", "--tail", metavar="NUMBER", default="all", help="Only the last lines.  [default: all]")
@click.option("--details", is_flag=True, help="With what --log-opt adds to each line: nothing, here.")
@click.pass_obj
def command(
    root: str | None,
    *,
    name: str,
    follow: bool,
    timestamps: bool,
    since: str,
    until: str,
    tail: str,
    details: bool,
) -> None:
    """Show what a container wrote.

    Its output comes on standard output, its errors on standard error, byte for byte.
    """
    number = int(tail) if tail.isascii() and tail.isdigit() else None  # docker takes everything else for: all
    with opened(root) as engine:
        is_terminal = engine.inspect(name)["Config"]["Tty"]
        entries = engine.logs(name, since=since, until=until, tail=number, follow=follow)
        _write(entries, timestamps=timestamps, details=details, is_terminal=is_terminal)


def _write(entries: Iterable[LogEntry], *, timestamps: bool, details: bool, is_terminal: bool) -> None:
    out: BinaryIO = sys.stdout.buffer
    err: BinaryIO = sys.stderr.buffer
    for entry in entries:
        target = err if entry.stream == "stderr" and not is_terminal else out
        time = fixed_time(entry.time_ns).encode() + b" " if timestamps else b""
        target.write(time + (b" " if details else b"") + entry.data)
        target.flush()
