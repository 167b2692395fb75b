"""Documents that show files and what commands print of them: read, and tried as somebody would who types them.

A document shows a file as a ```yaml block and commands as ```console blocks::

    $ shiplap ci run              a command; it goes on in one shell, so directories and variables last
    test | hello                  a line of its output, whatever else it prints
    (exit code 1)                 how the command ended; without such a line, well

In a line of output ``…`` stands for anything, each number with a point and an ``s`` behind it for a time, and any
number of blanks for one.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import COMMAND, Shiplap

_BLOCK: Final = re.compile(
    r"^(?P<hashes>##+) (?P<heading>[^\n]*)$|^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
_CODE: Final = re.compile(r"\(exit code (\d+)\)")
_TIME: Final = re.compile(r"\b\d+\.\ds\b")


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, which lines are shown of its output, and its exit code."""

    line: str
    shown: tuple[str, ...] = ()
    code: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """A file, and what is typed before and after it was written.

    heading: what it stands under.
    number: of the file below this heading, from 1.
    file: empty: there is none.
    """

    heading: str
    number: int
    before: tuple[Command, ...]
    file: str
    after: tuple[Command, ...] = ()

    def __str__(self) -> str:
        return f"{self.heading} {self.number}"


def commands(text: str) -> tuple[Command, ...]:
    """The commands of a ```console block. Raises ValueError when it begins with anything else."""
    found: list[Command] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif not found:
            raise ValueError(f"this belongs to no command: {line}")
        elif code := _CODE.fullmatch(line):
            found[-1] = replace(found[-1], code=int(code[1]))
        elif line.strip():
            found[-1] = replace(found[-1], shown=(*found[-1].shown, line))
    return tuple(found)


def examples(page: str) -> Iterator[Example]:
    """All files of a page, each with the commands up to the next file or heading.

    Commands before the first file of a heading are typed before each file of that heading. Where no file follows, they
    are an example without a file.
    """
    heading, number = "", 0
    before: tuple[Command, ...] = ()
    last: Example | None = None
    for block in _BLOCK.finditer(page):
        if block["heading"] is not None:
            if last or before:
                yield last or Example(heading, 0, before, "")
            heading, number, before, last = block["heading"], 0, (), None
        elif block["kind"] == "yaml":
            if last:
                yield last
            number += 1
            last = Example(heading, number, before, block["text"])
        elif block["kind"] == "console":
            if last:
                last = replace(last, after=(*last.after, *commands(block["text"])))
            else:
                before = (*before, *commands(block["text"]))
    if last or before:
        yield last or Example(heading, 0, before, "")


def normal(line: str) -> str:
    """A line as it is compared: times and runs of blanks are alike."""
    return " ".join(_TIME.sub("0.0s", line).split())


def is_there(shown: str, printed: set[str]) -> bool:
    """Whether a line that is shown is among those that were printed. printed: as ``normal`` makes them."""
    wanted = normal(shown)
    if "…" not in wanted:
        return wanted in printed
    pattern = re.compile(".*".join(map(re.escape, wanted.split("…"))))
    return any(pattern.fullmatch(line) for line in printed)


_WHO: Final = {"NAME": "reader", "EMAIL": "reader@example.org"}


def faults(example: Example, shiplap: Shiplap, directory: Path) -> list[str]:
    """Type an example in an empty directory; whatever was not as it is shown, in words.

    directory: is made, with a folder for the commands and one for what they print beside the one they are typed in.
    """
    programs, printed, place = (directory / name for name in ("programs", "printed", "place"))
    for made in (programs, printed, place):
        made.mkdir(parents=True)
    (programs / "shiplap").write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    (programs / "shiplap").chmod(0o755)
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in _WHO.items()}
    typed = example.before + example.after
    subprocess.run(
        ["bash", "-c", _script(example, printed)], cwd=place, stdin=subprocess.DEVNULL, check=True,
        env={**shiplap.environment(who), "PATH": f"{programs}:{os.environ['PATH']}"}, timeout=stretched(120),
    )  # fmt: skip
    return [fault for number, command in enumerate(typed) for fault in _faults(command, printed / str(number))]


def _script(example: Example, printed: Path) -> str:
    """One script for one shell. Each command writes its output to a file, and its exit code to another."""
    lines: list[str] = []
    for number, command in enumerate(example.before + example.after):
        if number == len(example.before):
            lines.append(f"printf %s {shlex.quote(example.file)} >.shiplap.yml")
        out = shlex.quote(str(printed / str(number)))
        lines.append(f"{{ {command.line}\n}} >{out} 2>&1\necho $? >{out}.code")
    return "\n".join(lines)


def _faults(command: Command, printed: Path) -> Iterator[str]:
    text = printed.read_text()
    code = int(printed.with_suffix(".code").read_text())
    found = {normal(line) for line in text.splitlines()}
    for line in command.shown:
        if not is_there(line, found):
            yield f"$ {command.line}\ndid not print: {line}\nbut:\n{text}"
    if code != command.code:
        yield f"$ {command.line}\nended with {code}, not {command.code}:\n{text}"
