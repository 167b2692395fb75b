"""The project's documents as text: their prose wrapped at 100 columns, the cells of their tables.

``scripts/wrap-documents`` wraps them; ``tests/project/test_documents.py`` holds them to it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

WIDTH: Final = 100
"""Columns of a line of prose."""
CELL: Final = 120
"""Characters of a table's cell, without the addresses of its links: a phrase. What is longer is a list or a section."""

_ITEM = re.compile(r"(?:[-*] |\d+\. )")
_ASIDE = re.compile(r"(#|\||<|\[[^\]]+\]: )")
"""What begins a line that is no prose: a heading, a row of a table, HTML, the address of a link."""
_UNBREAKABLE = re.compile(r"`[^`]+`|\[[^\]`]{1,60}\]\([^)]*\)|\]\([^)]*\)|!\[[^\]]*\]")
_LONG_CODE: Final = 60
"""Characters from which code within a sentence may be broken at its spaces."""
_MARKUP_AT_START = re.compile(r"[-+*=]+$|#{1,6}$|\d+[.)]$|[>|<]")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_BLANK: Final = "\0"


class Block(NamedTuple):
    """Lines of a document that belong together.

    first: the number of the first line, from 1.
    lines: without their ends.
    is_prose: a paragraph or an item of a list, which may be wrapped anew.
    """

    first: int
    lines: list[str]
    is_prose: bool


def blocks(text: str) -> Iterator[Block]:
    """Go through a document: each paragraph and each item is one block, each other line is one."""
    prose: list[str] = []
    first = 0
    fence = ""
    in_list = False
    for number, line in enumerate(text.splitlines(), 1):
        inside = line.strip()
        is_fence = inside.startswith(("```", "~~~"))
        indent = len(line) - len(line.lstrip())
        begins_item = _ITEM.match(inside) is not None and not fence
        is_code = bool(fence) or is_fence or (indent >= 4 and not prose and not in_list)
        if prose and (begins_item or is_code or not inside or _ASIDE.match(inside)):
            yield Block(first, prose, is_prose=True)
            prose = []
        if is_fence and (not fence or inside == fence):
            fence = "" if fence else inside[:3]
        if is_code or not inside or _ASIDE.match(inside):
            yield Block(number, [line], is_prose=False)
        else:
            if not prose:
                first = number
            prose.append(line)
        in_list = begins_item or (in_list and (not inside or indent > 0))
    if prose:
        yield Block(first, prose, is_prose=True)


def too_wide(text: str) -> list[int]:
    """The numbers of the lines of prose that are wider than they need to be."""
    return [
        block.first + offset
        for block in blocks(text)
        if _is_wide(block)
        for offset, line in enumerate(block.lines)
        if len(line) > WIDTH
    ]


def wrapped(text: str) -> str:
    """The document with each block of prose that is too wide wrapped anew; the others stay as they are."""
    lines = [line for block in blocks(text) for line in (_filled(block.lines) if _is_wide(block) else block.lines)]
    return "\n".join(lines) + "\n"


def _is_wide(block: Block) -> bool:
    """Whether the lines are too wide, and could be narrower: a link's address cannot be broken."""
    widest = max(map(len, block.lines))
    return block.is_prose and widest > WIDTH and max(map(len, _filled(block.lines))) < widest


def _filled(lines: list[str]) -> list[str]:
    """A paragraph or an item in lines of at most WIDTH where its words allow that, and none that would be markup."""
    indent = len(lines[0]) - len(lines[0].lstrip())
    marker = _ITEM.match(lines[0].lstrip())
    start = lines[0][:indent] + (marker[0] if marker else "")
    words = _words(" ".join([lines[0][len(start) :].strip(), *(line.strip() for line in lines[1:])]))
    filled, current = [], start
    for word in words:
        is_first = not current.strip() or current == start
        if not is_first and len(current) + 1 + len(word) > WIDTH and not _MARKUP_AT_START.match(word):
            filled.append(current)
            current = " " * len(start) + word
        else:
            current += word if is_first else f" {word}"
    return [*filled, current]


def _words(text: str) -> list[str]:
    return [word.replace(_BLANK, " ") for word in _UNBREAKABLE.sub(_held, text).split()]


def _held(found: re.Match[str]) -> str:
    is_long_code = found[0].startswith("`") and len(found[0]) > _LONG_CODE
    return found[0] if is_long_code else found[0].replace(" ", _BLANK)


def cells(row: str) -> list[str]:
    """The cells of a table's row, as they are written but for the escapes of bars."""
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", row)[1:-1]]


def long_cells(text: str) -> Iterator[tuple[int, str]]:
    """The cells of tables that are paragraphs: the number of the line, and the cell as it is read."""
    for block in blocks(text):
        if not block.is_prose and block.lines[0].startswith("|"):
            read = [_LINK.sub(r"\1", cell) for cell in cells(block.lines[0])]
            yield from ((block.first, cell) for cell in read if len(cell) > CELL)


def _documents(names: Iterable[str]) -> Iterator[Path]:
    for path in map(Path, names):
        yield from sorted(path.rglob("*.md")) if path.is_dir() else [path]


def main(arguments: list[str]) -> int:
    """Wrap these documents, and those in these directories, and name those that changed.

    With ``--check`` change nothing, say what is to be done, and return 1 if there is something.
    """
    is_check = "--check" in arguments
    found = 0
    for path in _documents(argument for argument in arguments if argument != "--check"):
        text = path.read_text()
        if is_check:
            said = [
                f"{path}:{line}: wider than {WIDTH} columns: scripts/wrap-documents {path}" for line in too_wide(text)
            ]
            said += [f"{path}:{line}: a cell of over {CELL} characters: {cell}" for line, cell in long_cells(text)]
            print(*said, sep="\n", end="\n" if said else "")
            found += len(said)
        elif (anew := wrapped(text)) != text:
            path.write_text(anew)
            print(path)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
