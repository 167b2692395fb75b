"""The process that is to be a keeper, from its fork to its end: a spare one at first, which waits for a container.

It is the first process of a PID namespace, and has a mount namespace of its own: when it dies, in whatever way, the
kernel takes the container with it. Everything is ready by then but what depends on the container.
"""

from __future__ import annotations

import gc
import os
import time

from containers import syscalls
from containers.errors import ContainerError, KeeperError
from containers.keeper import protocol, records
from containers.keeper.cell import Cell
from containers.keeper.loop import Loop, report
from containers.keeper.serving import Keeper
from containers.setup import STAGING
from core import ofdlocks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import NoReturn

    from containers.hierarchies import Hierarchy

WORK = "work"
"""The directory of RUN on which each keeper mounts a tmpfs that only it sees."""

_LOCK_TRIES = 5000
_LOCK_PAUSE_S = 0.002


def main(nursery: _socket.socket, root: str, run: str, finish: list[str], hierarchies: list[Hierarchy]) -> NoReturn:
    """The whole life of a keeper: in a new PID and mount namespace, from a fork of the nursery to its end. It ends with
    another code than 0 when control groups of its may be left, which the nursery then removes.

    nursery: the channel on which it learns for which container it is; it ends when that closes before.
    """
    code = 1
    try:
        host_proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        syscalls.close_all_but({0, 1, 2, nursery.fileno(), host_proc})
        _isolate(f"{run}/{WORK}")
        loop = Loop()
        cell: Cell | ContainerError
        try:
            cell = Cell(loop, run, f"{run}/{WORK}", host_proc, hierarchies)
            cell.prepare()
        except ContainerError as error:
            cell = error
        code = _serve(nursery, loop, cell, root, run, finish)
    except Exception:
        # The outermost layer of this process: what the nursery's log has of it.
        report()
    finally:
        os._exit(code)


def _serve(
    nursery: _socket.socket, loop: Loop, cell: Cell | ContainerError, root: str, run: str, finish: list[str]
) -> int:
    received = protocol.receive(nursery)
    if received is None:
        if isinstance(cell, Cell):
            cell.close()
        return 0
    order, fds = received
    if fds and isinstance(cell, Cell):
        cell.switch = fds[0]
    identity = order["id"]
    try:
        if isinstance(cell, ContainerError):
            raise cell
        lock = _locked(f"{root}/containers/{identity}", records.socket_path(run, identity))
        if lock < 0:
            protocol.send(nursery, {"ok": True, "exists": True})
            cell.close()
            return 0
        keeper = Keeper(loop, cell, root, run, identity, lock, finish)
    except (ContainerError, OSError, ValueError, KeyError) as error:
        told = error if isinstance(error, ContainerError) else KeeperError(f"no keeper for {identity}: {error}")
        protocol.send(nursery, protocol.error_fields(told))
        if isinstance(cell, Cell):
            cell.close()
        return 0
    protocol.send(nursery, {"ok": True})
    nursery.close()
    gc.enable()  # what was frozen is never looked at, what a request leaves is
    if order.get("again"):
        keeper.start_again()
    while not keeper.is_over:
        loop.step()
    return 0 if keeper.is_clean else 1


def _locked(folder: str, path: str) -> int:
    """Take the container's lock; -1 when another keeper has it, and answers at ``path``. Raises KeeperError, OSError.

    A keeper that is about to end has the lock for some moments more, and answers no more.
    """
    fd = os.open(f"{folder}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for attempt in range(_LOCK_TRIES):
        if ofdlocks.try_lock(fd):
            return fd
        if attempt % 10 == 0:
            try:
                protocol.connect(path, 1.0).close()
            except (KeeperError, TimeoutError):
                pass
            else:
                os.close(fd)
                return -1
        time.sleep(_LOCK_PAUSE_S)
    os.close(fd)
    raise KeeperError(f"somebody holds {folder}/lock, and does not answer")


def _isolate(work: str) -> None:
    """Enter what this namespace is to see: the host's mounts as they come and go, its own /proc, a private tmpfs."""
    gc.disable()
    os.setsid()
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_SLAVE)
    if os.getpid() == 1:  # else it has no PID namespace of its own, and /proc is the right one already
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
    syscalls.mount("tmpfs", work, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    os.umask(0o022)
    os.mkdir(f"{work}/{STAGING}")
    os.chdir(f"{work}/{STAGING}")
