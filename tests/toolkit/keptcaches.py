"""Generations of caches without jobs: overlayfs, mounted as a job has it, and what an action leaves there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.trust import Domain, protected
from images.generations import CacheName, Generation, Generations

MAIN = protected("p")
NAME = CacheName("p", "kept")

Tree = dict[str, tuple[object, ...]]


class Bench:
    """A store's root with caches, and a place to mount them at."""

    def __init__(self, tmp: Path) -> None:
        self.root = tmp / "root"
        self.root.mkdir()
        self.tmp = tmp
        self.generations = Generations(self.root)
        self._runs = 0

    def upper(self) -> str:
        """A new directory as ``Snapshots.new_upper`` makes it."""
        path = tempfile.mkdtemp(dir=self.root, prefix="upper-")
        for name in ("fs", "work"):
            os.mkdir(f"{path}/{name}")
        os.chmod(f"{path}/fs", 0o755)
        return path

    @contextmanager
    def mounted(self, generation: Generation, upper: str) -> Iterator[Path]:
        """What a job would see."""
        place = Path(tempfile.mkdtemp(dir=self.tmp))
        for name in ("empty", "merged"):
            (place / name).mkdir()
        for number, layer in enumerate(
            reversed(generation.layers)
        ):  # the options of a mount are short: names, no paths
            (place / str(number)).symlink_to(layer.path)
        (place / "upper").symlink_to(upper)
        lowers = ":".join([*(str(number) for number in range(len(generation.layers))), "empty"])
        options = f"lowerdir={lowers},upperdir=upper/fs,workdir=upper/work,userxattr"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, "merged"], check=True, cwd=place)
        try:
            yield place / "merged"
        finally:
            subprocess.run(["umount", str(place / "merged")], check=True)

    def write(
        self,
        generation: Generation,
        action: Callable[[Path], object],
        domain: Domain = MAIN,
        *,
        is_private: bool = False,
    ) -> str:
        """What a job that does ``action`` leaves; why it was not kept."""
        upper = self.upper()
        with self.mounted(generation, upper) as merged:
            action(merged)
        return self.kept(generation, upper, domain, is_private=is_private)

    def kept(self, generation: Generation, upper: str, domain: Domain = MAIN, *, is_private: bool = False) -> str:
        """Keep an upper directory as the next run."""
        self._runs += 1
        try:
            return self.generations.keep(generation, upper, domain, is_private=is_private, run=str(self._runs))
        finally:
            shutil.rmtree(upper, ignore_errors=True)

    def job(
        self,
        action: Callable[[Path], object],
        domain: Domain = MAIN,
        *,
        name: CacheName = NAME,
        is_private: bool = False,
        limit_bytes: int = 0,
    ) -> str:
        """A job from its beginning to its end; why its cache was not kept."""
        with self.generations.open(name, domain, limit_bytes=limit_bytes) as generation:
            return self.write(generation, action, domain, is_private=is_private)

    def seen(self, domain: Domain = MAIN, *, name: CacheName = NAME) -> Tree:
        """What a job would begin with."""
        upper = self.upper()
        try:
            with self.generations.open(name, domain) as generation, self.mounted(generation, upper) as merged:
                return tree_of(merged)
        finally:
            shutil.rmtree(upper)

    def files(self, domain: Domain = MAIN, *, name: CacheName = NAME) -> dict[str, str]:
        """The contents of the files that a job would begin with."""
        return {path: str(facts[-1]) for path, facts in self.seen(domain, name=name).items() if facts[0] == "file"}

    def levels(self) -> list[str]:
        """The directories that there are."""
        top = self.root / "caches"
        return sorted(path.name for path in top.iterdir() if path.is_dir()) if top.exists() else []


def tree_of(top: Path) -> Tree:
    """Everything below by path: kind, mode, owner, time, and content."""
    found: Tree = {}
    for path in sorted(top.rglob("*")):
        info = path.lstat()
        about = (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_mtime_ns)
        if stat.S_ISDIR(info.st_mode):
            found[str(path.relative_to(top))] = ("directory", *about)
        elif stat.S_ISLNK(info.st_mode):
            found[str(path.relative_to(top))] = ("link", *about, os.readlink(path))
        else:
            found[str(path.relative_to(top))] = ("file", *about, path.read_text())
    return found


def put(**files: str) -> Callable[[Path], None]:
    """An action that writes files; ``a__b`` is ``a/b``."""

    def act(top: Path) -> None:
        for name, text in files.items():
            path = top / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    return act
