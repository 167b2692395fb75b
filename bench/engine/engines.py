"""The engines, each on a host of its own, each driven by its own command line, whose words are the same."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from bench.engine.hosts import Host
from bench.tools import ToolError

BUSYBOX: Final = "bench-busybox"
TRAFFIC: Final = "bench-traffic"
_START_S: Final = 60.0
_STOP_S: Final = 30.0


class Engine:
    """An engine that is started, on a host that is its own. ``close`` removes its containers, and ends it.

    directory: its own. host: ended by ``close`` as well.
    """

    name: ClassVar[str]
    importing: ClassVar[Sequence[str]] = ("import",)
    without: ClassVar[str | None] = None

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.environment = _environment()
        self.host = Host(directory, self.without)

    def words(self, *words: str | Path) -> list[str | Path]:
        """The command line of one of its commands."""
        raise NotImplementedError

    def command(self, *words: str | Path) -> str:
        """Run one of its commands; the output. Raises ToolError."""
        return self.host.run(self.words(*words), self.environment)

    def time(self, *words: str | Path) -> float:
        """Run one of its commands; how many seconds it took. Raises ToolError."""
        return self.host.time(self.words(*words), self.environment)

    def add_image(self, tar: Path, name: str) -> None:
        """Import a root file system."""
        self.command(*self.importing, tar, name)

    def version(self) -> str:
        """Name and number."""
        return self.command("--version")

    def processes(self) -> list[int]:
        """The host's numbers of all its own processes: not of what runs in containers."""
        mark = os.fsencode(self.directory)
        pids = [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]
        return [pid for pid in pids if mark in _command_line(pid) and _is_running(pid)]

    def clear(self) -> None:
        """Remove all containers."""
        containers = self.command("ps", "-a", "-q").split()
        if containers:
            self.command("rm", "-f", *containers)

    def close(self) -> None:
        """Remove all containers, and end what is left."""
        try:
            self.clear()
        except ToolError as error:
            print(f"bench: {self.name}: {error}", file=sys.stderr)
        finally:
            self.host.close()


class Shiplap(Engine):
    """The ``shiplap`` command of the environment that the bench runs in. uplink: SHIPLAP_UPLINK."""

    name = "shiplap"
    importing: ClassVar[Sequence[str]] = ("image", "import")

    def __init__(self, directory: Path, uplink: str = "auto") -> None:
        super().__init__(directory)
        self.environment["SHIPLAP_UPLINK"] = uplink
        self.root = directory / "root"

    def words(self, *words: str | Path) -> list[str | Path]:
        return [Path(sys.executable).with_name("shiplap"), "--root", self.root, *words]


class Resident(Shiplap):
    """The same, whose commands are run by a resident: SHIPLAP_RESIDENT=on."""

    name = "resident"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment["SHIPLAP_RESIDENT"] = "on"


class Api(Shiplap):
    """``shiplap engine``, by docker's command line. socket: where it listens."""

    name = "api"
    importing = ("import",)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.socket = directory / "docker.sock"
        start = f'"$0" --root {self.root} engine --listen unix://{self.socket} >{directory}/log 2>&1 </dev/null &'
        self.host.run(["sh", "-c", start, super().words()[0]], self.environment)
        self.environment |= {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_CONFIG": str(directory / "config")}
        _await(self, directory / "log")

    def words(self, *words: str | Path) -> list[str | Path]:
        return ["docker", *words]

    def version(self) -> str:
        return "docker's command line with " + self.command("version", "--format", "{{.Server.Version}}")

    def serving(self) -> list[int]:
        """The processes that serve the API."""
        mark = f"unix://{self.socket}".encode()
        return [pid for pid in self.processes() if mark in _command_line(pid) and b"dockerapi" in _command_line(pid)]


class Docker(Engine):
    """dockerd with its bridge and its rules."""

    name = "dockerd"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        socket = directory / "docker.sock"
        self.environment |= {"DOCKER_HOST": f"unix://{socket}", "DOCKER_CONFIG": str(directory / "config")}
        start = (
            f"dockerd --data-root {directory}/data --exec-root {directory}/exec --pidfile {directory}/pid"
            f" --host unix://{socket} >{directory}/dockerd.log 2>&1 </dev/null &"
        )
        self.host.run(["sh", "-c", start], self.environment)
        _await(self, directory / "dockerd.log")

    def words(self, *words: str | Path) -> list[str | Path]:
        return ["docker", *words]

    def version(self) -> str:
        return "dockerd " + self.command("version", "--format", "{{.Server.Version}}")

    def processes(self) -> list[int]:
        found = super().processes()
        return found + [child for pid in found for child in _children(pid) if b"docker-proxy" in _command_line(child)]

    def close(self) -> None:
        """The daemon ends itself, so that it takes its control groups along."""
        try:
            self.clear()
            stop = f"kill $(cat {self.directory}/pid); while [ -e {self.directory}/pid ]; do sleep 0.1; done"
            self.host.run(["sh", "-c", stop], self.environment, timeout_s=_STOP_S)
        except ToolError as error:
            print(f"bench: {self.name}: {error}", file=sys.stderr)
        finally:
            self.host.close()


class Podman(Engine):
    """podman, which has no daemon, with crun, which refuses a host that has both versions of control groups."""

    name = "podman"
    without = "/sys/fs/cgroup/unified"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"

    def clear(self) -> None:
        self.command("rm", "-f", "-a", "-t", "0")

    def words(self, *words: str | Path) -> list[str | Path]:
        directory = self.directory
        return [
            *("podman", "--root", directory / "data", "--runroot", directory / "run", "--tmpdir", directory / "tmp"),
            *("--runtime", "crun", "--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"),
            *("--network-config-dir", directory / "networks", "--events-backend", "file", *words),
        ]

    def version(self) -> str:
        crun = self.host.run(["crun", "--version"], self.environment).splitlines()[0]
        return f"{self.command('--version')} with {crun}"


PEERS: Final[dict[str, type[Engine]]] = {"resident": Resident, "dockerd": Docker, "podman": Podman}


def _await(engine: Engine, log: Path) -> None:
    """Wait until a daemon answers docker's command line. Raises ToolError with the end of its log."""
    deadline = time.monotonic() + _START_S
    while True:
        try:
            engine.command("version")
            return
        except ToolError as error:
            if time.monotonic() > deadline:
                engine.host.close()
                said = log.read_text(errors="replace")[-4000:]
                raise ToolError(f"{engine.name} did not start:\n{said}") from error
            time.sleep(0.2)


def _environment() -> dict[str, str]:
    """Settings of this process's Python and of its user stay out of it."""
    kept = ("PATH", "HOME", "LANG", "TERM")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def memory_of(pid: int) -> int:
    """A process's proportional share of the memory that it uses, in bytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:")), 0)


def called(words: Sequence[str | Path]) -> str:
    """Run a command here; its output. Raises ToolError."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"{' '.join(map(str, words))}: {done.stderr.strip()[-4000:]}")
    return done.stdout.strip()
