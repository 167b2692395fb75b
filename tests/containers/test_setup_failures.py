"""Whatever keeps a container from being set up, the same and true reason is told, each time."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from containers import wire
from containers.birth import Births
from containers.errors import ContainerError, LimitError, MountError, NetworkError, PlaceError
from containers.guest import Guest, error_message
from containers.launcher import Launcher
from containers.resources import Limits
from containers.rootfs import Layers
from containers.spec import ExitStatus
from core.rootfs import DirectoryLayer
from tests.containers.running import Runner, descendants, eventually
from tests.toolkit.bounds import stretched

TIMES = 50


def told(attempt: Callable[[], object], times: int = TIMES) -> set[tuple[type[ContainerError], str]]:
    """What is raised, in each of ``times`` attempts."""
    found = set()
    for _ in range(times):
        with pytest.raises(ContainerError) as caught:
            attempt()
        found.add((caught.type, re.sub(r"upper\d+|/\d+'$", "", str(caught.value))))
    return found


def inner(run: Runner) -> int:
    """The process that makes the containers."""
    children = Path(f"/proc/{run.launcher.pid}/task/{run.launcher.pid}/children").read_text().split()
    return int(children[0])


@contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    before = resource.prlimit(pid, what)
    _set_limit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        _set_limit(pid, what, before)


def _set_limit(pid: int, what: int, limits: tuple[int, int]) -> None:
    """It is refused in the moments in which the process has another user's ID."""

    def accepted() -> bool:
        try:
            resource.prlimit(pid, what, limits)
        except PermissionError:
            return False
        return True

    assert eventually(accepted)


def test_what_was_sent_before_a_closing_comes_although_the_other_side_had_not_read_all() -> None:
    ours, theirs = wire.socket_pair()
    wire.send(ours, "unread")
    wire.send(theirs, "the reason")
    theirs.close()
    assert wire.receive(ours) == ("the reason", [])
    assert wire.receive(ours) is None
    ours.close()


def test_overlay_that_is_refused(run: Runner) -> None:
    def attempt() -> None:
        spec = run.spec("true")
        (run.upper / "work").rmdir()
        run.launcher.start(spec, stdin=0, stdout=1, stderr=2)

    ((kind, message),) = told(attempt)
    assert kind is MountError
    assert re.fullmatch(r"cannot mount an overlay of \d+ directories: mount: No such file or directory", message)
    assert run("echo well") == "well\n"


def test_place_that_does_not_fit_the_files_is_theirs(run: Runner) -> None:
    assert told(lambda: run("true", cwd="/etc/passwd")) == {
        (PlaceError, "cannot use /etc/passwd as working directory: File exists")
    }


def test_layer_that_is_absent(run: Runner) -> None:
    ((kind, message),) = told(lambda: run("true", layers=(DirectoryLayer("/no/layer/fs"),)))
    assert kind is MountError
    assert message == "cannot mount the layer /no/layer/fs: No such file or directory"


def test_absent_control_group(run: Runner) -> None:
    os.close(run.launcher.view([]))  # the process is there, and has made no container
    held = {os.readlink(fd) for fd in Path(f"/proc/{inner(run)}/fd").iterdir()}
    groups = [folder for folder in held if folder.startswith("/sys/fs/cgroup/")]
    assert groups
    for folder in groups:
        os.rmdir(folder)
    ((_, message),) = told(lambda: run("true"))
    assert re.match(r"cannot make a container: .*No such file or directory: '/sys/fs/cgroup/", message)


def test_too_many_open_files(run: Runner) -> None:
    run("true", network="default")
    process = inner(run)
    used = len(os.listdir(f"/proc/{process}/fd"))
    refusals: list[str] = []
    for free in range(-2, 14):
        with limited(process, resource.RLIMIT_NOFILE, used + free):
            for _ in range(3):
                try:
                    assert run.status("true")[0] == ExitStatus(0)
                except ContainerError as error:
                    refusals.append(str(error))
        assert run("echo well") == "well\n"
    assert refusals
    assert [text for text in refusals if "too many open files" not in text.lower()] == []


def test_too_many_processes(run: Runner) -> None:
    run("true")
    pids = Path("/sys/fs/cgroup/pids") if Path("/sys/fs/cgroup/pids").is_dir() else Path("/sys/fs/cgroup")
    group = pids / f"shiplap-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cgroup.procs").write_text(str(inner(run)))
        (group / "pids.max").write_text("1")
        kill_spares(run)
        assert told(lambda: run.status("true")) == {
            (ContainerError, "cannot make the process of a container: clone3: Resource temporarily unavailable")
        }
        (group / "pids.max").write_text("max")
        assert run("echo well") == "well\n"
    finally:
        run.launcher.close()
        assert eventually(lambda: _removed(group))


@pytest.mark.parametrize("beside", [False, True])
def test_a_process_with_threads_is_refused_and_nothing_stays_open(beside: bool) -> None:
    births = Births((0, 0), Layers("", -1), 0, death_signal=0)
    refused: list[AssertionError] = []
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    try:
        before = set(os.listdir("/proc/self/fd"))
        try:
            births.fork_beside("one", "none", (-1, []), {}) if beside else births.fork("one", 1, "none", (-1, []))
        except AssertionError as error:
            refused.append(error)  # with its frames, and what they hold
        after = set(os.listdir("/proc/self/fd"))
    finally:
        go.set()
        thread.join()
    assert [str(error) for error in refused] == ["clone3 in a process with threads"]
    assert after == before


def _removed(group: Path) -> bool:
    with contextlib.suppress(OSError):
        group.rmdir()
    return not group.exists()


def spares(run: Runner) -> list[int]:
    """The first processes of the containers that the launcher has made ahead."""
    found = []
    for pid in descendants(inner(run))[1:]:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that has ended is none
            if "pasta" not in Path(f"/proc/{pid}/comm").read_text():
                found.append(pid)
    return found


def kill_spares(run: Runner) -> None:
    """Do it as the kernel does when memory runs out."""
    for pid in spares(run):
        os.kill(pid, signal.SIGKILL)


def test_spare_container_is_made_anew_for_each_that_was_taken(run: Runner) -> None:
    for _ in range(3):
        assert run("echo well") == "well\n"
        assert eventually(lambda: bool(spares(run)))


def test_spare_containers_that_were_killed_are_nobodys_failure(run: Runner) -> None:
    for _ in range(TIMES):
        assert run("echo well") == "well\n"
        kill_spares(run)


def test_spare_container_that_closed_its_channel_before_it_was_killed_is_nobodys_failure() -> None:
    ours, theirs = wire.socket_pair()
    guest = Guest("1", 1, -1, ours, "none")
    guest.was_spare = True
    guest.failure = error_message(ContainerError("cannot start the container: Broken pipe"))
    assert guest.was_killed_as_spare(signal.SIGKILL)
    assert not guest.was_killed_as_spare(1 << 8)
    ours.close()
    theirs.close()


def test_memory_that_is_too_little_for_the_set_up(run: Runner) -> None:
    ((kind, message),) = told(lambda: run("true", limits=Limits(memory_bytes=1 << 15)), 10)
    assert kind is LimitError
    assert message == "the set-up of the container ran out of memory: its limit is 32768 bytes"


@pytest.fixture
def by_pasta(run: Runner, tmp_path: Path) -> Iterator[Runner]:
    """A runner whose network is a process, and can end."""
    state = tmp_path / "by-pasta"
    state.mkdir()
    with Launcher(state, uplink="pasta") as launcher:
        run.launcher = launcher
        yield run


def test_network_that_ends_under_a_command_is_told_when_it_fails(by_pasta: Runner) -> None:
    run = by_pasta

    def attempt() -> None:
        reader, writer = os.pipe()
        container = run.start("sh", "-c", "echo ready; sleep 1; exit 3", stdout=writer, network="default")
        os.close(writer)
        assert os.read(reader, 10) == b"ready\n"
        os.close(reader)
        kill_pasta(run)
        container.wait(stretched(60))

    assert told(attempt, 5) == {(NetworkError, "pasta, which connects containers to the network, has ended")}


def test_network_that_ends_under_a_command_that_succeeds_is_no_failure(by_pasta: Runner) -> None:
    run = by_pasta
    container = run.start("sh", "-c", "sleep 1", network="default")
    kill_pasta(run)
    assert container.wait(stretched(60)) == ExitStatus(0)


def kill_pasta(run: Runner) -> None:
    for pid in descendants(run.launcher.pid):
        if Path(f"/proc/{pid}/comm").read_text().startswith("pasta"):
            os.kill(pid, signal.SIGKILL)


_ATTEMPTS = """
import contextlib
import sys
from pathlib import Path
from containers.errors import ContainerError
from containers.launcher import Launcher
from containers.spec import ContainerSpec

folder = Path(sys.argv[1])
spec = ContainerSpec(layers=(), upper=None, args=("/x",), network="default")
for round_ in range(int(sys.argv[2])):
    with Launcher(folder, uplink="pasta") as launcher, open("/dev/null", "r+b") as null:
        io = dict(stdin=null.fileno(), stdout=null.fileno(), stderr=null.fileno())
        with contextlib.suppress(ContainerError):
            if round_ % 2:
                launcher.warm()
        for _ in range(5):
            try:
                print("exit", launcher.start(spec, **io).wait().code)
            except ContainerError as error:
                print(type(error).__name__, str(error).partition("\\n")[0])
"""


def attempts(prepare: str, *arguments: str | Path, folder: Path) -> set[str]:
    """What fifty attempts on ten launchers say. prepare: a shell's commands in a mount namespace of their own."""
    command = [sys.executable, "-c", _ATTEMPTS, str(folder), str(TIMES // 5)]
    script = f'{prepare}; shift {len(arguments)}; exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-euc", script, "sh", *arguments, *command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        timeout=stretched(200),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == TIMES
    return set(lines)


def test_no_tun_device(privileged: None, tmp_path: Path) -> None:
    (line,) = attempts("mount --bind /dev/null /dev/net/tun", folder=tmp_path)
    assert line.startswith("NetworkError pasta failed to set up the containers' network: ")
    assert "tun" in line


@pytest.mark.parametrize("program", ["pasta", "nft"])
def test_missing_program(privileged: None, tmp_path: Path, program: str) -> None:
    (line,) = attempts('mount --bind /dev/null "$(command -v "$1")"', program, folder=tmp_path)
    assert line == f"NetworkError the program {program} that connects containers to the network is missing"


@pytest.mark.parametrize("program", ["pasta", "nft"])
def test_program_that_cannot_be_executed(privileged: None, tmp_path: Path, program: str) -> None:
    script = tmp_path / program
    script.write_text("#!/nowhere/interpreter\n")
    script.chmod(0o755)
    (line,) = attempts('mount --bind "$2" "$(command -v "$1")"', program, script, folder=tmp_path)
    assert line.startswith("NetworkError ")
    assert "[Errno 2] No such file or directory" in line


@pytest.mark.parametrize("program", ["pasta", "nft"])
def test_program_that_is_killed(privileged: None, tmp_path: Path, program: str) -> None:
    script = tmp_path / program
    script.write_text("#!/bin/sh\nkill -9 $$\n")
    script.chmod(0o755)
    (line,) = attempts('mount --bind "$2" "$(command -v "$1")"', program, script, folder=tmp_path)
    assert line == f"NetworkError {program} failed to set up the containers' network: it was ended by signal 9"


def test_two_programs_that_fail_are_told_by_the_same_one(privileged: None, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\necho no\nexit 1\n")
    script.chmod(0o755)
    hide = 'for name in nft pasta; do mount --bind "$1" "$(command -v $name)"; done'
    (line,) = attempts(hide, script, folder=tmp_path)
    assert line == "NetworkError pasta failed to set up the containers' network: no"


def test_full_disk_below_the_launcher(privileged: None, tmp_path: Path) -> None:
    fill = 'mount -t tmpfs -o size=4k,nr_inodes=1 full "$1"'
    (line,) = attempts(fill, tmp_path, folder=tmp_path)
    assert line == "LauncherError cannot start the launcher process: No space left on device"
