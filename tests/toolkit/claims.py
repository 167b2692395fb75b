"""Pages whose claims are shown by tests: a table or a list of claims, and below it a fold with the tests of each.

    | claim | how |
    | --- | --- |
    | Nothing can be mounted | filter and capabilities |

    <details>
    <summary>Shown by</summary>

    - Nothing can be mounted:
      [test_nothing_can_be_mounted](../tests/security/test_attacks.py)

    </details>

A claim's name is the first cell of its row; the first two, where others of the table have the same first cell; of an
item of a list its beginning in bold letters, else all of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.differential.casefile import parse_cases
from tests.toolkit.documents import blocks, cells

_ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"\[([^\]]+)\]\(\.\./(tests/[^)]+)\)")
_ITEM = re.compile(r"- (?:\*\*(.+?)\.?\*\*)?")


class Claims(NamedTuple):
    """What a page claims, by name, and what it says that this is shown by.

    names: of each claim, in order.
    shown: the names in the folds, each with the names of its tests.
    loose: the rows of tables below which there is no fold.
    """

    names: list[str]
    shown: dict[str, set[str]]
    loose: list[str]

    @property
    def unshown(self) -> list[str]:
        return [name for name in self.names if not self.shown.get(name)]

    @property
    def unknown(self) -> list[str]:
        """Names in the folds that no claim has."""
        return [name for name in self.shown if name not in self.names]


def links(page: Path) -> dict[str, set[str]]:
    """The names that a page links to, by the path that they are said to be in."""
    found: dict[str, set[str]] = {}
    for name, path in _LINK.findall(page.read_text()):
        found.setdefault(path, set()).add(" ".join(name.split()))  # a line may end within it
    return found


def shown_in(path: str) -> set[str]:
    """What a test file, a file of differential cases, or a directory of golden files shows. Raises OSError."""
    target = _ROOT / path
    if target.suffix == ".case":
        return {f"{case.theme}: {case.name}" for case in parse_cases(target.stem, target.read_text())}
    if target.is_dir():
        return {f"golden {target.name}"}
    return set(re.findall(r"^def (test_\w+)", target.read_text(), re.MULTILINE))


def claims(page: Path) -> Claims:
    """Read a page's claims, and its folds."""
    names: list[str] = []
    shown: dict[str, set[str]] = {}
    loose: list[str] = []
    for above, fold in _tables_and_folds(page.read_text()):
        if fold is None:
            loose += [line for line in above if line.startswith("|")]
            continue
        names += _names(above)
        for item in fold:
            name = item[2 : found.start()] if (found := _LINK.search(item)) else item[2:]
            shown[name.strip().removesuffix(":")] = {test for test, _ in _LINK.findall(item)}
    return Claims(names, shown, loose)


def _tables_and_folds(text: str) -> Iterator[tuple[list[str], list[str] | None]]:
    """The rows or items that stand together, and the items of the fold right below them, if there is one."""
    above: list[str] = []
    fold: list[str] | None = None
    for block in blocks(text):
        line = " ".join(part.strip() for part in block.lines)
        if line == "<details>":
            fold = []
        elif line == "</details>":
            yield above, fold
            above, fold = [], None
        elif fold is not None:
            fold += [line] if line.startswith("- ") else []
        elif line.startswith(("| ", "- ")):
            if above and above[0][0] != line[0]:  # a list, and then a table
                yield above, None
                above = []
            above.append(line)
        elif line:
            yield above, None
            above = []
    yield above, fold


def _names(above: list[str]) -> list[str]:
    items = [found[1] or line[2:] for line in above if (found := _ITEM.match(line))]
    rows = [cells(line) for line in above if line.startswith("|")][2:]  # below the head
    for row, before in zip(rows[1:], rows, strict=False):
        row[0] = row[0] or before[0]
    firsts = [row[0] for row in rows]
    return items + [": ".join(filter(None, row[:2])) if firsts.count(row[0]) > 1 else row[0] for row in rows]
