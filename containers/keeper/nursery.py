"""The process that keepers are forked from: it has spare ones ready, reaps them, and sees to what they cannot.

One for each engine and user. Nobody needs it to live: a keeper goes on without it, and the next start makes another
one, which watches the keepers that it finds. When a keeper was killed, its container has gone with it; the nursery
writes that down, and starts it again if its policy wants that. A container that removes itself (``--rm``) is removed by
a command of the engine's, ``finish``, which takes all that is due in one go.

It ends when it had nothing to do for a while, when its code is not what is on the disk any more, and when the engine's
root is gone: then it becomes ``finish``, which ends what is left of that.
"""

from __future__ import annotations

import _socket
import errno
import json
import os
import resource
import sys
import time

from containers import birth, cgroups, hierarchies, syscalls, wire
from containers.errors import ContainerError, KeeperError, SeccompError
from containers.keeper import eventlog, protocol, records, restarts, spare
from containers.keeper.loop import Loop
from containers.keeper.neighbours import has_others_processes
from containers.keeper.peers import Door, Peer
from containers.keeper.spare import WORK
from containers.keeper.wayguard import WayGuard
from containers.switchpin import pinned
from core import immortal, ofdlocks, zygote
from core.release import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from containers.hierarchies import Hierarchy

SPARES = 2
IDLE_S = 300.0
_QUIET_S = 0.02  # after a start, before the next spare one is made: the start has the machine for itself
_LOOK_S = 10.0
_OOM_SCORE = b"-900"
_DUE_PAUSE_S = 5.0
_SWEEPS = 3
"""How often control groups are looked for after a keeper has left some: what is killed in them may be slow to end."""


class _Child:
    """A keeper, from its fork to its end. channel: until it is somebody's keeper. asking: who waits for that."""

    def __init__(self, pid: int, pidfd: int, channel: _socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel: _socket.socket | None = channel
        self.identity = ""
        self.asking: list[Peer] = []


class Nursery:
    """The process itself: who asks it, its keepers, and what is due.

    root: of the engine.
    run: its directory that a boot clears.
    finish: the command that removes what is due.
    found: what control groups can be made in.
    """

    def __init__(self, root: str, run: str, finish: list[str], found: list[Hierarchy]) -> None:
        self._root = root
        self._hierarchies = found
        self._run = run
        self._finish = finish
        self._loop = Loop()
        self._children: dict[int, _Child] = {}
        self._spares: list[_Child] = []
        self._adopted: dict[str, _socket.socket] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        self._peers: set[Peer] = set()
        self._finishing = -1
        self._is_due_again = False
        self._is_over = False
        self._refilling = False
        self._unswept = 0
        self._last = time.monotonic()
        self._stamp = zygote.Stamp()
        self._guard = WayGuard(self._loop, run)
        self._door = Door(self._loop, f"{run}/nursery.sock", self._come)

    def serve(self) -> None:
        """Serve until there is nothing more to do."""
        self._adopt()
        self._guard.look()
        if self._has_due():
            self._do_due()
        self._loop.later(_LOOK_S, self._look)
        while not self._is_over:
            self._loop.step()
        for child in self._spares:
            if child.channel is not None:
                child.channel.close()  # it ends by that
        if self._finish and not os.path.lexists(self._root):
            self._finish_now()

    # Who asks

    def _come(self, peer: Peer) -> None:
        self._peers.add(peer)
        self._loop.watch(peer.sock.fileno(), lambda: self._on_message(peer), lambda: self._lose(peer))

    def _lose(self, peer: Peer) -> None:
        self._peers.discard(peer)
        peer.close()

    def _on_message(self, peer: Peer) -> None:
        received = protocol.receive(peer.sock)
        if received is None:
            self._lose(peer)
            return
        message, fds = received
        for fd in fds:
            os.close(fd)
        verb = message.get("verb")
        self._last = time.monotonic()
        try:
            if verb == "keeper":
                self._keeper(peer, str(message["id"]))
            elif verb == "due":
                self._do_due()
                peer.answer({"ok": True})
            elif verb == "status":
                peer.answer(self._status())
            elif verb == "stop-all":
                self._stop_all(peer, message.get("timeout_s"))
            elif verb == "end":
                self._leave()
                peer.answer({"ok": True})
            elif "hello" not in message:
                raise KeeperError(f"this nursery does not know {verb!r}")
        except ContainerError as error:
            peer.answer(protocol.error_fields(error))
        except (KeyError, OSError) as error:
            peer.answer(protocol.error_fields(KeeperError(f"the nursery cannot do {verb!r}: {error!r}")))

    def _status(self) -> dict[str, Any]:
        keepers = sorted({child.identity for child in self._children.values()} | self._adopted.keys())
        return {
            "ok": True,
            "pid": os.getpid(),
            "release": VERSION,
            "spares": len(self._spares),
            "keepers": [identity for identity in keepers if identity],
        }

    def _keeper(self, peer: Peer, identity: str) -> None:
        if not identity.isalnum():
            raise KeeperError(f"not the ID of a container: {identity!r}")
        if self._stamp.is_outdated():
            self._leave()
            raise KeeperError("the nursery is of an older release, and ends")
        for child in self._children.values():
            if child.identity == identity and child.channel is not None:
                child.asking.append(peer)  # it is being made
                return
        self._give_birth(identity, [peer], {"id": identity})

    def _give_birth(self, identity: str, asking: list[Peer], order: dict[str, Any]) -> None:
        """Have a spare one, or a new one, be the keeper of a container."""
        if self._is_to_be_above(identity):
            child = self._forked(syscalls.CLONE_NEWNS)
        else:
            child = self._spares.pop(0) if self._spares else self._forked()
        child.identity = identity
        child.asking = asking
        assert child.channel is not None
        self._guard.look()
        switch = pinned(f"{self._run}/switch")
        try:
            protocol.send(child.channel, order, [switch] if switch >= 0 else [])
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET):  # it has ended, which its exit tells
                raise
        finally:
            if switch >= 0:
                os.close(switch)
        if not self._refilling:
            self._refilling = True
            self._loop.later(_QUIET_S, self._refill)

    def _is_to_be_above(self, identity: str) -> bool:
        """Whether the keeper cannot have a PID namespace of its own: nobody could join another container's from there.

        Should it be killed, the control groups tell what is left of its container (``cgroups.abandoned``).
        """
        try:
            return has_others_processes(records.read_spec(f"{self._root}/containers/{identity}"))
        except (OSError, ValueError):
            return False  # the keeper will tell

    def _refill(self) -> None:
        """Make a spare one, and look again soon whether another is missing."""
        self._refilling = False
        if self._is_over or len(self._spares) >= SPARES:
            return
        try:
            self._spares.append(self._forked())
        except OSError:
            return  # the next start tries it anyway
        self._refilling = True
        self._loop.later(_QUIET_S, self._refill)

    def _forked(self, namespaces: int = syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS) -> _Child:
        ours, theirs = wire.socket_pair()
        try:
            pid = syscalls.clone3(namespaces)
            if pid == 0:
                spare.main(theirs, self._root, self._run, self._finish, self._hierarchies)
            child = _Child(pid, os.pidfd_open(pid), ours)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._children[pid] = child
        self._loop.watch(child.pidfd, lambda: self._on_exit(child))
        self._loop.watch(ours.fileno(), lambda: self._on_answer(child))
        return child

    def _on_answer(self, child: _Child) -> None:
        """A keeper tells that it is one, or why it is not."""
        assert child.channel is not None
        received = protocol.receive(child.channel)
        if received is not None and child.asking:
            for peer in child.asking:
                peer.answer(received[0])
            child.asking = []
        self._drop_channel(child)

    def _drop_channel(self, child: _Child) -> None:
        if child.channel is not None:
            self._loop.unwatch(child.channel.fileno())
            child.channel.close()
            child.channel = None

    # The end of a keeper

    def _on_exit(self, child: _Child) -> None:
        if child.channel is not None and child.asking:
            self._on_answer(child)
        self._drop_channel(child)
        self._loop.unwatch(child.pidfd)
        _pid, status = os.waitpid(child.pid, 0)
        os.close(child.pidfd)
        del self._children[child.pid]
        for peer in child.asking:
            peer.answer(protocol.error_fields(KeeperError(f"the keeper ended: wait status {status}")))
        if child in self._spares:
            self._spares.remove(child)
        if child.identity:
            self._see_to(child.identity)
        if status:
            self._unswept = _SWEEPS
            self._sweep()

    def _adopt(self) -> None:
        """Watch the keepers of a nursery that was lost: a connection that ends tells of their end."""
        try:
            names = os.listdir(f"{self._root}/containers")
        except FileNotFoundError:
            return
        for identity in names:
            if not os.path.exists(records.socket_path(self._run, identity)):
                continue
            try:
                conversation = protocol.connect(records.socket_path(self._run, identity), 1.0)
                conversation.ask("watch", timeout_s=1.0)
            except (ContainerError, TimeoutError):
                self._see_to(identity)
                continue
            self._watch_adopted(identity, conversation.socket)

    def _watch_adopted(self, identity: str, sock: _socket.socket) -> None:
        self._adopted[identity] = sock

        def ended() -> None:
            if protocol.receive(sock) is None:
                self._loop.unwatch(sock.fileno())
                sock.close()
                del self._adopted[identity]
                self._unswept = _SWEEPS
                self._sweep()
                self._see_to(identity)

        self._loop.watch(sock.fileno(), ended)

    def _sweep(self) -> None:
        """Remove the control groups that ended keepers have left."""
        self._unswept -= 1
        cgroups.abandoned([*self._hierarchies, *hierarchies.rare_hierarchies()])

    def _see_to(self, identity: str) -> None:
        """A keeper has ended. If it was killed, write that down, and do what the container's policy wants."""
        folder = f"{self._root}/containers/{identity}"
        try:
            state = _recorded(folder)
            if state is None:
                return
            spec = records.read_spec(folder)
        except (OSError, ValueError):
            return  # the container was removed
        name = {"name": spec.get("name", ""), "exitCode": str(records.LOST_CODE)}
        _tell(self._run, "die", identity, name)
        by_hand = state["stopped_by_hand"]
        if restarts.wanted(spec.get("restart") or {}, records.LOST_CODE, state["restarts"], stopped_by_hand=by_hand):
            last_s, began = self._pauses.get(identity, (0.0, 0.0))
            pause_s = restarts.next_pause(last_s, time.monotonic() - began)
            self._pauses[identity] = (pause_s, time.monotonic() + pause_s)
            self._loop.later(pause_s, lambda: self._start_again(identity))
        elif spec.get("auto_remove"):
            os.makedirs(f"{self._run}/due", 0o700, exist_ok=True)
            os.close(os.open(f"{self._run}/due/{identity}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._do_due()

    def _start_again(self, identity: str) -> None:
        if not os.path.exists(f"{self._root}/containers/{identity}/spec.json"):
            self._pauses.pop(identity, None)
            return  # it was removed
        try:
            self._give_birth(identity, [], {"id": identity, "again": True})
        except OSError:
            self._loop.later(restarts.LONGEST_PAUSE_S, lambda: self._start_again(identity))

    # What is due

    def _has_due(self) -> bool:
        try:
            return bool(os.listdir(f"{self._run}/due"))
        except FileNotFoundError:
            return False

    def _do_due(self) -> None:
        """Have the engine remove what is due; what comes due while it does is next."""
        if not self._finish:
            return
        if self._finishing >= 0:
            self._is_due_again = True
            return
        self._is_due_again = False
        self._run_child(self._finish_now, self._finished)

    def _finish_now(self) -> None:
        os.execve(self._finish[0], self._finish, {"PATH": "/usr/local/bin:/usr/bin:/bin"})  # noqa: S606 - no shell

    def _finished(self) -> None:
        if self._is_due_again:
            self._do_due()
        elif self._has_due():
            self._loop.later(_DUE_PAUSE_S, self._do_due)

    def _run_child(self, does: Callable[[], None], then: Callable[[], None]) -> None:
        pid = os.fork()
        if pid == 0:
            try:
                does()
            finally:
                os._exit(1)
        pidfd = os.pidfd_open(pid)
        self._finishing = pidfd

        def ended() -> None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            os.waitpid(pid, 0)
            self._finishing = -1
            then()

        self._loop.watch(pidfd, ended)

    def _stop_all(self, peer: Peer, timeout_s: float | None) -> None:
        """Stop all containers because the host goes down; their policies stay as they are."""
        paths = [f"{self._run}/k/{name}" for name in os.listdir(f"{self._run}/k") if name.endswith(".sock")]
        pid = os.fork()
        if pid == 0:
            try:
                _stop_keepers(paths, timeout_s)
            finally:
                os._exit(0)
        pidfd = os.pidfd_open(pid)

        def ended() -> None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            os.waitpid(pid, 0)
            peer.answer({"ok": True})

        self._loop.watch(pidfd, ended)

    # Its own end

    def _look(self) -> None:
        """End when there is nothing to do, or a directory was taken away: RUN, or the root whose containers end."""
        self._loop.later(_LOOK_S, self._look)
        self._guard.look()
        if self._unswept > 0:
            self._sweep()
        busy = len(self._children) > len(self._spares) or self._adopted or self._peers or self._finishing >= 0
        if busy:
            self._last = time.monotonic()
        is_gone = not os.path.lexists(self._root) and not busy
        if is_gone or not self._door.is_there() or time.monotonic() - self._last > IDLE_S:
            self._leave()

    def _leave(self) -> None:
        self._is_over = True
        self._door.close()


def _recorded(folder: str) -> dict[str, Any] | None:
    """Write down that a container's keeper was killed, if it was; its state. Raises OSError, ValueError."""
    lock = os.open(f"{folder}/lock", os.O_RDWR | os.O_CLOEXEC)
    try:
        if not ofdlocks.try_lock(lock):
            return None  # there is another keeper already
        state = records.read_state(folder)
        if state["status"] not in records.ALIVE:
            return None
        state.update(status="exited", pid=0, exit_code=records.LOST_CODE, finished=records.moment())
        records.write_state(folder, state, durable=True)
        return state
    finally:
        os.close(lock)


def _tell(run: str, action: str, identity: str, attributes: dict[str, str]) -> None:
    try:
        eventlog.append(run, "container", action, identity, attributes)
    except OSError:
        return  # a full disk loses events, not containers


def _stop_keepers(paths: list[str], timeout_s: float | None) -> None:
    """Ask all at once, then wait for each: a keeper answers when its container has ended."""
    asked = []
    for path in paths:
        try:
            conversation = protocol.connect(path, 1.0)
            protocol.send(conversation.socket, {"verb": "stop", "for_now": True, "timeout_s": timeout_s})
        except (ContainerError, TimeoutError, OSError):
            continue
        asked.append(conversation)
    for conversation in asked:
        try:
            conversation.receive()
        except ContainerError:
            continue  # it has ended


def main(arguments: list[str], ready: Callable[[], None]) -> None:
    """The whole life of a nursery. arguments: root, run, and ``finish`` as JSON; see ``Nursery``."""
    root, run, finish = arguments
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    _spare_from_oom_killer()
    found = hierarchies.own_hierarchies()
    hierarchies.make_room(found)
    cgroups.abandoned([*found, *hierarchies.rare_hierarchies()])
    for name in ("k", WORK, "events", "due"):
        os.makedirs(f"{run}/{name}", 0o700, exist_ok=True)
    try:
        birth.make_filter_ahead()
    except SeccompError as error:
        print(f"no filter of system calls: {error}", file=sys.stderr)  # noqa: T201 - its log; a start will tell
    nursery = Nursery(root, run, json.loads(finish), found)
    immortal.make()
    zygote.settle()
    ready()
    nursery.serve()


def _spare_from_oom_killer() -> None:
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, _OOM_SCORE)
        finally:
            os.close(fd)
    except PermissionError:
        return  # it takes CAP_SYS_RESOURCE
