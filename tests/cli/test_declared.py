"""Command lines that are read without click mean what they mean to click."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest

import cli.commands.exec
import cli.commands.run
from cli.commands.build import declared_command
from cli.containers import execing, run
from cli.declared import Command, Option, read_plain
from cli.main import _PLAIN, main

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


def by_click_of(plain: Command, *words: str) -> dict[str, Any]:
    """What click finds for ``exec`` and ``run``, as ``Command.read`` says it."""
    if plain.name == "exec":
        found = dict(cli.commands.exec.command.make_context("exec", list(words)).params)
        found["arguments"] = (found.pop("first"), *found["arguments"])
        return found
    found = dict(cli.commands.run.command.make_context("run", list(words)).params)
    assert found.pop("sig_proxy") is True
    return found


@pytest.mark.parametrize(
    ("plain", "name"),
    [
        (plain, name)
        for plain in (execing.declared_command, run.declared_command)
        for option in plain.options
        for name in option.names
    ],
)
def test_every_option_of_a_command_in_a_container_has_the_value_that_click_finds(plain: Command, name: str) -> None:
    by_name = {each: option for option in plain.options for each in option.names}
    for words in given(name, by_name[name]):
        line = [*words, "it", "cat", "-n", "--", "--tty"]
        assert plain.read(line) == by_click_of(plain, *line), line


@pytest.mark.parametrize("plain", [execing.declared_command, run.declared_command])
def test_flags_may_be_written_together_and_all_after_the_name_is_the_containers(plain: Command) -> None:
    line = ["-dit", "it", "-i", "--name=x", "-"]
    found = plain.read(line)
    assert found is not None
    assert found == by_click_of(plain, *line)
    assert found["detach"]
    assert found["interactive"]
    assert found["tty"]
    assert found["arguments"] == ("-i", "--name=x", "-")


@pytest.mark.parametrize(
    ("plain", "line"),
    [
        (plain, line)
        for plain in (execing.declared_command, run.declared_command)
        for line in ([], ["-d"], ["--help"], ["-eA=B", "it", "ls"], ["-dx", "it", "ls"], ["-du", "me", "it", "ls"],
                     ["--", "it", "ls"], ["--tty=false", "it", "ls"])
    ] + [(execing.declared_command, ["it"])],
)  # fmt: skip
def test_unusual_lines_of_commands_in_containers_are_left_to_click(plain: Command, line: list[str]) -> None:
    assert plain.read(line) is None


def declared_of(words: str) -> Command:
    found: Command = import_module(_PLAIN[words]).declared_command
    return found


@pytest.mark.parametrize("words", ["image ls", "image rm", "image tag", "push", "pull"])
def test_commands_of_images_mean_what_they_mean_to_click(words: str) -> None:
    plain = declared_of(words)
    names = ["it", "other"] if plain.name != "ls" else ["it"]
    lines = [
        names,
        *([*way, *names] for option in plain.options for name in option.names for way in given(name, option)),
    ]
    assert len(lines) > len(plain.options)
    for line in lines:
        assert plain.read(line) == plain.click().make_context(plain.name, list(line)).params, line


@pytest.mark.parametrize(
    ("words", "line"),
    [("image ls", ["a", "b"]), ("image rm", []), ("image tag", ["a"]), ("image tag", ["a", "b", "c"]), ("push", []),
     ("pull", ["--progress", "fancy", "a"])],
)  # fmt: skip
def test_too_few_words_and_too_many_are_left_to_click(words: str, line: list[str]) -> None:
    assert declared_of(words).read(line) is None


@pytest.mark.parametrize("line", ["image ls", "run busybox true", "exec web true", "push a", "images", "rmi a"])
def test_a_chosen_service_refuses_a_plain_line_as_any_other(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHIPLAP_ROOT", str(tmp_path))
    monkeypatch.setenv("SHIPLAP_HOST", "http://ci.example:8080")
    assert read_plain(line.split(), _PLAIN) is not None
    assert main(line.split()) == 1
    assert "works on this machine, and SHIPLAP_HOST chooses http://ci.example:8080" in capfd.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_wrong_filter_has_dockers_exit_code_in_a_plain_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHIPLAP_ROOT", str(tmp_path))
    assert read_plain(["image", "ls", "-f", "dangling"], _PLAIN) is not None
    assert main(["image", "ls", "-f", "dangling"]) == 125
    assert "bad format of filter (expected name=value)" in capfd.readouterr().err
