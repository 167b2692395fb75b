"""The rules of a repository of images: quota, immutable tags, retention, mirror; where each comes from; changing them.

What the file ROOT/serve/registry.toml says stays as it is there: a page says which pattern says it. The rest is chosen
here for the one repository; ``web.imagerules`` says by whom.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flask import Blueprint, Response, g, redirect, request

from pipelines.errors import InvalidRequestError
from registry.server.errors import ServerSettingsError
from registry.server.settings import EDITABLE, Policy, Retention, is_set, parse_size
from web.backing import registry
from web.guard import require
from web.imagerules import as_texts, check_chosen, may_choose, open_to, save
from web.pages.frame import page, told
from web.pages.images import translated

blueprint: Final = Blueprint("image_rules", __name__)

_LONGEST: Final = 4000


@blueprint.get("/images/<path:repository>/-/-/rules")
def show_rules(repository: str) -> Response:
    """The rules, and a form for what may be chosen here."""
    return _form(repository, as_texts(registry().rules.of(repository)), notice=_notice())


@blueprint.post("/images/<path:repository>/-/-/rules")
@require("maintainer")
def save_rules(repository: str) -> Response:
    """Choose all that may be chosen by whoever asks; the rest stays."""
    check_chosen(repository)
    before = registry().rules.of(repository)
    try:
        wanted = _wanted(repository, request.form, before)
        with translated():
            save(repository, wanted)
    except (InvalidRequestError, ServerSettingsError) as error:
        return _form(repository, dict(request.form), 422, error=told(error))
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
        may_choose={name: may_choose(g.rights, name, repository) for name in EDITABLE},
        **more,
    )
    answer.status_code = status
    return answer


def _wanted(repository: str, form: Mapping[str, str], before: Policy | None) -> Policy:
    """What the form says of what its sender may choose. Raises InvalidRequestError, ServerSettingsError."""
    old = before or Policy(repository)
    chosen = open_to(g.rights, repository)
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


def _kept_in_words(kept: Retention | None) -> str:
    if kept is None:
        return "all tags stay"
    parts = [f"the newest {kept.keep_last}"] if kept.keep_last is not None else []
    parts += [f"those of the last {kept.keep_days:g} days"] if kept.keep_days is not None else []
    parts += [", ".join(kept.keep_tags)] if kept.keep_tags else []
    about = "" if kept.tags == ("*",) else f"of {', '.join(kept.tags)} "
    return f"{about}stay {' and '.join(parts)}"


def _notice() -> str | None:
    return "The rules are saved, and hold from now on." if request.args.get("done") == "saved" else None
