"""Addresses of repositories: when two mean the same one, and how a forge's API calls it."""

from __future__ import annotations

from urllib.parse import urlsplit


def repository_key(url: str) -> tuple[str, str]:
    """Host and path by which addresses of one repository are equal, whatever their scheme, user and port."""
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
