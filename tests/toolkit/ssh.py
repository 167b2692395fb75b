"""An SSH server for tests, with keys and configuration of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.toolkit.bounds import Deadline
from tests.toolkit.ports import free_port

_START_S = 20.0


@dataclass(frozen=True)
class SshServer:
    """It lets in whoever has ``key``, as anybody who has a shell. known_hosts: as ssh-keyscan prints it."""

    port: int
    key: Path
    known_hosts: str


def make_key(path: Path) -> Path:
    """A private key without passphrase; the public one is beside it, as ``.pub``."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


@contextlib.contextmanager
def ssh_server(
    directory: Path, *, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Iterator[SshServer]:
    """sshd on a port of 127.0.0.1, until the end of the block. prefix: what starts it. environment: of who logs in."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
    assert program, "sshd is not installed: scripts/install-debian test"
    Path("/run/sshd").mkdir(exist_ok=True)  # its privilege separation needs it; Debian's service makes it
    host_key, key = make_key(directory / "host_key"), make_key(directory / "key")
    allowed = directory / "allowed"
    shutil.copy(key.with_suffix(".pub"), allowed)
    port = free_port()
    options = {
        "ListenAddress": f"127.0.0.1:{port}", "HostKey": host_key, "AuthorizedKeysFile": allowed, "PidFile": "none",
        "StrictModes": "no", "UsePAM": "no", "PasswordAuthentication": "no", "PermitRootLogin": "prohibit-password",
        "LogLevel": "VERBOSE",
    }  # fmt: skip
    configuration = directory / "sshd_config"
    lines = [f"{name} {value}\n" for name, value in options.items()]
    if environment:
        lines.append(f"SetEnv {' '.join(f'{name}={value}' for name, value in environment.items())}\n")
    configuration.write_text("".join(lines))
    with (directory / "sshd.log").open("wb") as log:
        process = subprocess.Popen(
            [*prefix, program, "-D", "-e", "-f", configuration], stdin=subprocess.DEVNULL, stderr=log
        )
    try:
        yield SshServer(port, key, _known_hosts(port, process, directory / "sshd.log"))
    finally:
        process.terminate()
        process.wait()


def _known_hosts(port: int, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = Deadline(_START_S, "sshd answers")
    while True:
        command = ["ssh-keyscan", "-p", str(port), "-t", "ed25519", "127.0.0.1"]
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
        if found.stdout.strip():
            return found.stdout
        assert process.poll() is None, log.read_text()
        deadline.check()
        time.sleep(0.05)
