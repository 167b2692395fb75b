"""docs/commands.md: every command once, made from the code, and reachable."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Final

import pytest

from cli.commandspage import listed_commands, short_forms
from cli.places import PLACES
from tests.toolkit.bounds import stretched

_CHECKOUT: Final = Path(__file__).resolve().parents[2]
_PAGE: Final = _CHECKOUT / "docs" / "commands.md"


def test_page_is_what_the_script_makes_of_the_help() -> None:
    made = subprocess.run(
        [_CHECKOUT / "scripts" / "commands-document", "--print"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=stretched(60),
        env={**os.environ, "VENV": os.environ.get("VENV", str(_CHECKOUT / ".venv"))},
    ).stdout  # fmt: skip
    assert made == _PAGE.read_text(), "run scripts/commands-document"


def test_every_command_has_its_row_and_its_section() -> None:
    page = _PAGE.read_text()
    rows = re.findall(r"^\| \[`shiplap ([a-z -]+)`\]", page, re.MULTILINE)
    short = re.findall(r"^\| `shiplap ([a-z -]+)` \|", page, re.MULTILINE)
    sections = re.findall(r"^#{2,4} shiplap ([a-z -]+)$", page, re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert rows == sections
    assert set(PLACES) <= {*rows, *short}
    groups = {words for words in rows if any(other.startswith(f"{words} ") for other in rows)}
    assert groups & set(PLACES) == {"build"}, "a command that has others below it"
    assert {*rows, *short} - (groups - set(PLACES)) == set(PLACES)


@pytest.mark.parametrize("words", ["build", "image ls", "project hook redeliver"])
def test_help_of_the_page_is_what_the_command_prints(words: str) -> None:
    printed = subprocess.run(
        [Path(os.environ.get("VENV", _CHECKOUT / ".venv"), "bin", "shiplap"), *words.split(), "--help"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=stretched(60),
    ).stdout  # fmt: skip
    (listed,) = (command for command in listed_commands() if command.words == words)
    assert listed.help == printed.rstrip("\n")


def test_short_form_is_the_same_command() -> None:
    summaries = {command.words: command.summary for command in listed_commands()}
    assert dict(short_forms())["rmi"] == "image rm"
    assert all(words in summaries for _, words in short_forms())
