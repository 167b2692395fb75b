"""Print those entries of requirements.lock, hashes and all, that Shiplap needs to run: python3 … <requirements.lock

The lock has the developers' tools, too. Each entry says by whose wish it is there (``# via``); what nobody wishes but
the tools is left out. Arguments: names of further packages to keep.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

_NAME = re.compile(r"([A-Za-z0-9._-]+)==")
_VIA = re.compile(r"^ +# +(?:via +)?(\S+)", re.MULTILINE)
_PROJECT = "shiplap"
_TOOLS = "(pyproject.toml:dev)"


def entries(lock: str) -> dict[str, str]:
    """Name to text, from its first line to the last of its comments."""
    parts = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)
    return {match[1]: part for part in parts if (match := _NAME.match(part))}


def wished_by(text: str) -> set[str]:
    """Who needs the package of this entry: names of packages, and the project unless it is for its tools only."""
    lines = [line for line in text.splitlines() if not line.endswith(_TOOLS)]
    return set(_VIA.findall("\n".join(lines))) - {"via"}


def needed(lock: Mapping[str, str], more: Iterable[str]) -> list[str]:
    """Names of what the project needs, and what that needs, and so on."""
    wishes = {name: wished_by(text) for name, text in lock.items()}
    found = {_PROJECT, *more}
    while True:
        further = {name for name, by in wishes.items() if by & found} - found
        if not further:
            return sorted(found - {_PROJECT})
        found |= further


if __name__ == "__main__":
    known = entries(sys.stdin.read())
    sys.stdout.write("".join(known[name] for name in needed(known, sys.argv[1:])))
