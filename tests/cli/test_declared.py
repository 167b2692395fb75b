"""Command lines that are read without click mean what they mean to click."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from cli.commands.build import declared_command
from cli.declared import Option, read_plain

_BUILD = {"build": "cli.commands.build"}
_BY_NAME = {name: option for option in declared_command.options for name in option.names}


def by_click(*words: str) -> dict[str, Any]:
    return declared_command.click().make_context("build", list(words)).params


def given(name: str, option: Option) -> list[list[str]]:
    """Ways to write the option."""
    if option.flag:
        return [[name]]
    value = option.choices[-1] if option.choices else "7" if option.integer or option.between else "a=b,c"
    ways = [[name, value]]
    if name.startswith("--"):
        ways.append([f"{name}={value}"])
    if option.multiple:
        ways.append([name, value, name, "again"])
    return ways


@pytest.mark.parametrize("name", _BY_NAME)
def test_every_option_has_the_value_that_click_finds(name: str) -> None:
    for words in given(name, _BY_NAME[name]):
        for line in ([*words, "."], [".", *words]):
            assert declared_command.read(line) == by_click(*line), line


def test_options_that_are_not_given_have_the_values_that_click_finds() -> None:
    assert declared_command.read(["."]) == by_click(".")
    assert declared_command.read(["-"]) == by_click("-")


@pytest.mark.parametrize(
    "line",
    [
        [], [".", "more"], ["--help"], ["-h", "."], ["-tname", "."], ["-qt", "name", "."], ["--", "."],
        ["--unknown", "."], ["--progress", "fancy", "."], ["--cpu-shares", "many", "."],
        ["--priority", "101", "."], ["--priority", "-101", "."], ["--pids-limit", "-1", "."],
        ["-t"], [".", "-t"], ["--quiet=yes", "."], ["--tag", "--quiet", "."], ["--iidfile", "/", "."],
    ],
)  # fmt: skip
def test_everything_unusual_is_left_to_click(line: list[str]) -> None:
    assert declared_command.read(line) is None


def test_file_that_is_there_is_written_again(tmp_path: Path) -> None:
    kept = tmp_path / "id"
    kept.write_text("old")
    line = ["--iidfile", str(kept), "."]
    assert declared_command.read(line) == by_click(*line)


@pytest.mark.parametrize(
    ("line", "root"),
    [(["build", "."], None), (["--root", "/r", "build", "."], "/r"), (["--root=/r", "build", "."], "/r")],
)
def test_root_is_read(line: list[str], root: str | None) -> None:
    plain = read_plain(line, _BUILD)
    assert plain is not None
    assert (plain.root, plain.values["context"]) == (root, ".")


@pytest.mark.parametrize(
    "line", [[], ["image", "ls"], ["--host", "h", "build", "."], ["--root", "/r"], ["--root"], ["--help"], ["build"]]
)
def test_other_commands_and_global_options_are_left_to_click(line: list[str]) -> None:
    assert read_plain(line, _BUILD) is None


def test_the_command_is_clicks_too() -> None:
    command = declared_command.click()
    assert isinstance(command, click.Command)
    assert [parameter.name for parameter in command.params] == [
        "context", *(option.destination for option in declared_command.options)
    ]  # fmt: skip
