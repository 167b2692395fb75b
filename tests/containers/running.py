"""Run a command in a container and see what it says; see what is left of it afterwards."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from containers.launcher import Container, Launcher
from containers.spec import ContainerSpec, ExitStatus
from core.rootfs import DirectoryLayer
from tests.toolkit.bounds import Deadline, stretched


@dataclass
class Runner:
    """Starts containers on the busybox layer, each with an upper of its own; ``upper`` is the last one's."""

    launcher: Launcher
    folder: Path
    layer: DirectoryLayer
    counter: Iterator[int]
    upper: Path = Path()

    def new_upper(self) -> str:
        self.upper = self.folder / f"upper{next(self.counter)}"
        for name in ("", "fs", "work"):
            (self.upper / name).mkdir()
        (self.upper / "fs").chmod(0o755)
        return str(self.upper)

    def spec(self, *args: str, **fields: object) -> ContainerSpec:
        plain: dict[str, Any] = {"layers": (self.layer,), "network": "none", "args": args}
        if "upper" not in fields:
            plain["upper"] = self.new_upper()
        return ContainerSpec(**{**plain, **fields})

    def start(self, *args: str, stdout: int | None = None, **fields: object) -> Container:
        with open(os.devnull, "r+b") as null:
            fd = null.fileno()
            return self.launcher.start(
                self.spec(*args, **fields), stdin=fd, stdout=fd if stdout is None else stdout, stderr=fd
            )

    def status(self, *args: str, **fields: object) -> tuple[ExitStatus, str]:
        """How it ended, and its output and errors."""
        said = self.folder / f"said{next(self.counter)}"
        with open(os.devnull, "rb") as null, open(said, "wb") as output:
            out = output.fileno()
            spec = self.spec(*args, **fields)
            status = self.launcher.start(spec, stdin=null.fileno(), stdout=out, stderr=out).wait(stretched(60))
        return status, said.read_text()

    def __call__(self, script: str, **fields: object) -> str:
        """The output of a shell script, which has to succeed."""
        status, said = self.status("sh", "-euc", script, **fields)
        assert status == ExitStatus(0), f"{status}: {said}"
        return said


@dataclass(frozen=True)
class Traces:
    """What a launcher and its containers are made of: processes, namespaces, control groups.

    The kernel gives numbers out again, so only the processes that were there ``at`` the look count as leftovers.
    (A pid namespace does not outlive its first process, so a younger process cannot be the only one left.)
    """

    processes: frozenset[int]
    namespaces: frozenset[str]
    cgroups: frozenset[str]
    at: float

    @classmethod
    def of(cls, launcher_pid: int) -> Traces:
        """Of a living launcher and all its descendants; without the namespaces that are the host's."""
        ours = _namespaces("self")
        pids = descendants(launcher_pid)
        namespaces = {name for pid in pids for name in _namespaces(str(pid))} - ours
        groups = frozenset(path for pid in pids for path in _cgroups(pid))
        return cls(frozenset(pids), frozenset(namespaces), groups, time.clock_gettime(time.CLOCK_BOOTTIME))

    def left(self) -> list[str]:
        """Those that still exist: a namespace by a process in it, a control group by its directory."""
        living = {
            name for entry in map(str, self.processes) if _started(entry) <= self.at for name in _namespaces(entry)
        }
        return sorted(self.namespaces & living) + [path for path in self.cgroups if os.path.isdir(path)]


def _started(pid: str) -> float:
    """When a process started, in seconds since the machine did; infinity when it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return int(ticks) / os.sysconf("SC_CLK_TCK")
    return float("inf")


def descendants(pid: int) -> list[int]:
    """``pid`` and all that it is an ancestor of."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal():
            with suppress(FileNotFoundError, ProcessLookupError):
                parent = int(Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        current = todo.pop()
        found.append(current)
        todo += children.get(current, [])
    return found


def eventually(condition: Callable[[], object], timeout_s: float = 15) -> bool:
    """Whether the condition becomes true in time."""
    deadline = Deadline(timeout_s)
    while not condition():
        if deadline.passed():
            return False
        time.sleep(0.02)
    return True


def _namespaces(pid: str) -> set[str]:
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # pid 1 of a virtual machine may be closed
        for kind in ("user", "mnt", "pid", "net", "uts", "ipc", "cgroup"):
            found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found


def _cgroups(pid: int) -> set[str]:
    """The directories of the control groups of ours that a process is in."""
    found = set()
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            path = line.split(":", 2)[2]
            if path.startswith("/shiplap/"):
                found |= {str(folder) for folder in Path("/sys/fs/cgroup").glob(f"*{path}")}
                found |= {str(folder) for folder in Path("/sys/fs/cgroup").glob(path[1:])}
    return found
