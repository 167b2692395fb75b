"""An ordinary user of this host, made for some tests: commands run as that user, with subordinate IDs and no rights."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.toolkit.bounds import Deadline, stretched

_CHECKOUT = Path(__file__).resolve().parents[2]
_VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_SUBORDINATE = 65536


@dataclass(frozen=True)
class User:
    """Somebody without privileges. folder: theirs; commands run in it, with Python and the checkout made readable."""

    name: str
    folder: Path

    def __call__(
        self,
        *command: str | Path,
        check: bool = True,
        tun: str = "666",
        env: Mapping[str, str] | None = None,
        emptied: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as the user. Root's own files (Python may be in /root) are shown at readable places.

        tun: the mode of /dev/net/tun. env: more of the environment. emptied: files of the host that are empty to it.
        """
        lower = ("setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups", "--inh-caps=-all")
        try:
            return subprocess.run(
                [*self.seeing(tun, emptied), *lower, *map(str, command)],
                env={**self.environment, **(env or {})}, text=True, capture_output=True, check=check,
                timeout=stretched(120),
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise AssertionError(f"{command}: {error.stdout}{error.stderr}") from error
        finally:
            (self.folder / "tun").unlink(missing_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What they have after they logged in, and what shows them Python and the checkout."""
        return {
            "HOME": f"{self.folder}/home",
            "PATH": "/usr/local/bin:/usr/bin:/bin",  # as login gives it to users
            "LD_LIBRARY_PATH": f"{self.folder}/python/lib",
            "PYTHONPATH": f"{self.folder}/checkout:{self.folder}/packages",
            "SOURCE_DATE_EPOCH": "1700000000",
            "TERM": "dumb",
        }

    def seeing(self, tun: str = "666", emptied: Sequence[str] = ()) -> list[str]:
        """What starts a command, as root, where root's own files are shown at places that the user may read."""
        visible = {
            "python": Path(sys.base_prefix),
            "packages": Path(sysconfig.get_path("purelib")),
            "checkout": _CHECKOUT,
        }
        lines = ["set -eu"]
        for name, source in visible.items():
            lines += [f"mkdir -p {self.folder}/{name}", f"mount --bind {source} {self.folder}/{name}"]
        lines += [
            # udev gives it to everybody; a machine without udev does not.
            f"mknod -m {tun} {self.folder}/tun c 10 200 && mount --bind {self.folder}/tun /dev/net/tun",
            *(f"mount --bind /dev/null {path}" for path in emptied),
            f"cd {self.folder}/home",
            'exec "$@"',
        ]
        return ["unshare", "--mount", "sh", "-c", "\n".join(lines), "sh"]

    @property
    def uid(self) -> int:
        """Their number."""
        return pwd.getpwnam(self.name).pw_uid

    def own(self, *paths: Path) -> None:
        """Give them files that root made."""
        entry = pwd.getpwnam(self.name)
        for path in paths:
            os.chown(path, entry.pw_uid, entry.pw_gid)

    def shiplap(
        self,
        *arguments: str | Path,
        check: bool = True,
        prefix: Sequence[str] = (),
        tun: str = "666",
        env: Mapping[str, str] | None = None,
        emptied: Sequence[str] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of Shiplap's as the user. prefix: what starts it."""
        return self(*prefix, *self.command, *arguments, check=check, tun=tun, env=env, emptied=emptied)

    @property
    def command(self) -> list[str]:
        """What starts Shiplap where they see it."""
        main = "from cli.main import main; raise SystemExit(main())"
        return [f"{self.folder}/venv/bin/python", "-P", "-c", main]


@contextlib.contextmanager
def ordinary_user(name: str, *groups: str) -> Iterator[User]:
    """A new user, who is gone afterwards, with all that is theirs: processes, too. groups: that they are in."""
    folder = Path(tempfile.mkdtemp(prefix="shiplap-user-", dir="/tmp"))  # pytest's are closed to others
    folder.chmod(0o755)
    more = ["--groups", ",".join(groups)] if groups else []
    _administer("useradd", "--create-home", "--home-dir", f"{folder}/home", "--user-group", *more, name)
    user = User(name, folder)
    uid = user.uid
    try:
        _make_environment(folder)
        yield user
    finally:
        _end_all_of({uid, *_subordinates(name)})
        _administer("userdel", "--force", name)
        shutil.rmtree(folder)


def _make_environment(folder: Path) -> None:
    """A Python that finds the checkout and its packages also where no environment variable counts (``-I``)."""
    packages = folder / "venv" / "lib" / _VERSION / "site-packages"
    packages.mkdir(parents=True)
    (packages / "shiplap.pth").write_text(f"{folder}/checkout\n{folder}/packages\n")
    (folder / "venv" / "pyvenv.cfg").write_text(f"home = {folder}/python/bin\n")
    (folder / "venv" / "bin").mkdir()
    (folder / "venv" / "bin" / "python").symlink_to(f"{folder}/python/bin/{_VERSION}")


def _subordinates(name: str) -> range:
    for line in Path("/etc/subuid").read_text().splitlines():
        if line.startswith(f"{name}:"):
            first = int(line.split(":")[1])
            return range(first, first + _SUBORDINATE)
    return range(0)


def _end_all_of(uids: set[int]) -> None:
    """End every process of these users, who are nobody else's."""
    deadline = Deadline(10)
    while (left := _processes_of(uids)) and deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _processes_of(uids: set[int]) -> list[int]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended
            state = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0]
            if os.stat(f"/proc/{name}").st_uid in uids and state != "Z":
                found.append(int(name))
    return found


def _administer(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
