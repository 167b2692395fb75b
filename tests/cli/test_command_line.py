"""The command line as such: help, mistakes, errors, exit codes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.app import run, shiplap
from cli.errors import CommandError, describe, is_users
from cli.lazy import LazyGroup
from cli.main import main
from core.errors import ShiplapError
from core.release import VERSION
from tests.toolkit.bounds import stretched
from tests.toolkit.git import git

_CHECKOUT = Path(__file__).resolve().parents[2]


def _commands(group: LazyGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, click.Command]]:
    context = click.Context(group)
    for name, entry in group.lazy.items():
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), entry.summary, command
        if isinstance(command, LazyGroup):
            yield from _commands(command, (*path, name))


assert isinstance(shiplap, LazyGroup)
COMMANDS = list(_commands(shiplap))


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=_CHECKOUT,
        env={**os.environ, **environment},
        timeout=stretched(60),
        check=False,
    )


@pytest.mark.parametrize(("path", "summary", "command"), COMMANDS, ids=[" ".join(path) for path, _, _ in COMMANDS])
def test_every_command_is_listed_with_the_summary_of_its_own_help(
    path: tuple[str, ...], summary: str, command: click.Command
) -> None:
    assert command.help is not None
    assert command.help.partition("\n")[0] == summary
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{' '.join(path)}: {parameter.opts} has no help"


@pytest.mark.parametrize("path", [path for path, _, _ in COMMANDS], ids=[" ".join(path) for path, _, _ in COMMANDS])
def test_help_of_every_command_shows_its_own_name(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--help"]) == 0
    assert f"Usage: shiplap {' '.join(path)} " in capsys.readouterr().out


def test_version_agrees_with_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    commit = git(_CHECKOUT, "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*").strip()
    for arguments in (["--version"], ["version"], ["--root", "/nowhere", "--version"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"shiplap {VERSION}, commit {commit}\n"


def test_commit_is_said_of_this_checkout_alone(tmp_path: Path) -> None:
    """Of files that lie in somebody else's repository, or in one that git is told of, nothing is known."""
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "theirs")
    shutil.copytree(_CHECKOUT / "core", tmp_path / "packages" / "core", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from core.release import commit; print(repr(commit()))"
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "packages"), "GIT_DIR": str(tmp_path / ".git")}

    def said() -> str:
        return subprocess.run(
            command, env=environment, cwd=tmp_path, check=True, stdout=subprocess.PIPE, text=True
        ).stdout.strip()

    assert said() == "''"
    (tmp_path / "packages" / "core" / "commit.txt").write_text("0123456789ab\n")
    assert said() == "'0123456789ab'"


def test_help_imports_no_room_below_and_nothing_heavy() -> None:
    code = "import sys; from cli.main import main; main(['--help']); print('loaded:', *sys.modules)"
    loaded = set(python("-c", code).stdout.partition("loaded: ")[2].split())
    assert "click" in loaded
    assert not loaded & {"msgspec", "lark", "rich", "sqlite3", "subprocess", "tarfile", "json", "importlib.metadata"}
    assert not [name for name in loaded if name.partition(".")[0] in {"builder", "containers", "images"}]


def test_version_option_imports_not_even_click() -> None:
    code = "import sys; from cli.main import main; main(['--version']); print('loaded:', *sys.modules)"
    assert "click" not in python("-c", code).stdout.partition("loaded: ")[2].split()


@pytest.mark.parametrize("word", ["swarm", "plugin", "search"])
def test_command_of_docker_s_that_is_not_here_is_not_taken_for_another(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word]) == 2
    message = capsys.readouterr().err
    assert f"no such command: {word!r}" in message
    assert "did you mean" not in message


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["biuld"], "no such command: 'biuld' (did you mean build?)"),
        (["image", "lss"], "did you mean ls?"),
        (["image", "ls", "--jsno"], "--json"),
        (["build"], "CONTEXT"),
        (["build", "--progress", "fancy", "."], "'fancy' is not one of"),
    ],
)
def test_mistyped_command_line_is_answered_with_help(
    arguments: list[str], fragment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert fragment in message
    assert "hint: shiplap" in message


def _fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*args: object, **kwargs: object) -> int:
        raise error

    monkeypatch.setattr(shiplap, "main", fail)


def test_error_of_ours_is_shown_with_its_hint(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _fail_with(monkeypatch, ShiplapError("no such stage\x1b[2J", hint="look again"))
    assert run([]) == 1
    assert capsys.readouterr().err == "error: no such stage\nhint: look again\n"


def test_error_that_renders_itself_does(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    class Placed(ShiplapError):
        def render(self) -> str:
            return "Dockerfile:1: bad\n  1 | FORM x\n    | ^^^^"

    _fail_with(monkeypatch, Placed("bad"))
    assert run([]) == 1
    assert capsys.readouterr().err == "error: Dockerfile:1: bad\n  1 | FORM x\n    | ^^^^\n"


@pytest.mark.parametrize(
    ("error", "fragments"),
    [
        (OSError(errno.ENOENT, "No such file or directory", "/x"), ("No such file or directory: /x",)),
        (OSError(errno.ENOSPC, "No space left on device"), ("No space left", "hint: free some space")),
        (OSError(errno.EROFS, "Read-only file system", "/x"), ("Read-only file system: /x", "--root DIR")),
        (OSError(errno.EXDEV, "Cross-device link", "/a", None, "/b"), ("/a -> /b",)),
    ],
)
def test_errors_of_the_machine_are_messages(error: OSError, fragments: tuple[str, ...]) -> None:
    assert is_users(error)
    text = describe(error)
    assert text.startswith("error: ")
    for fragment in fragments:
        assert fragment in text


def test_debugging_shows_the_traceback_of_any_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHIPLAP_DEBUG", "1")
    with pytest.raises(CommandError) as raised:
        raise CommandError("why")
    assert describe(raised.value).startswith("Traceback")
    assert describe(raised.value).endswith("error: why")


def test_interrupt_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_with(monkeypatch, KeyboardInterrupt())
    assert run([]) == 130


def test_bug_shows_its_traceback_and_where_to_report() -> None:
    code = (
        "import sys, cli.app; from cli.main import main; cli.app.shiplap.main = lambda *a, **k: 1 // 0; "
        "sys.argv[1:] = ['image', 'history']; main()"
    )
    result = python("-c", code)
    assert result.returncode == 1
    assert "ZeroDivisionError" in result.stderr
    assert "hint: please report it" in result.stderr


def test_reader_that_closes_the_pipe_gets_no_traceback() -> None:
    code = "import sys; from cli.app import shiplap; from cli.main import main; import click\n"
    code += "shiplap.main = lambda *a, **k: [click.echo('x' * 1000) for _ in range(1000)] and 0\n"
    code += "sys.argv[1:] = []; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=_CHECKOUT
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    message = process.stderr.read()
    process.stderr.close()
    assert process.wait(stretched(60)) == 141
    assert message == b""


@pytest.mark.parametrize(
    ("sink", "code", "told"),
    [("/dev/full", 1, "error: No space left on device"), ("/dev/null", 0, "")],
)
def test_output_that_cannot_be_written_at_the_end_is_a_failure(sink: str, code: int, told: str) -> None:
    """What waits in Python's buffer is written before the command says that it succeeded."""
    command = "import sys; from cli.app import shiplap; from cli.main import main; sys.argv[1:] = []\n"
    command += "shiplap.main = lambda *a, **k: sys.stdout.write('short') and 0; main()"
    with open(sink, "w") as output:
        result = subprocess.run(
            [sys.executable, "-c", command], stdout=output, stderr=subprocess.PIPE, text=True, cwd=_CHECKOUT,
            env={**os.environ, "PYTHONUNBUFFERED": ""}, timeout=stretched(60), check=False,
        )  # fmt: skip
    assert result.returncode == code
    assert result.stderr.startswith(told)


def test_python_minus_m_is_the_command() -> None:
    assert python("-m", "cli", "--version").stdout.startswith(f"shiplap {VERSION}")
