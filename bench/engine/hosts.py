"""A host of its own for an engine, and a neighbour on the same wire. Namespaces; nothing of them outlives the bench."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.tools import ToolError

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_TIMEOUT_S: Final = 180.0

NEIGHBOUR: Final = "192.0.2.1"
HOST: Final = "192.0.2.2"
"""The addresses on the wire: TEST-NET-1, so that no engine takes them for a network of its own."""


class Host:
    """Namespaces in which an engine is the host's own, and a neighbour's.

    directory: on the disk; what is in /run/shiplap and /run/netns is this host's own.
    without: a mount that the host has and this one is not to have.
    """

    def __init__(self, directory: Path, without: str | None = None) -> None:
        self._directory = directory
        self._programs: list[subprocess.Popen[str]] = []
        private = "mkdir -p /run/shiplap /run/netns && mount -t tmpfs -o mode=755 tmpfs /run/shiplap"
        private += " && mount -t tmpfs -o mode=755 tmpfs /run/netns"
        if without is not None and os.path.ismount(without):
            private += f" && umount {without}"
        words = [
            *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
            *("sh", "-c", f'{private} && exec "$0" -m bench.engine.inside', sys.executable),
        ]
        self._inside = self._started(words)
        self._beside = self._started(
            ["unshare", "--net", "sh", "-c", "echo ready; exec cat"],
        )
        self._wire()

    def run(self, words: Sequence[str | Path], environment: Mapping[str, str], *, timeout_s: float = _TIMEOUT_S) -> str:
        """Run a command on the host; its output. Raises ToolError with the end of it when it fails."""
        return self._asked(words, environment, timeout_s)[0]

    def time(self, words: Sequence[str | Path], environment: Mapping[str, str]) -> float:
        """The same, in seconds."""
        return self._asked(words, environment, _TIMEOUT_S)[1]

    def neighbour(self, words: Sequence[str | Path]) -> subprocess.Popen[str]:
        """Start a program on the neighbour; the caller reads its output, and closes its input."""
        program = subprocess.Popen(
            ["nsenter", "--net", f"--target={self._beside.pid}", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._programs.append(program)
        return program

    def close(self) -> None:
        """End all that runs on the host and on its neighbour."""
        for program in (*self._programs, self._inside, self._beside):
            program.kill()
            program.communicate()

    def _wire(self) -> None:
        _ip("link", "add", "eth0", "netns", str(self._namespaces()), "type", "veth", "peer", "name", "eth0",
            "netns", str(self._beside.pid))  # fmt: skip
        for pid, address, via in (
            (self._namespaces(), HOST, NEIGHBOUR),
            (self._beside.pid, NEIGHBOUR, HOST),
        ):
            enter = ("nsenter", "--net", f"--target={pid}")
            _called(*enter, "ip", "address", "add", f"{address}/24", "dev", "eth0")
            _called(*enter, "ip", "link", "set", "eth0", "up")
            _called(*enter, "ip", "link", "set", "lo", "up")
            _called(*enter, "ip", "route", "add", "default", "via", via)
            # A client that opens and closes as fast as it can needs many ports.
            _called(*enter, "sysctl", "-qw", "net.ipv4.ip_local_port_range=1024 65000", "net.ipv4.tcp_tw_reuse=1")

    def _namespaces(self) -> int:
        """The process that is in the host's namespaces: the child of ``unshare --fork``."""
        children = Path(f"/proc/{self._inside.pid}/task/{self._inside.pid}/children").read_text().split()
        return int(children[0])

    def _started(self, words: Sequence[str]) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
        process = subprocess.Popen(
            words,
            cwd=self._directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        if process.stdout.readline().strip() != "ready":
            process.kill()
            raise ToolError(f"no namespaces for the bench: {' '.join(words)}")
        return process

    def _asked(
        self, words: Sequence[str | Path], environment: Mapping[str, str], timeout_s: float
    ) -> tuple[str, float]:
        assert self._inside.stdin is not None
        assert self._inside.stdout is not None
        arguments = [str(word) for word in words]
        asked = {"args": arguments, "env": dict(environment), "timeout_s": timeout_s}
        self._inside.stdin.write(json.dumps(asked) + "\n")
        self._inside.stdin.flush()
        line = self._inside.stdout.readline()
        if not line:
            raise ToolError("the bench's host has ended")
        answer = json.loads(line)
        if answer["code"] != 0:
            raise ToolError(f"{' '.join(arguments)} exited {answer['code']}:\n{answer['output'][-4000:]}")
        return answer["output"], answer["seconds"]


def _ip(*words: str) -> None:
    _called("ip", *words)


def _called(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise ToolError(f"{' '.join(words)}: {done.stderr.strip()}")
