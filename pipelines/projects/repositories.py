"""Addresses of repositories: when two mean the same one, and how a forge's API calls it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from pipelines.forges.events import ForgeName

_FORGES: Final[Mapping[str, ForgeName]] = {
    "github.com": "github",
    "gitlab.com": "gitlab",
    "bitbucket.org": "bitbucket",
    "codeberg.org": "forgejo",
    "gitea.com": "gitea",
}


def repository_key(url: str) -> tuple[str, str]:
    """Host and path of a repository: the same for all of its addresses, whatever their scheme, user and port."""
    if "://" not in url and ":" in url:
        host, _, path = url.partition(":")
        url = f"ssh://{host}/{path}"
    parts = urlsplit(url)
    path = parts.path.strip("/").removesuffix(".git").strip("/")
    return (parts.hostname or "").lower(), path.lower()


def repository_path(url: str) -> str:
    """``owner/name`` of a repository's URL, as forges' APIs want it."""
    if "://" not in url and ":" in url:
        url = "ssh://host/" + url.partition(":")[2]
    return urlsplit(url).path.strip("/").removesuffix(".git").strip("/")


def known_forge(url: str) -> ForgeName | None:
    """The forge of the repository, for well-known hosts."""
    return _FORGES.get(repository_key(url)[0])
