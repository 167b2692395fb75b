"""Repositories for tests, and what a checkout of theirs has."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

from builder.remotes.gitroute import GitAccess
from builder.remotes.giturls import GitRemote
from tests.toolkit.git import git

Seen = dict[bytes, tuple[int, bytes]]
"""By path, the mode with its type, and a file's content or a link's target."""


class Repository:
    """A repository with a working tree; its branch is ``main``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", path], check=True)

    def git(self, *words: str) -> str:
        return git(self.path, *words)

    def write(self, **files: str) -> None:
        """Write files; ``__`` in a name is a slash, and ``_DOT_`` a dot."""
        for name, content in files.items():
            path = self.path / name.replace("__", "/").replace("_DOT_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def commit(self, message: str = "a change", **files: str) -> str:
        """Commit all that is there, and these files; the commit's hash."""
        self.write(**files)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def way(self) -> tuple[GitRemote, GitAccess]:
        """How a mirror fetches it."""
        return GitRemote(f"file://{self.path}", "file", "", 0), GitAccess(local=self.path / ".git")

    def checkout(self, place: Path, ref: str = "HEAD") -> Seen:
        """What git itself makes of a commit's files."""
        place.mkdir()
        self.git(f"--work-tree={place}", "checkout", "--quiet", "--force", ref, "--", ".")
        self.git("reset", "--quiet", "HEAD")
        return seen(place)


def seen(root: Path) -> Seen:
    """All that is below a directory."""
    found: Seen = {}
    for folder, directories, names in os.walk(os.fsencode(root)):
        for name in (*directories, *names):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            content = b""
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            mode = info.st_mode if not stat.S_ISLNK(info.st_mode) else stat.S_IFLNK | 0o777
            found[os.path.relpath(path, os.fsencode(root))] = (mode, content)
    return found


def spoil(packs: Path) -> None:
    """Damage the content of packs, but not what git compares when it opens one: a fetch does not notice."""
    for pack in packs.glob("*.pack"):
        pack.chmod(0o600)
        half = pack.stat().st_size // 2
        with pack.open("r+b") as file:
            file.seek(half)
            file.write(bytes(half - 20))
