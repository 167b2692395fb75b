"""A Docker engine of a job's own (``engine: true``), for as long as the job's container runs.

    worker ── launcher ─┬─ [ job ]       DOCKER_HOST: a socket whose file was made for it
                        └─ [ engine ]    in the job's user and network namespaces, and in no other of the job's
                              └─ [ container ] [ container ] …   what the job starts: keepers' children

The engine is the program of ``shiplap engine``, in a container beside the job's: it is root where the job is root, and
nobody on the host. Its programs are this host's, read-only; its data is in the session of the attempt. It gets images
by the job's rights from a relay here, which has the log-ins: it has none. It ends with the job's container, as the
launcher sees to (docs/decisions/0047-a-jobs-engine-runs-beside-it.md).
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import Final

from builder.request.limits import StepLimits
from builder.running.container import Output, started_container
from builder.running.masking import secret_forms
from builder.running.watch import Watch
from ci import limits as within
from ci.execution import failures
from ci.execution.running import Running
from ci.execution.steps import Numbering
from ci.outcome import JobTools
from containers.capabilities import ALL_CAPABILITIES
from containers.errors import StateError
from containers.handles import Container
from containers.spec import Bind, ContainerSpec, Device, File, LimitGroup, Mount, OthersRoot, Tmpfs
from core.closing import Closing
from core.events import StepOutcome
from core.files import storage_errors
from core.rootfs import DirectoryLayer
from registry.client.relay import Relay

SOCKET: Final = "/var/run/docker.sock"
VARIABLE: Final = ("DOCKER_HOST", f"unix://{SOCKET}")
STEP: Final = "engine"

_VIEW, _ROOT, _IMAGES = "/job", "/var/lib/shiplap", "/run/images.sock"
_DIRECTORIES: Final = ("dev", "etc", "job", "proc", "run", "sys", "tmp", "usr", "var/lib/shiplap")
_PROGRAMS: Final = ("bin", "lib", "lib32", "lib64", "sbin")
_FOR_TLS: Final = "/etc/ssl"
_PASSWD: Final = b"root:x:0:0:root:/:/bin/sh\n"
_TUN: Final = "/dev/net/tun"
_BACKLOG: Final = 512
_PLAIN_MODE: Final = 0o666
"""Whatever user the job has: nobody but the job sees the file."""


class OwnEngine(Closing):
    """The engine of one attempt.

    Made by: the attempt, before its container. ``begin`` starts it once that runs; until it serves, clients wait.
    Threads: the attempt's.
    Ended by: the end of the job's container; ``end`` waits for it, and ``close`` takes its files away.

    mounts: what the job's container has to see.
    group: the job's limits, where it has no services that are held to them, too.
    watch: over what its containers and images take on the disk, and what it prints.
    """

    def __init__(self, tools: JobTools, numbering: Numbering, limits: StepLimits) -> None:
        """Start nothing yet. Raises StorageFullError, OSError."""
        self.group = within.together(limits, 1)
        self._is_lost = self._is_late = False
        (step,) = numbering.planned([STEP], [0])
        output = Output(step.id, numbering, secret_forms(tools.masked))
        self._running = Running(STEP, step, output, numbering, failures.of_engine)
        with contextlib.ExitStack() as undo, storage_errors("the files of a job's engine"):
            upper = tools.store.snapshots.new_upper()
            undo.callback(tools.store.snapshots.discard, upper)
            free = limits._replace(timeout_s=0, disk_bytes=0, output_bytes=0)  # the job's, whose watch looks here, too
            self.watch = Watch(free, upper.path)
            self._folder = f"{upper.path}/fs"
            _make_system(Path(self._folder))
            self._listener = undo.enter_context(_listening(self._folder, "docker.sock"))
            self._relayed = tools.connect is not None
            if tools.connect is not None:
                client = undo.enter_context(tools.connect())
                undo.enter_context(Relay(_listening(self._folder, "images.sock"), client))
            self.mounts: tuple[Mount, ...] = (Bind(f"{self._folder}/docker.sock", SOCKET),)
            self._held = undo.pop_all()

    def begin(self, job: Container, group: LimitGroup | None) -> None:
        """Start it beside the job's container, which has just begun. group: of that. Raises ContainerError, OSError."""
        self._running.begin()
        spec = self._spec()._replace(group=group)

        def start(spec: ContainerSpec, *, stdin: int, stdout: int, stderr: int) -> Container:
            del stdin
            return job.accompany(spec, stdin=self._listener.fileno(), stdout=stdout, stderr=stderr)

        try:
            container, streams = self._held.enter_context(started_container(spec, start, is_merged=True))
        except StateError:  # the job was quicker
            self._is_late = True
            return
        self._running.follow(container, streams, self.watch)

    def has_ended(self, job: Container) -> bool:
        """Whether it has ended before the job: then the job is to end, too."""
        self._is_lost = self._is_lost or (self._running.has_ended() and not job.ended())
        return self._is_lost

    def check(self) -> None:
        """Raises CommandFailedError when it has ended before the job, and what following it has raised."""
        if self._is_lost:
            self._running.check()

    def wait(self) -> None:
        """The job's container has ended: wait until this has, too, which may have the job's files open."""
        self._running.wait()

    def end(self, outcome: StepOutcome) -> None:
        """The job has ended: wait until this has, too, and say how."""
        self._running.kill()
        self._running.end("cancelled" if self._is_late else outcome)

    def close(self) -> None:
        self._held.close()

    def _spec(self) -> ContainerSpec:
        # The first: this host's programs may lie below them.
        mounts: list[Mount] = [Tmpfs("/run", mode=0o755), Tmpfs("/tmp"), File("/etc/passwd", _PASSWD, 0o444)]  # noqa: S108
        mounts += [Bind(path, path, readonly=True, idmapped=False) for path in _programs()]
        if os.path.isdir(_FOR_TLS):
            mounts.append(Bind(_FOR_TLS, _FOR_TLS, readonly=True, idmapped=False))
        mounts += [Bind(f"{self._folder}/data", _ROOT), OthersRoot(_VIEW), Device(_TUN, _TUN)]
        if self._relayed:
            mounts.append(Bind(f"{self._folder}/images.sock", _IMAGES))
        images = _IMAGES if self._relayed else ""
        return ContainerSpec(
            layers=(DirectoryLayer(f"{self._folder}/system"),),
            upper=None,
            args=(sys.executable, "-P", "-m", "dockerapi.private", _VIEW, images),
            env=(
                ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
                ("HOME", "/tmp"),  # noqa: S108 - its own
                ("TMPDIR", "/tmp"),  # noqa: S108
                ("SHIPLAP_ROOT", _ROOT),
                ("PYTHONDONTWRITEBYTECODE", "1"),
                ("PYTHONPATH", ":".join(_imported())),
                ("LD_LIBRARY_PATH", f"{sys.base_prefix}/lib"),  # of an interpreter that is not the system's
            ),
            mounts=tuple(mounts),
            capabilities=ALL_CAPABILITIES,
            filtered=False,
            init=True,
            privileged=True,
        )


def _make_system(folder: Path) -> None:
    """What the engine's own root is made of: places for this host's programs, and links to them as here."""
    system = folder / "system"
    for name in _DIRECTORIES:
        (system / name).mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in _PROGRAMS:
        here = Path("/", name)
        if here.is_symlink():
            (system / name).symlink_to(os.readlink(here))
        elif here.is_dir():
            (system / name).mkdir(mode=0o755)
    data = folder / "data"
    data.mkdir(mode=0o700)
    for path in (folder, system):
        path.chmod(0o755)


def _programs() -> list[str]:
    """The directories of this host with the programs that an engine needs: it, its interpreter, pasta, git."""
    wanted = {"/usr", sys.prefix, os.path.realpath(sys.prefix), sys.base_prefix, *_imported()}
    wanted |= {f"/{name}" for name in _PROGRAMS if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")}
    return sorted(path for path in wanted if not any(path.startswith(f"{other}/") for other in wanted))


def _imported() -> list[str]:
    """Where this process has its modules from."""
    source = str(Path(__file__).resolve().parents[2])
    return list(dict.fromkeys([source, *(path for path in sys.path if os.path.isabs(path) and os.path.isdir(path))]))


def _listening(folder: str, name: str) -> socket.socket:
    """A socket whose file is in a directory, by a path that is short enough whatever that is called."""
    top = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(f"/proc/self/fd/{top}/{name}")
        os.chmod(f"{folder}/{name}", _PLAIN_MODE)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.close(top)
    return sock
