"""Default names: the tags that an image gets beside its run's number, unless somebody chose others.

They are a branch's name, ``latest`` for the default branch, a version and its shorter forms, ``sha-COMMIT``, ``pr-N``.
An author's name for a branch must not decide what a tag stands for. So a branch whose name looks like another kind of
tag gets digits of its hash.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

import msgspec

from core.references import Reference
from pipelines.projects.tags import TagFacts, fit_for_tag, has_defaults, image_names

COMMIT_OWNER: Final = "commit "
"""The prefix of ``Wanted.owner`` for tags of single commits."""

_DIGITS: Final = 7
_SHOWN: Final = 40
"""How many characters of a branch stand in front of a tag."""

_VERSION: Final = re.compile(r"v?((?:0|[1-9]\d{0,8})(?:\.(?:0|[1-9]\d{0,8})){0,2})", re.ASCII)
_PRERELEASE: Final = re.compile(r"v?(\d{1,9}\.\d{1,9}\.\d{1,9}-[0-9A-Za-z.-]{1,80})", re.ASCII)
_OTHERS: Final = re.compile(rf"latest|\d.*|(pr|run)-\d+|sha-.*|.*-[0-9a-f]{{{_DIGITS}}}", re.IGNORECASE)


class Origin(msgspec.Struct, frozen=True):
    """The origin of what a run builds, as far as the service can show it; empty where it cannot.

    branch, tag: in the project's own repository.
    is_default: whether the branch is the default one.
    pull_request: from the project's own repository; 0 for none.
    commit: the full id.
    """

    branch: str = ""
    is_default: bool = False
    tag: str = ""
    pull_request: int = 0
    commit: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """A tag, and what it stands for: ``branch main``, ``version 1.2.3``. Only the same thing may take it over."""

    tag: str
    owner: str


def default_tags(origin: Origin) -> tuple[Wanted, ...]:
    """The tags that the image may have beside its number."""
    found: list[Wanted] = []
    if origin.branch:
        found.append(Wanted(branch_tag(origin.branch), f"branch {origin.branch}"))
        if origin.is_default:
            found.append(Wanted("latest", "default"))
    if origin.pull_request:
        found.append(Wanted(f"pr-{origin.pull_request}", f"pull request {origin.pull_request}"))
    version = version_of(origin.tag)
    if "-" in version:
        found.append(Wanted(version, f"pre-release {version}"))
    elif version:
        parts = version.split(".")
        found += [Wanted(".".join(parts[:count]), f"version {version}") for count in range(len(parts), 0, -1)]
    if origin.commit:
        found.append(Wanted(f"sha-{origin.commit[:12]}", f"{COMMIT_OWNER}{origin.commit}"))
    return tuple(found)


def version_of(tag: str) -> str:
    """``1.2.3`` of the tag v1.2.3, ``1.2.3-rc.1`` of v1.2.3-rc.1; empty for a tag that is no version."""
    found = _VERSION.fullmatch(tag) or _PRERELEASE.fullmatch(tag)
    return found[1] if found else ""


def named(facts: TagFacts, tags: Iterable[str]) -> tuple[Reference, ...]:
    """The project's images with these tags; none without a registry."""
    if not facts.registry:
        return ()
    return tuple(Reference.parse(f"{facts.registry}/{facts.project}:{tag}") for tag in tags)


def all_names(template: str, facts: TagFacts, origin: Origin) -> tuple[Reference, ...]:
    """All names that a run gets if no newer run has them. Raises InvalidRequestError."""
    found = image_names(template, facts)
    if not has_defaults(template):
        return found
    return (*found, *named(facts, (each.tag for each in default_tags(origin))))


def branch_tag(branch: str) -> str:
    """The tag of a branch: its name if no other kind of tag can have that name, else with digits of its hash."""
    name = fit_for_tag(branch)
    if name == branch and not name.startswith("_") and not _OTHERS.fullmatch(name):
        return name
    digest = hashlib.sha256(branch.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
    prefix = "branch" if not name or name[0].isdigit() else ""
    return "-".join(part for part in (prefix, name, digest) if part)


def behind_branch(branch: str, tag: str) -> str:
    """A tag that the file of a branch asks for, as others than the protected ones get it: with the branch in front.

    The digits of the branch's hash are always there. Else the branch ``sha`` could take the name of a protected commit,
    and the branch ``release`` with the tag 1.0 the one that the default branch calls release-1.0.
    """
    digest = hashlib.sha256(branch.encode("utf-8", "surrogateescape")).hexdigest()[:_DIGITS]
    return "-".join(part for part in (fit_for_tag(branch)[:_SHOWN].lstrip("_"), digest, tag) if part)


def may_replace(wanted: str, run: int, held: str, holder: int) -> bool:
    """Whether ``run`` may take a tag from ``holder``: it must be newer, and have built the same thing."""
    if wanted.startswith("version ") and held.startswith("version "):
        return (_precedence(wanted), run) >= (_precedence(held), holder)
    return wanted == held and run >= holder


def _precedence(owner: str) -> tuple[int, ...]:
    numbers = [int(part) for part in owner.removeprefix("version ").split(".")]
    return (*numbers, 0, 0)[:3]
