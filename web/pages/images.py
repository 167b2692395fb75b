"""Images in the registry: repositories, and the tags of one; deleting some of these. ``image`` shows an image."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from flask import Blueprint, Response, g, redirect, request

from images.errors import ImagesError
from pipelines.errors import ConflictError, InvalidRequestError, NotFoundError
from pipelines.owning.ownership import is_cache, is_outputs
from registry.server.browse import parse_reference
from registry.server.errors import SpecError
from registry.server.survey import ListedManifest
from web.backing import browser, registry, service
from web.guard import note, require
from web.guard.rights import may_repository, readable
from web.pages.frame import page
from web.pages.trail import makers_of

blueprint: Final = Blueprint("image_pages", __name__)

_REPOSITORIES: Final = 100
_TAGS: Final = 50
_MOST_DELETED: Final = 500


@blueprint.get("/images")
def list_repositories() -> Response:
    """The repositories of images by name; those in which the service keeps things of its own only on request."""
    text, after = (request.args.get(name, "").strip().lower()[:255] for name in ("text", "after"))
    wants_internal = "internal" in request.args
    hidden = 0
    if wants_internal or not g.rights.may_everywhere("read"):
        seen = list(readable(service(), g.rights, browser().names()))
    else:  # each fork's pull request has one of those that are hidden
        seen, hidden = browser().shown_names()
    internal = [name for name in seen if is_internal(name)]
    wanted = internal if wants_internal else [name for name in seen if not is_internal(name)]
    found = [name for name in wanted if text in name and name > after][: _REPOSITORIES + 1]
    query = {"text": text, **({"internal": "1"} if wants_internal else {})}
    return page(
        "images.html",
        repositories=browser().summaries(found[:_REPOSITORIES]),
        text=text,
        shows_internal=wants_internal,
        internal=len(internal) + hidden,
        others=len(seen) - len(internal),
        more=urlencode({**query, "after": found[_REPOSITORIES - 1]}) if len(found) > _REPOSITORIES else "",
        notice=_notice(),
    )


@blueprint.get("/images/<path:repository>")
def show_repository(repository: str) -> Response:
    """The tags of a repository, the newest first; or the manifests that nothing leads to."""
    text, after = request.args.get("text", "").strip()[:128], request.args.get("after", "")[:200]
    wants_untagged = "untagged" in request.args
    with translated():
        tags, untagged = browser().counts(repository)
        if wants_untagged:
            found = browser().untagged(repository, after=after, limit=_TAGS + 1)
        else:
            found = browser().tags(repository, text=text, after=after, limit=_TAGS + 1)
        rows = _rows(repository, found[:_TAGS])
    query = {"text": text, **({"untagged": "1"} if wants_untagged else {})}
    policy = registry().settings.policy(repository)
    return page(
        "repository.html",
        repository=repository,
        rows=rows,
        tags=tags,
        untagged=untagged,
        shows_untagged=wants_untagged,
        text=text,
        more=urlencode({**query, "after": found[_TAGS - 1].cursor}) if len(found) > _TAGS else "",
        policy=policy,
        used=browser().summaries([repository])[0].size_bytes,
        may_delete=not registry().settings.is_hidden(repository)
        and may_repository(service(), g.rights, "maintain", repository),
        notice=_notice(),
        notice_stays=request.args.get("refused", "0") != "0",
    )


@blueprint.post("/images/<path:repository>/-/-/delete")
@require("maintainer")
def delete_many(repository: str) -> Response:
    """Take tags away, or manifests that nothing leads to: asks first, and shows which of them may not go."""
    _refuse_hidden(repository)
    names = list(dict.fromkeys(request.form.getlist("chosen")))[:_MOST_DELETED]
    with translated():
        references = [parse_reference(name) for name in names]
        if not names:
            raise InvalidRequestError("no tag was chosen", hint="go back, and tick those that are to go")
        if "sure" not in request.form:
            policy = registry().settings.policy(repository)
            fixed = [name for name in names if ":" not in name and policy.is_immutable(name)]
            return page(
                "images_delete.html",
                repository=repository,
                going=[name for name in names if name not in fixed],
                fixed=fixed,
                patterns=policy.immutable_tags,
            )
        done = registry().manifests.delete_all(repository, references)
    shown = " ".join(str(each) for each in done.gone)
    refused = f"; {len(done.refused)} may not go" if done.refused else ""
    note(service(), "delete images", f"repository={repository}", f"{shown[:1500]}{refused}")
    query = {"gone": len(done.gone), "refused": len(done.refused), "missing": len(done.missing)}
    return _to(f"/images/{repository}?{urlencode(query)}" if _has_tags(repository) else "/images?done=deleted")


@blueprint.post("/images/<path:repository>/-/<reference>/delete")
@require("maintainer")
def delete(repository: str, reference: str) -> Response:
    """Take a tag away, or a manifest with all its tags."""
    _refuse_hidden(repository)
    with translated():
        registry().manifests.delete(repository, parse_reference(reference))
    return _to(f"/images/{repository}?done=deleted" if _has_tags(repository) else "/images?done=deleted")


def _refuse_hidden(repository: str) -> None:
    """Raise ConflictError for what jobs output: the service lets it go when no run needs it."""
    if registry().settings.is_hidden(repository):
        raise ConflictError(f"{repository} belongs to the service, which decides what stays there")


def is_internal(repository: str) -> bool:
    """Whether the service keeps caches of builds there, or what jobs output."""
    return is_cache(repository) or is_outputs(repository)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the registry's errors into this room's."""
    try:
        yield
    except SpecError as error:
        if error.status == 404:
            raise NotFoundError(error.message) from error
        if error.status == 409:
            raise ConflictError(error.message) from error
        raise InvalidRequestError(error.message) from error
    except ImagesError as error:
        raise InvalidRequestError(error.message, hint=error.hint) from error


def _rows(repository: str, found: Sequence[ListedManifest]) -> list[dict[str, Any]]:
    """What a row of the table shows of each."""
    makers = makers_of(repository, list({each.manifest.digest for each in found}))
    policy = registry().settings.policy(repository)
    return [
        {
            "tag": each.tag,
            "digest": each.manifest.digest,
            "reference": each.tag or each.manifest.digest,
            "at": each.at,
            "facts": browser().facts.of(repository, each.manifest),
            "maker": makers.get(each.manifest.digest),
            "is_immutable": bool(each.tag) and policy.is_immutable(each.tag),
        }
        for each in found
    ]


def _has_tags(repository: str) -> bool:
    with contextlib.suppress(SpecError):
        return browser().counts(repository)[0] > 0
    return False


def _notice() -> str | None:
    if "done" in request.args:
        return "It was deleted. Its space is free after the next garbage collection."
    counts = {name: request.args.get(name, "") for name in ("gone", "refused", "missing")}
    if not all(count.isdigit() for count in counts.values()):
        return None
    gone, refused, missing = (int(count[:6]) for count in counts.values())
    parts = [f"{gone:,} deleted; their space is free after the next garbage collection"] if gone else []
    parts += [f"{refused:,} may not be deleted: immutable tags lead there"] if refused else []
    parts += [f"{missing:,} had gone already"] if missing else []
    return ". ".join(parts) + "." if parts else None


def _to(address: str) -> Response:
    response = redirect(address, 303)
    assert isinstance(response, Response)
    return response
