"""Reads limits: docker's options for what a container may use, and ours for a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from cli.declared import Option
from cli.errors import CommandError
from cli.options import duration
from core.quantities import parse_size

if TYPE_CHECKING:
    from builder.request.limits import StepLimits
    from containers.resources import Limits, ResourceLimit

ULIMITS: Final = (
    "as", "core", "cpu", "data", "fsize", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "sigpending", "stack",
)  # fmt: skip
_MIN_MEMORY: Final = 6 << 20  # docker's: below, no program starts

CONTAINER_OPTIONS: Final = (
    Option(("-m", "--memory"), "Memory at most, as in 512m or 2g.", metavar="SIZE", default=""),
    Option(
        ("--memory-swap",), "Memory and swap together; -1 is any swap.  [default: 2 × -m]", metavar="SIZE", default=""
    ),
    Option(("--cpus",), "Processors at a time, as in 1.5.", metavar="NUMBER", default=""),
    Option(("--cpu-period",), "With --cpu-quota: another way to say --cpus.", metavar="US", default=0, integer=True),
    Option(("--cpu-quota",), "Processor time in each --cpu-period.", metavar="US", default=0, integer=True),
    Option(("-c", "--cpu-shares"), "Share when others are busy too.", metavar="WEIGHT", default=0, integer=True),
    Option(("--pids-limit",), "Processes and threads; -1 is any.", metavar="NUMBER", integer=True),
    Option(("--ulimit",), "A limit of each process.", metavar="NAME=SOFT[:HARD]", dest="ulimits", multiple=True),
    Option(("--shm-size",), "Size of /dev/shm.  [default: 64m]", metavar="SIZE", default=""),
)
"""Options of ``run``. Their values go to ``container_limits`` and its siblings by keyword."""

STEP_OPTIONS: Final = (
    *CONTAINER_OPTIONS,
    Option(("--step-timeout",), "How long a RUN may take, as in 90s or 30m.", metavar="TIME", default=""),
    Option(("--step-disk",), "How much a RUN may write to disk.", metavar="SIZE", default=""),
    Option(("--step-output",), "How much a RUN may print.", metavar="SIZE", default=""),
)
"""Options of ``build``. Their values go to ``step_limits`` by keyword."""


def step_limits(options: Mapping[str, Any]) -> StepLimits:
    """The limits that ``build``'s options ask for. Raises CommandError."""
    from builder.request.limits import StepLimits

    default = StepLimits()
    container = container_limits(options)
    if options["pids_limit"] is None:
        container = container._replace(pids=default.container.pids, optional=default.container.optional)
    return StepLimits(
        container=container,
        ulimits=resource_limits(options["ulimits"]),
        shm_bytes=shm_bytes(options["shm_size"]),
        timeout_s=duration(options["step_timeout"], "--step-timeout") if options["step_timeout"] else 0.0,
        disk_bytes=size(options["step_disk"], "--step-disk") if options["step_disk"] else 0,
        output_bytes=size(options["step_output"], "--step-output") if options["step_output"] else 0,
    )


def container_limits(options: Mapping[str, Any]) -> Limits:
    """The limits in docker's options for control groups. Raises CommandError."""
    from containers.resources import Limits

    memory = size(options["memory"], "--memory") if options["memory"] else 0
    if memory and memory < _MIN_MEMORY:
        raise CommandError(f"--memory {options['memory']} is too little: no program starts", hint="6m is the least")
    total = _swap(options["memory_swap"], memory)
    pids = options["pids_limit"] or 0
    if pids < -1:
        raise CommandError(f"--pids-limit {pids}: a number of processes, or -1 for any")
    return Limits(memory, total, _cpus(options), _shares(options["cpu_shares"]), max(pids, 0))


def resource_limits(texts: Sequence[str]) -> tuple[ResourceLimit, ...]:
    """The resource limits in texts like ``nofile=1024:2048``. Raises CommandError."""
    from containers.resources import ResourceLimit

    found = []
    for text in texts:
        name, _, values = text.partition("=")
        if name not in ULIMITS:
            raise CommandError(f"--ulimit {text}: no limit is called {name!r}", hint=f"there are {', '.join(ULIMITS)}")
        soft, _, hard = values.partition(":")
        try:
            limit = ResourceLimit(name, int(soft), int(hard or soft))
        except ValueError as error:
            raise CommandError(f"--ulimit {text}: write {name}=SOFT or {name}=SOFT:HARD, in numbers") from error
        if limit.hard != -1 and (limit.soft > limit.hard or limit.soft == -1):
            raise CommandError(f"--ulimit {text}: the soft limit is above the hard one")
        found.append(limit)
    return tuple(found)


def shm_bytes(text: str) -> int:
    """The bytes in ``--shm-size``. Raises CommandError."""
    from containers.limits import DEFAULT_SHM_BYTES

    if not text:
        return DEFAULT_SHM_BYTES
    found = size(text, "--shm-size")
    if not found:
        raise CommandError("--shm-size 0: it has to be more")
    return found


def size(text: str, option: str) -> int:
    """The bytes in a text like ``512m``. Raises CommandError."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise CommandError(
            f"{option} {text!r} is no size", hint="write 512m or 2g: b, k, m, g and t are the units"
        ) from error


def _swap(text: str, memory: int) -> int:
    if not text:
        return 0
    if not memory:
        raise CommandError("--memory-swap needs --memory")
    if text == "-1":
        return -1
    total = size(text, "--memory-swap")
    if total < memory:
        raise CommandError("--memory-swap is memory and swap together: it cannot be less than --memory")
    return total


def _cpus(options: Mapping[str, Any]) -> float:
    text, period, quota = options["cpus"], options["cpu_period"], options["cpu_quota"]
    if text and (period or quota):
        raise CommandError("--cpus and --cpu-quota say the same thing", hint="take one of them")
    if not text:
        return quota / (period or 100_000) if quota > 0 else 0.0
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.01 <= number < 10_000:
        raise CommandError(f"--cpus {text!r} is no number of processors", hint="write 2 or 0.5")
    return number


def _shares(number: int) -> int:
    if number < 0:
        raise CommandError(f"--cpu-shares {number}: a weight from 2 to 262144")
    return number
