"""``--shell-on-failure``: a shell in the container of a job that failed, with its workspace, environment and user."""

from __future__ import annotations

from typing import Final

from cli.attach import entered, in_foreground
from cli.errors import describe
from cli.guarding import say
from cli.jobs.report import JobsReport
from cli.progress.text import one_line
from containers.errors import ContainerError
from containers.launcher import Launcher
from containers.spec import ContainerSpec

_SHELL: Final = "/bin/sh"


def enter_failed(job: str, spec: ContainerSpec, report: JobsReport, launcher: Launcher) -> None:
    """Let a person look around in the container of a job whose command failed."""
    with report.aside():
        say(f"{_SHELL} in {one_line(job)}, which failed; what is done here is thrown away when it ends")
        try:
            status = in_foreground(launcher, entered(spec, (_SHELL,)), interactive=True)
        except ContainerError as error:
            say(describe(error))
        else:
            if status.message:
                say(f"the shell did not start: {status.message}")
