"""A process that forks commands for others: whom it serves, what a fork takes over, and that nothing is left behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from core import forked, forking, likeness, packets, zygote
from tests.toolkit.bounds import Deadline, eventually, stretched

_CHECKOUT: Final = Path(zygote.__file__).resolve().parents[1]
_MODULES: Final = (
    "__init__", "zygote", "forking", "forks", "forked", "likeness", "packets", "errors", "kernel", "leaving",
    "processes",
)  # fmt: skip
_NOT_SERVED: Final = 99
_FORKED: Final = 7
_AT_REST: Final = 5  # descriptors of a parent without forks: three standard ones, a lock, and one that listens

_COMMAND: Final = """
import json, os, resource, sys, time, signal, threading
from core import forking

def command(arguments):
    what, *rest = arguments
    if what == "sleep":
        open(rest[0], "w").write(str(os.getpid()))
        time.sleep(1000)
    if what == "trap":
        seen = []
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
        open(rest[0], "w").write(str(os.getpid()))
        while not seen:
            signal.pause()
        return 3
    if what == "cat":
        os.write(int(rest[1]), os.read(int(rest[0]), 100))
        return 0
    if what == "raise":
        raise RuntimeError("a bug")
    if what == "known":
        umask = os.umask(0)
        os.umask(umask)
        print(json.dumps({
            "argv": sys.argv, "environment": dict(os.environ), "cwd": os.getcwd(), "umask": umask,
            "limits": [resource.getrlimit(kind) for kind in range(16)],
            "niceness": os.getpriority(os.PRIO_PROCESS, 0),
            "oom": int(open("/proc/self/oom_score_adj").read()),
            "ignored": signal.getsignal(signal.SIGHUP) == signal.SIG_IGN,
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "fds": {
                fd: os.get_inheritable(fd) for fd in map(int, os.listdir("/proc/self/fd"))
                if os.path.exists(f"/proc/self/fd/{fd}")
            },
            "stdin": sys.stdin is None, "errors": sys.stdout.errors, "zone": time.tzname[0],
            "parent": os.getppid(),
        }))
    return 7

def main(arguments, ready):
    path, idle_s = arguments
    forking.serve(path, command, float(idle_s), ready)
"""

_CLIENT: Final = """
import os, sys
sys.path[0] = sys.argv[1]
from core import forked, likeness
forked._PATIENCE_S = 60
exec(sys.argv[2])
try:
    command = forked.ask(sys.argv[3], sys.argv[4:], likeness.facts(os.getpid()))
except (OSError, likeness.UnlikeError) as error:
    command = None
    print(error, file=sys.stderr)
sys.exit(99 if command is None else command.stay())
"""

_BELIEVES_ALL: Final = "likeness.facts = lambda pid: {}; likeness.check_peer = lambda sock, own: %r"
"""A client that looks at nothing, and knows the word all the same."""


class Parent(NamedTuple):
    """A process that forks _COMMAND. copy: of the code that it runs. path: of its socket. word: its proof's."""

    copy: Path
    path: Path
    word: str

    @property
    def pid(self) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
            sock.connect(str(self.path))
            return packets.peer(sock)[0]

    def words(self, *arguments: str | Path, code: str = "") -> list[str]:
        return [sys.executable, "-c", _CLIENT, *map(str, (self.copy, code, self.path, "name", *arguments))]

    def ask(
        self, *arguments: str | Path, code: str = "", prefix: Sequence[str] = (), **options: Any
    ) -> subprocess.CompletedProcess[str]:
        options.setdefault("env", {"PATH": os.environ["PATH"]})
        command = [*prefix, *self.words(*arguments, code=code)]
        return subprocess.run(command, capture_output=True, text=True, timeout=stretched(60), **options)

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.words(*arguments), env={"PATH": os.environ["PATH"]}, **options)


def _started(directory: Path, idle_s: float) -> Parent:
    copy = directory / "copy"
    (copy / "core").mkdir(parents=True)
    for name in _MODULES:
        shutil.copy2(_CHECKOUT / "core" / f"{name}.py", copy / "core")
    (copy / "thecommand.py").write_text(_COMMAND)
    made = Parent(copy, directory / "sock", os.urandom(8).hex())
    start = (
        "import sys; sys.path.insert(0, sys.argv[1]); from core import zygote, forked\n"
        "zygote.start_behind('thecommand', sys.argv[2:4], sys.argv[4], {forked.WORD: sys.argv[5]})"
    )
    arguments = [str(copy), str(made.path), str(idle_s), str(directory / "log"), made.word]
    subprocess.run([sys.executable, "-c", start, *arguments], check=True, env={"PATH": os.environ["PATH"]})
    eventually(made.path.exists, why=(directory / "log").read_text())
    return made


@pytest.fixture(scope="module")
def parent(privileged: None) -> Iterator[Parent]:
    directory = Path(tempfile.mkdtemp(prefix="shiplap-fork-", dir="/tmp"))
    made = _started(directory, 600.0)
    pid = made.pid
    yield made
    os.kill(pid, signal.SIGKILL)
    shutil.rmtree(directory)


# Whom it serves


def test_the_tests_own_kind_of_process_is_served(parent: Parent) -> None:
    """Else the refusals below would show nothing. One that looks at nothing is served, too."""
    assert parent.ask("end").returncode == _FORKED
    code = _BELIEVES_ALL % f"{forked.WORD}={parent.word}".encode()
    assert parent.ask("end", code=code).returncode == _FORKED


_GROUPED: Final = """
import atexit
above = next(d for d in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids", "/sys/fs/cgroup")
             if os.path.exists(f"{d}/cgroup.procs"))
made = f"{above}/shiplap-test-{os.getpid()}"
os.mkdir(made)
def enter(group):
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write(str(os.getpid()))
atexit.register(os.rmdir, made)
atexit.register(enter, above)
enter(made)
"""
_FILTER: Final = """
import ctypes, struct
allowed = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7FFF0000))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", 1, ctypes.addressof(allowed)))
assert ctypes.CDLL(None).prctl(22, 2, program) == 0
"""
_ROOTED: Final = """
described = forked.described([])
forked.described = lambda words: described
os.chdir(os.path.dirname(sys.argv[3]))
sys.argv[3] = "sock"
os.chroot("/tmp")
"""
_TRACED: Final = "import ctypes; assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0"

_OTHERS: Final[dict[str, tuple[str, Sequence[str]]]] = {
    "user": ("os.setresuid(65534, 65534, 65534)", ()),
    "real user": ("os.setresuid(65534, -1, -1)", ()),
    "group": ("os.setresgid(65534, 65534, 65534)", ()),
    "saved group": ("os.setresgid(-1, -1, 65534)", ()),
    "groups": ("os.setgroups([65534])", ()),
    "bounding set": ("", ("setpriv", "--bounding-set", "-sys_boot")),
    "inheritable set": ("", ("setpriv", "--inh-caps", "+chown")),
    "ambient set": ("", ("setpriv", "--inh-caps", "+chown", "--ambient-caps", "+chown")),
    "securebits": ("", ("setpriv", "--securebits", "+noroot")),
    "no_new_privs": ("", ("setpriv", "--no-new-privs")),
    "seccomp": (_FILTER, ()),
    "tracer": (_TRACED, ()),
    "root directory": (_ROOTED, ()),
    "hard limit": ("", ("prlimit", "--core=0:0")),
    "processors": ("", ("taskset", "-c", "0")),
    "scheduling": ("", ("chrt", "--batch", "0")),
    "personality": ("", ("setarch", "--addr-no-randomize")),
    "control group": (_GROUPED, ()),
    "log-in": ("open('/proc/self/loginuid', 'w').write('65534')", ()),
    **{f"namespace: {kind}": ("", ("unshare", f"--{kind}", "--fork")) for kind in (
        "uts", "ipc", "net", "mount", "cgroup", "pid", "time",
    )},
    "namespace: user": ("", ("unshare", "--user", "--map-root-user")),
}  # fmt: skip


@pytest.mark.parametrize("member", _OTHERS)
def test_who_differs_in_one_member_is_not_served_whatever_it_says(parent: Parent, member: str, tmp_path: Path) -> None:
    code, prefix = _OTHERS[member]
    believes = _BELIEVES_ALL % f"{forked.WORD}={parent.word}".encode()
    done = parent.ask("sleep", tmp_path / "ran", code=f"{believes}\n{code}", prefix=prefix)
    assert (done.returncode, done.stdout) == (_NOT_SERVED, ""), done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["LD_BIND_NOW", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "OPENSSL_CONF", "PYTHONUTF8"])
def test_who_began_with_variables_that_act_at_a_start_is_not_served(parent: Parent, name: str) -> None:
    believes = _BELIEVES_ALL % f"{forked.WORD}={parent.word}".encode()
    done = parent.ask("end", code=believes, env={"PATH": os.environ["PATH"], name: "1"})
    assert (done.returncode, done.stdout) == (_NOT_SERVED, "")


def test_who_cannot_look_into_the_parent_does_not_know_its_word(parent: Parent) -> None:
    """As whoever Landlock confines, which shows nowhere."""
    for word in ("", "guessed"):
        code = _BELIEVES_ALL % f"{forked.WORD}={word}".encode()
        assert parent.ask("end", code=code).returncode == _NOT_SERVED


def test_who_finds_modules_elsewhere_is_not_served(parent: Parent) -> None:
    assert parent.ask("end", code="sys.path.append('/tmp')").returncode == _NOT_SERVED


def test_a_client_asks_nobody_who_differs(parent: Parent, short_path: Path) -> None:
    """What it would send is its environment: a confined process of the same user could lie in wait for that."""
    listens = (
        "import os, sys; sys.path[0] = sys.argv[1]; from core import packets; s = packets.listen(sys.argv[2]); "
        "s.setblocking(True); c = packets.accept(s); r = packets.receive(c); print('got', r)"
    )
    command = ["setpriv", "--no-new-privs", sys.executable, "-c", listens, str(_CHECKOUT), str(short_path / "sock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as liar:
        eventually((short_path / "sock").exists)
        done = parent._replace(path=short_path / "sock").ask("end")
        out, _ = liar.communicate(timeout=stretched(60))
    assert done.returncode == _NOT_SERVED
    assert "NoNewPrivs" in done.stderr
    assert out == b"got None\n"


def test_a_client_asks_nobody_who_cannot_look_into_it(parent: Parent, short_path: Path) -> None:
    """As whoever Landlock confines, which shows nowhere: all else is as it has to be."""
    listens = (
        "import sys; sys.path[0] = sys.argv[1]; from core import packets; s = packets.listen(sys.argv[2]); "
        "s.setblocking(True); c = packets.accept(s); c.setblocking(True); packets.send(c, b'forking-0'); "
        "print('got', packets.receive(c))"
    )
    command = [sys.executable, "-c", listens, str(_CHECKOUT), str(short_path / "sock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env={"PATH": os.environ["PATH"]}) as liar:
        eventually((short_path / "sock").exists)
        done = parent._replace(path=short_path / "sock").ask("end")
        out, _ = liar.communicate(timeout=stretched(60))
    assert done.returncode == _NOT_SERVED
    assert "it cannot look into this process" in done.stderr
    assert out == b"got None\n"


def test_facts_of_a_process_that_has_gone_cannot_be_read() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(OSError, match=str(gone.pid)):
        likeness.facts(gone.pid)


# What a fork takes over


def test_a_fork_is_as_who_asked(parent: Parent, tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    def as_wanted() -> None:
        os.umask(0o027)
        os.nice(3)
        resource.setrlimit(resource.RLIMIT_NOFILE, (555, hard))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2])
        Path("/proc/self/oom_score_adj").write_text("321")
        os.close(0)

    environment = {"ONLY": "this", "LC_ALL": "C.UTF-8", "TZ": "XYZ-3", "BYTES": os.fsdecode(b"\xff")}
    done = parent.ask("known", cwd=tmp_path, env=environment, preexec_fn=as_wanted)
    assert (done.returncode, done.stderr) == (_FORKED, "")
    known = json.loads(done.stdout)
    assert known["argv"] == ["name", "known"]
    assert known["environment"] == environment
    assert known["cwd"] == str(tmp_path)
    assert (known["umask"], known["ignored"], known["oom"], known["zone"]) == (0o027, True, 321, "XYZ")
    assert known["limits"][resource.RLIMIT_NOFILE] == [555, hard]
    assert known["limits"][resource.RLIMIT_CORE] == list(resource.getrlimit(resource.RLIMIT_CORE))
    assert known["niceness"] == os.getpriority(os.PRIO_PROCESS, 0) + 3
    fds = {int(fd): is_passed_on for fd, is_passed_on in known["fds"].items()}
    assert (fds.pop(1), fds.pop(2), known["stdin"]) == (True, True, True)
    assert list(fds.values()) == [False]  # by which its exit code is told
    assert known["blocked"] == [signal.SIGUSR2]
    again = json.loads(parent.ask("known").stdout)
    assert again["parent"] == known["parent"] == parent.pid
    assert "ONLY" not in again["environment"]
    assert (again["umask"], again["stdin"], again["oom"]) != (0o027, True, 321)


def test_disks_are_used_by_the_priority_of_who_asked(parent: Parent, tmp_path: Path) -> None:
    words = ["ionice", "-c3", *parent.words("sleep", tmp_path / "pid")]
    with subprocess.Popen(words, env={"PATH": os.environ["PATH"]}) as client:
        pid = _pid_in(tmp_path / "pid")
        assert subprocess.run(["ionice", "-p", str(pid)], capture_output=True, text=True).stdout.strip() == "idle"
        client.kill()


def test_every_inherited_descriptor_comes_under_its_number(parent: Parent) -> None:
    """``<(…)``, and ``9>lock``: also where a number is one that others were held under on the way."""
    read, write = os.pipe()
    back, theirs = os.pipe()
    numbers = (377, 399, 401, 402, 403)
    for number in numbers[:-1]:
        os.dup2(read, number)
    os.dup2(theirs, 403)
    os.write(write, b"through 402")
    done = parent.ask("cat", "402", "403", pass_fds=numbers)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.read(back, 100) == b"through 402"
    for fd in (read, write, back, theirs, *numbers):
        os.close(fd)


def test_a_bug_is_told_as_by_any_process(parent: Parent) -> None:
    done = parent.ask("raise")
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: a bug\n")


# Signals and ends


def _pid_in(place: Path) -> int:
    eventually(lambda: place.exists() and bool(place.read_text()))
    return int(place.read_text())


def _is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_signals_are_passed_on_and_the_exit_code_comes_back(parent: Parent, tmp_path: Path) -> None:
    client = parent.start("trap", tmp_path / "pid")
    _pid_in(tmp_path / "pid")
    client.send_signal(signal.SIGUSR1)
    assert client.wait(stretched(60)) == 3


@contextlib.contextmanager
def _acting(number: int) -> Iterator[None]:
    """What is started meanwhile does not ignore a signal, although who runs the tests may: a shell's ``&`` does."""
    before = None if number == signal.SIGKILL else signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL])
def test_a_fork_that_a_signal_ends_ends_the_client_by_it(parent: Parent, tmp_path: Path, number: int) -> None:
    with _acting(number):
        client = parent.start("sleep", tmp_path / "pid")
    os.kill(_pid_in(tmp_path / "pid"), number)
    assert client.wait(stretched(60)) == -number


def test_a_client_that_is_killed_takes_its_fork_along(parent: Parent, tmp_path: Path) -> None:
    client = parent.start("sleep", tmp_path / "pid")
    pid = _pid_in(tmp_path / "pid")
    client.kill()
    client.wait()
    eventually(lambda: not _is_there(pid))


def test_ctrl_z_stops_both_and_fg_lets_them_go_on(parent: Parent, tmp_path: Path) -> None:
    client = parent.start("trap", tmp_path / "pid", process_group=0)  # a job, as a shell makes one
    pid = _pid_in(tmp_path / "pid")
    client.send_signal(signal.SIGTSTP)
    eventually(lambda: "T (stopped)" in Path(f"/proc/{client.pid}/status").read_text())
    eventually(lambda: "T (stopped)" in Path(f"/proc/{pid}/status").read_text())
    client.send_signal(signal.SIGCONT)
    eventually(lambda: "S (sleeping)" in Path(f"/proc/{pid}/status").read_text())
    client.send_signal(signal.SIGUSR1)
    assert client.wait(stretched(60)) == 3


def test_ctrl_z_stops_neither_where_no_shell_could_let_them_go_on(parent: Parent, tmp_path: Path) -> None:
    client = parent.start("trap", tmp_path / "pid", start_new_session=True)  # its group is orphaned
    _pid_in(tmp_path / "pid")
    client.send_signal(signal.SIGTSTP)
    client.send_signal(signal.SIGUSR1)
    assert client.wait(stretched(60)) == 3


def test_a_client_that_never_says_go_has_nothing_run(parent: Parent, tmp_path: Path) -> None:
    code = """
send = forked.packets.send
def sending(sock, data, fds=()):
    if data == forked.GO:
        os._exit(0)
    send(sock, data, fds)
forked.packets.send = sending
"""
    done = parent.ask("sleep", tmp_path / "pid", code=code)
    assert done.returncode == 0
    assert parent.ask("end").returncode == _FORKED
    assert not (tmp_path / "pid").exists()


def test_hundreds_of_commands_leave_nothing_in_the_parent(parent: Parent) -> None:
    pid = parent.pid
    code = (
        "for _ in range(100):\n"
        "    if not os.fork():\n"
        "        os._exit(forked.ask(sys.argv[3], sys.argv[4:], likeness.facts(os.getpid())).stay())\n"
        "    assert os.WEXITSTATUS(os.wait()[1]) == 7\n"
    )
    assert parent.ask("end", code=code).returncode == _FORKED
    eventually(lambda: len(os.listdir(f"/proc/{pid}/fd")) == _AT_REST)
    eventually(lambda: not Path(f"/proc/{pid}/task/{pid}/children").read_text())


def test_the_parent_holds_nothing_of_its_starter_and_goes_first(parent: Parent) -> None:
    place = Path(f"/proc/{parent.pid}")
    own = {"/dev/null", *(str(parent.path.with_name(name)) for name in ("log", "place-0"))}

    def held() -> list[str]:
        """What it has for good is always in it; what a client has that goes may be gone before it is read."""
        names = []
        for fd in os.listdir(place / "fd"):
            with contextlib.suppress(FileNotFoundError):
                names.append(os.readlink(place / "fd" / fd))
        return sorted(names)

    deadline = Deadline(30.0)
    while len(names := held()) != _AT_REST:
        assert deadline, names
        time.sleep(0.02)
    assert {name for name in names if not name.startswith("socket:")} == own
    assert os.readlink(place / "cwd") == "/"
    assert (place / "oom_score_adj").read_text() == "1000\n"
    assert len(list((place / "task").iterdir())) == 1
    assert parent.path.stat().st_mode & 0o777 == 0o600


# The parent's end


def test_a_client_that_goes_as_its_fork_ends_leaves_the_parent_at_rest(short_path: Path) -> None:
    """In the moment between the two the parent is told of the fork alone."""
    mine = forking._Parent(str(short_path / "sock"), lambda _words: 0, 1.0)
    ours, theirs = packets.pair()
    pid = os.posix_spawnp("true", ["true"], os.environ)
    pidfd = os.pidfd_open(pid)
    mine._clients[ours.fileno()] = (ours, pid, pidfd)
    mine._ended[pidfd] = ours.fileno()
    mine._poll.register(ours, 0)
    mine._poll.register(pidfd, select.POLLIN)
    theirs.close()
    select.select([pidfd], [], [])
    mine._reap(pidfd)
    assert mine._poll.poll(0) == []
    mine._close()
    os.close(mine._place)


def test_a_parent_that_is_killed_takes_its_forks_along(short_path: Path, privileged: None) -> None:
    mine = _started(short_path, 600.0)
    with mine.start("sleep", short_path / "pid", stderr=subprocess.PIPE) as client:
        pid = _pid_in(short_path / "pid")
        os.kill(mine.pid, signal.SIGKILL)
        assert client.wait(stretched(60)) == -signal.SIGKILL
        assert client.stderr is not None
        assert b"was killed" in client.stderr.read()
        eventually(lambda: not _is_there(pid))


def test_outdated_code_serves_nobody_and_goes_when_its_last_fork_has_ended(short_path: Path, privileged: None) -> None:
    mine = _started(short_path, 600.0)
    parent = mine.pid
    with mine.start("trap", short_path / "pid") as client:
        _pid_in(short_path / "pid")
        (mine.copy / "thecommand.py").write_text(f"{_COMMAND}\n")
        assert mine.ask("end").returncode == _NOT_SERVED
        eventually(lambda: not mine.path.exists())  # another one may start
        before = _wake_ups(parent)
        time.sleep(0.3)
        assert _wake_ups(parent) - before < 5  # not all the time: its last fork may run for days
        client.send_signal(signal.SIGUSR1)
        assert client.wait(stretched(60)) == 3
    eventually(lambda: not _is_there(parent))


def _wake_ups(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_one_that_waits_ahead_and_is_stopped_does_not_keep_the_parent() -> None:
    ours, theirs = packets.pair()
    with contextlib.closing(theirs):
        pid = os.posix_spawnp("sleep", ["sleep", "1000"], os.environ)
        os.kill(pid, signal.SIGSTOP)
        ending = threading.Thread(target=forking._Spare(pid, ours).end, daemon=True)
        ending.start()
        ending.join(stretched(10))
        is_kept = ending.is_alive()
        if is_kept:
            os.kill(pid, signal.SIGKILL)
        assert not is_kept


def test_nobody_asked_for_a_while_and_it_is_gone(short_path: Path, privileged: None) -> None:
    mine = _started(short_path, 1.0)
    began = time.monotonic()
    eventually(lambda: not mine.path.exists())
    assert time.monotonic() - began > 0.1
    assert mine.ask("end").returncode == _NOT_SERVED


def test_a_directory_has_four_places_and_one_parent_a_socket(short_path: Path) -> None:
    places = [forking._taken_place(str(short_path / f"s{number}")) for number in range(forking.PLACES)]
    with pytest.raises(zygote.ZygoteError, match="4 processes"):
        forking._taken_place(str(short_path / "another"))
    os.close(places.pop())
    listener = packets.listen(str(short_path / "s0"))
    with pytest.raises(zygote.ZygoteError, match="another process forks"):
        forking._taken_place(str(short_path / "s0"))
    listener.close()  # as when it was killed: the file stays, and is taken over
    os.close(forking._taken_place(str(short_path / "s0")))
    assert not (short_path / "s0").exists()
    for place in places:
        os.close(place)


def test_who_waits_ahead_serves_the_next_and_one_that_was_killed_is_not_missed(parent: Parent, tmp_path: Path) -> None:
    pid = parent.pid
    names = map(str, itertools.count())

    def ahead() -> list[int]:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def is_served_by_one_of_them() -> bool:
        before, told = ahead(), tmp_path / next(names)
        with contextlib.closing(_Sleeping(parent, told)) as client:
            return client.pid in before

    eventually(is_served_by_one_of_them)
    eventually(lambda: len(ahead()) == 1)
    os.kill(ahead()[0], signal.SIGKILL)
    assert parent.ask("known").returncode == _FORKED


class _Sleeping:
    """A command that sleeps. pid: of its fork."""

    def __init__(self, parent: Parent, told: Path) -> None:
        self._client = parent.start("sleep", told)
        self.pid = _pid_in(told)

    def close(self) -> None:
        self._client.kill()
        self._client.wait()
