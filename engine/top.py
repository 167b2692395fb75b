"""The processes of a container, as the host's ``ps`` shows them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from typing import Any, Final

from core.processes import descendants
from engine.callers import Caller
from engine.errors import ConflictError, InvalidRequestError

_DEFAULT: Final = "-ef"
_LONGEST_S: Final = 30.0


def top(first: int, arguments: str, caller: Caller, others: Iterable[int] = ()) -> dict[str, Any]:
    """As docker's ``GET /containers/ID/top``: titles, and a row for each process.

    first: the host's number of the container's first process. arguments: for ps(1); "" is ``-ef``.
    caller: whose rights ps has. A column may be called PID that is none (``euid=PID``), and then tells of processes
    that are not the container's; but what their owners alone may see stays theirs.
    others: the first processes of all containers, of which some may have the same PID namespace.
    Raises InvalidRequestError when ps does not take them, or does not tell process numbers.
    """
    words = (arguments or _DEFAULT).split()
    ours = processes_of(first, others)
    quick = _ps([*words, f"-q{','.join(map(str, sorted(ours)))}"], caller)  # without a look at all others, if it can
    ran = quick if quick.returncode == 0 else _ps(words, caller)
    if ran.returncode:
        raise InvalidRequestError(f"ps: {ran.stderr.decode(errors='replace').strip().partition(chr(10))[0]}")
    lines = ran.stdout.decode(errors="replace").splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise InvalidRequestError("Couldn't find PID field in ps output")
    at = titles.index("PID")
    rows = []
    for line in lines[1:]:
        fields = line.split(maxsplit=len(titles) - 1)
        if len(fields) > at and fields[at].isdecimal() and int(fields[at]) in ours:
            rows.append(fields)
    return {"Titles": titles, "Processes": rows}


def _ps(words: list[str], caller: Caller) -> subprocess.CompletedProcess[bytes]:
    # Whose process it is may look into it: at its environment, which is not to be this process's.
    others: dict[str, Any] = {"env": {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}}
    if caller.uid != os.getuid():
        others |= {"user": caller.uid, "group": caller.gid, "extra_groups": caller.groups, "cwd": "/"}
    try:
        return subprocess.run(["ps", *words], capture_output=True, check=False, timeout=_LONGEST_S, **others)
    except FileNotFoundError as error:
        raise ConflictError("this host has no ps", hint="it is in the package procps") from error
    except subprocess.TimeoutExpired as error:
        raise ConflictError(f"ps did not end within {_LONGEST_S:.0f} s: a process of this host may be stuck") from error


def processes_of(first: int, others: Iterable[int] = ()) -> set[int]:
    """The host's numbers of all processes in the PID namespace of this one, and below it.

    others: as for ``top``. What sees the files that one of these sees is that container's.
    """
    namespace = _namespace(first, "pid")
    if not namespace:  # it has ended
        return set()
    ours = {first, *descendants(first)}  # with those in namespaces that the container made
    for name in filter(str.isdecimal, os.listdir("/proc")):
        if _namespace(int(name), "pid") == namespace:
            ours.add(int(name))
    views = {_namespace(other, "mnt") for other in others if other != first and _namespace(other, "pid") == namespace}
    if not views:
        return ours
    return {pid for pid in ours if _namespace(pid, "mnt") not in {"", *views}}  # what has ended may have been either's


def _namespace(pid: int, kind: str) -> str:
    """Which one a process is in; "" when it has ended."""
    try:
        return os.readlink(f"/proc/{pid}/ns/{kind}")
    except OSError:
        return ""
