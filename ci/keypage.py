"""The tables of keys in ``docs/pipelines.md``, made from the language's own declarations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ci.facts import FACTS, INSIDE_ONLY
from ci.language.jobs import JOB
from ci.language.pipelines import TOP
from ci.language.services import SERVICE
from ci.language.shapes import Key

_TABLE: Final = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with each ``<!-- keys: NAME -->`` … ``<!-- end -->`` filled anew. Raises KeyError for another NAME."""
    tables = {"file": _keys(TOP), "job": _keys(JOB), "service": _keys(SERVICE), "variables": _variables()}
    return _TABLE.sub(lambda match: f"{match[1]}\n{tables[match[2]]}\n\n{match[3]}", page)


def _keys(keys: Mapping[str, Key]) -> str:
    rows = ["| key | value | means |", "| --- | --- | --- |"]
    for name, key in keys.items():
        rows.append(f"| `{name}`{' (required)' if key.is_required else ''} | {key.shape.what} | {key.about} |")
    return "\n".join(rows)


def _variables() -> str:
    rows = ["| variable | is |", "| --- | --- |"]
    rows += [f"| `{name}` | {about} |" for name, about in FACTS.items()]
    rows += [f"| `{name}` | {about}; not for `${{…}}` |" for name, about in INSIDE_ONLY.items()]
    return "\n".join(rows)
