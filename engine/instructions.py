"""``commit --change``: instructions of a Dockerfile, applied to docker's Config."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from dockerfile_grammar import ast
from dockerfile_grammar.errors import DockerfileError
from dockerfile_grammar.expansion import expand, expand_words
from dockerfile_grammar.parsing import parse_change
from engine.errors import InvalidRequestError
from engine.ports import check_port

_SHELL: Final = ("/bin/sh", "-c")


def changed(config: Mapping[str, Any], changes: list[str]) -> dict[str, Any]:
    """The Config after these instructions: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, USER, VOLUME, WORKDIR,
    HEALTHCHECK, STOPSIGNAL, SHELL. Raises InvalidRequestError.
    """
    found = dict(config)
    for change in changes:
        try:
            _apply(found, parse_change(change), change)
        except DockerfileError as error:
            raise InvalidRequestError(error.message, hint=error.hint) from error
    return found


def _apply(config: dict[str, Any], instruction: ast.Instruction, text: str) -> None:
    env = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
    match instruction:
        case ast.Cmd():
            config["Cmd"] = _argv(config, instruction.command)
        case ast.Entrypoint():
            config["Entrypoint"] = _argv(config, instruction.command)
        case ast.Env():
            for pair in instruction.assignments:
                env[expand(pair.name.text, env)] = expand(pair.value.text, env)
            config["Env"] = [f"{name}={value}" for name, value in env.items()]
        case ast.Label():
            labels = {expand(pair.name.text, env): expand(pair.value.text, env) for pair in instruction.assignments}
            config["Labels"] = {**(config.get("Labels") or {}), **labels}
        case ast.Expose():
            ports = [port for word in instruction.ports for port in expand_words(word.text, env)]
            names = [
                f"{number}/{kind}" for first, last, kind in map(check_port, ports) for number in range(first, last + 1)
            ]
            config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{name: {} for name in names}}
        case ast.Volume():
            config["Volumes"] = {
                **(config.get("Volumes") or {}),
                **{expand(w.text, env): {} for w in instruction.paths},
            }
        case ast.User():
            config["User"] = expand(instruction.user.text, env)
        case ast.Workdir():
            config["WorkingDir"] = os.path.join(config.get("WorkingDir") or "/", expand(instruction.path.text, env))
        case ast.StopSignal():
            config["StopSignal"] = expand(instruction.signal.text, env)
        case ast.Shell():
            config["Shell"] = list(instruction.argv)
        case ast.Onbuild():
            config["OnBuild"] = [*(config.get("OnBuild") or ()), instruction.trigger]
        case ast.Healthcheck():
            config["Healthcheck"] = _health(instruction)
        case _:
            raise InvalidRequestError(f"{text.split()[0]} is not a valid change command")


def _argv(config: Mapping[str, Any], command: ast.Command) -> list[str]:
    if isinstance(command, ast.ShellForm):
        return [*(config.get("Shell") or _SHELL), command.text]
    return list(command.argv)


def _health(check: ast.Healthcheck) -> dict[str, Any]:
    if check.command is None:
        return {"Test": ["NONE"]}
    command = check.command
    test = ["CMD-SHELL", command.text] if isinstance(command, ast.ShellForm) else ["CMD", *command.argv]
    times = {
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "StartPeriod": check.start_period_ns,
        "StartInterval": check.start_interval_ns,
        "Retries": check.retries,
    }
    return {"Test": test, **{name: value for name, value in times.items() if value}}
