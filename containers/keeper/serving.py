"""A keeper at its socket: what is asked of it, and when it is to end.

It ends when its container has, or when nobody is there any more and nothing was started. Before that it gives up its
socket, then its lock; only then do those who waited for the end get their answer, so that they can start or remove the
container at once.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from binascii import a2b_base64

from containers.errors import ContainerError, KeeperError, NotExecutedError, StateError
from containers.joining import Joined
from containers.keeper import counters, protocol, records
from containers.keeper.cell import Cell
from containers.keeper.following import Follower
from containers.keeper.life import Life
from containers.keeper.loop import Loop
from containers.keeper.peers import Door, Peer
from containers.keeper.relay import PATIENCE_S, Framing, Relay, Viewer
from containers.keeper.waiting import Waiters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_FINISH_PATIENCE_S = 30.0
_NOBODY_PATIENCE_S = 10.0
_HANG_UP, _KILL = 1, 9  # signal(7)
_HUNG_UP_S = 5.0
_NOT_BEGUN = 126
"""The exit code of an exec that could not be begun, when nothing else says one."""


class Keeper:
    """One container's keeper, from the moment that it is known which one.

    root: of the engine. run: its directory that a boot clears. lock: held. finish: see ``nursery``.
    """

    def __init__(
        self, loop: Loop, cell: Cell, root: str, run: str, identity: str, lock: int, finish: list[str]
    ) -> None:
        self._loop = loop
        self._cell = cell
        self._run = run
        self._lock = lock
        self._finish = finish
        self.life = Life(loop, cell, run, f"{root}/containers/{identity}", identity)
        self.life.changed = self._changed
        self.life.relay.appended = self._appended
        self._peers: set[Peer] = set()
        self._watchers: set[Peer] = set()
        self._followers: list[Follower] = []
        self._waiters = Waiters(loop, self._look)
        self._stoppers: list[Peer] = []
        self._was_started = False
        self._is_finished = False
        self._was_asked_to_finish = False
        self.is_over = False
        self.is_clean = False
        """Whether it has left nothing behind, once it is over."""

        self._door = Door(loop, records.socket_path(run, identity), self._come)
        loop.later(_NOBODY_PATIENCE_S, self._look)

    def start_again(self) -> None:
        """Start the container, whose last keeper was killed, as its policy wants."""
        self._was_started = True
        self.life.start_again()

    # Connections

    def _come(self, peer: Peer) -> None:
        self._peers.add(peer)
        self._loop.watch(peer.sock.fileno(), lambda: self._on_message(peer), lambda: self._lose(peer))

    def _lose(self, peer: Peer) -> None:
        self._peers.discard(peer)
        self._watchers.discard(peer)
        self._waiters.lose(peer)
        peer.close()
        self._look()

    def _on_message(self, peer: Peer) -> None:
        received = protocol.receive(peer.sock)
        if received is None:
            self._lose(peer)
            return
        message, fds = received
        if "hello" in message:
            _close_all(fds)
            return
        handler = self._VERBS.get(str(message.get("verb")))
        try:
            if handler is None:
                raise KeeperError(
                    f"this keeper does not know {message.get('verb')!r}",
                    hint="it is of an older release: stop and start the container",
                )
            handler(self, peer, message, fds)
        except ContainerError as error:
            peer.answer(protocol.error_fields(error))
        except (KeyError, ValueError, TypeError) as error:
            peer.answer(protocol.error_fields(ContainerError(f"a request that makes no sense: {error!r}")))
        finally:
            _close_all(fds)  # what a handler took, it took out of the list

    # Verbs

    def _start(self, peer: Peer, _asked: dict[str, Any], fds: list[int]) -> None:
        if fds:
            self._cell.switch = fds.pop()  # of a switch that was made after this keeper
        if self._was_started and self.life.is_over and self.life.spec.get("auto_remove"):
            raise StateError("the container is being removed")

        def answer(error: ContainerError | None) -> None:
            if error is None:
                peer.answer({"ok": True, "pid": self.life.state["pid"]})
            else:
                peer.answer(protocol.error_fields(error))

        self.life.start(answer)
        self._was_started = True

    def _signal(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        self.life.signal(int(asked["number"]))
        peer.answer({"ok": True})

    def _stop(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        if self.life.is_over:
            peer.answer({"ok": True, "already": True})
            return
        self._stoppers.append(peer)
        number = asked.get("signal")
        if asked.get("for_now"):
            self.life.stop_for_now(asked.get("timeout_s"))
        else:
            self.life.stop(asked.get("timeout_s"), None if number is None else int(number))

    def _pause(self, peer: Peer, _asked: dict[str, Any], _fds: list[int]) -> None:
        self.life.pause()
        peer.answer({"ok": True})

    def _unpause(self, peer: Peer, _asked: dict[str, Any], _fds: list[int]) -> None:
        self.life.unpause()
        peer.answer({"ok": True})

    def _limits(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        self.life.limit(asked["limits"])
        peer.answer({"ok": True})

    def _resize(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        identity = asked.get("exec")
        joined = self.life.execs.get(identity) if identity else None
        if identity and joined is None:
            raise StateError(f"no such exec runs: {identity}")
        relay = joined.relay if joined is not None else self.life.relay
        if relay.terminal >= 0:
            size = struct.pack("=HHHH", int(asked["rows"]), int(asked["columns"]), 0, 0)
            fcntl.ioctl(relay.terminal, termios.TIOCSWINSZ, size)
        peer.answer({"ok": True})

    def _rename(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        self.life.renamed(str(asked["name"]))
        peer.answer({"ok": True})

    def _connect(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        self.life.connect(asked["endpoint"])
        peer.answer({"ok": True})

    def _disconnect(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        self.life.disconnect(str(asked["network"]))
        peer.answer({"ok": True})

    def _finished(self, peer: Peer, _asked: dict[str, Any], _fds: list[int]) -> None:
        """The container was removed, or is about to be: there is nothing to be here for."""
        if not self.life.is_over:
            raise StateError("the container is running")
        self._is_finished = self._was_started = True
        peer.answer({"ok": True})
        self._loop.later(0, self._look)

    def _wait(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        condition = asked.get("condition") or "not-running"
        if condition not in ("not-running", "next-exit", "removed"):
            raise ContainerError(f"no such condition to wait for: {condition}")
        self._waiters.add(peer, condition)
        if condition == "not-running" and self.life.is_over:
            self._tell(condition)

    def _hand(self, peer: Peer, _asked: dict[str, Any], fds: list[int]) -> None:
        """The connection of the client for whose sake the peer waits. The answer is the one to the wait."""
        if fds:
            self._waiters.hand(peer, fds.pop())

    def _stats(self, peer: Peer, _asked: dict[str, Any], _fds: list[int]) -> None:
        guest = self.life.guest
        counted = counters.read(self._cell.session.groups(guest.name), guest.pid)
        if self.life.joins is not None:
            counted["pids"] = max(0, counted["pids"] - self.life.joins.ahead)  # they are not counted without groups
        peer.answer({"ok": True, **counted})

    def _root(self, peer: Peer, _asked: dict[str, Any], _fds: list[int]) -> None:
        root = os.open(f"/proc/{self.life.guest.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            peer.answer({"ok": True, "range": self._cell.range.first[0]}, [root])
        finally:
            os.close(root)

    def _namespaces(self, peer: Peer, asked: dict[str, Any], _fds: list[int]) -> None:
        answer, namespaces = self.life.namespaces(list(asked.get("of") or ("net", "user")))
        try:
            peer.answer({"ok": True, **answer, "of": list(namespaces)}, list(namespaces.values()))
        finally:
            _close_all(list(namespaces.values()))

    def _state(self, peer: Peer, _asked: dict[str, Any], _fds: list[int]) -> None:
        networks = self.life.networks
        peer.answer({"ok": True, "state": self.life.state, "execs": list(self.life.execs), "networks": networks})

    def _watch(self, peer: Peer, _asked: dict[str, Any], _fds: list[int]) -> None:
        """Who waits for the end of the connection alone is nobody to be here for."""
        self._watchers.add(peer)
        peer.answer({"ok": True})
        self._look()

    def _attach(self, peer: Peer, asked: dict[str, Any], fds: list[int]) -> None:
        relay = self.life.relay

        def ended(why: str) -> None:
            if why == "detached":
                self.life.account.event("detach")
            peer.answer({"ended": why})
            self._loop.later(0, self._look)

        viewer = self._viewer(relay, peer, asked, fds, ended)
        assert viewer is not None
        self.life.account.event("attach")
        peer.answer({"ok": True})
        self._feed(viewer, asked)

    def _viewer(
        self, relay: Relay, peer: Peer, asked: dict[str, Any], fds: list[int], ended: Callable[[str], None]
    ) -> Viewer | None:
        """Attach who has handed over descriptors, if any were. Stdio is bound to the connection, a socket is not."""
        if not fds:
            return None
        if len(fds) not in (1, 3):
            raise ContainerError(f"a socket, or stdin, stdout and stderr are needed: {len(fds)} descriptors came")
        framing = Framing(asked.get("framing") or "raw", has_one=relay.is_terminal)
        taken = list(fds)
        viewer = Viewer(relay, framing, taken, asked, ended)
        fds.clear()
        relay.add(viewer)
        if len(taken) > 1:
            peer.ended.append(viewer.cut_off)
        return viewer

    def _feed(self, viewer: Viewer, asked: dict[str, Any]) -> None:
        if asked.get("read"):
            viewer.give_raw(a2b_base64(asked["read"]))

    def _exec(self, peer: Peer, asked: dict[str, Any], fds: list[int]) -> None:
        identity = str(asked.get("id") or os.urandom(32).hex())
        if identity in self.life.execs or identity in self.life.state["execs"]:  # two asked for it at once
            raise StateError(f"exec {identity} has already run")
        if not asked.get("id"):  # who gives one has told that it was made
            self.life.account.event("exec_create: " + " ".join(asked["args"]), execID=identity)
        relay = Relay(self._loop, None, is_terminal=bool(asked.get("terminal")), closes_input=True)
        code: int | None = None
        is_seen_off = not fds

        def started(error: ContainerError | None) -> None:
            if error is not None:
                self.life.executed(identity, error.code if isinstance(error, NotExecutedError) else _NOT_BEGUN)
                if viewer is not None and "failure" in asked:  # its connection ends with this
                    viewer.give(
                        "stdout", f"{asked['failure']}{error.message}: unknown\r\n".encode(errors="surrogateescape")
                    )
                peer.answer(protocol.error_fields(error))
                return
            pid = self._cell.host_pid(joined.pidfd) if joined.pidfd >= 0 else 0
            self.life.account.event("exec_start: " + " ".join(asked["args"]), execID=identity)
            peer.answer({"started": True, "exec": identity, "pid": pid})

        def over(result: int) -> None:
            nonlocal code
            code = result
            self.life.executed(identity, result)
            self.life.account.event("exec_die", execID=identity, exitCode=str(result))
            tell()

        def seen_off(why: str) -> None:
            nonlocal is_seen_off
            is_seen_off = True
            if why == "detached":
                peer.answer({"detached": True})
            elif why == "gone" and asked.get("hangs_up"):  # as a terminal does whose line is cut
                joined.signal(_HANG_UP)
                self._loop.later(_HUNG_UP_S, lambda: joined.signal(_KILL))
            tell()
            self._loop.later(0, self._look)

        def tell() -> None:
            if code is not None and is_seen_off:
                peer.answer({"ended": {"exit_code": code}})

        joined = Joined(relay, started, over)
        viewer: Viewer | None = None
        viewer = self._viewer(relay, peer, asked, fds, seen_off)
        if viewer is not None:
            self._feed(viewer, asked)
        try:
            self.life.execute(identity, asked, joined)
        except BaseException:
            relay.process_ended()
            relay.let_go("failed")
            raise

    def _follow(self, peer: Peer, asked: dict[str, Any], fds: list[int]) -> None:
        if len(fds) != 1:
            raise ContainerError(f"one descriptor is needed: {len(fds)} came")
        framing = Framing(asked.get("framing") or "raw", has_one=self.life.relay.is_terminal)
        folder = f"{self.life.folder}/log"
        self._followers.append(
            Follower(self._loop, folder, self.life.log, framing, fds.pop(), asked, self._forget_follower)
        )
        peer.answer({"ok": True})

    _VERBS: dict[str, Callable[[Keeper, Peer, dict[str, Any], list[int]], None]] = {  # noqa: RUF012 - a constant
        "start": _start,
        "signal": _signal,
        "stop": _stop,
        "pause": _pause,
        "unpause": _unpause,
        "limits": _limits,
        "resize": _resize,
        "rename": _rename,
        "connect": _connect,
        "disconnect": _disconnect,
        "finished": _finished,
        "wait": _wait,
        "hand": _hand,
        "stats": _stats,
        "root": _root,
        "namespaces": _namespaces,
        "state": _state,
        "watch": _watch,
        "attach": _attach,
        "exec": _exec,
        "follow": _follow,
    }

    # The end

    def _appended(self) -> None:
        for follower in list(self._followers):
            follower.pump()

    def _forget_follower(self, follower: Follower) -> None:
        if follower in self._followers:
            self._followers.remove(follower)
            self._loop.later(0, self._look)

    def _changed(self) -> None:
        """The container began to run, or came to an end, for now or for good."""
        if self.life.status == "restarting":
            self._tell("next-exit")
        self._look()

    def _tell(self, condition: str = "") -> None:
        """Tell those who wait for this, or everybody, how it ended."""
        self._waiters.tell(self.life.state["exit_code"], self.life.state["error"], condition)

    def _look(self) -> None:
        """See whether there is anything left to be here for."""
        if self.is_over or not self.life.is_over:
            return
        if not self._was_started:
            streams = self.life.relay.viewers or self._followers or self._waiters.has_clients
            if not streams and not self._peers - self._watchers:
                self._leave()
            return
        for follower in list(self._followers):
            follower.end()
        if self.life.relay.viewers or self._followers:
            self._loop.later(PATIENCE_S, self._cut_off)
        elif self.life.spec.get("auto_remove") and not self._is_finished:
            self._ask_to_finish()
        else:
            self._leave()

    def _cut_off(self) -> None:
        """Whoever has still not taken everything will not: a viewer has ended by itself by now."""
        if self.life.is_over:
            for follower in list(self._followers):
                follower.close()
            self._followers.clear()
            self._look()

    def _ask_to_finish(self) -> None:
        """Have somebody remove the container, who can outlive this process."""
        if self._was_asked_to_finish:
            return
        self._was_asked_to_finish = True
        self._loop.later(_FINISH_PATIENCE_S, self._not_finished)
        try:
            os.makedirs(f"{self._run}/due", 0o700, exist_ok=True)
            os.close(os.open(f"{self._run}/due/{self.life.identity}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            self._not_finished()  # the next that looks at the container will
            return
        try:
            with protocol.connect(f"{self._run}/nursery.sock", 1.0) as nursery:
                nursery.ask("due", timeout_s=1.0)
        except (ContainerError, TimeoutError, OSError):
            self._finish_here()

    def _finish_here(self) -> None:
        """Without a nursery a child does it. It ends with this process, which waits for it."""
        if not self._finish:
            self._not_finished()
            return
        pid = os.posix_spawn(self._finish[0], self._finish, {"PATH": "/usr/bin:/bin"}, setsid=True)
        pidfd = os.pidfd_open(pid)

        def ended() -> None:
            self._loop.unwatch(pidfd)
            os.close(pidfd)
            os.waitpid(pid, 0)
            self._not_finished()

        self._loop.watch(pidfd, ended)

    def _not_finished(self) -> None:
        self._is_finished = True
        self._look()

    def _leave(self) -> None:
        """Give up the socket, then all that is held, then the lock; then answer, and end."""
        self.is_over = True
        self._door.close()
        is_clean = self._cell.close()
        self.life.log.close()
        os.close(self._lock)
        self.is_clean = is_clean
        for peer in self._stoppers:
            peer.answer({"ok": True})
        self._tell()


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
