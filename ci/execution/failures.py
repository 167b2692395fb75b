"""Why a job's command failed, in a sentence with the next step."""

from __future__ import annotations

import re
from typing import Final

from builder.running.container import Ended
from ci.ends import Failure, Published
from ci.errors import JobFaultError
from ci.execution.ending import Ending
from ci.execution.image import JobImage
from ci.execution.script import SCRIPT, Script, shell_of
from ci.model import Job
from ci.reports.model import Reports
from containers.limits import MEMORY_ABOVE, MEMORY_TOGETHER
from core.platforms import Platform

_LAST_CHARACTERS: Final = 200
_LINES_OF_SERVICE: Final = 3
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f-\x9f]")
_NOT_FOUND: Final = 127
_SIGKILL: Final = 9


class CommandFailedError(JobFaultError):
    """A job's command failed.

    failure: how, for ``retry``.
    exit_code: as a shell gives it; None: none was run.
    reports: what it reported before it failed.
    published: its outputs for people.
    """

    def __init__(
        self, failure: Failure, message: str, *, exit_code: int | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.failure = failure
        self.exit_code = exit_code
        self.reports: Reports | None = None
        self.published: tuple[Published, ...] = ()


def fault_of(
    ended: Ended, image: JobImage, job: Job, script: Script, ending: Ending, tail: bytes
) -> CommandFailedError | None:
    """What a container that has ended did wrong; None: nothing. tail: the end of what its last step printed."""
    status, exceeded = ended
    code = status.code
    if exceeded is not None:
        return CommandFailedError(
            "limit", f"the job was ended: {exceeded}", exit_code=code, hint="`limits` of the job, or of the worker"
        )
    if ending.reason == "timeout":
        return late(job, exit_code=code)
    if not code:
        return None
    if status.message:
        return _not_started(status.message, code, image, script)
    told = f"signal {status.signal} ended the command" if status.signal is not None else f"exit code {code}"
    said = _last_line(tail)
    told = f"{told}: {said}" if said else told
    if "memory" in status.exceeded:
        return CommandFailedError(
            "limit", f"the job ran out of memory ({told})", exit_code=code, hint="give it more: `limits: {memory: …}`"
        )
    if MEMORY_TOGETHER in status.exceeded:
        others = "its services" if job.services else "the containers of its engine"
        return CommandFailedError(
            "limit", f"the job and {others} ran out of memory together ({told})", exit_code=code,
            hint="give the job more: `limits: {memory: …}`, which is for all of them",
        )  # fmt: skip
    if MEMORY_ABOVE in status.exceeded:
        return CommandFailedError(
            "limit", f"memory ran out, that of the worker or of all its jobs together ({told})", exit_code=code,
            hint="have less run at a time, or give the job a limit of its own",
        )  # fmt: skip
    if "pids" in status.exceeded:
        return CommandFailedError(
            "limit", f"the job could not make more processes ({told})", exit_code=code,
            hint="give it more: `limits: {pids: …}`, or have it do less at a time",
        )  # fmt: skip
    return CommandFailedError("failure", told, exit_code=code, hint=_hint(code, status.signal, script))


def late(job: Job, *, exit_code: int | None = None) -> CommandFailedError:
    """The time-out is over."""
    return CommandFailedError(
        "timeout", f"the job ran longer than {shown(job.timeout_s)}, its time-out", exit_code=exit_code,
        hint="give it more: `timeout: …`",
    )  # fmt: skip


def unknown_user(user: str, name: str) -> JobFaultError:
    """The image does not know a user of the file."""
    return JobFaultError(
        f"user: {user}: the image has no {name} in /etc/passwd or /etc/group",
        hint="make it in the image, or write a number",
    )


def of_service(name: str, ended: Ended, tail: bytes) -> CommandFailedError:
    """A service has ended before its job did. tail: the end of what it printed."""
    status, exceeded = ended
    if exceeded is not None:
        return _service_over_limit(name, f"was ended: {exceeded}", tail)
    if "memory" in status.exceeded:
        return _service_over_limit(name, "ran out of memory", tail)
    if MEMORY_TOGETHER in status.exceeded:
        return _service_over_limit(name, "and the job, with its other services, ran out of memory together", tail)
    if status.message:
        return service_fault(name, f"could not be started: {status.message}", b"")
    how = f"by signal {status.signal}" if status.signal is not None else f"with exit code {status.code}"
    return service_fault(name, f"ended {how} before the job did", tail)


def of_engine(ended: Ended, tail: bytes) -> CommandFailedError:
    """A job's engine has ended before its job did. tail: the end of what it printed."""
    status, exceeded = ended
    if exceeded is not None or not {"memory", MEMORY_TOGETHER}.isdisjoint(status.exceeded):
        what = f"was ended: {exceeded}" if exceeded is not None else "ran out of memory"
        return CommandFailedError("limit", f"the job's engine {what}", hint="`limits` of the job, or of the worker")
    if status.message:
        return CommandFailedError("failure", f"the job's engine could not be started: {status.message}")
    lines = _last_lines(tail, _LINES_OF_SERVICE)
    said = f"; its last lines: {' | '.join(lines)}" if lines else ""
    how = f"by signal {status.signal}" if status.signal is not None else f"with exit code {status.code}"
    return CommandFailedError("failure", f"the job's engine ended {how} before the job did{said}")


def _service_over_limit(name: str, what: str, tail: bytes) -> CommandFailedError:
    fault = service_fault(name, what, tail)
    return CommandFailedError("limit", fault.message, hint="`limits` of the service, of the job, or of the worker")


def service_fault(name: str, what: str, tail: bytes) -> CommandFailedError:
    """A job cannot go on because of a service. what: of it, without a subject. tail: the end of what it printed."""
    lines = _last_lines(tail, _LINES_OF_SERVICE)
    said = f"; its last lines: {' | '.join(lines)}" if lines else ""
    return CommandFailedError("failure", f'the service "{name}" {what}{said}')


def _not_started(message: str, code: int, image: JobImage, script: Script) -> CommandFailedError:
    """The command could not be executed at all."""
    if image.foreign:
        return CommandFailedError(
            "failure", f"{image.name} is for {image.foreign}, and this machine is {Platform.host()}", exit_code=code,
            hint="name an image for this machine, or register an emulator (binfmt_misc, flag F)",
        )  # fmt: skip
    if code == _NOT_FOUND and script.args[-1] == SCRIPT:
        return CommandFailedError(
            "failure", f"{image.name} has no {shell_of(script)}", exit_code=code,
            hint="take an image that has it, or `args`: a command without a shell",
        )  # fmt: skip
    return CommandFailedError("failure", f"the command could not be started: {message}", exit_code=code)


def _hint(code: int, signal: int | None, script: Script) -> str | None:
    if code == _NOT_FOUND and script.args[-1] == SCRIPT:
        return "127: the shell did not find the command; is it in the image, and on its PATH?"
    if signal == _SIGKILL:
        return "signal 9 is what the kernel sends when memory runs out"
    return None


def _last_line(tail: bytes) -> str:
    """The last thing that was printed, as text for one line."""
    return next(iter(_last_lines(tail, 1)), "")


def _last_lines(tail: bytes, most: int) -> list[str]:
    """The last lines that say something, each cut where it is long."""
    found: list[str] = []
    for line in reversed(tail[-4096:].decode("utf-8", "replace").splitlines()):
        text = _CONTROL.sub("", line).strip()
        if text:
            found.insert(0, text if len(text) <= _LAST_CHARACTERS else f"{text[:_LAST_CHARACTERS]}…")
        if len(found) == most:
            break
    return found


def shown(seconds: float) -> str:
    """A duration as a pipeline file has it: ``1h30m``."""
    parts = []
    left = round(seconds)
    for unit, size in (("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
