"""The rules of a repository of images: quota, immutable tags, retention, mirror; where each comes from; changing them.

What the file ROOT/serve/registry.toml says stays as it is there: a page says which pattern says it. The rest is chosen
here for the one repository. Who maintains its project chooses what becomes of tags; its quota, which is about
everybody's disk, is an administrator's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Response, g, redirect, request

from pipelines.changes import compared
from pipelines.errors import ConflictError, InvalidRequestError
from registry.server.errors import ServerSettingsError
from registry.server.rules import shown_rules
from registry.server.settings import EDITABLE, Policy, Retention, is_set, parse_size
from web.backing import registry, service
from web.guard import note, require
from web.guard.rights import may_repository
from web.pages.frame import page, told
from web.pages.images import translated

blueprint: Final = Blueprint("image_rules", __name__)

_TAGS: Final = ("immutable_tags", "untagged_days", "retention")
_LONGEST: Final = 4000


@blueprint.get("/images/<path:repository>/-/-/rules")
def show_rules(repository: str) -> Response:
    """The rules, and a form for what may be chosen here."""
    return _form(repository, _shown(registry().rules.of(repository)), notice=_notice())


@blueprint.post("/images/<path:repository>/-/-/rules")
@require("maintainer")
def save_rules(repository: str) -> Response:
    """Choose all that may be chosen by whoever asks; the rest stays."""
    if registry().settings.is_hidden(repository):
        raise ConflictError(f"{repository} belongs to the service, which decides what stays there")
    before = registry().rules.of(repository)
    try:
        wanted = _wanted(repository, request.form, before)
        with translated():
            changed = registry().rules.set(repository, wanted)
    except (InvalidRequestError, ServerSettingsError) as error:
        return _form(repository, dict(request.form), 422, error=told(error))
    if changed.before != changed.after:
        changes = compared(*(_shown(each) for each in (changed.before, changed.after)))
        note(service(), "set image rules", f"repository={repository}", shown_rules(changed.after), changes=changes)
    response = redirect(f"/images/{repository}/-/-/rules?done=saved", 303)
    assert isinstance(response, Response)
    return response


def _form(repository: str, values: Mapping[str, Any], status: int = 200, **more: Any) -> Response:
    settings = registry().settings
    fixed = settings.fixed(repository)
    answer = page(
        "image_rules.html",
        repository=repository,
        policy=settings.policy(repository),
        fixed=fixed,
        is_fixed={name: is_set(fixed, name) for name in EDITABLE},
        is_hidden=settings.is_hidden(repository),
        values=values,
        file=registry().store.root / "serve" / "registry.toml",
        kept_in_words=_kept_in_words,
        may_choose={name: _may(name, repository) for name in EDITABLE},
        **more,
    )
    answer.status_code = status
    return answer


def _may(name: str, repository: str) -> bool:
    return may_repository(service(), g.rights, "maintain" if name in _TAGS else "admin", repository)


def _wanted(repository: str, form: Mapping[str, str], before: Policy | None) -> Policy:
    """What the form says of what its sender may choose. Raises InvalidRequestError, ServerSettingsError."""
    old = before or Policy(repository)
    fixed = registry().settings.fixed(repository)
    chosen = {name: _may(name, repository) and not is_set(fixed, name) for name in EDITABLE}
    quota = form.get("quota", "").strip()
    return Policy(
        repository,
        (parse_size(quota) if quota else None) if chosen["quota_bytes"] else old.quota_bytes,
        _words(form, "immutable_tags") if chosen["immutable_tags"] else old.immutable_tags,
        _number(form, "untagged_days") if chosen["untagged_days"] else old.untagged_days,
        _retention(form) if chosen["retention"] else old.retention,
    )


def _retention(form: Mapping[str, str]) -> Retention | None:
    last, days = _number(form, "keep_last"), _number(form, "keep_days")
    patterns, meant = _words(form, "keep_tags"), _words(form, "tags")
    if last is None and days is None and not patterns:
        return None
    if last is not None and not last.is_integer():
        raise InvalidRequestError(f"{last} is no number of tags")
    return Retention(None if last is None else int(last), days, patterns, meant or ("*",))


def _words(form: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(form.get(name, "")[:_LONGEST].replace(",", " ").split()))


def _number(form: Mapping[str, str], name: str) -> float | None:
    text = form.get(name, "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise InvalidRequestError(f"{text[:40]!r} is no number") from None


def _shown(policy: Policy | None) -> dict[str, str]:
    """The values of the form."""
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


def _kept_in_words(kept: Retention | None) -> str:
    if kept is None:
        return "all tags stay"
    parts = [f"the newest {kept.keep_last}"] if kept.keep_last is not None else []
    parts += [f"those of the last {kept.keep_days:g} days"] if kept.keep_days is not None else []
    parts += [", ".join(kept.keep_tags)] if kept.keep_tags else []
    about = "" if kept.tags == ("*",) else f"of {', '.join(kept.tags)} "
    return f"{about}stay {' and '.join(parts)}"


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _size(size_bytes: int) -> str:
    """As ``parse_size`` reads it, to the byte."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB")):
        if size_bytes and not size_bytes % (1 << shift):
            return f"{size_bytes >> shift} {unit}"
    return str(size_bytes)


def _notice() -> str | None:
    return "The rules are saved, and hold from now on." if request.args.get("done") == "saved" else None
