"""git as a program that can do little else, in one directory; local work and fetching alike start it here.

It runs as nobody and cannot gain privileges. It has mount, process and IPC namespaces of its own that end with it, and
limits on time and on the size of files. It sees its directory at a place that nobody's rights reach, may write there
only, and ends with the process that started it, however that ends. (Started by a user other than root, git runs as
that user, without namespaces.)
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from builder.errors import FetchError, FetchUnreachableError
from core.cancellation import Question
from core.settings import FetchSettings

NOBODY: Final = 65534
_POLL_S: Final = 0.1
_BUFFER_BYTES: Final = 256 << 10
_MOUNTED: Final = "/mnt"  # where git sees its directory, whose own path nobody may walk
_END: Final = "--"
NO_PROGRAM: Final = 127
"""The exit code of a shell that finds no such program."""

_INSIDE: Final = (  # $1: the folder; then rw or ro, a directory and where it is seen, for each bind
    'folder=$1; shift; while [ "$1" != -- ]; do mount --rbind -o "$1" "$2" "$3" || exit; shift 3; done; shift;'
    f' mount --rbind . {_MOUNTED} && cd "{_MOUNTED}/$folder" && exec "$@"'
)


class Bind(NamedTuple):
    """Another directory that git sees.

    source: an absolute path.
    name: where it is seen: in git's own directory, which has a directory of that name, or an absolute path.
    readonly: the kernel refuses to write there.
    """

    source: Path
    name: str
    readonly: bool = True


def borrowing(directory: Path, objects: Sequence[Path]) -> tuple[tuple[Bind, ...], dict[str, str]]:
    """Let a repository use objects of others: what git has to see for it, and its variables.

    directory: of the program; it gets a directory for each of them.
    objects: directories of objects; where the name is ``objects``, git sees the repository around it, too, and tells a
    server what is there already.
    """
    binds, paths = [], []
    for number, path in enumerate(objects):
        is_inside = path.name == "objects"
        bind = Bind(path.parent if is_inside else path, f"borrowed-{number}")
        if os.geteuid() == 0:
            (directory / bind.name).mkdir(mode=0o755, exist_ok=True)
            seen = f"{_MOUNTED}/{bind.name}" + ("/objects" if is_inside else "")
        else:
            seen = str(path)
        binds.append(bind)
        paths.append('"' + seen.replace("\\", "\\\\").replace('"', '\\"') + '"')
    return tuple(binds), {"GIT_ALTERNATE_OBJECT_DIRECTORIES": ":".join(paths)} if paths else {}


class Ended(NamedTuple):
    """How git ended: its exit code, what it printed, and what it said on standard error."""

    code: int
    out: bytes
    told: bytes


class GitProgram:
    """Starts git in ``folder`` of ``directory``, again and again.

    directory: the one that git may write to; it belongs to ``owner``.
    folder: a name in it, also of a bind.
    owner: the user and group that git runs as, when this process is root's.
    question: asked every now and then whether the work has to end.
    late_at: by the monotonic clock, when all that it starts has to have ended.
    """

    def __init__(
        self,
        directory: Path,
        folder: str,
        *,
        binds: Sequence[Bind] = (),
        owner: tuple[int, int] = (NOBODY, NOBODY),
        bounds: FetchSettings,
        question: Question,
    ) -> None:
        self._directory = directory
        self._folder = folder
        self._binds = binds
        self._owner = owner
        self.bounds = bounds
        self.question = question
        self.late_at = time.monotonic() + bounds.time_s
        self.is_sandboxed = os.geteuid() == 0
        self.alone: tuple[str, ...] = () if self.is_sandboxed else ("setpriv", "--pdeathsig=KILL", _END)
        """What stands in front of a git that a shell of this program starts."""

    def seen(self, name: str = "") -> str:
        """Where git sees ``name`` of its directory, which may be a bind's."""
        if self.is_sandboxed:
            return f"{_MOUNTED}/{name}".rstrip("/")
        source = next((bind.source for bind in self._binds if bind.name == name), None)
        return str(source if source is not None else self._directory / name)

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        stdin: IO[bytes] | int | None = None,
        pass_fds: Sequence[int] = (),
    ) -> subprocess.Popen[bytes]:
        """Start ``words`` (``git`` and what follows it). The caller ends it, or has ``finish`` do so.

        stdin: a file, or ``subprocess.PIPE``; None: it is empty.
        pass_fds: descriptors that stay open for as long as git runs: locks.
        Raises FetchError without the programs.
        """
        command = ["setpriv", "--pdeathsig=KILL", _END, *words]
        if self.is_sandboxed:
            command = ["setpriv", "--pdeathsig=KILL", _END, *self._sandbox(), *words]
        try:
            return subprocess.Popen(
                command,
                cwd=self._directory if self.is_sandboxed else self.seen(self._folder),
                env=dict(environment),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=_BUFFER_BYTES,
                umask=0o022,
                pass_fds=pass_fds,
            )
        except FileNotFoundError as error:
            raise FetchError(f"cannot start {error.filename}", hint="install git and util-linux") from error

    def finish(self, process: subprocess.Popen[bytes], what: str) -> Ended:
        """Wait until it has ended, and take what it printed. what: for the message.

        Raises FetchUnreachableError when it takes too long, FetchError without git, and what the question raises.
        """
        is_late = False
        with process:
            try:
                while True:
                    try:
                        out, told = process.communicate(timeout=_POLL_S)
                        break
                    except subprocess.TimeoutExpired:
                        self.question()
                        if time.monotonic() > self.late_at:
                            is_late = True
                            process.kill()
            except BaseException:
                process.kill()
                raise
        self.question()
        if is_late or process.returncode == -signal.SIGKILL:
            raise FetchUnreachableError(
                f"{what} did not end within {self.bounds.time_s} s",
                hint="SHIPLAP_FETCH_TIME is how long it may take",
            )
        if process.returncode == NO_PROGRAM:
            raise _no_git(told)
        return Ended(process.returncode, out, told)

    def run_all(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> list[Ended]:
        """Run one git after the other, whatever came of the one before, and say of each how it ended.

        commands: as for ``start``. A sandbox takes several times as long as a short git: these share one.
        Raises what ``finish`` raises.
        """
        mark = os.urandom(16).hex()  # what git prints is somebody else's
        script = script_of([[*self.alone, *words] for words in commands], mark)
        ended = self.finish(self.start(["sh", "-c", script], environment), "git")
        found = ended_of(ended.out, ended.told, mark, len(commands))
        if found is None:  # the sandbox failed, or somebody has killed it
            return [Ended(ended.code or 1, b"", ended.told)] * len(commands)
        if any(each.code == NO_PROGRAM for each in found):
            raise _no_git(found[0].told)
        return found

    def _sandbox(self) -> list[str]:
        uid, gid = self._owner
        words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", _END]
        words += ["sh", "-c", _INSIDE, "sh", self._folder]
        for bind in self._binds:
            words += ["ro" if bind.readonly else "rw", str(bind.source), bind.name]
        words += [_END, "setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--no-new-privs"]
        words += ["--inh-caps=-all", "--bounding-set=-all", "--pdeathsig=KILL", _END]
        return [*words, "prlimit", f"--fsize={self.bounds.file_bytes}", "--core=0"]


def script_of(commands: Sequence[Sequence[str]], mark: str, given: str = "") -> str:
    """A shell's script that runs these, and marks on both streams where the output of each ends.

    given: a redirection for each of them.
    """
    ends = f"code=$?; printf '\\n{mark} %d\\n' $code; printf '\\n{mark}\\n' >&2"
    return "\n".join(f"{shlex.join(words)}{given}; {ends}" for words in commands)


def ended_of(out: bytes, told: bytes, mark: str, count: int) -> list[Ended] | None:
    """How the commands of ``script_of`` ended, by what came on both streams; None: not all of them did."""
    outs, errors = out.split(f"\n{mark} ".encode()), told.split(f"\n{mark}\n".encode())
    if len(outs) <= count or len(errors) <= count:
        return None
    found, before = [], outs[0]
    for after, said in zip(outs[1:], errors, strict=False):
        code, _, following = after.partition(b"\n")
        found.append(Ended(int(code), before, said))
        before = following
    return found


def _no_git(told: bytes) -> FetchError:
    return FetchError(f"git cannot be started: {told.decode('utf-8', 'replace').strip()}", hint="install git")
