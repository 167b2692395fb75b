"""``shiplap registry ls``."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from cli.listing import Listing, Row, format_option
from cli.options import json_option
from cli.progress.text import size_text
from cli.remote.choice import chosen_server, host_option
from cli.table import print_json, rfc3339


class _Repository(NamedTuple):
    name: str
    tags: int
    size_bytes: int


class _Tag(NamedTuple):
    name: str
    digest: str
    updated_at: float


_REPOSITORIES = Listing(
    {"Name": "REPOSITORY", "Tags": "TAGS", "Size": "SIZE", "SizeBytes": "BYTES"},
    ("Name", "Tags", "Size"),
    "Name",
    "repository",
    least=0,
)
_TAGS = Listing(
    {"Name": "TAG", "Digest": "DIGEST", "UpdatedAt": "UPDATED"}, ("Name", "Digest", "UpdatedAt"), "Name", "tag", least=0
)


@click.command("ls")
@click.argument("repository", required=False)
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@format_option
@json_option
@click.pass_obj
def command(root: str | None, *, repository: str | None, quiet: bool, form: str, as_json: bool) -> None:
    """List repositories, with their tags and sizes.

    With REPOSITORY, its tags and what they point to. Where a build service is chosen, its registry's.
    """
    (_REPOSITORIES if repository is None else _TAGS).check(form)
    url = chosen_server()
    if repository is None:
        repositories = _repositories(root) if url is None else _repositories_there(root)
        if as_json:
            print_json([{"name": r.name, "tags": r.tags, "size": r.size_bytes} for r in repositories])
            return
        _REPOSITORIES.print(map(_repository_row, repositories), form, quiet=quiet)
        return
    tags = _tags(root, repository) if url is None else _tags_there(root, repository)
    if as_json:
        print_json([{"name": t.name, "digest": t.digest, "updated": rfc3339(t.updated_at)} for t in tags])
        return
    rows: list[Row] = [{"Name": t.name, "Digest": t.digest, "UpdatedAt": rfc3339(t.updated_at)} for t in tags]
    _TAGS.print(rows, form, quiet=quiet)


def _repository_row(found: _Repository) -> Row:
    return {
        "Name": found.name,
        "Tags": str(found.tags),
        "Size": size_text(found.size_bytes),
        "SizeBytes": str(found.size_bytes),
    }


def _repositories(root: str | None) -> list[_Repository]:
    from cli.store import open_store
    from registry.server.survey import list_repositories

    with open_store(root) as store:
        return [_Repository(each.name, each.tags, each.size_bytes) for each in list_repositories(store)]


def _tags(root: str | None, repository: str) -> list[_Tag]:
    from cli.store import open_store
    from registry.server.survey import list_tags

    with open_store(root) as store:
        return [_Tag(tag.name, tag.digest, tag.updated_at) for tag in list_tags(store, repository)]


def _repositories_there(root: str | None) -> list[_Repository]:
    found = _asked(root, "/images", "repositories")
    return [_Repository(each["name"], each["tags"], each["size_bytes"]) for each in found]


def _tags_there(root: str | None, repository: str) -> list[_Tag]:
    from cli.remote.http import segment

    path = "/".join(map(segment, repository.split("/")))
    found = _asked(root, f"/images/{path}/-/tags", "tags")
    return [_Tag(each["name"], each["digest"], each["updated_at"]) for each in found]


def _asked(root: str | None, path: str, member: str) -> list[dict[str, Any]]:
    """All of a list of the service's, part by part."""
    from cli.remote.http import Client
    from cli.remote.servers import required_server

    found: list[dict[str, Any]] = []
    with Client(required_server(host_option(), root)) as client:
        after: str | None = ""
        while after is not None:
            part = client.call("GET", path, query={"limit": "500", "after": after} if after else {"limit": "500"})
            found += part[member]
            after = part["next"]
    return found
