"""Rules of single repositories that somebody chose while the server runs, beside those of the file.

They are rows of the registry's database: all processes read the same ones, at once, and a change is one commit. The
file wins, member by member: where its first fitting pattern says anything of quotas, immutable tags, untagged manifests
or retention, what was chosen here has no effect (``ServerSettings.policy``). Mirrors are chosen in the file alone: they
let strangers' content in.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Final

import msgspec

from registry.errors import ErrorCode
from registry.server.errors import SpecError
from registry.server.rows import Rows
from registry.server.settings import Policy, Retention

_MAX_PATTERNS: Final = 50
_PATTERN: Final = re.compile(r"[A-Za-z0-9_.\-*?\[\]!]{1,128}")
_MAX_DAYS: Final = 36500.0
_MAX_COUNT: Final = 1_000_000
_MAX_BYTES: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change did. None: there were, or are, no rules."""

    before: Policy | None
    after: Policy | None


class Rules:
    """The rules of repositories that were chosen on pages. Thread-safe."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def of(self, repository: str) -> Policy | None:
        """What was chosen for a repository; None: nothing."""
        row = self._rows.one("SELECT document FROM registry_rules WHERE repository = ?", (repository,))
        return _policy(repository, row[0]) if row is not None else None

    def all(self) -> list[Policy]:
        """All that was chosen, by repository."""
        rows = self._rows.all("SELECT repository, document FROM registry_rules ORDER BY repository")
        return [_policy(*row) for row in rows]

    def set(self, repository: str, wanted: Policy) -> Changed:
        """Choose, for this repository alone. Raises SpecError 400 for rules that nobody can mean.

        The members that are in ``settings.EDITABLE`` count. Without any, there are no rules any more.
        """
        _check(wanted)
        after = _document(wanted)
        with self._rows.transaction() as connection:
            row = connection.execute(
                "SELECT document FROM registry_rules WHERE repository = ?", (repository,)
            ).fetchone()
            if after == _document(Policy(repository)):
                connection.execute("DELETE FROM registry_rules WHERE repository = ?", (repository,))
            else:
                connection.execute("INSERT OR REPLACE INTO registry_rules VALUES (?, ?)", (repository, after))
        before = _policy(repository, row[0]) if row is not None else None
        return Changed(before, self.of(repository))


def shown_rules(policy: Policy | None) -> str:
    """The rules in a line, for the audit trail."""
    if policy is None:
        return "none"
    found = []
    if policy.quota_bytes is not None:
        found.append(f"quota {policy.quota_bytes} bytes")
    if policy.immutable_tags:
        found.append(f"immutable {' '.join(policy.immutable_tags)}")
    if policy.untagged_days is not None:
        found.append(f"untagged go after {policy.untagged_days:g} days")
    if policy.retention is not None:
        its = policy.retention
        kept = [f"the last {its.keep_last}"] if its.keep_last is not None else []
        kept += [f"{its.keep_days:g} days"] if its.keep_days is not None else []
        kept += list(its.keep_tags)
        found.append(f"of tags {' '.join(its.tags)} keep {', '.join(kept)}")
    return "; ".join(found) or "none"


def check_document(document: str) -> None:
    """Check what a row is to have that comes from elsewhere. Raises SpecError 400."""
    try:
        _check(_policy("", document))
    except msgspec.MsgspecError as error:
        raise _refused(f"the rules of a repository cannot be read: {error}") from error


def _check(wanted: Policy) -> None:
    patterns = list(wanted.immutable_tags)
    _check_number("the quota", wanted.quota_bytes, _MAX_BYTES)
    _check_number("the days of untagged manifests", wanted.untagged_days, _MAX_DAYS)
    if wanted.retention is not None:
        its = wanted.retention
        patterns += [*its.keep_tags, *its.tags]
        _check_number("how many tags are kept", its.keep_last, _MAX_COUNT)
        _check_number("the days that tags are kept", its.keep_days, _MAX_DAYS)
        if not its.keep_last and not its.keep_days and not its.keep_tags:
            raise _refused("retention without a rule would remove every tag; say how many are kept, or for how long")
        if not its.tags:
            raise _refused("retention is about no tags; * is all of them")
    if len(patterns) > _MAX_PATTERNS:
        raise _refused(f"at most {_MAX_PATTERNS} patterns, these are {len(patterns)}")
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise _refused(f"{pattern[:60]!r} is no pattern of tags; write v*, or a name")


def _check_number(what: str, value: float | None, most: float) -> None:
    if value is not None and not (math.isfinite(value) and 0 <= value <= most):
        raise _refused(f"{what}: {value} is not within 0 and {most:g}")


def _refused(message: str) -> SpecError:
    return SpecError(400, ErrorCode.UNSUPPORTED, message)


class _Rules(msgspec.Struct, frozen=True, omit_defaults=True):
    """As a row has them. What a newer Shiplap adds is left unread."""

    quota_bytes: int | None = None
    immutable_tags: tuple[str, ...] = ()
    untagged_days: float | None = None
    retention: _Retention | None = None


class _Retention(msgspec.Struct, frozen=True, omit_defaults=True):
    keep_last: int | None = None
    keep_days: float | None = None
    keep_tags: tuple[str, ...] = ()
    tags: tuple[str, ...] = ("*",)


_documents: Final = msgspec.json.Decoder(_Rules)


def _document(policy: Policy) -> str:
    retention = None if policy.retention is None else _Retention(**asdict(policy.retention))
    found = _Rules(policy.quota_bytes, policy.immutable_tags, policy.untagged_days, retention)
    return msgspec.json.encode(found).decode()


def _policy(repository: str, document: str) -> Policy:
    found = _documents.decode(document)
    kept = found.retention
    retention = None if kept is None else Retention(kept.keep_last, kept.keep_days, kept.keep_tags, kept.tags)
    return Policy(repository, found.quota_bytes, found.immutable_tags, found.untagged_days, retention)
