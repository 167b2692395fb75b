"""The client of the launcher process: starts it when first needed, asks it for views and containers.

    with Launcher(state) as launcher:
        container = launcher.start(spec, stdin=0, stdout=1, stderr=2)
        status = container.wait()

Thread-safe: each request has a socket of its own on which its thread waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from containers import wire
from containers.errors import ContainerError, LauncherError, NamespaceError
from containers.events import readable
from containers.handles import Container as Container
from containers.handles import answer, started
from containers.spec import ContainerSpec, layers_to_wire, to_wire
from core.cancellation import check
from core.closing import Closing
from core.openfiles import hint_if_out_of_files
from core.rootfs import DirectoryLayer, RootLayer

if TYPE_CHECKING:
    import _socket

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from containers.server import main; main(3, *sys.argv[2:])"
_BOOT = ("-I", "-S", "-E", "-c", _PROGRAM)
_CLOSE_TIMEOUT_S = 10.0
_PLACE_POLL_S = 0.2


class Launcher(Closing):
    """Starts containers, by a process of its own with one thread.

    Made by: whoever builds or runs, once for many containers: a command for its duration, a worker for its life. The
    process starts with the first request, or by ``warm``. When it dies, its containers die with it, and every further
    request raises LauncherError.
    Threads: any may use it.
    Ended by: ``close``, which kills every container and waits until all is gone.

    state: an existing private directory, in which it leaves ``launcher.log`` at most.
    denied_networks: what containers are not to reach, beside the host and link-local addresses, as in
    ``10.0.0.0/8,192.168.0.0/16``. Raises NetworkError when it is anything else.
    uplink: how its containers reach the outside: ``kernel``, ``pasta`` or ``auto``.
    group: the name of an ``enclosure.Enclosure``, which holds its containers.
    at_once: how many containers may run at a time, 0 for any number; others wait.
    """

    def __init__(
        self, state: Path, *, denied_networks: str = "", uplink: str = "auto", group: str = "", at_once: int = 0
    ) -> None:
        self._state = state
        self._group = group
        self._uplink = uplink
        self._places = threading.Semaphore(at_once) if at_once else None
        self._denied = _networks(denied_networks)
        self._lock = threading.Lock()
        self._control: _socket.socket | None = None
        self._pid = 0
        self._greeted = False
        self._closed = False

    @property
    def pid(self) -> int:
        """The launcher process, 0 when there is none."""
        return self._pid

    def warm(self) -> None:
        """Start the launcher process and the network in the background: a RUN step is coming soon.

        Whether the process starts well shows at the first request. Raises ContainerError when it cannot be tried.
        """
        with self._lock, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(self._control or self._spawn("connected"), "warm")

    def view(self, layers: Sequence[RootLayer]) -> int:
        """A read-only directory of ``layers`` (base first) merged, with true owners; the caller closes it.

        Nothing is visible in the host's mount table, and closing it unmounts it. Links in it may point anywhere:
        resolve paths with openat2 RESOLVE_IN_ROOT. Raises MountError, NamespaceError, LauncherError.
        """
        if len(layers) == 1 and isinstance(layers[0], DirectoryLayer):
            return os.open(layers[0].path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.closing(self._request("view", layers_to_wire(tuple(layers)))) as answers:
            return answer(answers, "view")[1][0]

    def segment(self) -> int:
        """A network that a few containers share (``containers.segment``): a descriptor, which the caller closes.

        It lasts until then. Raises NetworkError, LauncherError.
        """
        with contextlib.closing(self._request("segment", None)) as answers:
            return answer(answers, "segment")[1][0]

    def accompany(self, spec: ContainerSpec, *, stdin: int, stdout: int, stderr: int) -> Container:
        """Start a container beside another one of a segment, whose place it shares: it does not wait for one.

        Otherwise as ``start``.
        """
        return started(self._request("start", to_wire(spec), stdin, stdout, stderr, *_segment(spec)), lambda: None)

    def start(self, spec: ContainerSpec, *, stdin: int, stdout: int, stderr: int) -> Container:
        """Start a container; returns once its command is being executed.

        stdin, stdout, stderr: descriptors that become the command's, which the caller may close afterwards; a terminal
        takes the place of those that it is. A command that cannot be executed is no exception but an exit status of 126
        or 127.
        Raises ContainerError when the container cannot be set up, and what ``check`` raises while it waits for a place.
        """
        self._take_place()
        try:
            request = self._request("start", to_wire(spec), stdin, stdout, stderr, *_segment(spec))
            return started(request, self._give_place)
        except BaseException:
            self._give_place()
            raise

    def _take_place(self) -> None:
        while self._places is not None and not self._places.acquire(timeout=_PLACE_POLL_S):
            check()

    def _give_place(self) -> None:
        if self._places is not None:
            self._places.release()

    def retire(self) -> None:
        """Let the process end in the background, which takes the kernel some 40 ms; ``close`` has to follow.

        No container may be running. The launcher cannot be used any more.
        """
        with self._lock:
            self._retire()

    def _retire(self) -> None:
        self._closed = True
        if self._control is not None:
            self._control.close()
            self._control = None

    def close(self) -> None:
        """Kill every container, wait until all is gone. The launcher cannot be used any more."""
        with self._lock:
            self._retire()
            if self._pid:
                self._reap()

    def _request(self, kind: str, value: object, *fds: int) -> _socket.socket:
        try:
            return self._asked(kind, value, *fds)
        except OSError as error:
            what = f"cannot ask the launcher process for anything: {error.strerror}"
            raise ContainerError(what, hint=hint_if_out_of_files(error)) from error

    def _asked(self, kind: str, value: object, *fds: int) -> _socket.socket:
        ours, theirs = wire.socket_pair()
        try:
            body = wire.to_memfd(value)
            try:
                with self._lock:
                    wire.send(self._process(), kind, [theirs.fileno(), body, *fds])
            finally:
                os.close(body)
        except (BrokenPipeError, ConnectionResetError) as error:
            ours.close()
            raise LauncherError(f"the launcher process is gone: {self._log()}") from error
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def _process(self) -> _socket.socket:
        """The control socket of a process that is ready; starts it when there is none. The lock is held."""
        control = self._control or self._spawn("")
        if not self._greeted:
            try:
                answer(control, "hello")
            except ContainerError as error:
                control.close()
                self._control = None
                self._reap()
                if isinstance(error, LauncherError):
                    raise LauncherError(f"the launcher process did not start: {self._log()}") from error
                raise
            self._greeted = True
        return control

    def _spawn(self, connected: str) -> _socket.socket:
        """Start the process, which will say hello on the control socket returned. The lock is held.

        connected: see ``server.main``.
        """
        if self._closed:
            raise LauncherError("the launcher has been closed")
        if os.geteuid() != 0:
            raise NamespaceError(
                "containers need root",
                hint="call containers.rootless.become_root first, or run as root",
            )
        ours, theirs = wire.socket_pair()
        opened: list[int] = []
        source = str(Path(__file__).parent.parent)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
            opened.append(log := os.open(self._state / "launcher.log", flags, 0o600))
            opened.append(null := os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC))
            self._pid = os.posix_spawn(
                sys.executable,
                [
                    *(sys.executable, *_BOOT, source, str(self._state)),
                    *(",".join(self._denied), self._uplink, connected, self._group),
                ],
                {},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null, 0),
                    (os.POSIX_SPAWN_DUP2, log, 1),
                    (os.POSIX_SPAWN_DUP2, log, 2),
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), 3),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=[
                    number for number in signal.valid_signals() if number not in (signal.SIGKILL, signal.SIGSTOP)
                ],
            )
        except OSError as error:
            ours.close()
            what = f"cannot start the launcher process: {error.strerror}"
            raise LauncherError(what, hint=hint_if_out_of_files(error)) from error
        finally:
            theirs.close()
            for fd in opened:
                os.close(fd)
        self._control = ours
        return ours

    def _reap(self) -> None:
        """Wait for the launcher process to end; kill it when it does not."""
        pid, self._pid = self._pid, 0
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if not readable(pidfd, _CLOSE_TIMEOUT_S):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        except ChildProcessError:
            return
        finally:
            os.close(pidfd)

    def _log(self) -> str:
        """The end of what the process printed; it prints only when it fails."""
        text = (self._state / "launcher.log").read_text(errors="replace").strip()
        return text[-2000:] or "it was killed"


def _networks(text: str) -> tuple[str, ...]:
    if not text:
        return ()
    from containers.hubrules import parse_networks

    return parse_networks(text)


def _segment(spec: ContainerSpec) -> tuple[int, ...]:
    """The descriptors that a container of a segment needs beside its own."""
    return () if spec.segment is None else (spec.segment.segment,)
