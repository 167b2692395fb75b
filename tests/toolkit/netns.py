"""A host of its own for programs of a test: a network namespace with a link to this one that can be cut."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_CHECKOUT = Path(__file__).resolve().parents[2]
_numbers = itertools.count()


class Host:
    """``here`` and ``there``: the addresses of both ends of the link."""

    def __init__(self, name: str, here: str, there: str) -> None:
        self.here = here
        self.there = there
        self._name = name
        self._programs: list[subprocess.Popen[str]] = []

    def run(self, program: str, *arguments: str) -> Program:
        """Python code, on that host."""
        command = ["ip", "netns", "exec", self._name, sys.executable, "-c", program, *arguments]
        process = subprocess.Popen(
            command, cwd=_CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        self._programs.append(process)
        return Program(process)

    def cut_the_link(self) -> None:
        """Nothing passes any more, and nobody is told."""
        _ip("-n", self._name, "link", "set", "there", "down")

    def end(self) -> None:
        for process in self._programs:
            process.kill()
            process.communicate()


class Program:
    """A program that says a line after the other, and goes on when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def says(self) -> str:
        """Its next line."""
        return _stream(self._process.stdout).readline().strip()

    def tell(self) -> None:
        """Go on."""
        stream = _stream(self._process.stdin)
        stream.write("\n")
        stream.flush()


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


@contextlib.contextmanager
def other_host() -> Iterator[Host]:
    """A host that has the network to this one only."""
    number = next(_numbers)
    name = f"shiplap-t{os.getpid()}-{number}"
    link = f"st{os.getpid() % 100_000}-{number}"
    octet = os.getpid() % 250
    host = Host(name, f"10.213.{octet}.{1 + 4 * number}", f"10.213.{octet}.{2 + 4 * number}")
    _ip("netns", "add", name)
    try:
        _ip("link", "add", link, "type", "veth", "peer", "name", "there", "netns", name)
        _ip("addr", "add", f"{host.here}/30", "dev", link)
        _ip("link", "set", link, "up")
        _ip("-n", name, "addr", "add", f"{host.there}/30", "dev", "there")
        _ip("-n", name, "link", "set", "there", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield host
    finally:
        host.end()
        _ip("netns", "del", name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
