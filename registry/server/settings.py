"""What an administrator may choose, as values; and the TOML file that it is read from.

anonymous_pull = true
[[repository]]                    # the first whose pattern fits counts
pattern = "team/*"                # * stands for anything, also for slashes
quota = "20 GiB"
immutable_tags = ["v*"]
mirror = "registry.example:5000"  # pull what is not here from there
[repository.retention]
keep_last = 20                    # a tag stays when any of these holds
keep_days = 90
keep_tags = ["latest", "v*"]
tags = ["*"]                      # the others stay
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from core.suggestions import suggestion
from registry.server.errors import ServerSettingsError

Access: TypeAlias = Literal["open", "users", "open-until-users"]

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?", re.IGNORECASE)
_HOUR_S: Final = 3600.0
_DAY_S: Final = 86400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Which tags stay.

    keep_last: so many of the newest.
    keep_days: those moved within so many days.
    keep_tags: those that fit one of these patterns.
    tags: patterns of those that the rule is about and that it counts; all others stay.
    """

    keep_last: int | None = None
    keep_days: float | None = None
    keep_tags: tuple[str, ...] = ()
    tags: tuple[str, ...] = ("*",)


@dataclass(frozen=True, slots=True)
class Policy:
    """Rules for the repositories whose names fit ``pattern``.

    quota_bytes: of distinct content in one repository; None: no limit.
    immutable_tags: patterns of tags that never move or go.
    untagged_days: after so long a manifest that nothing leads to is collected; None: never.
    mirror: HOST[:PORT] or HOST[:PORT]/PREFIX of the registry that has what is not here.
    mirror_fresh_s: how long a tag is served before the registry is asked again.
    """

    pattern: str
    quota_bytes: int | None = None
    immutable_tags: tuple[str, ...] = ()
    untagged_days: float | None = None
    retention: Retention | None = None
    mirror: str = ""
    mirror_fresh_s: float = 300.0

    def is_immutable(self, tag: str) -> bool:
        return any(fnmatchcase(tag, pattern) for pattern in self.immutable_tags)


_NO_RULES: Final = Policy("*")
_NO_SETTINGS: Final = {"access", "other_names", "policies", "hidden", "made"}

EDITABLE: Final = ("quota_bytes", "immutable_tags", "untagged_days", "retention")
"""The members of a ``Policy`` that can be chosen for one repository while the server runs, where the file has none."""


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What holds for the whole server.

    access: "open" lets everyone do everything, "users" asks for credentials, "open-until-users" is open as long as
        there are no users (for loopback).
    anonymous_pull: everyone may pull everything.
    public_url: where clients reach the server; "": where their Host headers say.
    other_names: HOST[:PORT] of others by which some reach it; the answer to them has the name that they used.
    allow_missing: take manifests whose parts are not here (sparse indexes).
    grace_s: how long unreferenced content waits for its manifest.
    upload_expiry_s: since its last byte.
    stalled_s: how long a client may neither send nor take a byte before its connection is closed.
    hidden: what the names of repositories begin with that belong to the program around the registry; "": none do. No
        list shows them, only its own accounts reach them (``access.Accounts``), and it decides what is collected.
    made: gives what was chosen for a repository while the server ran (``rules.Rules``); None: nothing was.
    """

    access: Access = "users"
    anonymous_pull: bool = False
    public_url: str = ""
    other_names: frozenset[str] = frozenset()
    allow_missing: bool = False
    token_lifetime_s: int = 300
    max_manifest_bytes: int = 4 << 20
    max_depth: int = 8
    grace_s: float = 24 * _HOUR_S
    upload_expiry_s: float = 7 * _DAY_S
    collect_every_s: float = _HOUR_S
    stalled_s: float = 120.0
    policies: tuple[Policy, ...] = field(default=())
    hidden: str = ""
    made: Callable[[str], Policy | None] | None = field(default=None, compare=False, repr=False)

    def is_hidden(self, repository: str) -> bool:
        """Whether the repository belongs to the program around the registry."""
        return bool(self.hidden) and repository.startswith(self.hidden)

    @property
    def hidden_range(self) -> tuple[str, str]:
        """The names of hidden repositories: from the first up to, without, the second. Both are empty for none."""
        return (self.hidden, self.hidden[:-1] + chr(ord(self.hidden[-1]) + 1)) if self.hidden else ("", "")

    def policy(self, repository: str) -> Policy:
        """The rules for a repository: of the first pattern of the file that fits; none for a hidden one.

        What that leaves open is as somebody chose it for this repository.
        """
        fixed = self.fixed(repository)
        its = None if self.made is None or self.is_hidden(repository) else self.made(repository)
        if its is None:
            return fixed
        return replace(fixed, **{name: getattr(its, name) for name in EDITABLE if not is_set(fixed, name)})

    def fixed(self, repository: str) -> Policy:
        """The rules of the file for a repository."""
        if self.is_hidden(repository):
            return _NO_RULES
        return next((policy for policy in self.policies if fnmatchcase(repository, policy.pattern)), _NO_RULES)


def is_set(policy: Policy, name: str) -> bool:
    """Whether the policy says anything by this one of ``EDITABLE``."""
    return getattr(policy, name) not in (None, ())


def settings_of(root: Path, *, access: Access) -> ServerSettings:
    """The settings of ROOT/serve/registry.toml, or the defaults without that file. Raises ServerSettingsError."""
    path = root / "serve" / "registry.toml"
    return load_settings(path, access=access) if path.exists() else ServerSettings(access=access)


def load_settings(path: Path, *, access: Access) -> ServerSettings:
    """Read a TOML file; see the module's text. Raises ServerSettingsError naming what is wrong."""
    import tomllib

    try:
        document = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise ServerSettingsError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ServerSettingsError(f"{path}: {error}") from error
    try:
        return settings_from(document, access=access)
    except ServerSettingsError as error:
        raise ServerSettingsError(f"{path}: {error.message}", hint=error.hint) from error


def settings_from(document: Mapping[str, Any], *, access: Access) -> ServerSettings:
    """The settings of a parsed TOML document. Raises ServerSettingsError."""
    plain = {name: value for name, value in document.items() if name != "repository"}
    _check_names(plain, {f.name for f in fields(ServerSettings)} - _NO_SETTINGS, "setting")
    for name, value in plain.items():
        _check_kind(name, value, type(getattr(_DEFAULTS, name)))
    policies = tuple(_policy(entry) for entry in document.get("repository", ()))
    return ServerSettings(access=access, policies=policies, **plain)


def parse_size(text: str | int) -> int:
    """Bytes of ``20 GiB``, ``500MB`` or a number. Raises ServerSettingsError."""
    if isinstance(text, int):
        return text
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ServerSettingsError(f"not a size: {text!r}", hint="write it as 500 MB or 20 GiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " kmgt".index(match[2].lower() or " "))


_DEFAULTS: Final = ServerSettings()


def _policy(entry: Any) -> Policy:
    if not isinstance(entry, dict) or not isinstance(entry.get("pattern"), str):
        raise ServerSettingsError("every [[repository]] needs a pattern", hint='pattern = "*" fits all')
    where = f"repository {entry['pattern']!r}"
    values = dict(entry)
    _check_names(values, {"quota", *(f.name for f in fields(Policy))} - {"quota_bytes"}, where)
    if "quota" in values:
        values["quota_bytes"] = parse_size(values.pop("quota"))
    if "immutable_tags" in values:
        values["immutable_tags"] = _texts(values["immutable_tags"], f"{where}: immutable_tags")
    if "retention" in values:
        rules = dict(values["retention"])
        _check_names(rules, {f.name for f in fields(Retention)}, f"{where}: retention")
        for name in {"keep_tags", "tags"} & rules.keys():
            rules[name] = _texts(rules[name], f"{where}: {name}")
        if not any(rules.get(name) not in (None, ()) for name in ("keep_last", "keep_days", "keep_tags")):
            raise ServerSettingsError(
                f"{where}: retention without a rule would remove every tag", hint="keep_last, keep_days or keep_tags"
            )
        values["retention"] = Retention(**rules)
    return Policy(**values)


def _texts(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ServerSettingsError(f"{where}: expected a list of patterns")
    return tuple(value)


def _check_names(values: Mapping[str, Any], known: set[str], where: str) -> None:
    for name in values:
        if name not in known:
            raise ServerSettingsError(f"{where}: unknown name {name!r}", hint=suggestion(name, known))


def _check_kind(name: str, value: Any, kind: type) -> None:
    good = isinstance(value, int | float) and not isinstance(value, bool) if kind is float else isinstance(value, kind)
    if not good:
        raise ServerSettingsError(f"setting {name}: expected {kind.__name__}, got {value!r}")
