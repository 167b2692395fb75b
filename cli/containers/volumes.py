"""``--volume``, ``--mount`` and ``--tmpfs``, as docker's command line reads them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from cli.errors import CommandError
from cli.limits import size
from core.gobool import parse_bool


def binds(values: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """docker's ``Binds`` and ``Volumes`` (the anonymous ones) for ``-v`` values. Raises CommandError."""
    found: list[str] = []
    anonymous: dict[str, Any] = {}
    for value in values:
        source, colon, rest = value.partition(":")
        if not value or (colon and not source):
            raise CommandError(
                f"invalid spec: {value}: empty section between colons" if value else "invalid empty volume spec"
            )
        if not colon:
            anonymous[value] = {}
        elif source.startswith((".", "~")):
            found.append(f"{_absolute(source)}:{rest}")
        else:
            found.append(value)
    return found, anonymous


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path)) if path.startswith("~") else os.path.abspath(path)


def tmpfs(values: Sequence[str]) -> dict[str, str]:
    """docker's ``Tmpfs``: options by place."""
    return {place: options for place, _, options in (value.partition(":") for value in values)}


def mount(text: str) -> dict[str, Any]:
    """docker's ``Mount`` for one ``--mount`` value. Raises CommandError."""
    found: dict[str, Any] = {"Type": "volume"}
    for field in _fields(text):
        name, equals, value = field.partition("=")
        name = name.lower()
        if not equals and name in _FLAGS:
            value = "true"
        elif not equals:
            raise _wrong(text, f"invalid field '{field}' must be a key=value pair")
        known = _MEMBERS.get(name)
        if known is None:
            raise _wrong(text, f"unexpected key '{name}' in '{field}'")
        known(found, value, name)
    _check(found, text)
    return found


def _fields(text: str) -> list[str]:
    import csv

    try:
        return next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise _wrong(text, f"{error}") from error


def _check(found: Mapping[str, Any], text: str) -> None:
    kind = found["Type"]
    if not found.get("Target"):
        raise _wrong(text, "target is required")
    for member, only in _GROUPS:
        if found.get(member) and kind != only:
            raise _wrong(text, f"cannot mix '{only}-*' options with mount type '{kind}'")


def _wrong(text: str, why: str) -> CommandError:
    return CommandError(f'invalid argument {_shown(text)} for "--mount" flag: {why}')


def _shown(text: str) -> str:
    return f'"{text}"'


_Setter = Callable[[dict[str, Any], str, str], None]


def _set(member: str) -> _Setter:
    def setter(found: dict[str, Any], value: str, name: str) -> None:
        del name
        found[member] = value

    return setter


def _type(found: dict[str, Any], value: str, name: str) -> None:
    del name
    found["Type"] = value.lower()


def _source(found: dict[str, Any], value: str, name: str) -> None:
    del name
    found["Source"] = os.path.abspath(value) if value.startswith(".") else value


def _boolean(member: str, group: str = "") -> _Setter:
    def setter(found: dict[str, Any], value: str, name: str) -> None:
        wanted = parse_bool(value)
        if wanted is None:
            raise CommandError(f"--mount: invalid value for {name}: {value}")
        (found.setdefault(group, {}) if group else found)[member] = wanted

    return setter


def _in(group: str, member: str) -> _Setter:
    def setter(found: dict[str, Any], value: str, name: str) -> None:
        del name
        found.setdefault(group, {})[member] = value

    return setter


def _driver(found: dict[str, Any], value: str, name: str) -> None:
    del name
    found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value


def _driver_option(found: dict[str, Any], value: str, name: str) -> None:
    del name
    key, _, text = value.partition("=")
    found.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {}).setdefault("Options", {})[key] = text


def _label(found: dict[str, Any], value: str, name: str) -> None:
    del name
    key, _, text = value.partition("=")
    found.setdefault("VolumeOptions", {}).setdefault("Labels", {})[key] = text


def _tmpfs_size(found: dict[str, Any], value: str, name: str) -> None:
    found.setdefault("TmpfsOptions", {})["SizeBytes"] = size(value, f"--mount {name}")


def _tmpfs_mode(found: dict[str, Any], value: str, name: str) -> None:
    try:
        found.setdefault("TmpfsOptions", {})["Mode"] = int(value, 8)
    except ValueError as error:
        raise CommandError(f"--mount: invalid value for {name}: {value}", hint="write it as in 1777") from error


def _recursion(found: dict[str, Any], value: str, name: str) -> None:
    """``bind-recursive``: docker's four words for three members."""
    members = {"enabled": None, "disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive",
               "readonly": "ReadOnlyForceRecursive"}  # fmt: skip
    if value not in members:
        wrong = f'invalid value for {name}: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        raise CommandError(f"--mount: {wrong}")
    if (member := members[value]) is not None:
        found.setdefault("BindOptions", {})[member] = True


_GROUPS: Final = (
    ("VolumeOptions", "volume"), ("BindOptions", "bind"), ("TmpfsOptions", "tmpfs"), ("ImageOptions", "image"),
)  # fmt: skip
_FLAGS: Final = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")
_MEMBERS: Final[Mapping[str, _Setter]] = {
    "type": _type,
    "source": _source,
    "src": _source,
    "target": _set("Target"),
    "dst": _set("Target"),
    "destination": _set("Target"),
    "readonly": _boolean("ReadOnly"),
    "ro": _boolean("ReadOnly"),
    "consistency": _set("Consistency"),
    "bind-propagation": _in("BindOptions", "Propagation"),
    "bind-nonrecursive": _boolean("NonRecursive", "BindOptions"),
    "bind-recursive": _recursion,
    "bind-create-src": _boolean("CreateMountpoint", "BindOptions"),
    "volume-subpath": _in("VolumeOptions", "Subpath"),
    "volume-nocopy": _boolean("NoCopy", "VolumeOptions"),
    "volume-label": _label,
    "volume-driver": _driver,
    "volume-opt": _driver_option,
    "image-subpath": _in("ImageOptions", "Subpath"),
    "tmpfs-size": _tmpfs_size,
    "tmpfs-mode": _tmpfs_mode,
}
