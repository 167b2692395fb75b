"""Docker's container config: what the create body asks for, over what the image says.  moby daemon/commit.go, merge"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from engine.errors import InvalidRequestError
from engine.fields import Fields
from engine.ports import check_port
from images.oci import ContainerConfig, to_builtins

DEFAULT_STOP_TIMEOUT_S: Final = 10
_MILLISECOND: Final = 1_000_000
_HEALTH_DEFAULTS: Final = {"interval": 30.0, "timeout": 30.0, "start_period": 0.0, "start_interval": 5.0}
_HEALTH_RETRIES: Final = 3
_HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)
_NO_IMAGE: Final = ContainerConfig()


class Config(NamedTuple):
    """What a container's command is to be, merged.

    document: docker's ``Config``, for ``inspect``.
    args: entrypoint and command together.
    health: as ``spec.json`` has it, or None.
    volumes: places that want a volume of their own.
    """

    document: dict[str, Any]
    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    hostname: str
    stop_signal: int
    stop_timeout_s: int
    health: dict[str, Any] | None
    volumes: tuple[str, ...]


def read(body: Fields, image: ContainerConfig | None, identity: str) -> Config:
    """Merge what was asked for with the image's config. Raises InvalidRequestError."""
    found = image or _NO_IMAGE
    document = _document(body, found, identity)
    # An empty entrypoint ([""]) takes the image's away, and says nothing itself.
    if document["Entrypoint"] == [""]:
        document["Entrypoint"] = None
    args = (*(document["Entrypoint"] or ()), *(document["Cmd"] or ()))
    if not args:
        raise InvalidRequestError("no command specified")
    hostname = document["Hostname"]
    if not _HOSTNAME.fullmatch(hostname) or len(hostname) > 63:
        raise InvalidRequestError(f"invalid hostname format: {hostname}")
    if document["WorkingDir"] and not document["WorkingDir"].startswith("/"):
        raise InvalidRequestError(
            f"the working directory '{document['WorkingDir']}' is invalid, it needs to be an absolute path"
        )
    timeout = document.get("StopTimeout")
    return Config(
        document,
        args,
        _environment(document, hostname),
        hostname,
        signal_number(document.get("StopSignal", "SIGTERM")),
        DEFAULT_STOP_TIMEOUT_S if timeout is None else timeout,
        _health(document.get("Healthcheck")),
        tuple(document["Volumes"] or ()),
    )


def signal_number(text: str) -> int:
    """The number of ``SIGTERM``, ``term``, ``15`` or ``RTMIN+3``. Raises InvalidRequestError."""
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdecimal() and 1 <= int(name) <= signal.SIGRTMAX:
        return int(name)
    for base, sign in (("RTMIN", 1), ("RTMAX", -1)):
        if name.startswith(base):
            rest = name.removeprefix(base)
            offset = rest[1:] if rest[:1] == "+-"[sign < 0] else ""
            if not rest or (offset.isascii() and offset.isdecimal()):
                number = signal.Signals[f"SIG{base}"] + sign * int(offset or 0)
                if signal.SIGRTMIN <= number <= signal.SIGRTMAX:
                    return number
    known = {each.name.removeprefix("SIG"): int(each) for each in signal.Signals}
    if name not in known:
        raise InvalidRequestError(f"invalid signal: {text}")
    return known[name]


def _document(body: Fields, image: ContainerConfig, identity: str) -> dict[str, Any]:
    entrypoint, command = body.texts("Entrypoint"), body.texts("Cmd")
    if not entrypoint:
        command = command or list(image.cmd)
        entrypoint = list(image.entrypoint) if not body.has("Entrypoint") else []
    exposed = dict.fromkeys((*body.keys("ExposedPorts"), *image.exposed_ports))
    for port in exposed:
        check_port(port)
    volumes = dict.fromkeys((*body.keys("Volumes"), *image.volumes))
    document: dict[str, Any] = {
        "Hostname": body.text("Hostname") or identity[:12],
        "Domainname": body.text("Domainname"),
        "User": body.text("User") or image.user,
        "AttachStdin": body.flag("AttachStdin"),
        "AttachStdout": body.flag("AttachStdout"),
        "AttachStderr": body.flag("AttachStderr"),
        **({"ExposedPorts": {port: {} for port in sorted(exposed)}} if exposed else {}),
        "Tty": body.flag("Tty"),
        "OpenStdin": body.flag("OpenStdin"),
        "StdinOnce": body.flag("StdinOnce"),
        "Env": _env(body.texts("Env"), image.env) or None,
        "Cmd": command or None,
        "Image": body.text("Image"),
        "Volumes": {place: {} for place in sorted(volumes)} if volumes else None,
        "WorkingDir": body.text("WorkingDir") or image.working_dir,
        "Entrypoint": entrypoint or None,
        "OnBuild": None,
        "Labels": {**image.labels, **body.pairs("Labels")},
    }
    health = _merged_health(body, image)
    if health is not None:
        document["Healthcheck"] = health
    if stop_signal := body.text("StopSignal") or image.stop_signal:
        document["StopSignal"] = stop_signal
    if body.has("StopTimeout"):
        document["StopTimeout"] = body.number("StopTimeout")
    if shell := body.texts("Shell") or list(image.shell):
        document["Shell"] = shell
    for name in document["Labels"], dict.fromkeys(document["Env"] or ()):
        if any("\0" in key for key in name):
            raise InvalidRequestError("a label or variable has a NUL in it")
    if any("\0" in text for text in (*entrypoint, *command)):
        raise InvalidRequestError("the command has a NUL in it")
    return document


def _env(asked: list[str], images: tuple[str, ...]) -> list[str]:
    for entry in asked:
        if not entry or entry.startswith("="):
            raise InvalidRequestError(f"invalid environment variable: {entry}")
    names = {entry.partition("=")[0] for entry in asked}
    return [*asked, *(entry for entry in images if entry.partition("=")[0] not in names)]


def _environment(document: Mapping[str, Any], hostname: str) -> tuple[tuple[str, str], ...]:
    found = {"HOSTNAME": hostname}
    if document["Tty"]:
        found["TERM"] = "xterm"
    for entry in document["Env"] or ():
        name, separator, value = entry.partition("=")
        if separator:
            found[name] = value
        else:  # a name alone takes the variable away
            found.pop(name, None)
    return tuple(found.items())


def _merged_health(body: Fields, image: ContainerConfig) -> dict[str, Any] | None:
    given = to_builtins(image.healthcheck) if image.healthcheck is not None else None
    if not body.has("Healthcheck"):
        return given
    asked = body.inner("Healthcheck")
    merged: dict[str, Any] = {"Test": asked.texts("Test") or (given or {}).get("Test")}
    for name in ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"):
        value = asked.number(name) or (given or {}).get(name, 0)
        if name != "Retries" and value and value < _MILLISECOND:
            raise InvalidRequestError(f"{name} in Healthcheck cannot be less than 1ms")
        if value < 0:
            raise InvalidRequestError(f"{name} in Healthcheck cannot be negative")
        if value:
            merged[name] = value
    return merged if merged["Test"] or len(merged) > 1 else None


def _health(document: Mapping[str, Any] | None) -> dict[str, Any] | None:
    test = list((document or {}).get("Test") or ())
    if document is None or not test or test == ["NONE"]:
        return None
    if test[0] not in ("CMD", "CMD-SHELL") or len(test) < 2:
        raise InvalidRequestError(f"Unknown healthcheck type '{test[0]}' (expected 'CMD' or 'CMD-SHELL')")
    names = {"interval": "Interval", "timeout": "Timeout", "start_period": "StartPeriod"}
    names["start_interval"] = "StartInterval"
    times = {f"{ours}_s": (document.get(theirs, 0) / 1e9) or _HEALTH_DEFAULTS[ours] for ours, theirs in names.items()}
    return {"test": test, **times, "retries": document.get("Retries", 0) or _HEALTH_RETRIES}
