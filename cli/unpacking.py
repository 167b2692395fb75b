"""Unpacking what jobs made into a directory of somebody's: whole or not at all, and nowhere else."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, BinaryIO, Final

from cli.errors import CommandError

_AT_ONCE: Final = 1 << 20


def check_free(place: Path) -> None:
    """Raises CommandError unless there is nothing yet, or an empty directory."""
    if place.is_symlink() or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
        raise CommandError(f"{place} is there already", hint="name a directory that is new or empty")


def place_of(top: Path, job: str, output: str) -> Path:
    """Where an output for people goes: ``top/JOB/NAME``. A part's jobs lie in a directory of the part's.

    A matrix puts into a job's name whatever its file says; that is one step. Raises CommandError for what leads
    elsewhere.
    """
    base, bracket, values = job.partition(" (")
    steps = f"{base}{bracket}{values.replace('/', '%2F')}".split("/")
    if any(step in ("", ".", "..") or "\0" in step for step in (*steps, output)) or "/" in output:
        raise CommandError(f"the output {output[:200]!r} of job {job[:200]!r} has no place below {top}")
    return top.joinpath(*steps, output)


@contextmanager
def unpacking(place: Path) -> Iterator[Callable[[BinaryIO], None]]:
    """Gives what unpacks a tar. What it unpacked is at ``place`` once the block has ended without an error.

    place: new, or an empty directory. Raises CommandError when it is neither; unpacking raises TarError and OSErrors.
    """
    check_free(place)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".shiplap-", dir=place.parent))
    try:
        yield lambda source: _unpack(source, aside)
        aside.chmod(0o755)
        with suppress(FileNotFoundError):
            place.rmdir()
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _unpack(source: BinaryIO, top: Path) -> None:
    """Links come last: until then, no name leads through one."""
    links: list[tuple[Path, str]] = []
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            place = _inside(top, member.name)
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                place.mkdir(exist_ok=True)
            elif member.issym():
                links.append((place, member.linkname))
            elif member.islnk():
                os.link(_inside(top, member.linkname), place, follow_symlinks=False)
            elif member.isfile():
                content = tar.extractfile(member)
                assert content is not None, "it is a file"
                _write(content, place, member.mode, member.mtime)
    for place, target in links:
        os.symlink(target, place)


def _write(source: IO[bytes], place: Path, mode: int, modified_at: float) -> None:
    with open(place, "xb") as file:
        shutil.copyfileobj(source, file, _AT_ONCE)
        os.fchmod(file.fileno(), mode & 0o777 | 0o600)
    os.utime(place, (modified_at, modified_at))


def _inside(top: Path, name: str) -> Path:
    """Raises TarError for a name that leads elsewhere."""
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise tarfile.ReadError(f"it has a file {name[:200]!r}")
    return top.joinpath(*parts)
