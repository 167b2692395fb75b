"""docs/settings.md, made from ``core.variables``."""

from __future__ import annotations

import textwrap
from typing import Final

from core.markdown import table
from core.variables import GROUPS, OF_STEPS, Group, Variable

_HEAD: Final = """\
# Settings

<!-- Made by scripts/settings-document from core/variables.py: change that, and run it. -->

Every environment variable that Shiplap reads. A variable that is empty counts as not set. Where
`NAME_FILE` is given as well, it may name a file that has the value, for values that are not to be
seen in a process's environment; the variable itself comes first. What cannot be used is told when a
command starts, with its name.
"""

_STEPS: Final = """\
## What steps see

Steps get none of the variables above, save a proxy that was given as a build argument. A RUN, and
`shiplap run`, see what the image and the Dockerfile say, and of these what is not said there.
BuildKit's own build arguments are in [the language](dockerfile.md#arguments).
"""


def settings_page() -> str:
    """The whole document, in Markdown."""
    parts = [
        _HEAD,
        *map(_section, GROUPS),
        _STEPS,
        table(("variable", "is"), [(f"`{n}`", is_) for n, is_ in OF_STEPS]),
    ]
    return "\n".join(parts)


def _section(group: Group) -> str:
    about = textwrap.fill(group.about, 100, break_long_words=False, break_on_hyphens=False)
    about = f"{about}\n\n" if about else ""
    rows = [_row(variable) for variable in group.variables]
    return f"## {group.title}\n\n{about}{table(('variable', 'is', 'may be', 'unless set', 'read by'), rows)}"


def _row(variable: Variable) -> tuple[str, ...]:
    names = f"`{variable.name}`" + (f", or `{variable.name}_FILE`" if variable.in_file else "")
    return names, variable.meaning, variable.values, variable.default or "nothing", variable.readers
