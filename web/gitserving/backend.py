"""``git http-backend`` as a process: its rights, its input, and how it ends.

Nothing of its environment comes from the web process. Every part of its configuration that could start a program is
ours, and beats the repository's own. The process and all that it starts are one process group.

A push survives the web process: receive-pack takes what it has received, and its hook keeps the push for the next
service. For that the process holds the reading end of its own output. So nothing is cut off when nobody reads there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final, NamedTuple

import core
from core.errors import ShiplapError
from core.settings import GitSettings

_PIECE: Final = 64 << 10
_MAX_AHEAD: Final = 1 << 20  # of an answer that comes before the request has ended
_MAX_HEAD: Final = 16 << 10
_MAX_TOLD: Final = 4 << 10
_POLL_MS: Final = 500
_END_S: Final = 2.0
_MAX_MEMORY_BYTES: Final = 2 << 30  # of each process: a commit of one long line is small while it is sent
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
_PLACE: Final = "/mnt"  # where containers.confined shows the repository
_PUSH: Final = "git-receive-pack"
_LATER: Final = "2.weeks.ago"


class BackendError(ShiplapError):
    """git does not answer as it should. The message is for the log, not for strangers."""


class TooLongError(BackendError):
    """The backend took too long."""


class TooLargeError(BackendError):
    """The request has more bytes than a push may have."""


class Job(NamedTuple):
    """One request.

    repository: its directory.
    hooks: the directory of our hook.
    top: ROOT; a backend under root sees no more of ROOT than its repository.
    service: ``git-upload-pack`` or ``git-receive-pack``.
    is_advertising: the request asks for the refs.
    may_push: whether ``service`` may be receive-pack.
    who: for the reflog and the hook.
    compressed: the body is gzip.
    protocol: the value of Git-Protocol, checked.
    """

    repository: Path
    hooks: Path
    top: Path
    service: str
    is_advertising: bool
    may_push: bool
    who: str
    compressed: bool = False
    protocol: str = ""


class Backend:
    """A running process, for one thread. ``close`` ends it, and has to be called.

    follows: called once the hook only follows a log; False ends the following.
    stopping: whether followers are to go.
    """

    def __init__(
        self, job: Job, settings: GitSettings, *, follows: Callable[[], bool], stopping: Callable[[], bool]
    ) -> None:
        self._job = job
        self._settings = settings
        self._follows = follows
        self._stopping = stopping
        self._deadline = time.monotonic() + settings.time_s
        self._is_push = job.service == _PUSH and not job.is_advertising
        self._is_fed = False
        self._is_following = False
        self._ahead = bytearray()
        self._told = b""
        self._signal, signalling = os.pipe()
        self._output, output = os.pipe()
        if self._is_push:
            with contextlib.suppress(OSError):
                fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _MAX_AHEAD)
        try:
            self._process = subprocess.Popen(
                _command(job, settings),
                env=_environment(job, settings, signalling),
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.PIPE,
                pass_fds=(signalling, self._output) if self._is_push else (),
                start_new_session=True,
                umask=0o022,
            )
        except OSError as error:
            os.close(self._signal)
            os.close(self._output)
            raise BackendError(f"git cannot be started: {error}") from error
        finally:
            os.close(signalling)
            os.close(output)
        assert self._process.stdin is not None
        assert self._process.stderr is not None
        self._input = self._process.stdin
        self._errors = self._process.stderr
        for fd in (self._input.fileno(), self._output, self._errors.fileno(), self._signal):
            os.set_blocking(fd, False)

    def feed(self, body: IO[bytes], length: int | None) -> None:
        """Pass the request's body on. length: None where it has no Content-Length.

        Raises BackendError, TooLargeError, TooLongError; OSError when the client goes.
        """
        passed, limit = 0, self._settings.push_max_bytes
        while piece := body.read(_PIECE):
            passed += len(piece)
            if limit and passed > limit + _PIECE:  # git itself reports a pack over its limit
                raise TooLargeError(f"more than {limit} bytes were sent")
            if not self._write(piece):
                break
        else:
            if length is not None and passed < length:
                raise ConnectionResetError("the client went away before all was sent")
        self._input.close()
        self._is_fed = True

    def head(self) -> tuple[str, list[tuple[str, str]]]:
        """Status and headers. Raises BackendError, TooLongError."""
        while (end := self._ahead.find(b"\r\n\r\n")) < 0:
            if len(self._ahead) > _MAX_HEAD or not self._read_more():
                raise BackendError(f"git http-backend ended without an answer: {self._why()}")
        lines = bytes(self._ahead[:end]).decode("latin-1").split("\r\n")
        del self._ahead[: end + 4]
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        status = next((value for name, value in headers if name.lower() == "status"), "200 OK")
        return status, [(name, value) for name, value in headers if name.lower() != "status"]

    def pieces(self) -> Iterator[bytes]:
        """The answer's body as it comes. Raises TooLongError."""
        while True:
            if self._ahead:
                yield bytes(self._ahead)
                self._ahead.clear()
            if not self._read_more():
                return

    def close(self) -> None:
        """End the process. Waits for a push that has come whole, even if its sender has gone; not for a follower."""
        try:
            if self._is_push and self._is_fed and self._process.returncode is None:
                while not self._is_following and self._read_more():
                    self._ahead.clear()
        except BackendError:
            pass
        finally:
            self._end()
            for fd in (self._output, self._signal):
                os.close(fd)
            self._errors.close()

    def _end(self) -> None:
        """End it first by the end of its input: git then removes what it has begun, which it leaves after a signal."""
        with contextlib.suppress(OSError):
            self._input.close()
        for number in (0, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):  # also ends what is left of the group after its leader
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0 if number == 0 and self._is_fed else _END_S)
                if number:
                    return

    def _write(self, piece: bytes) -> bool:
        """Write all of the piece; False: git wants no more. What git answers until then is kept."""
        view = memoryview(piece)
        while view:
            ready = self._wait(self._input.fileno())
            if self._input.fileno() not in ready:
                continue
            try:
                view = view[os.write(self._input.fileno(), view) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                return False
        return True

    def _read_more(self) -> bool:
        """Wait for more of the answer; False: there is no more."""
        before = len(self._ahead)
        while len(self._ahead) == before:
            if self._output in self._wait() and len(self._ahead) == before:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_S)
                return False
        return True

    def _wait(self, writing: int = -1) -> set[int]:
        """Wait until something can be read or written; reads what came. Raises TooLongError."""
        if not self._is_following and time.monotonic() > self._deadline:
            raise TooLongError(f"git took more than {self._settings.time_s} s")
        if self._is_following and self._stopping():
            raise TooLongError("the service ends")
        poll = select.poll()
        room = writing < 0 or len(self._ahead) < _MAX_AHEAD
        if not room:
            raise BackendError("git answers too much before the request has ended")
        poll.register(self._output, select.POLLIN)
        poll.register(self._errors.fileno(), select.POLLIN)
        if self._is_push and not self._is_following:
            poll.register(self._signal, select.POLLIN)
        if writing >= 0:
            poll.register(writing, select.POLLOUT)
        ready = {fd for fd, _ in poll.poll(_POLL_MS)}
        if self._errors.fileno() in ready:
            self._told = (self._told + (os.read(self._errors.fileno(), _PIECE) or b""))[-_MAX_TOLD:]
        if self._signal in ready and os.read(self._signal, 1):
            self._is_following = True
            if not self._follows():
                raise TooLongError("too many pushes are followed at once")
        if self._output in ready:
            self._ahead += os.read(self._output, _PIECE)
        return ready

    def _why(self) -> str:
        with contextlib.suppress(BlockingIOError):
            self._told += os.read(self._errors.fileno(), _MAX_TOLD)
        return self._told.decode(errors="replace").strip()[-_MAX_TOLD:] or f"exit status {self._process.poll()}"


def lacks() -> str:
    """What pushes need and this host lacks; empty when it has all."""
    return "" if shutil.which("python3", path=_path()) else f"python3, for the hook, in {_path()}"


def _path() -> str:
    """The search path for programs. It leaves out root's own Python, which others cannot rely on."""
    return _PATH if os.geteuid() == 0 else f"{os.path.dirname(sys.executable)}:{_PATH}"


def _command(job: Job, settings: GitSettings) -> list[str]:
    heavier = '{ echo 500 >/proc/self/oom_score_adj; } 2>/dev/null; exec "$@"'  # it is killed before the web process is
    limits = ["--core=0", f"--cpu={settings.time_s}", f"--data={_MAX_MEMORY_BYTES}"]
    command = ["sh", "-c", heavier, "sh", "prlimit", *limits, "--"]
    if os.geteuid() == 0:
        command += [
            sys.executable,
            "-S",
            "-m",
            "containers.confined",
            str(job.top),
            str(job.repository),
            str(job.hooks),
        ]
    return [*command, "git", "http-backend"]


def _environment(job: Job, settings: GitSettings, signalling: int) -> dict[str, str]:
    """The whole environment."""
    is_root = os.geteuid() == 0
    hooks = Path(_PLACE, "hooks") if is_root else job.hooks
    repository = Path(_PLACE, "repository.git") if is_root else job.repository
    address = f"/{repository.name}/" + ("info/refs" if job.is_advertising else job.service)
    environment = {
        "GIT_ALLOW_PROTOCOL": "none",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_HTTP_EXPORT_ALL": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_PROJECT_ROOT": str(repository.parent),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "PATH": _path(),
        "PATH_INFO": address,
        "QUERY_STRING": f"service={job.service}" if job.is_advertising else "",
        "REMOTE_USER": job.who,
        "REQUEST_METHOD": "GET" if job.is_advertising else "POST",
        "SHIPLAP_FOLLOWING": str(signalling),
        "SHIPLAP_PUSHER": job.who,
    }
    if not job.is_advertising:
        environment["CONTENT_TYPE"] = f"application/x-{job.service}-request"
    if job.compressed:
        environment["HTTP_CONTENT_ENCODING"] = "gzip"
    if job.protocol:
        environment["GIT_PROTOCOL"] = job.protocol
    if is_root:
        environment["PYTHONPATH"] = str(Path(core.__file__).parents[1])  # containers.confined takes it away
    return environment | _as_variables(_configuration(job, settings, hooks))


def _configuration(job: Job, settings: GitSettings, hooks: Path) -> Mapping[str, str]:
    return {
        "core.alternateRefsCommand": "true",
        "core.bigFileThreshold": "64m",
        "core.fsmonitor": "false",
        "core.hooksPath": str(hooks),
        "gc.autoDetach": "false",  # must not outlive the request
        "gc.pruneExpire": _LATER,  # pushes of others that are under way need these objects
        "gpg.program": "false",
        "http.getanyfile": "false",
        "http.receivepack": str(job.may_push).lower(),
        "http.uploadpack": "true",
        "maintenance.autoDetach": "false",
        "pack.deltaCacheSize": "64m",
        "pack.threads": "2",
        "pack.windowMemory": "64m",
        "receive.advertisePushOptions": "true",
        "receive.fsckObjects": "true",
        "receive.maxInputSize": str(settings.push_max_bytes),
        "receive.shallowUpdate": "false",
        "safe.directory": "*",  # whoever owns it: the administrator has put it where it is
        "uploadpack.allowFilter": "true",
    }


def _as_variables(configuration: Mapping[str, str]) -> dict[str, str]:
    variables = {"GIT_CONFIG_COUNT": str(len(configuration))}
    for number, (name, value) in enumerate(configuration.items()):
        variables |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return variables
