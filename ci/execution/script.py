"""What a job's shell is given: a script, in which the entries of ``run`` are told apart without a word on its output.

The shell of a job is one shell for all entries, so that variables and ``cd`` last. Before each entry it writes the
entry's number to a FIFO, and waits until another one says the number back. Whoever runs it has read all output by then,
and knows whose it was. What a script prints can therefore never be taken for the beginning of a step.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final, NamedTuple

DIRECTORY: Final = "/run/shiplap"
SCRIPT: Final = f"{DIRECTORY}/script"
EXPORTS: Final = f"{DIRECTORY}/exports"
BELL: Final = f"{DIRECTORY}/step"
GO: Final = f"{DIRECTORY}/go"

_SHELLS: Final = {"sh": ("sh", "-e"), "bash": ("bash", "-eo", "pipefail")}
"""Shells whose entries are told apart."""

_LONGEST_NAME: Final = 100


class Script(NamedTuple):
    """What is executed.

    args: the command.
    content: of the file SCRIPT; None: there is none.
    names: of the steps, at least one. Of several, the shell rings BELL before each.
    """

    args: tuple[str, ...]
    content: bytes | None
    names: tuple[str, ...]


def of_command(args: Sequence[str]) -> Script:
    """A command without a shell."""
    return Script(tuple(args), None, (_name(" ".join(args)),))


def of_entries(entries: Sequence[str], shell: str) -> Script:
    """Entries of ``run``, at least one. A shell of the job's own choice gets them as one script, which is one step."""
    command = _SHELLS.get(shell)
    if command is None:
        text = "\n".join(entries)
        return Script((*shlex.split(shell), SCRIPT), _encoded(text), (_name(text),))
    if len(entries) == 1:
        return Script((*command, SCRIPT), _encoded(entries[0]), (_name(entries[0]),))
    text = "".join(_PART.format(number=number, entry=_quoted(entry)) for number, entry in enumerate(entries))
    return Script((*command, SCRIPT), _encoded(text), tuple(map(_name, entries)))


# What the entry before has set with `set -x` is off meanwhile, so that nothing of this is traced. `command`: a script
# may have a function that is called echo, and often has.
_PART: Final = f"""\
{{{{ _shiplap_options=$-; set +x; }}}} 2>/dev/null
command echo '
{{number}}' >{BELL}
while read -r _shiplap_go <{GO}; do case $_shiplap_go in {{number}}) break;; esac; done
eval 'case $_shiplap_options in *x*) set -x;; esac
'{{entry}}
"""


def shell_of(script: Script) -> str:
    """The program that has to be in the image."""
    return script.args[0]


def _quoted(entry: str) -> str:
    return "'" + entry.replace("'", "'\\''") + "'"


def _encoded(text: str) -> bytes:
    return f"{text}\n".encode("utf-8", "surrogateescape")


def _name(text: str) -> str:
    """The first line that says something, cut where it is long."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = next((line for line in lines if not line.startswith("#")), lines[0] if lines else "")
    return first if len(lines) <= 1 and len(first) <= _LONGEST_NAME else f"{first[:_LONGEST_NAME].rstrip()} …"
