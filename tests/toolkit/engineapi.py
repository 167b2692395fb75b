"""The engine's API as a process of its own, and docker's command line against it."""

from __future__ import annotations

import fcntl
import http.client
import os
import pty
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.containers import end_containers
from tests.toolkit.shiplap import COMMAND, Shiplap
from tests.toolkit.terminals import read_until


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket, one request after the other."""

    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=stretched(60))
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Api:
    """``shiplap engine`` on a root. folder: a short path, for its socket and its client's home."""

    def __init__(self, shiplap: Shiplap, folder: Path) -> None:
        self.shiplap = shiplap
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For docker's clients."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.folder / "config"),
        }

    def start(self, *, prefix: Sequence[str] = (), options: Sequence[str | Path] = ()) -> None:
        """Serve; it answers when this returns. prefix: what starts it. options: further ones."""
        with open(self.folder / "engine.log", "ab") as log:
            self.process = subprocess.Popen(
                [*prefix, *COMMAND, "engine", "--listen", f"unix://{self.socket}", *options],
                env=self.shiplap.environment(None),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self.answers, why="the API answers")

    def answers(self) -> bool:
        """Whether it does."""
        assert self.process is None or self.process.poll() is None, self.log()
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(stretched(5))
            try:
                client.connect(str(self.socket))
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return client.recv(12).endswith(b"200")
            except OSError:
                return False

    def log(self) -> str:
        """What it wrote."""
        return (self.folder / "engine.log").read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL all of its processes."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """End it, and every container of the root."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(stretched(60))
            self.process = None
        end_containers(self.shiplap)

    def docker(
        self, *words: str | Path, stdin: bytes = b"", check: bool = False, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``docker WORDS…`` to its end."""
        ran = subprocess.run(
            ["docker", *map(str, words)],
            input=stdin,
            capture_output=True,
            env={**self.environment, **(env or {})},
            timeout=stretched(120),
        )
        out, err = (text.decode(errors="backslashreplace") for text in (ran.stdout, ran.stderr))
        if check and ran.returncode:
            raise AssertionError(
                f"docker {' '.join(map(str, words))} exited {ran.returncode}\n{out}\n{err}\n{self.log()}"
            )
        return subprocess.CompletedProcess(ran.args, ran.returncode, out, err)

    def begin(self, words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start ``docker WORDS…``. options: as Popen's."""
        return subprocess.Popen(["docker", *words], env=self.environment, **options)


class Terminal:
    """docker's client on a terminal that the test holds."""

    def __init__(self, api: Api, *words: str) -> None:
        self.fd, slave = pty.openpty()
        self.resize(33, 101)
        self.process = api.begin(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def until(self, wanted: bytes) -> bytes:
        return read_until(self.fd, wanted)

    def code(self) -> int:
        """The client's exit code."""
        try:
            return self.process.wait(stretched(60))
        finally:
            os.close(self.fd)
