"""``--device``, the rates of devices, ``--security-opt`` and ``--gpus``, as docker's command line reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cli.errors import CommandError
from cli.limits import size


def device(text: str) -> dict[str, str]:
    """docker's ``Devices`` entry for ``PATH[:PATH_INSIDE][:rwm]``. Raises CommandError."""
    parts = text.split(":")
    if not parts[0].startswith("/") or len(parts) > 3:
        raise CommandError(f"invalid argument {text!r} for --device: bad format for path: {text}")
    inside, permissions = parts[0], "rwm"
    if len(parts) == 3:
        inside, permissions = parts[1], parts[2]
    elif len(parts) == 2:
        if set(parts[1]) <= set("rwm"):
            permissions = parts[1]
        else:
            inside = parts[1]
    if not permissions or not set(permissions) <= set("rwm") or not inside.startswith("/"):
        raise CommandError(f"invalid argument {text!r} for --device: bad mode specified: {permissions}")
    return {"PathOnHost": parts[0], "PathInContainer": inside, "CgroupPermissions": permissions}


def rate(text: str, option: str, *, in_bytes: bool) -> dict[str, Any]:
    """docker's throttle of a device: ``/dev/sda:1mb``, or a number of operations. Raises CommandError."""
    path, colon, value = text.partition(":")
    if not colon or not path.startswith("/dev/"):
        raise CommandError(f"invalid argument {text!r} for {option}: bad format for device path: {text}")
    if in_bytes:
        return {"Path": path, "Rate": size(value, option)}
    return {"Path": path, "Rate": _whole(value, text, option)}


def weight(text: str) -> dict[str, Any]:
    """docker's ``BlkioWeightDevice`` entry. Raises CommandError."""
    path, colon, value = text.partition(":")
    if not colon or not path.startswith("/dev/"):
        raise CommandError(f"invalid argument {text!r} for --blkio-weight-device: bad format: {text}")
    number = _whole(value, text, "--blkio-weight-device")
    if number and not 10 <= number <= 1000:
        raise CommandError(f"invalid weight for device: {text}", hint="10 to 1000, or 0")
    return {"Path": path, "Weight": number}


def security_options(values: Sequence[str]) -> dict[str, Any]:
    """``SecurityOpt``, and ``MaskedPaths`` and ``ReadonlyPaths`` for systempaths=unconfined. Raises CommandError.

    A seccomp profile is read here: its text goes along, as docker's command line does it.
    """
    found: dict[str, Any] = {}
    options: list[str] = []
    for value in values:
        if value == "systempaths=unconfined":
            found |= {"MaskedPaths": [], "ReadonlyPaths": []}
            continue
        name, equals, text = value.partition("=") if "=" in value else value.partition(":")
        if not equals and name != "no-new-privileges":
            raise CommandError(f"Invalid --security-opt: {value!r}")
        if name == "seccomp" and text not in ("unconfined", "builtin"):
            value = f"seccomp={_profile(text)}"
        options.append(value)
    return {**found, "SecurityOpt": options} if options else found


def gpus(text: str) -> dict[str, Any]:
    """docker's ``DeviceRequests`` entry for ``all``, a number, or fields. Raises CommandError."""
    request: dict[str, Any] = {"Driver": "", "Count": 0, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", field
        if key == "count":
            request["Count"] = -1 if value == "all" else _whole(value, text, "--gpus")
        elif key == "device":
            request["DeviceIDs"] = [*(request["DeviceIDs"] or ()), value]
        elif key == "driver":
            request["Driver"] = value
        else:
            raise CommandError(f"invalid argument {text!r} for --gpus: unexpected key {key!r} in {field!r}")
    return request


def _whole(value: str, text: str, option: str) -> int:
    if not (value.isascii() and value.isdigit()):
        raise CommandError(f"invalid argument {text!r} for {option}: {value!r} is no number")
    return int(value)


def _profile(path: str) -> str:
    try:
        return json.dumps(json.loads(Path(path).read_text(encoding="utf-8")), separators=(",", ":"))
    except (OSError, ValueError) as error:
        raise CommandError(f"opening seccomp profile ({path}) failed: {error}") from error
