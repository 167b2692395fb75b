"""The options of ``shiplap project add`` and ``set``: each is a member of the project's settings in the API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.options import pairs

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])
_FORGES = ("github", "gitlab", "gitea", "forgejo", "bitbucket", "plain")
_OWN = ("concurrency", "weight", "tag_template", "keep_runs", "keep_days", "keep_failed")  # the rest are its hook's
_LISTS = ("branches", "tags", "paths")
_READ_ONLY = ("name", "has_webhook_secret", "has_status_token")

_OPTIONS = (
    click.option("--repository", metavar="URL", help="What is cloned: https://HOST/OWNER/NAME.git, or an ssh URL."),
    click.option("--forge", type=click.Choice(_FORGES), help="Whose webhooks come.  [by the host]"),
    click.option("--branch", "branches", multiple=True, metavar="PATTERN", help="Branches to build.  [all]"),
    click.option("--tag", "tags", multiple=True, metavar="PATTERN", help="Tags to build.  [all]"),
    click.option("--path", "paths", multiple=True, metavar="PATTERN", help="Build only if such a file changed.  [all]"),
    click.option("--pull-requests", type=click.Choice(("off", "own", "approve")), help="Forks only with 'approve'."),
    click.option("-f", "--file", metavar="PATH", help="The Dockerfile, in the context."),
    click.option("--context", metavar="DIR", help="The build context, in the repository.  [all of it]"),
    click.option("--target", metavar="STAGE", help="The stage to build."),
    click.option("--build-arg", "build_args", multiple=True, metavar="KEY=VALUE", help="A build argument."),
    click.option("--ssh-key", metavar="SECRET", help="The secret with the deploy key, for an ssh URL."),
    click.option("--known-hosts", type=click.Path(exists=True, dir_okay=False), help="What ssh-keyscan printed."),
    click.option("--cancel-superseded/--no-cancel-superseded", default=None, help="A push ends older runs."),
    click.option("--api-url", metavar="URL", help="Of the forge's API, where it is not as usual."),
    click.option("--status-context", metavar="NAME", help="What the commit's mark is called.  [shiplap]"),
    click.option("--public-badge/--no-public-badge", default=None, help="Who is not signed in sees the badge too."),
    click.option("--concurrency", type=click.IntRange(0), metavar="N", help="Runs at once; 0: no limit."),
    click.option("--weight", type=click.IntRange(1, 1000), metavar="N", help="Of its share of the workers.  [1]"),
    click.option("--tag-template", metavar="TEXT", help="Names of images.  [{defaults}]"),
    click.option("--keep-runs", type=click.IntRange(0), metavar="N", help="How many runs are kept; 0: all."),
    click.option("--keep-days", type=click.IntRange(0), metavar="N", help="How long runs are kept; 0: for ever."),
    click.option("--keep-failed/--no-keep-failed", default=None, help="Failed jobs leave their files for a shell."),
)  # fmt: skip


def settings_options(command: _Decorated) -> _Decorated:
    """Add all options of the settings."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def changed(project: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of ``PUT /projects/NAME``: the present settings, updated with the given ones.

    A list is replaced as a whole. A single empty value makes it empty. Raises CommandError.
    """
    body = {name: value for name, value in project.items() if name not in _READ_ONLY}
    hook = dict(body.pop("hook", {}))
    for name, value in given.items():
        if value is None or value == ():
            continue
        if name in _OWN:
            body[name] = value
        elif name == "build_args":
            hook[name] = pairs([text for text in value if text], "--build-arg")
        elif name in _LISTS:
            hook[name] = [text for text in value if text]
        elif name == "known_hosts":
            hook[name] = Path(value).read_text()
        else:
            hook[name] = value
    return {**body, "hook": hook}
