"""What a container runs, by docker's rules."""

from __future__ import annotations

import pytest

from cli.errors import CommandError
from cli.run_spec import command_line, environment, working_directory
from images.oci import ContainerConfig

IMAGE = ContainerConfig(
    entrypoint=("/entry", "a"), cmd=("serve",), env=("PATH=/bin", "MODE=image", "EMPTY="), working_dir="/srv"
)


@pytest.mark.parametrize(
    ("entrypoint", "command", "expected"),
    [
        (None, [], ("/entry", "a", "serve")),
        (None, ["check", "-v"], ("/entry", "a", "check", "-v")),
        ("sh", [], ("sh",)),
        ("sh", ["-c", "x"], ("sh", "-c", "x")),
        ("", ["ls"], ("ls",)),
    ],
)
def test_entrypoint_and_command(entrypoint: str | None, command: list[str], expected: tuple[str, ...]) -> None:
    assert command_line(IMAGE, entrypoint, command) == expected


def test_nothing_to_execute_is_an_error() -> None:
    with pytest.raises(CommandError, match="neither CMD nor ENTRYPOINT"):
        command_line(ContainerConfig(), None, [])
    with pytest.raises(CommandError):
        command_line(IMAGE, "", [])


def test_environment_in_order_of_precedence() -> None:
    result = dict(environment(IMAGE, {"MODE": "option"}, hostname="box", terminal=False))
    assert result == {"PATH": "/bin", "HOSTNAME": "box", "MODE": "option", "EMPTY": ""}


def test_terminal_has_a_type() -> None:
    assert dict(environment(ContainerConfig(), {}, hostname="box", terminal=True))["TERM"] == "xterm"


def test_working_directory() -> None:
    assert working_directory(IMAGE, None) == "/srv"
    assert working_directory(IMAGE, "/x") == "/x"
    assert working_directory(ContainerConfig(), None) == "/"
    with pytest.raises(CommandError, match="absolute"):
        working_directory(IMAGE, "x")
