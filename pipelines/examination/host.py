"""Looks at this host: git's tools, and the disk of the root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core import filesystems
from core.settings import ServiceSettings
from pipelines.examination.findings import Finding, State

_TOOL_S: Final = 5.0
_ENOUGH_BYTES: Final = 1 << 30
_LITTLE_BYTES: Final = 64 << 20
_FEW_INODES: Final = 10_000
_WRITTEN: Final = bytes(1 << 20)


def look_at_git(settings: ServiceSettings) -> Iterator[Finding]:
    """Look at git, which clones; ``git http-backend``, which serves bare repositories; ssh, which uses deploy keys."""
    name = "git's tools"
    version = _said("git", "--version")
    if not version:
        yield Finding(name, "FAILED", "git is missing: no repository can be fetched", "apt-get install git")
        return
    backend = Path(_said("git", "--exec-path"), "git-http-backend")
    if not os.access(backend, os.X_OK):
        yield Finding(name, "WARN", f"no {backend}: bare repositories are not served over HTTP", "apt-get install git")
    if shutil.which("ssh") is None:
        remedy = "apt-get install openssh-client"
        yield Finding(name, "WARN", "no ssh: repositories with deploy keys cannot be fetched", remedy)
    if settings.git_ca_file is not None and not os.access(settings.git_ca_file, os.R_OK):
        detail = f"SHIPLAP_GIT_CA_FILE names {settings.git_ca_file}, which cannot be read"
        yield Finding(name, "FAILED", detail, "correct it, or let everybody read the file")
        return
    yield Finding(name, "OK", version)


def look_at_disk(settings: ServiceSettings) -> Iterator[Finding]:
    """Look at the root's file system: its kind, room and inodes, and whether a file can be written."""
    name, root = "disk", settings.root
    there = root
    while not there.is_dir():
        there = there.parent
    room = os.statvfs(there)
    free_bytes, of_bytes = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    kind = filesystems.kind_of(str(there)) or "a file system"
    what = f"{root} on {kind}: {_shown(free_bytes)} of {_shown(of_bytes)} free"
    if unfit := filesystems.why_unfit(str(root)):
        yield Finding(name, "WARN", f"{unfit}; a host without a worker can do with it", filesystems.way_out(str(root)))
    try:
        with tempfile.TemporaryFile(dir=there, prefix=".shiplap-doctor-") as file:
            file.write(_WRITTEN)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        yield Finding(name, "FAILED", f"{what}; a file cannot be written: {error.strerror}", _disk_remedy(there))
        return
    yield Finding(name, _state(free_bytes), what, "" if free_bytes >= _ENOUGH_BYTES else _disk_remedy(there))
    if room.f_files and room.f_favail < _FEW_INODES:
        state: State = "WARN" if room.f_favail else "FAILED"
        yield Finding(name, state, f"{room.f_favail} inodes are free of {room.f_files}", _disk_remedy(there))


def _state(free_bytes: int) -> State:
    if free_bytes >= _ENOUGH_BYTES:
        return "OK"
    return "WARN" if free_bytes >= _LITTLE_BYTES else "FAILED"


def _disk_remedy(there: Path) -> str:
    if not os.access(there, os.W_OK):
        return f"let this user write to {there}, or choose another root: SHIPLAP_ROOT"
    return "free some space: shiplap image prune, shiplap cache prune, shiplap registry gc; or a larger disk"


def _said(*command: str) -> str:
    """The first line that a program prints; empty when it is missing, fails or hangs."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TOOL_S, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()


def _shown(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 30):.1f} GiB" if size_bytes >= 1 << 30 else f"{size_bytes >> 20} MiB"
