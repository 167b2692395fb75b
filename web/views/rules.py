"""The rules of a repository of images, for programs: what holds, where it comes from, choosing what is left open."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from pipelines.errors import ConflictError
from registry.server.settings import EDITABLE, Policy, Retention, is_set
from web.backing import registry
from web.calls import Call
from web.endpoints import Api
from web.errors import ForbiddenError
from web.imagerules import check_chosen, may_choose, save
from web.views.images import Repository, translated

api: Final = Api("images")

Origin: TypeAlias = Literal["file", "chosen", "default"]
_LEAVE_OUT: Final = "leave it out, or send the same"
_NONE: Final = {404: "There is no such repository, or this web process has no registry"}
_Pattern: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class TagRetention(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which tags stay: those that any of these keeps.

    keep_last: so many of the newest.
    keep_days: those moved within so many days.
    keep_tags: those that fit one of these patterns.
    tags: patterns of those that the rule is about; all others stay.
    """

    keep_last: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | None = None
    keep_days: Annotated[float, msgspec.Meta(ge=0, le=36_500)] | None = None
    keep_tags: Annotated[tuple[_Pattern, ...], msgspec.Meta(max_length=50)] = ()
    tags: Annotated[tuple[_Pattern, ...], msgspec.Meta(min_length=1, max_length=50)] = ("*",)


class RuleSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of a repository.

    quota_bytes: of distinct content; null: no bound.
    immutable_tags: patterns of tags that never move or go.
    untagged_days: after so long what nothing leads to is collected; null: never.
    retention: which tags stay; null: all.
    """

    quota_bytes: Annotated[int, msgspec.Meta(ge=0, le=2**60)] | None = None
    immutable_tags: Annotated[tuple[_Pattern, ...], msgspec.Meta(max_length=50)] = ()
    untagged_days: Annotated[float, msgspec.Meta(ge=0, le=36_500)] | None = None
    retention: TagRetention | None = None


class RulesView(msgspec.Struct, frozen=True):
    """What holds for a repository.

    origins: of each rule, where it comes from: the service's file, what somebody chose for this repository, neither.
    pattern: of the file's rules that are for it; "*" without any.
    mirror: of the file; empty for none.
    """

    repository: str
    rules: RuleSet
    origins: dict[str, Origin]
    pattern: str
    mirror: str


@api.endpoint("GET", "/images/{repository}/-/rules", scope="read", errors=_NONE)
def show_rules(call: Call, repository: Repository) -> RulesView:
    """Show which rules hold for a repository, and where each comes from. The repository need not be there yet."""
    del call
    with translated(repository):
        return _view(repository)


@api.endpoint(
    "PUT", "/images/{repository}/-/rules", scope="maintain",
    errors={**_NONE, 409: "The service's file says something else, or the repository is the service's own"},
)  # fmt: skip
def put_rules(call: Call, repository: Repository, body: RuleSet) -> RulesView:
    """Choose the rules of a repository: all of those that the service's file leaves open.

    The quota is an administrator's of the service to choose. What others send without it leaves it as it is.
    """
    check_chosen(repository)
    fixed, before = registry().settings.fixed(repository), registry().rules.of(repository) or Policy(repository)
    wanted = _policy(repository, body)
    for name in EDITABLE:
        if is_set(fixed, name):
            if getattr(wanted, name) not in (None, (), getattr(fixed, name)):
                told = f"registry.toml says {name} for {fixed.pattern}, and it counts"
                raise ConflictError(told, hint=_LEAVE_OUT)
            wanted = replace(wanted, **{name: getattr(before, name)})
        elif not may_choose(call.rights, name, repository):
            if getattr(wanted, name) not in (None, (), getattr(before, name)):
                raise ForbiddenError(f"{name} is an administrator's to choose", hint=_LEAVE_OUT)
            wanted = replace(wanted, **{name: getattr(before, name)})
    with translated(repository):
        save(repository, wanted, call.actor)
    return _view(repository)


def rules_of(policy: Policy) -> RuleSet:
    """A policy's rules."""
    kept = policy.retention
    return RuleSet(
        policy.quota_bytes,
        policy.immutable_tags,
        policy.untagged_days,
        None if kept is None else TagRetention(kept.keep_last, kept.keep_days, kept.keep_tags, kept.tags),
    )


def _view(repository: str) -> RulesView:
    settings, chosen = registry().settings, registry().rules.of(repository) or Policy(repository)
    fixed = settings.fixed(repository)
    origins: dict[str, Origin] = {
        name: "file" if is_set(fixed, name) else "chosen" if is_set(chosen, name) else "default" for name in EDITABLE
    }
    return RulesView(repository, rules_of(settings.policy(repository)), origins, fixed.pattern, fixed.mirror)


def _policy(repository: str, body: RuleSet) -> Policy:
    kept = body.retention
    retention = None
    if kept is not None:
        retention = Retention(kept.keep_last, kept.keep_days, kept.keep_tags, kept.tags)
    return Policy(repository, body.quota_bytes, body.immutable_tags, body.untagged_days, retention)
