"""Whatever ends, and however: no process, namespace, mount or control group stays."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.errors import ContainerError, LauncherError
from containers.launcher import Container, Launcher
from containers.reclaim import reclaim
from containers.spec import ExitStatus
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner, Traces, descendants, eventually
from tests.toolkit.bounds import stretched
from tests.toolkit.host import mount_table

# A command that does not want to end: it ignores signals and leaves processes behind in sessions of their own.
STUBBORN = "trap '' TERM INT HUP; for i in 1 2 3; do setsid sleep 300 & done; echo ready; sleep 300"


def _start_stubborn(run: Runner, network: str = "default") -> tuple[Traces, Container]:
    reader, writer = os.pipe()
    container = run.start("sh", "-c", STUBBORN, stdout=writer, network=network)
    os.close(writer)
    assert os.read(reader, 10) == b"ready\n"
    os.close(reader)
    return Traces.of(run.launcher.pid), container


def test_nothing_stays_after_close(run: Runner) -> None:
    before = mount_table()
    run("true", network="default")
    run("true")
    traces, container = _start_stubborn(run)
    assert len(traces.namespaces) > 10
    assert traces.cgroups
    run.launcher.close()
    assert traces.left() == []
    assert mount_table() == before
    with pytest.raises(LauncherError, match="closed"):
        run("true")
    container.close()


def test_no_process_of_a_container_outlives_it(run: Runner) -> None:
    """The first process ends; what it had put into the background is gone when wait returns."""
    run("true")
    quiet = set(descendants(run.launcher.pid))
    run("for i in 1 2 3; do setsid sleep 300 & done; exit 0")
    assert eventually(lambda: not _sleepers(run.launcher))
    assert quiet


def _sleepers(launcher: Launcher) -> list[int]:
    found = []
    for pid in descendants(launcher.pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_kill_takes_the_whole_container_and_its_control_groups(run: Runner) -> None:
    _, container = _start_stubborn(run)
    inside = [pid for pid in descendants(run.launcher.pid) if pid in _sleepers(run.launcher)]
    groups = {path for path in Traces.of(run.launcher.pid).cgroups if _members(path) & set(inside)}
    assert len(inside) >= 4
    assert groups
    container.kill()
    assert container.wait(stretched(10)) == ExitStatus(137, 9)
    assert not _sleepers(run.launcher)
    assert eventually(lambda: not any(os.path.isdir(path) for path in groups))


def _members(group: str) -> set[int]:
    with contextlib.suppress(OSError):
        return {int(line) for line in Path(group, "cgroup.procs").read_text().split()}
    return set()


def test_dropped_container_is_killed(run: Runner) -> None:
    _, container = _start_stubborn(run, "none")
    container.close()
    assert eventually(lambda: not _sleepers(run.launcher))


def test_failed_setups_leave_nothing(run: Runner) -> None:
    run("true", network="default")
    for fields in ({"user": "unknown"}, {"cwd": "/etc/passwd"}, {"layers": (DirectoryLayer("/no/layer/fs"),)}):
        with pytest.raises(ContainerError):
            run("true", network="default", **fields)
    traces = Traces.of(run.launcher.pid)
    run.launcher.close()
    assert traces.left() == []


@pytest.mark.parametrize("victim", ["outer", "inner"])
def test_killed_launcher_takes_its_containers_along(run: Runner, victim: str) -> None:
    traces, container = _start_stubborn(run)
    outer = run.launcher.pid
    inner = next(pid for pid in descendants(outer) if _parent(pid) == outer)
    before = mount_table()
    os.kill(outer if victim == "outer" else inner, signal.SIGKILL)
    with pytest.raises(LauncherError, match="ended"):
        container.wait(stretched(10))
    assert eventually(lambda: not [name for name in traces.left() if ":[" in name])
    assert mount_table() == before
    with pytest.raises(LauncherError, match="gone"):
        run("true")
    reclaim()
    assert traces.left() == []
    container.close()


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


_CLIENT = """
import sys
from pathlib import Path
from containers.launcher import Container, Launcher
from containers.spec import ContainerSpec
from core.rootfs import DirectoryLayer

state, layer, upper, script, network = sys.argv[1:]
launcher = Launcher(Path(state))
launcher.warm()
print(launcher.pid, flush=True)
spec = ContainerSpec(layers=(DirectoryLayer(layer),), upper=upper, args=("sh", "-c", script), network=network)
container = launcher.start(spec, stdin=0, stdout=1, stderr=2)
container.wait()
"""


@contextlib.contextmanager
def _client(run: Runner, name: str, network: str = "default") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process with a launcher and a stubborn container of its own; the process and the launcher's pid."""
    state = run.folder / f"state-{name}"
    state.mkdir()
    arguments: list[str | Path] = [state, run.layer.path, run.new_upper(), STUBBORN, network]
    with subprocess.Popen(
        [sys.executable, "-c", _CLIENT, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as client:
        assert client.stdout is not None
        try:
            yield client, int(client.stdout.readline())
        finally:
            client.kill()


def test_killed_client_leaves_nothing(run: Runner) -> None:
    with _client(run, "one") as (client, launcher):
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        traces = Traces.of(launcher)
        assert traces.cgroups
        client.kill()
        client.wait()
        assert eventually(lambda: not traces.left()), traces.left()


def test_killed_client_and_launcher_leave_only_what_reclaim_removes(run: Runner) -> None:
    with _client(run, "both") as (client, launcher):
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        traces = Traces.of(launcher)
        os.kill(client.pid, signal.SIGSTOP)
        os.kill(launcher, signal.SIGKILL)
        client.kill()
        client.wait()
        assert eventually(lambda: not [name for name in traces.left() if ":[" in name]), traces.left()
        reclaim()
        assert traces.left() == []


def test_client_killed_at_any_moment_leaves_nothing(run: Runner) -> None:
    chance = random.Random(7)
    for number in range(12):
        with _client(run, str(number), chance.choice(["default", "none"])) as (client, launcher):
            time.sleep(chance.uniform(0, 0.08))
            traces = Traces.of(launcher)
            client.kill()
            client.wait()
            assert eventually(lambda: not traces.left()), traces.left()  # noqa: B023 - called at once


def test_new_launcher_reclaims_by_itself_and_spares_the_living(run: Runner, tmp_path: Path) -> None:
    mine, container = _start_stubborn(run, "none")
    with _client(run, "dead") as (client, launcher):
        assert client.stdout is not None
        assert client.stdout.readline() == "ready\n"
        dead = Traces.of(launcher)
        os.kill(launcher, signal.SIGKILL)
        client.kill()
        client.wait()
    state = tmp_path / "another"
    state.mkdir()
    with Launcher(state) as another:
        another.warm()
        assert eventually(lambda: not dead.left()), dead.left()
    reclaim()
    assert set(mine.cgroups) <= set(mine.left())
    container.kill()
    container.wait(stretched(10))


@pytest.mark.parametrize("used", [True, False])
def test_retired_launcher_ends_by_itself(privileged: None, tmp_path: Path, used: bool) -> None:
    with Launcher(tmp_path) as launcher:
        launcher.warm()
        if used:
            os.close(launcher.view(()))
        launcher.retire()
        with pytest.raises(LauncherError, match="closed"):
            launcher.view(())
        ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
        assert eventually(lambda: os.waitid(os.P_PID, launcher.pid, ended) is not None)
    assert launcher.pid == 0


def test_many_processes_die_with_their_container(run: Runner) -> None:
    script = "i=0; while [ $i -lt 300 ]; do sleep 300 & i=$((i+1)); done; echo ready; wait"
    reader, writer = os.pipe()
    container = run.start("sh", "-c", script, stdout=writer)
    os.close(writer)
    assert os.read(reader, 10) == b"ready\n"
    os.close(reader)
    assert len(_sleepers(run.launcher)) >= 300
    container.kill()
    container.wait(stretched(20))
    assert not _sleepers(run.launcher)


def test_container_that_closes_everything_is_waited_for(run: Runner) -> None:
    status, _ = run.status("sh", "-c", "exec 0<&- 1>&- 2>&-; sleep 0.1; exit 5")
    assert status == ExitStatus(5)


def test_much_output_flows(run: Runner) -> None:
    reader, writer = os.pipe()
    container = run.start("head", "-c", "50000000", "/dev/zero", stdout=writer)
    os.close(writer)
    total = 0
    while chunk := os.read(reader, 1 << 16):
        total += len(chunk)
    os.close(reader)
    assert container.wait(stretched(10)).code == 0
    assert total == 50_000_000


def test_output_that_nobody_reads_ends_the_writer(run: Runner) -> None:
    reader, writer = os.pipe()
    container = run.start("yes", stdout=writer)
    os.close(writer)
    os.read(reader, 10)
    os.close(reader)
    assert container.wait(stretched(10)) == ExitStatus(1)  # EPIPE; a first process does not die of its own SIGPIPE


def test_twenty_containers_at_once(run: Runner) -> None:
    specs = [run.spec("sh", "-c", f"sleep 0.1; exit {number}", network="default") for number in range(20)]
    codes: dict[int, int] = {}

    def one(number: int) -> None:
        with open(os.devnull, "r+b") as null:
            fd = null.fileno()
            codes[number] = run.launcher.start(specs[number], stdin=fd, stdout=fd, stderr=fd).wait(stretched(60)).code

    threads = [threading.Thread(target=one, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(stretched(60))
    assert codes == {number: number for number in range(20)}


def test_descriptors_do_not_pile_up(run: Runner) -> None:
    def open_files() -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in descendants(run.launcher.pid)[:2]) + len(
            os.listdir("/proc/self/fd")
        )

    for network in ("default", "none", "host"):
        run("true", network=network)
    time.sleep(0.2)
    before = open_files()
    for _ in range(10):
        for network in ("default", "none", "host"):
            run("true", network=network)
    assert eventually(lambda: open_files() <= before + 2, 5), (before, open_files())


def test_interrupt_at_the_terminal_does_not_reach_the_launcher(run: Runner) -> None:
    """It leads a session of its own, so Ctrl-C is for the client to handle."""
    run("true")
    assert os.getsid(run.launcher.pid) != os.getsid(0)


def test_launcher_starts_from_a_checkout_whatever_the_environment(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    monkeypatch.chdir("/")
    run("true")


def test_without_root_the_error_says_what_to_do(privileged: None, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from containers.errors import NamespaceError
from containers.launcher import Container, Launcher
try:
    Launcher(Path(sys.argv[1])).warm()
except NamespaceError as error:
    print(error, "|", error.hint)
"""
    tmp_path.chmod(0o777)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", _system_python(), "-c", script, "/tmp"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
    )
    assert "containers need root" in done.stdout, done.stderr
    assert "run as root" in done.stdout


def test_root_without_privileges_gets_a_namespace_error(privileged: None, tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from containers.errors import NamespaceError
from containers.launcher import Container, Launcher
try:
    Launcher(Path(sys.argv[1])).view(())
except NamespaceError as error:
    print(error, "|", error.hint)
"""
    done = subprocess.run(
        ["setpriv", "--bounding-set=-sys_admin", sys.executable, "-c", script, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert "may not make namespaces" in done.stdout, done.stderr
    assert "shiplap doctor" in done.stdout


def _system_python() -> str:
    """An interpreter that everybody may execute; the test's own may be below a closed home directory."""
    for path in ("/usr/bin/python3", sys.executable):
        if os.path.exists(path):
            return path
    return "python3"
