"""The builders, each with storage of its own below one directory, each driven by its own command line."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol

from bench.workloads import BASE

_START_S = 60
_CHECKOUT = Path(__file__).resolve().parents[1]


class ToolError(Exception):
    """A builder could not be started, or a build that has to succeed failed. Carries the end of its output."""


class Tool(Protocol):
    """One builder. ``build`` is what gets timed; everything else happens off the clock."""

    name: str

    def version(self) -> str: ...
    def start(self, base_tar: Path) -> None:
        """Make it ready, with the image ``bench-base`` imported from ``base_tar``."""

    def add_image(self, tar: Path, name: str) -> None:
        """Import another root filesystem."""

    def build(self, context: Path, *, cache: bool) -> None:
        """Build ``context``. cache: may use what earlier builds left."""

    def save(self, archive: Path) -> None:
        """Write what was built last to an archive that docker loads."""

    def stop(self) -> None:
        """End what ``start`` started. Safe to call twice, and after a ``start`` that failed."""


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> str:
    """Run to the end, in a pipe as CI would. Returns output; raises ToolError with its end when it fails.

    Settings of this process's Python are not handed on: Shiplap is to keep its compiled modules, as it does for users.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    result = subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**inherited, **(environment or {})},
    )
    output = result.stdout.decode(errors="replace")
    if result.returncode != 0:
        raise ToolError(f"{' '.join(map(str, command))} exited {result.returncode}:\n{output[-4000:]}")
    return output.strip()


def rootfs(name: str) -> Path:
    """The tar of a root file system that scripts/rootfs makes, and keeps."""
    return Path(run([_CHECKOUT / "scripts" / "rootfs", name]).splitlines()[-1])


def services_rootfs() -> Path:
    """The tar of a root file system with this machine's PostgreSQL, which scripts/services-rootfs makes, and keeps."""
    return Path(run([_CHECKOUT / "scripts" / "services-rootfs"]).splitlines()[-1])


class Shiplap:
    """The ``shiplap`` command of the environment that the bench runs in."""

    name = "shiplap"

    def __init__(self, directory: Path) -> None:
        self.root = directory / "shiplap"
        self._command = (Path(sys.executable).with_name("shiplap"), "--root", self.root)

    def version(self) -> str:
        return run([self._command[0], "--version"])

    def start(self, base_tar: Path) -> None:
        self.add_image(base_tar, BASE)

    def add_image(self, tar: Path, name: str) -> None:
        run([*self._command, "image", "import", tar, name])

    def build(self, context: Path, *, cache: bool) -> None:
        run([*self._command, "build", *_no_cache(cache), "--progress", "plain", "-t", "bench", context])

    def save(self, archive: Path) -> None:
        self.command("image", "save", "-o", archive, "bench")

    def command(self, *words: str | Path) -> str:
        """Run any command on its store; returns the output."""
        return run(self.words(*words))

    def words(self, *words: str | Path) -> list[str | Path]:
        """The command line of any command on its store."""
        return [*self._command, *words]

    def flatten(self, context: Path, tar: Path) -> None:
        """Build ``context`` into a root filesystem."""
        run([*self._command, "build", "-q", "-o", f"type=tar,dest={tar}", context])

    def stop(self) -> None:
        pass


class BuildKit:
    """``docker build`` against a dockerd of its own: private socket, data, network and mount namespace."""

    name = "buildkit"
    # In a network namespace of its own, its bridge and its firewall rules are nobody else's.
    _prefix: ClassVar[Sequence[str]] = (
        *("unshare", "--net", "--mount", "sh", "-c", 'ip link set lo up; exec dockerd "$@"'),
    )
    _options: ClassVar[Sequence[str]] = ()

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "docker"
        self._daemon: subprocess.Popen[bytes] | None = None
        # Settings of the user who runs the bench (contexts, plugins, credentials) stay out of it.
        self._environment = {
            "DOCKER_HOST": f"unix://{self._directory}/docker.sock",
            "DOCKER_CONFIG": str(self._directory / "config"),
            "DOCKER_BUILDKIT": "1",
        }

    def version(self) -> str:
        return "docker " + run(["docker", "version", "--format", "{{.Server.Version}}"], self._environment)

    def start(self, base_tar: Path) -> None:
        (self._directory / "config").mkdir(parents=True)
        with open(self._directory / "dockerd.log", "wb") as log:
            self._daemon = subprocess.Popen(
                [
                    *(*self._prefix, "dockerd", *self._options),
                    *("--data-root", self._directory / "data", "--exec-root", self._directory / "exec"),
                    *("--pidfile", self._directory / "pid", "--host", self._environment["DOCKER_HOST"]),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while True:
            try:
                self.version()
                break
            except ToolError as error:
                if self._daemon.poll() is not None or time.monotonic() > deadline:
                    log_end = (self._directory / "dockerd.log").read_text(errors="replace")[-4000:]
                    raise ToolError(f"dockerd did not start:\n{log_end}") from error
                time.sleep(0.2)
        self.add_image(base_tar, BASE)

    def add_image(self, tar: Path, name: str) -> None:
        self.run("import", tar, name)

    def build(self, context: Path, *, cache: bool) -> None:
        run(["docker", "build", *_no_cache(cache), "--progress", "plain", "-t", "bench", context], self._environment)

    def save(self, archive: Path) -> None:
        self.run("save", "-o", archive, "bench")

    def run(self, *words: str | Path) -> str:
        """Run a docker command."""
        return run(["docker", *words], self._environment)

    def stop(self) -> None:
        if self._daemon is None:
            return
        self._daemon.send_signal(signal.SIGTERM)
        try:
            self._daemon.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self._daemon.pid, signal.SIGKILL)
            self._daemon.wait()
        self._daemon = None


class Docker(BuildKit):
    """The same daemon without networks for containers, but where it reaches this machine's loopback: for registries."""

    name = "docker"
    # It mounts its data directory on itself, and leaves it so.
    _prefix: ClassVar[Sequence[str]] = ("unshare", "--mount")
    _options: ClassVar[Sequence[str]] = ("--bridge=none", "--iptables=false")


class Buildah:
    """``buildah build --layers``: without that option it caches nothing, which no comparison would want."""

    name = "buildah"
    # crun refuses hosts with mixed cgroup versions; limits above root's own cannot be set on every host.
    _OPTIONS = ("--runtime", "runc", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=20000:20000")

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "buildah"
        self._storage = self._directory / "root"
        self._command = (
            *("buildah", "--root", self._storage, "--runroot", self._directory / "run"),
            *("--storage-driver", "overlay"),
        )

    def version(self) -> str:
        return " ".join(run(["buildah", "--version"]).split()[:3])

    def start(self, base_tar: Path) -> None:
        self.add_image(base_tar, BASE)

    def add_image(self, tar: Path, name: str) -> None:
        context = self._directory / name
        context.mkdir(parents=True)
        shutil.copyfile(tar, context / "base.tar")
        (context / "Dockerfile").write_text('FROM scratch\nADD base.tar /\nCMD ["/bin/sh"]\n')
        run([*self._command, "build", "-t", name, context])

    def build(self, context: Path, *, cache: bool) -> None:
        run([*self._command, "build", "--layers", *_no_cache(cache), *self._OPTIONS, "-t", "bench", context])

    def save(self, archive: Path) -> None:
        run([*self._command, "push", "bench", f"docker-archive:{archive}"])

    def stop(self) -> None:
        """buildah has no daemon, but leaves its storage mounted on itself."""
        if os.path.ismount(self._storage / "overlay"):
            run(["umount", "--lazy", self._storage / "overlay"])


class PlainContainer:
    """A command in namespaces on an overlay of a root filesystem, and nothing besides: what every builder has to do.

    The overlay is mounted as engines do by default, without ``volatile``: what the command syncs goes to the disk.
    What the command wrote stays until the bench ends; see ``rounds``.
    """

    _SETUP = """
        mount -t tmpfs tmpfs "$1/run" && mkdir "$1/run/merged" && cd "$1/run" && mkdir "$2/upper" "$2/work" &&
        mount -t overlay overlay -o "lowerdir=$1/root,upperdir=$2/upper,workdir=$2/work" merged &&
        mount -t proc proc merged/proc && mount --rbind /dev merged/dev && exec chroot merged /bin/sh -c "$3"
    """

    def __init__(self, tar: Path, directory: Path) -> None:
        self._directory = directory
        for name in ("root", "run", "disk"):
            (directory / name).mkdir(parents=True)
        self._times = 0
        run(["tar", "-C", directory / "root", "-xf", tar])

    def run(self, command: str) -> None:
        """Run the command on the root filesystem as it was."""
        disk = self._directory / "disk" / str(self._times)
        disk.mkdir()
        self._times += 1
        script = ("sh", "-c", self._SETUP, "sh", self._directory, disk, command)
        run(["unshare", "--mount", "--pid", "--fork", *script])


def _no_cache(cache: bool) -> list[str]:
    return [] if cache else ["--no-cache"]


PEERS: dict[str, Callable[[Path], Tool]] = {"buildkit": BuildKit, "buildah": Buildah}
