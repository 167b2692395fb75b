"""The streams of one process in a container, and who is attached to them.

    process ──pipes or terminal──▶ Relay ──▶ log
                                         ──▶ viewers, each at its own pace
    a viewer's input ─────────────▶ Relay ──▶ process

A viewer that is slow holds the process up, as a pipe would. One that takes nothing for PATIENCE_S is cut off: the log
has everything.
"""

from __future__ import annotations

import os
import struct

from containers.keeper.streams import Sink, Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from containers.keeper.loop import Loop, Timer

    class Output(Protocol):
        """What keeps a process's output: a log, or the result of a health check."""

        def write(self, stream: str, data: bytes, /) -> None: ...

        def end(self) -> None: ...


PATIENCE_S = 10.0
_MOST_WAITING = 1 << 20
_MOST_INPUT_WAITING = 256 << 10
_MOST_DRAINED = 16 << 20
_NUMBERS = {"stdout": 1, "stderr": 2}
_HEAD = struct.Struct(">B3xI")
DEFAULT_DETACH_KEYS = "ctrl-p,ctrl-q"


def parse_keys(text: str) -> bytes:
    """The bytes of detach keys: ``ctrl-p,ctrl-q``, or plain characters. Raises ValueError."""
    found = bytearray()
    for key in (text or DEFAULT_DETACH_KEYS).split(","):
        if len(key) == 1 and key.isascii():
            found += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and (key[5].isalpha() or key[5] in "@[\\]^_") and key.isascii():
            found.append(ord(key[5].upper()) & 0x1F)
        else:
            raise ValueError(f"unknown character: {key!r}")
    return bytes(found)


class Framing:
    """How bytes are told apart on a connection. kind: ``raw``, ``multiplexed`` or ``chunked``.

    multiplexed: docker's header of 8 bytes before each piece. chunked: HTTP's, around that.
    has_one: there is one stream only, a terminal: its pieces have no header of docker's.
    """

    def __init__(self, kind: str, *, has_one: bool) -> None:
        if kind not in ("raw", "multiplexed", "chunked"):
            raise ValueError(f"unknown framing {kind!r}")
        self._has_heads = kind != "raw" and not has_one
        self._is_chunked = kind == "chunked"

    def framed(self, stream: str, data: bytes) -> bytes:
        """A piece of a stream (``stdout``, ``stderr``)."""
        if self._has_heads:
            data = _HEAD.pack(_NUMBERS[stream], len(data)) + data
        return b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data

    def end(self) -> bytes:
        """What comes last."""
        return b"0\r\n\r\n" if self._is_chunked else b""


class Viewer:
    """Somebody who is attached. Ends by itself when the other side goes.

    ended: called once with ``exit``, ``detached`` or ``gone``.
    """

    def __init__(
        self, relay: Relay, framing: Framing, fds: list[int], asked: dict[str, Any], ended: Callable[[str], None]
    ) -> None:
        """fds: a socket, or stdin, stdout and stderr; owned from here on.

        asked: ``stdin``, ``stdout``, ``stderr`` (whether it is wanted), ``detach_keys``.
        """
        self._relay = relay
        self._framing = framing
        self._told: Callable[[str], None] | None = ended
        self._loop = relay.loop
        self._stalled: Timer | None = None
        self._keys = parse_keys(asked.get("detach_keys", "")) if relay.is_terminal else b""
        self._typed = b""
        self._sinks: dict[str, Sink] = {}
        self._input: Source | None = None
        self._why = ""
        wanted = [name for name in _NUMBERS if asked.get(name, True)]
        if len(fds) == 1:
            sink = Sink(self._loop, os.dup(fds[0]), self._gone, self._drained, is_shared=True)
            self._sinks = dict.fromkeys(wanted, sink)
            self._end_sink = sink
            self._input = Source(self._loop, fds[0], self._take, self._input_ended, is_shared=True)
        else:
            stdin, *outputs = fds
            for name, fd in zip(_NUMBERS, outputs, strict=True):
                if name in wanted:
                    self._sinks[name] = Sink(self._loop, fd, self._gone, self._drained, is_shared=True)
                else:
                    os.close(fd)
            if asked.get("stdin"):
                self._input = Source(self._loop, stdin, self._take, self._input_ended, is_shared=True)
            else:
                os.close(stdin)
        self._takes_input = bool(asked.get("stdin"))

    @property
    def waiting(self) -> int:
        """The bytes that it has not taken yet."""
        return sum(sink.waiting for sink in set(self._sinks.values()))

    def give(self, stream: str, data: bytes) -> None:
        """Send it a piece of output."""
        sink = self._sinks.get(stream)
        if sink is None:
            return
        sink.write(self._framing.framed(stream, data))
        if self._stalled is None and self.waiting > _MOST_WAITING:
            self._wait_for(self.waiting)

    def give_raw(self, data: bytes) -> None:
        """Feed input that was read from the client before the connection came here."""
        self._take(data)

    def end(self, why: str) -> None:
        """Let it go when it has taken everything."""
        if self._why:
            return
        self._why = why
        if self._input is not None:
            self._input.close()
        last = self._framing.end()
        for sink in set(self._sinks.values()):
            sink.write(last)
            sink.finish()
        if self.waiting:
            self._wait_for(self.waiting)
        else:
            self._tell()

    def cut_off(self) -> None:
        """Let it go now."""
        if not self._why and self._takes_input:
            self._relay.input_ended()
        self._why = self._why or "gone"
        for end in (self._input, *set(self._sinks.values())):
            if end is not None:
                end.close()
        for sink in self._sinks.values():
            sink.waiting = 0
        self._tell()

    def pause_input(self, *, is_full: bool) -> None:
        """Take input or leave it, as the process does."""
        if self._input is not None:
            (self._input.pause if is_full else self._input.resume)()

    def _wait_for(self, waiting: int) -> None:
        """Look later whether it has taken anything."""

        def look() -> None:
            self._stalled = None
            now = self.waiting
            if now >= waiting:
                self.cut_off()
            elif now > _MOST_WAITING or (self._why and now):
                self._wait_for(now)

        self._stalled = self._loop.later(PATIENCE_S, look)

    def _take(self, data: bytes) -> None:
        if not self._takes_input:
            return
        if self._keys:
            data = self._without_keys(data)
        if data:
            self._relay.write(data)

    def _without_keys(self, data: bytes) -> bytes:
        """What is to go to the process: detach keys are kept back until they are known to be none."""
        kept = bytearray()
        for byte in data:
            self._typed += bytes((byte,))
            if self._typed == self._keys:
                self._loop.later(0, lambda: self.end("detached"))
                self._typed = b""
                break
            while self._typed and not self._keys.startswith(self._typed):
                kept.append(self._typed[0])
                self._typed = self._typed[1:]
        return bytes(kept)

    def _input_ended(self) -> None:
        self._input = None
        if self._takes_input:
            self._relay.input_ended()

    def _drained(self) -> None:
        if self._why and not self.waiting:
            self._tell()
        elif not self._why:
            self._relay.has_room()

    def _gone(self) -> None:
        self.cut_off()

    def _tell(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        told, self._told = self._told, None
        if told is not None:
            self._relay.forget(self)
            told(self._why)


class Relay:
    """The streams of one process.

    log: gets its output, or None. closes_input: whether the end of a viewer's input is the end of the process's.
    """

    def __init__(self, loop: Loop, log: Output | None, *, is_terminal: bool, closes_input: bool) -> None:
        self.loop = loop
        self.is_terminal = is_terminal
        self._log = log
        self._closes_input = closes_input
        self._viewers: list[Viewer] = []
        self._sources: dict[str, Source] = {}
        self._input: Sink | None = None
        self._early = b""
        self._input_is_over = False
        self.terminal = -1
        self.appended: Callable[[], None] = _nothing

    def open(self, *, has_input: bool) -> list[int]:
        """Begin with a process: its stdin, stdout and stderr, which the caller closes. A terminal comes later."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if self.is_terminal:
            return [null, os.dup(null), os.dup(null)]
        theirs = [null]
        if has_input:
            os.close(null)
            reading, writing = os.pipe2(os.O_CLOEXEC)
            theirs = [reading]
            self._has_input(writing)
        for name in _NUMBERS:
            reading, writing = os.pipe2(os.O_CLOEXEC)
            theirs.append(writing)
            self._sources[name] = self._source(name, reading)
        return theirs

    def set_terminal(self, master: int, *, has_input: bool) -> None:
        """The process has a terminal; this is our end of it, owned from here on."""
        self.terminal = os.dup(master)
        if has_input:
            self._has_input(os.dup(master))
        self._sources["stdout"] = self._source("stdout", master)

    def add(self, viewer: Viewer) -> None:
        """Have somebody see what comes from now on."""
        self._viewers.append(viewer)

    def forget(self, viewer: Viewer) -> None:
        """It has ended."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self.has_room()

    def write(self, data: bytes) -> None:
        """Give the process input; what comes before it has begun waits for it."""
        if self._input is not None:
            self._input.write(data)
            waiting = self._input.waiting if self._input is not None else 0
        elif self._input_is_over:
            return
        else:
            self._early += data
            waiting = len(self._early)
        if waiting > _MOST_INPUT_WAITING:
            for viewer in self._viewers:
                viewer.pause_input(is_full=True)

    def input_ended(self) -> None:
        """A viewer's input has ended."""
        if self._closes_input and not self.is_terminal:
            self._input_is_over = True
            if self._input is not None:
                self._input.finish()

    def has_room(self) -> None:
        """A viewer has taken what it had to: go on when all have."""
        if all(viewer.waiting <= _MOST_WAITING for viewer in self._viewers):
            for source in self._sources.values():
                source.resume()

    def process_ended(self) -> None:
        """Take what is still there."""
        for source in list(self._sources.values()):
            source.drain(_MOST_DRAINED)
        if self._log is not None:
            self._log.end()
            self.appended()
        self.close()

    def let_go(self, why: str) -> None:
        """Let all viewers go, when they have taken everything."""
        for viewer in list(self._viewers):
            viewer.end(why)

    def close(self) -> None:
        """Let go of the process's streams, not of the viewers."""
        for source in list(self._sources.values()):
            source.close()
        self._sources.clear()
        if self._input is not None:
            self._input.close()
            self._input = None
        if self.terminal >= 0:
            os.close(self.terminal)
            self.terminal = -1
        self._early, self._input_is_over = b"", False

    @property
    def viewers(self) -> int:
        """How many are attached, or have not taken everything yet."""
        return len(self._viewers)

    def _has_input(self, fd: int) -> None:
        self._input = Sink(self.loop, fd, self._input_gone, self._input_drained, is_shared=False)
        early, self._early = self._early, b""
        self._input.write(early)
        if self._input_is_over and self._input is not None:
            self._input.finish()

    def _source(self, name: str, fd: int) -> Source:
        return Source(
            self.loop,
            fd,
            lambda data: self._on_output(name, data),
            lambda: self._source_ended(name),
            is_shared=False,
        )

    def _source_ended(self, name: str) -> None:
        self._sources.pop(name, None)

    def _on_output(self, name: str, data: bytes) -> None:
        if self._log is not None:
            self._log.write(name, data)
            self.appended()
        for viewer in list(self._viewers):
            viewer.give(name, data)
        if any(viewer.waiting > _MOST_WAITING for viewer in self._viewers):
            for source in self._sources.values():
                source.pause()

    def _input_gone(self) -> None:
        self._input = None
        self._input_is_over = True

    def _input_drained(self) -> None:
        for viewer in self._viewers:
            viewer.pause_input(is_full=False)


def _nothing() -> None:
    """For who is not interested."""
