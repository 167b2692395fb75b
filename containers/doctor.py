"""What this host offers for containers, found by trying it, and what to do about what is missing.

A process of its own (``probes``) does the trying, for two reasons. Namespaces are made by ``clone3``, which a process
with threads may not call. And when a kernel or a file system hangs, only that process is to hang.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from containers.probes import main; main(sys.argv[2])"
_SILENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    detail: what was found.
    remedy: what to do when it is not ok, else empty.
    essential: without it nothing is built. Without the others builds are slower, or have no limits.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    essential: bool = True


def probe(root: Path, *, silence_s: float = _SILENCE_S, program: str = _PROGRAM) -> list[Finding]:
    """Try everything that containers need, on the file system of ``root``, which need not exist yet.

    Leaves nothing behind. Never raises for what a host lacks. A probe that takes longer than ``silence_s`` is given up,
    and is the last finding. program: what the process runs.
    """
    while not root.is_dir():
        root = root.parent
    folder = root / f".shiplap-doctor-{secrets.token_hex(4)}"
    findings: list[Finding] = []
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program, str(Path(__file__).parent.parent), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        trying, hangs = "start", False
        try:
            for line in _lines(process, silence_s):
                kind, value = json.loads(line)
                if kind == "found":
                    findings.append(Finding(**value))
                trying = value if kind == "trying" else ""
        except TimeoutError:
            hangs = True
        finally:
            # With what it left behind. It has not been waited for, so that its number is nobody else's.
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            shutil.rmtree(folder, ignore_errors=True)
        if hangs:
            findings.append(_broken(trying or "end", f"did not end within {silence_s:g} seconds", ""))
        elif code:
            findings.append(_broken(trying or "end", f"was left by its process with {code}", _said(process)))
    return findings


def _broken(name: str, what: str, said: str) -> Finding:
    detail = "; ".join(filter(None, (what, said, "what comes after it was not tried")))
    return Finding(name, False, detail, "the last lines of `dmesg` may tell more")


def _said(process: subprocess.Popen[bytes]) -> str:
    """The last line that the process complained in; what it started may hold the pipe open."""
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    lines = (process.stderr.read() or b"").decode(errors="replace").split("\n")
    return ([""] + [line.strip() for line in lines if line.strip()])[-1]


def _lines(process: subprocess.Popen[bytes], silence_s: float) -> Iterator[bytes]:
    """What the process prints, until it has ended. Raises TimeoutError when it does nothing for ``silence_s``."""
    assert process.stdout is not None
    output = process.stdout.fileno()
    pidfd = os.pidfd_open(process.pid)  # what it started may hold its output open
    poll = select.poll()
    poll.register(output, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    rest = b""
    try:
        while ready := {fd for fd, _events in poll.poll(silence_s * 1000)}:
            if output not in ready:
                return
            data = os.read(output, 65536)
            if not data:
                poll.unregister(output)
            *lines, rest = (rest + data).split(b"\n")
            yield from lines
    finally:
        os.close(pidfd)
    raise TimeoutError
