"""A process that imported what its children need, froze its heap, and forks for each of them.

What is here: its start by whoever needs it, the settling before its first fork, and how it learns that it is outdated.
What it forks, and for whom, is its own module's: the keepers' nursery is one (``containers.keeper.nursery``). One that
forks a command for each who asks is ``core.forking``: the command line's resident (``cli.residing``).
It holds nothing of its starter: no descriptor, working directory, session, environment or signal mask.
(Its process imports this: only what is cheap.)
"""

from __future__ import annotations

import _codecs
import gc
import os
import select
import sys

from core.errors import ShiplapError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from core.zygote import run; run(sys.argv[2], int(sys.argv[3]), "
    "sys.argv[4:])"
)
ALONE = ("-I", "-S", "-E")
_READY_FD = 3
_MOST_FDS = 1 << 20
_READY = b"ready"
_MOST_SAID = 4000
_READY_TIMEOUT_S = 60.0
_FIRST_SIGNAL, _LAST_SIGNAL = 1, 64


class ZygoteError(ShiplapError):
    """A process to fork from could not be started."""


def start(
    module: str,
    arguments: Sequence[str],
    log: str,
    *,
    around: Sequence[str] = (),
    interpreter: Sequence[str] = ALONE,
) -> None:
    """Start a process that runs ``main(arguments, ready)`` of a module; returns when it has called ``ready``.

    log: a file that gets what it prints. around: a command that starts it, as ``systemd-run --scope``.
    interpreter: its options; ALONE leaves out all that is installed beside Shiplap.
    Raises ZygoteError when it ends before, or is not ready within a minute.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    environment = {
        name: os.environ[name] for name in ("PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS") if name in os.environ
    }
    try:
        pid = _spawned([*around, *_command(module, arguments, interpreter)], environment, log, writing)
    except OSError as error:
        os.close(reading)
        raise ZygoteError(f"cannot start {module}: {error.strerror}") from error
    finally:
        os.close(writing)
    try:
        os.waitpid(pid, 0)  # it forks at once: what goes on is nobody's child
        poll = select.poll()
        poll.register(reading, select.POLLIN)
        answered = poll.poll(_READY_TIMEOUT_S * 1000) and os.read(reading, len(_READY)) == _READY
    finally:
        os.close(reading)
    if not answered:
        raise ZygoteError(f"{module} did not start: {_end_of(log)}")


def start_behind(module: str, arguments: Sequence[str], log: str, environment: Mapping[str, str]) -> None:
    """Start such a process, and wait for nothing: for who is about to end. Its working directory is left.

    The interpreter finds what is installed beside Shiplap, and nothing that the environment or a user's home adds.
    Raises OSError.
    """
    os.chdir("/")
    inherited = [fd for fd in map(int, os.listdir("/proc/self/fd")) if fd > _READY_FD]
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        _spawned(_command(module, arguments, ("-I",)), environment, log, null, closed=inherited)
    finally:
        os.close(null)


def _command(module: str, arguments: Sequence[str], interpreter: Sequence[str]) -> list[str]:
    return [sys.executable, *interpreter, "-c", _PROGRAM, _SOURCE, module, str(_READY_FD), *arguments]


def _spawned(
    command: list[str], environment: Mapping[str, str], log: str, ready: int, closed: Sequence[int] = ()
) -> int:
    """The process, in a session of its own, with no signal blocked or ignored. closed: what it is not to inherit."""
    opened: list[int] = []
    try:
        opened.append(null := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
        opened.append(said := os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        os.ftruncate(said, 0)
        known = {number for number in range(_FIRST_SIGNAL, _LAST_SIGNAL + 1) if number not in (9, 19, 32, 33)}
        return os.posix_spawnp(
            command[0],
            command,
            environment,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, said, 1),
                (os.POSIX_SPAWN_DUP2, said, 2),
                (os.POSIX_SPAWN_DUP2, ready, _READY_FD),
                *((os.POSIX_SPAWN_CLOSE, fd) for fd in closed),
            ],
            setsid=True,
            setsigmask=(),
            setsigdef=known,
        )
    finally:
        for fd in opened:
            os.close(fd)


def run(module: str, ready: int, arguments: list[str]) -> None:
    """The process's own program: leave its starter, import the module, be it."""
    if os.fork():
        os._exit(0)
    os.set_inheritable(ready, False)
    os.closerange(ready + 1, _MOST_FDS)
    os.chdir("/")
    os.umask(0o077)
    imported = __import__(module, fromlist=["main"])

    def tell() -> None:
        os.write(ready, _READY)
        os.close(ready)

    imported.main(arguments, tell)


def settle() -> None:
    """Before the first fork: what is in memory stays there, and is shared with all children as long as none writes it.

    Nothing is imported from here on: after an upgrade the files on disk are another release's.
    """
    for name in ("ascii", "utf-8"):
        _codecs.lookup(name)  # each is a module, too
    freeze()
    sys.path.clear()
    sys.meta_path.clear()


def freeze() -> None:
    """The same, for children that may import: their code is as it was, or nobody is served (``Stamp``)."""
    gc.collect()
    gc.freeze()
    gc.disable()


class Stamp:
    """What code looked like: times and sizes of its files.

    files: None are those of all modules that were imported from Shiplap. What is no file, as a module in an archive has
    it, counts as missing.
    """

    def __init__(self, files: Sequence[str] | None = None) -> None:
        self._files = _imported() if files is None else files
        self._seen = self._look()

    def is_outdated(self) -> bool:
        """Whether one of them is another now, or has gone."""
        return self._look() != self._seen

    def _look(self) -> list[tuple[int, int] | None]:
        found: list[tuple[int, int] | None] = []
        for file in self._files:
            try:
                status = os.stat(file)
            except OSError:
                found.append(None)
            else:
                found.append((status.st_mtime_ns, status.st_size))
        return found


def imported() -> list[str]:
    """The files of all modules that were imported, whoever's they are."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return sorted(file for file in files if file)


def _imported() -> list[str]:
    return [file for file in imported() if file.startswith(f"{_SOURCE}/")]


def _end_of(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as file:
        return file.read()[-_MOST_SAID:].strip() or "it was killed"


if TYPE_CHECKING:
    Main = Callable[[list[str], Callable[[], None]], None]
    """What the module has to have: arguments, and what to call when it is ready."""
