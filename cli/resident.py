"""Has a command run by the resident, where there is one that serves this process (docs/decisions/0042).

The resident is a process that imported the command line once and forks for each command (``cli.residing``). It is
started behind the first command, and serves only processes that it could have been (``core.likeness``). Whatever is in
the way, the command goes on in this process, as without it.
(Each command starts with this: only what is cheap.)
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # type checkers take the name for typing.TYPE_CHECKING
if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORY = "/run/shiplap/resident"
IDLE_S = 300.0
_SWITCH = "SHIPLAP_RESIDENT"
_SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_RLIMIT_STACK = 3
_UP_TO_QUIET = 11  # of sys.flags: what -d, -i, -O, -B, -s, -S, -E, -v, -b and -q say

# What it does. Missing are: what serves or works for long, what may ask something at a terminal, what speaks to a
# service, and what hardly anybody runs twice in five minutes.
_CONTAINERS = (
    "run create exec start stop restart kill pause unpause rm ps logs top port diff export commit wait rename update"
)
COMMANDS = {
    "": f"{_CONTAINERS} build pull push images rmi tag history load save import inspect events",
    "container": f"{_CONTAINERS} ls list inspect",
    "image": "ls inspect history attestations referrers tag rm load save import verify",
    "volume": "create ls list inspect rm remove",
    "network": "create ls list inspect connect disconnect rm remove",
    "system": "df",
}
_MAY_TAKE_A_TERMINAL = frozenset({"run", "create", "exec", "start"})


class Resident:
    """Where the resident for this process is, or would be. own: what this process is, see ``likeness.facts``."""

    def __init__(self, path: str, own: dict[str, bytes]) -> None:
        self._path = path
        self._own = own
        self._is_missing = False

    def run(self, arguments: Sequence[str]) -> int | None:
        """Have the command run there; its exit code. None: it has not begun, and is to be run here."""
        from core import forked
        from core.likeness import UnlikeError

        try:
            command = forked.ask(self._path, arguments, self._own)
        except (FileNotFoundError, ConnectionRefusedError):
            self._is_missing = True
            return None
        except (OSError, UnlikeError):
            return None
        return None if command is None else command.stay()

    def start(self) -> None:
        """Start one where there is none: for a process that has nothing left to do. It is not waited for."""
        if not self._is_missing:
            return
        import contextlib

        from core import forked, zygote

        try:
            for directory, mode in ((os.path.dirname(DIRECTORY), 0o755), (DIRECTORY, 0o700)):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(directory, mode)
            if not _is_private(DIRECTORY):
                return
            environment = {forked.WORD: os.urandom(16).hex()}
            zygote.start_behind("cli.residing", [self._path, str(IDLE_S)], f"{DIRECTORY}/log", environment)
        except OSError:
            return  # the next command may have better luck


def resident_for(arguments: Sequence[str]) -> Resident | None:
    """The resident that may run this command line for this process; None when it has to run here."""
    if os.environ.get(_SWITCH) != "on" or os.geteuid() != 0:
        return None
    root = _root_of(arguments)
    if root is None or not _is_usual():
        return None
    from core import likeness

    if likeness.acts_at_start(os.environb):
        return None
    try:
        own = likeness.facts(os.getpid())
        if not likeness.is_certain(own) or likeness.has_keys():
            return None
    except OSError:
        return None
    return Resident(f"{DIRECTORY}/{_name(own, root)}", own)


def _root_of(arguments: Sequence[str]) -> str | None:
    """The value of ``--root``, or ""; None when the resident is not to run this command line."""
    root, words = "", list(arguments)
    if words and words[0].startswith("--root="):
        root = words.pop(0)
    elif len(words) > 1 and words[0] == "--root":
        root = words[1]
        del words[:2]
    group = words.pop(0) if words and words[0] in COMMANDS else ""
    if not words or words[0] not in COMMANDS[group].split() or os.environ.get("SHIPLAP_HOST"):
        return None
    command, *rest = words
    if command in _MAY_TAKE_A_TERMINAL and any(map(_may_ask_for_a_terminal, rest)):
        return None
    if command == "build" and any(word.startswith("--debug") for word in rest):
        return None
    return root


def _may_ask_for_a_terminal(word: str) -> bool:
    if word.startswith("--"):
        return word.startswith(("--interactive", "--tty"))
    return word.startswith("-") and ("i" in word or "t" in word)


def _is_usual() -> bool:
    """Whether the interpreter runs as it does when nobody says otherwise, and its texts are UTF-8."""
    flags = sys.flags
    rare = (flags.isolated, flags.dev_mode, flags.safe_path, flags.warn_default_encoding)
    asked = (*flags[:_UP_TO_QUIET], *rare)
    is_plain = not any(asked) and not sys.warnoptions and not sys._xoptions
    return is_plain and sys.getfilesystemencoding() == "utf-8"


def _name(own: dict[str, bytes], root: str) -> str:
    """A name that differs where two processes are not to share a resident."""
    import resource
    from _blake2 import blake2b

    from core.release import VERSION

    # What these say of this process matters to it alone, and nobody has to believe it: see ``likeness.check_peer``.
    said = (sys.executable, sys.prefix, _SOURCE, VERSION, os.environ.get("SHIPLAP_ROOT", ""), root)
    stack = resource.getrlimit(_RLIMIT_STACK)[0]  # by which the C library sizes stacks of threads, once
    parts = [*map(os.fsencode, said), b"%d" % stack]
    parts += [name.encode("ascii") + b"=" + value for name, value in own.items()]
    return str(blake2b(b"\0".join(parts), digest_size=12).hexdigest())


def _is_private(directory: str) -> bool:
    """Whether nobody else can put a socket there, or take one away."""
    above, here = os.stat(os.path.dirname(directory)), os.lstat(directory)
    is_ours = above.st_uid == here.st_uid == os.geteuid()
    return is_ours and not above.st_mode & 0o022 and (here.st_mode & 0o170777) == 0o040700
