"""No command works on this machine when a service is chosen, unless that is its nature."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.app import run, shiplap
from cli.places import PLACES, Group
from cli.remote.servers import Contexts, Server, is_here
from core.settings import RemoteSettings
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_NOBODY = "http://127.0.0.1:9"


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    assert isinstance(group, Group), f"{' '.join(path)} is no cli.places.Group: its commands are not checked"
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands(shiplap))


def words(name: str, file: Path) -> list[str]:
    """A command line that is complete: with a value for each argument and each option that must be given."""
    found = name.split()
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and parameter.required:
            found += [parameter.opts[0], "1"]
        elif isinstance(parameter, click.Argument):
            kind = parameter.type
            value = kind.choices[0] if isinstance(kind, click.Choice) else "1"
            found += [str(file) if isinstance(kind, click.Path) else str(value)] * (2 if parameter.nargs != 1 else 1)
    return found


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without settings, in an empty root, with nothing to say."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("SHIPLAP_ROOT", str(tmp_path / "root"))
    monkeypatch.delenv("SHIPLAP_HOST", raising=False)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    (tmp_path / "file").touch()


def test_every_command_has_its_entry() -> None:
    assert {*PLACES} == {*COMMANDS}


@pytest.mark.parametrize("name", [name for name, place in PLACES.items() if place == "refused"])
def test_refused_command_does_nothing_here(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = words(name, tmp_path / "file")
    told = f"error: shiplap {name} works on this machine, and {{}} chooses {_NOBODY}\n"
    hint = f"hint: shiplap --host local {name} … does it here\n"
    assert run(["--host", _NOBODY, *line]) == 1
    assert capsys.readouterr().err == told.format("--host") + hint
    monkeypatch.setenv("SHIPLAP_HOST", _NOBODY)
    assert run(line) == 1
    assert capsys.readouterr().err == told.format("SHIPLAP_HOST") + hint
    monkeypatch.delenv("SHIPLAP_HOST")
    contexts = Contexts.load(RemoteSettings.from_environ(host=""))
    contexts.urls["ci"] = _NOBODY
    contexts.current = "ci"
    contexts.save()
    assert run(line) == 1
    assert capsys.readouterr().err == told.format("the context that is in use") + hint
    assert not (tmp_path / "root").exists()
    run([*name.split(), "--help"])
    assert "Usage: " in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, place in PLACES.items() if place == "there"])
def test_service_is_what_the_command_asks(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    monkeypatch.chdir(tmp_path)
    assert run(["--host", _NOBODY, *_MORE.get(name, words(name, tmp_path / "file"))]) == (0 if name == "logout" else 1)
    output = capsys.readouterr()
    assert _NOBODY in output.out + output.err or "standard input" in output.err or "terminal" in output.err
    assert not (tmp_path / "root" / "store.db").exists()


_MORE = {
    "build": ["build", "."],
    "secret set": ["secret", "set", "name"],
    "project archive": ["project", "archive", "app"],
    "project unarchive": ["project", "unarchive", "app"],
    "project rm": ["project", "rm", "--yes", "app"],
}


def test_image_is_removed_where_it_was_meant_only(
    shiplap: Shiplap, busybox_tar: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    monkeypatch.setenv("SHIPLAP_HOST", _NOBODY)
    assert shiplap("image", "rm", BUSYBOX_NAME, check=False).returncode == 1
    shiplap("--host", "local", "image", "inspect", BUSYBOX_NAME)
    shiplap("--host", "local", "image", "rm", BUSYBOX_NAME)


@pytest.mark.parametrize(
    ("own", "url", "is_ours"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080", True),
        ("http://127.0.0.1:8080", "http://localhost:8080", True),
        ("http://ci.example:8080", "http://ci.example:8080", True),
        ("http://127.0.0.1:8080", "http://localhost:8081", False),
        ("http://127.0.0.1:8080", "https://localhost:8080", False),
        ("http://127.0.0.1:8080", "http://ci.example:8080", False),
        ("", "http://localhost:8080", False),
    ],
)
def test_service_of_this_machine_is_known_by_each_of_its_names(
    tmp_path: Path, own: str, url: str, is_ours: bool
) -> None:
    """There a bare repository is made: elsewhere nobody could push to it."""
    (tmp_path / "root" / "serve").mkdir(parents=True)
    (tmp_path / "root" / "serve" / "url").write_text(f"{own}\n")
    assert is_here(Server(url, ""), str(tmp_path / "root")) is is_ours
