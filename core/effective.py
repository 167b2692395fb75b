"""The settings that are in force in this process, and where each comes from. What is secret is only said to be set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

from core.settings import variables_that_are_set
from core.variables import GROUPS, Group, Variable

Origin: TypeAlias = Literal["default", "variable", "file"]

_OF_SERVICE: Final = ("serve", "web", "worker")
_LINK: Final = re.compile(r"\[([^]]*)\]\([^)]*\)")
_MARKUP: Final = re.compile(r"`|(?<!`)\*(?=\w)|(?<=\w)\*(?!`)")
_SET: Final = "set"


class EffectiveSetting(NamedTuple):
    """A setting.

    value: what counts; "set" for a secret; of a default, what the documents say; "" for nothing.
    origin: where the value comes from. place: the file that it was read from, else "".
    """

    name: str
    meaning: str
    value: str
    origin: Origin
    place: str = ""


class EffectiveGroup(NamedTuple):
    """Settings under one heading, as docs/settings.md has them."""

    title: str
    settings: tuple[EffectiveSetting, ...]


def effective_settings(
    defaults: Mapping[str, str], read: Callable[[Iterable[str]], dict[str, str]] = variables_that_are_set
) -> list[EffectiveGroup]:
    """The settings that a service reads, as this process has them.

    defaults: what counts by default, by name, where more is known than the documents say.
    read: the variables that are set.
    """
    groups = [group for group in GROUPS if any(map(_concerns, group.variables))]
    return [EffectiveGroup(group.title, tuple(_settings(group, defaults, read))) for group in groups]


def without_password(url: str) -> str:
    """The address in a URL: no user, no password, and no query, for passwords may stand there, too.

    "set" for what is not quite a URL, such as USER:PASSWORD@HOST: nobody knows where a password stands in it.
    """
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if parts.hostname and ":" in parts.hostname else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return _SET
    is_url = parts.scheme and url.lower().startswith(f"{parts.scheme}://") and "@" not in parts.path
    return f"{parts.scheme}://{host}{port}{parts.path}" if is_url else _SET


def _concerns(variable: Variable) -> bool:
    """Whether the service reads it, and not only commands, units, or every program."""
    is_ours = variable.name.startswith(("SHIPLAP_", "DOCKER_")) or "proxy" in variable.name.lower()
    readers = [reader.strip() for reader in variable.readers.split(",")]
    return is_ours and (variable.name == "SHIPLAP_ROOT" or any(reader in readers for reader in _OF_SERVICE))


def _settings(
    group: Group, defaults: Mapping[str, str], read: Callable[[Iterable[str]], dict[str, str]]
) -> Iterable[EffectiveSetting]:
    for variable in filter(_concerns, group.variables):
        name, from_file = variable.name, f"{variable.name}_FILE"
        found = read((name, from_file) if variable.in_file else (name,))
        meaning = _plain(variable.meaning)
        default = defaults.get(name, "")
        if name in found and found[name] != default:
            yield EffectiveSetting(name, meaning, _shown(variable, found[name]), "variable")
        elif from_file in found and name not in found:
            yield EffectiveSetting(name, meaning, _SET, "file", found[from_file])
        else:
            yield EffectiveSetting(name, meaning, default or _plain(variable.default), "default")


def _shown(variable: Variable, value: str) -> str:
    if variable.hides == "all":
        return _SET
    return without_password(value) if variable.hides == "password" else value


def _plain(markdown: str) -> str:
    return _MARKUP.sub("", _LINK.sub(r"\1", markdown))
