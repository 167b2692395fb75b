"""Makes a bare repository beside the service, with the hook that has pushes built."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import subprocess
from pathlib import Path
from typing import Final

from core.files import write_atomically
from core.owners import give
from pipelines.errors import BareRepositoryError

DIRECTORY: Final = "git"
"""Below ROOT: workers may fetch the repositories there by file:// URLs."""

HOOK: Final = Path(__file__).with_name("post_receive.py").read_text()
"""A post-receive hook that needs Python and git, and nothing of Shiplap."""

_FORMER: Final = frozenset(
    {
        "292ccb0682123171024e566a1e4458ef944f8c0c9a36070578263c3bf4150052",
        "a300eafe63ca44ebf4124ade8d71372693e2b44b402f79286b1f0fc58c0ecf40",
        "1d93b1f058b60c517e876d72a5068c64dc0dbe85ed20805abb028724415ced18",
    }
)
"""sha256 of the hooks that former versions installed; these may be replaced."""


def repository_path(root: Path, name: str) -> Path:
    """ROOT/git/NAME.git."""
    return root / DIRECTORY / f"{name}.git"


def make_repository(root: Path, name: str) -> Path:
    """The repository at ``repository_path``; makes it unless it is there. Raises BareRepositoryError.

    It gets the owner of ROOT, also where root makes it: the service, which serves it, need not run as root.
    """
    repository = repository_path(root, name)
    if not repository.is_dir():
        repository.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        words = ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(repository)]
        try:
            subprocess.run(words, check=True, umask=0o022)
            _allow_options(repository / "config")
        except FileNotFoundError as error:
            raise BareRepositoryError("git is not installed", hint="apt-get install git") from error
        except subprocess.CalledProcessError as error:
            raise BareRepositoryError(f"git could not make {repository}", hint="its own message is above") from error
        give(root, repository.parent, repository, *repository.rglob("*"))
    return repository


def install_hook(repository: Path, url: str, secret: str) -> None:
    """Have pushes reported to the webhook at ``url``. The secret is for the repository's owner only.

    Raises BareRepositoryError.
    """
    script = repository / "hooks" / "post-receive"
    if script.exists() and script.read_text() != HOOK and not _is_former(script):
        raise BareRepositoryError(
            f"{script} is there already", hint="remove it, or call the webhook from it: docs/webhooks.md"
        )
    script.parent.mkdir(exist_ok=True)
    write_atomically(script, HOOK.encode(), mode=0o755)
    values = {"HOOK_URL": url, "HOOK_SECRET": secret, "REPOSITORY": f"file://{repository}"}
    fd = os.open(repository / "shiplap.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "w") as file:
        file.writelines(f"{name}='{value}'\n" for name, value in values.items())
    give(repository, script, repository / "shiplap.conf")


def install_served_hook(directory: Path) -> None:
    """Make, in a directory of ours, the only hook that runs for pushes over HTTP, whatever hooks the repository has.

    Raises OSError.
    """
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)  # whatever the umask: git silently ignores a hook that its user may not reach
    write_atomically(directory / "post-receive", HOOK.encode(), mode=0o755)


def renew_hooks(root: Path) -> None:
    """Replace the hooks that former versions installed below ROOT/git; a hook that somebody changed stays.

    This reports no pushes: a push from before is not built. Without git they stay, too.
    """
    for script in sorted((root / DIRECTORY).glob("*.git/hooks/post-receive")):
        if script.is_symlink() or script.parent.is_symlink() or not _is_former(script):
            continue
        with contextlib.suppress(PermissionError, FileNotFoundError):
            owner = script.stat()
            write_atomically(script, HOOK.encode(), mode=0o755)
            if os.geteuid() == 0:
                os.chown(script, owner.st_uid, owner.st_gid, follow_symlinks=False)
            config = script.parent.parent / "config"
            if _is_own(config):
                _allow_options(config)


def _is_former(script: Path) -> bool:
    try:
        return hashlib.sha256(script.read_bytes()).hexdigest() in _FORMER
    except OSError:
        return False


def _allow_options(config: Path) -> None:
    """Let git take ``git push -o follow``."""
    subprocess.run(["git", "config", "--file", str(config), "receive.advertisePushOptions", "true"], check=True)


def _is_own(path: Path) -> bool:
    """Whether it is a file of ours: we do not write to what somebody else may put in its place."""
    found = path.lstat()
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
