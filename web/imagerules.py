"""The rules of a repository of images as somebody chooses them, by a page or the API: who may choose what, and saving.

What the file ROOT/serve/registry.toml says stays as it is there. Who maintains the repository's project chooses what
becomes of tags; its quota, which is about everybody's disk, is an administrator's.
"""

from __future__ import annotations

from typing import Final

from pipelines.accounts.roles import Rights
from pipelines.changes import compared
from pipelines.errors import ConflictError
from registry.server.rules import Changed, shown_rules
from registry.server.settings import EDITABLE, Policy, Retention, is_set
from web.backing import registry, service
from web.guard import note
from web.guard.rights import may_repository

_TAGS: Final = ("immutable_tags", "untagged_days", "retention")


def may_choose(rights: Rights, name: str, repository: str) -> bool:
    """Whether the rights allow choosing this one of ``EDITABLE``."""
    return may_repository(service(), rights, "maintain" if name in _TAGS else "admin", repository)


def open_to(rights: Rights, repository: str) -> dict[str, bool]:
    """Of each of ``EDITABLE``, whether it may be chosen: the file leaves it open, and the rights allow it."""
    fixed = registry().settings.fixed(repository)
    return {name: may_choose(rights, name, repository) and not is_set(fixed, name) for name in EDITABLE}


def check_chosen(repository: str) -> None:
    """Raises ConflictError for a repository that is the service's own."""
    if registry().settings.is_hidden(repository):
        raise ConflictError(f"{repository} belongs to the service, which decides what stays there")


def save(repository: str, wanted: Policy, actor: str | None = None) -> Changed:
    """Choose the rules, and note what that changed. actor: who does it; None: the session's user. Raises SpecError."""
    changed = registry().rules.set(repository, wanted)
    if changed.before != changed.after:
        changes = compared(*(as_texts(each) for each in (changed.before, changed.after)))
        told = shown_rules(changed.after)
        note(service(), "set image rules", f"repository={repository}", told, actor=actor, changes=changes)
    return changed


def as_texts(policy: Policy | None) -> dict[str, str]:
    """The rules as a form has them."""
    found = policy or Policy("")
    kept = found.retention or Retention()
    return {
        "quota": "" if found.quota_bytes is None else _size(found.quota_bytes),
        "immutable_tags": " ".join(found.immutable_tags),
        "untagged_days": _plain(found.untagged_days),
        "keep_last": _plain(kept.keep_last),
        "keep_days": _plain(kept.keep_days),
        "keep_tags": " ".join(kept.keep_tags),
        "tags": "" if kept.tags == ("*",) else " ".join(kept.tags),
    }


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.12g}"


def _size(size_bytes: int) -> str:
    """As ``parse_size`` reads it, to the byte."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size_bytes and not size_bytes % (1 << shift):
            return f"{size_bytes >> shift} {unit}"
    return str(size_bytes)
