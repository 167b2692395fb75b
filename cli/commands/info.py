"""``shiplap info``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import click

from cli.containers.command import container_command
from cli.containers.inspecting import template_of
from cli.containers.opening import opened
from cli.listing import shown
from cli.progress.text import size_text

_LINES: Final = (
    ("Containers", "Containers"),
    (" Running", "ContainersRunning"),
    (" Paused", "ContainersPaused"),
    (" Stopped", "ContainersStopped"),
    ("Images", "Images"),
    ("Server Version", "ServerVersion"),
    ("Storage Driver", "Driver"),
    ("Logging Driver", "LoggingDriver"),
    ("Cgroup Driver", "CgroupDriver"),
    ("Cgroup Version", "CgroupVersion"),
    ("Kernel Version", "KernelVersion"),
    ("Operating System", "OperatingSystem"),
    ("OSType", "OSType"),
    ("Architecture", "Architecture"),
    ("CPUs", "NCPU"),
    ("Total Memory", "MemTotal"),
    ("Name", "Name"),
    ("ID", "ID"),
    ("Shiplap Root Dir", "DockerRootDir"),
)


@container_command("info")
@click.option("-f", "--format", "form", metavar="FORM", default="", help="json, or a Go template.")
@click.pass_obj
def command(root: str | None, *, form: str) -> None:
    """Show what this engine has, and what this host offers.

    doctor says what this host lacks.
    """
    template = template_of(form)
    with opened(root) as engine:
        document = engine.info()
    click.echo(shown(template.run(document)) if template is not None else "\n".join(_text(document)))


def _text(document: Mapping[str, Any]) -> list[str]:
    found = []
    for title, member in _LINES:
        value = document[member]
        found.append(f"{title}: {size_text(value) if member == 'MemTotal' else value}")
    found += [f"WARNING: {warning}" for warning in document["Warnings"] or ()]
    return found
