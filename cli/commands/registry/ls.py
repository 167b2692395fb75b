"""``shiplap registry ls``."""

from __future__ import annotations

import click

from cli.options import json_option
from cli.progress.text import size_text
from cli.store import open_store
from cli.table import print_json, print_table, rfc3339


@click.command("ls")
@click.argument("repository", required=False)
@json_option
@click.pass_obj
def command(root: str | None, *, repository: str | None, as_json: bool) -> None:
    """List repositories, with their tags and sizes.

    With REPOSITORY, its tags and what they point to.
    """
    from registry.server.survey import list_repositories, list_tags

    with open_store(root) as store:
        if repository is None:
            repositories = list_repositories(store)
            if as_json:
                print_json([{"name": r.name, "tags": r.tags, "size": r.size_bytes} for r in repositories])
                return
            rows = [(r.name, str(r.tags), size_text(r.size_bytes)) for r in repositories]
            print_table(("REPOSITORY", "TAGS", "SIZE"), rows)
            return
        tags = list_tags(store, repository)
    if as_json:
        print_json([{"name": t.name, "digest": t.digest, "updated": rfc3339(t.updated_at)} for t in tags])
        return
    print_table(("TAG", "DIGEST", "UPDATED"), [(t.name, t.digest, rfc3339(t.updated_at)) for t in tags])
