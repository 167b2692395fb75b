"""One sandbox in which short gits run one after the other, as they are asked for.

A sandbox takes several times as long to start as a short git. What a run wants to know of a repository is asked in a
dozen of them.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from builder.errors import FetchUnreachableError
from builder.remotes.gitprogram import NO_PROGRAM, Ended, GitProgram, ended_of, script_of
from core.closing import Closing

_LONGEST: Final = 60_000  # bytes of a question; a longer one is asked in a sandbox of its own
_POLL_S: Final = 0.1
_AT_ONCE: Final = 256 << 10
_END_S: Final = 1.0


class _Running(NamedTuple):
    """A shell that runs. thread: that started it. place: its directory's device and inode."""

    process: subprocess.Popen[bytes]
    program: GitProgram
    thread: threading.Thread
    place: tuple[int, int]


class GitShell(Closing):
    """A shell in a sandbox, started with the first question or by ``warm``, and again after ``close``.

    It ends with the thread that started it: then, or when somebody has killed it, the next question starts another.
    Threads: any; they take turns.
    """

    def __init__(
        self,
        make: Callable[[], tuple[GitProgram, Mapping[str, str]]],
        directory: Path,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """make: the program whose sandbox it is, and git's variables.

        directory: the program's. When another one has taken its place, the shell is started anew there.
        pass_fds: descriptors that it holds: locks.
        """
        self._make = make
        self._directory = directory
        self._pass_fds = pass_fds
        self._lock = threading.Lock()
        self._running: _Running | None = None

    def warm(self) -> None:
        """Start it, without waiting for it."""
        with self._lock, contextlib.suppress(FileNotFoundError):
            self._started()

    def run_all(
        self, commands: Sequence[Sequence[str]], lines: Sequence[bytes] = (), *, late_at: float | None = None
    ) -> list[Ended] | None:
        """How each command ended.

        lines: what the only one of them reads; they have neither line breaks nor zeros.
        late_at: by when they have to end, by the monotonic clock; None: the program's bounds count from now on.
        None: the shell cannot say; the same commands have to be run in another sandbox.
        Raises FetchUnreachableError when it takes too long, and what the program's question raises.
        """
        mark, end = os.urandom(16).hex(), os.urandom(16).hex()  # what git prints is somebody else's
        with self._lock:
            try:
                running = self._started()
            except FileNotFoundError:
                return None  # whoever starts a sandbox says what is not there
            script = _script([[*running.program.alone, *words] for words in commands], lines, mark, end)
            if len(script) > _LONGEST:
                return None
            try:
                answer = _answer(running, script, f"\n{end}\n".encode(), late_at)
            except BaseException:
                self._kill()
                raise
            if answer is None:
                self._kill()
                return None
        found = ended_of(*answer, mark, len(commands))
        return None if found is None or any(each.code == NO_PROGRAM for each in found) else found

    def close(self) -> None:
        """End it. The next question would start another."""
        with self._lock:
            running, self._running = self._running, None
            if running is None:
                return
            process = running.process
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.write(b"exit\n")  # whoever was forked from this process may hold the pipe open
                process.stdin.flush()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
            _reap(process)

    def _started(self) -> _Running:
        """The shell; a new one if there is none that can be asked."""
        there = os.stat(self._directory)
        place = there.st_dev, there.st_ino
        running = self._running
        if running is not None:
            if running.process.poll() is None and running.thread.is_alive() and running.place == place:
                return running
            self._kill()
        program, environment = self._make()
        process = program.start(["sh"], environment, stdin=subprocess.PIPE, pass_fds=self._pass_fds)
        self._running = _Running(process, program, threading.current_thread(), place)
        return self._running

    def _kill(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            running.process.kill()
            _reap(running.process)


def _answer(running: _Running, script: bytes, end: bytes, late_at: float | None) -> tuple[bytes, bytes] | None:
    """What comes on standard output and on standard error; None: it has ended before."""
    process, program = running.process, running.program
    assert process.stdin is not None
    poller, asking, left = select.poll(), process.stdin.fileno(), memoryview(script)
    # The pipe may be a small one, and the shell may wait until somebody reads what it has said so far.
    os.set_blocking(asking, False)
    poller.register(asking, select.POLLOUT)
    told = {stream.fileno(): bytearray() for stream in (process.stdout, process.stderr) if stream is not None}
    for number in told:
        poller.register(number, select.POLLIN)
    asked = time.monotonic()
    late_at = asked + program.bounds.time_s if late_at is None else late_at
    while not all(text.endswith(end) for text in told.values()):
        for number, _ in poller.poll(_POLL_S * 1000):
            if number == asking:
                try:
                    left = left[os.write(asking, left) :]
                except BrokenPipeError:
                    return None
                if not left:
                    poller.unregister(asking)
                continue
            data = os.read(number, _AT_ONCE)
            if not data:
                return None
            told[number] += data
        now = time.monotonic()
        if now - asked > _POLL_S:
            asked = now
            program.question()
        if now > late_at:
            raise FetchUnreachableError(
                f"git did not end within {program.bounds.time_s} s",
                hint="SHIPLAP_FETCH_TIME is how long it may take",
            )
    program.question()
    out, errors = (bytes(text[: -len(end)]) for text in told.values())
    return out, errors


def _reap(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError), process:  # closes the pipes; what was not written goes nowhere
        pass


def _script(commands: Sequence[Sequence[str]], lines: Sequence[bytes], mark: str, end: str) -> bytes:
    """What the shell is given: git reads the lines, and nothing of what comes after them."""
    text = script_of(commands, mark, f" <<'{end}'" if lines else " </dev/null").encode("utf-8", "surrogateescape")
    text = b"\n".join([text, *lines, end.encode()]) if lines else text
    return text + f"\nprintf '\\n{end}\\n'; printf '\\n{end}\\n' >&2\n".encode()
