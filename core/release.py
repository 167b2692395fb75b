"""Which Shiplap this is: the release, and the commit that it was built from where that is known."""

from __future__ import annotations

TYPE_CHECKING = False  # ``typing`` takes its time, and the command's start waits for this module
if TYPE_CHECKING:
    from pathlib import Path

VERSION = "0.2.0"  # here and not from the installed metadata: importlib.metadata takes 13 ms to import


def commit() -> str:
    """The commit's first twelve digits, with ``-dirty`` where files had been changed; "" where nobody knows.

    A wheel and a source archive bring it along (``setup.py``). A checkout asks git, which takes some milliseconds.
    """
    from pathlib import Path

    file = Path(__file__)
    try:
        return file.with_name("commit.txt").read_text().strip()
    except FileNotFoundError:
        return _of_checkout(file.parent.parent)


def described() -> str:
    """The release as people read it: ``0.2.0, commit 1a2b3c4d5e6f``."""
    known = commit()
    return f"{VERSION}, commit {known}" if known else VERSION


def _of_checkout(directory: Path) -> str:
    import os
    import subprocess

    if not os.path.exists(os.path.join(directory, ".git")):  # a repository further up is another's
        return ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(directory), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:  # without git
        return ""
    return done.stdout.decode().strip() if done.returncode == 0 else ""
