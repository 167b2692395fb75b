"""``shiplap doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from cli.options import json_option
from cli.table import print_json, table
from core.settings import Settings

if TYPE_CHECKING:
    from containers.doctor import Finding


@click.command("doctor")
@click.option(
    "--service",
    "of_service",
    is_flag=True,
    help="Try the parts of a service instead, as the settings say.",
)
@json_option
@click.pass_obj
def command(root: str | None, *, of_service: bool, as_json: bool) -> int:
    """Check what this host offers, and say what to install.

    Containers that another release's keepers have are named, too.

    Fails when something is missing without which nothing can be built or run.

    With --service it tries, as the settings in the environment say, what the service needs: database, key, Redis,
    registry, public URL, OpenID Connect, git's tools, clocks and disk. It fails when one of them fails; none is waited
    for longer than half a minute, and nothing that it writes stays.
    """
    if of_service:
        from cli.examination.report import examine_service

        return examine_service(root, as_json=as_json)
    from cli.containers.examining import keepers
    from containers.doctor import probe

    findings = [*probe(Settings.from_environ(root=root).root), *keepers(root)]
    if as_json:
        print_json([_document(finding) for finding in findings])
    else:
        click.echo(report(findings))
    return 0 if all(finding.ok or not finding.essential for finding in findings) else 1


def report(findings: Sequence[Finding]) -> str:
    """The findings as a table, then what to do, then the verdict."""
    rows = [(finding.name, _state(finding), finding.detail) for finding in findings]
    lines = [table(("CHECK", "STATE", "DETAIL"), rows)]
    remedies = [f"  {finding.name}: {finding.remedy}" for finding in findings if not finding.ok and finding.remedy]
    if remedies:
        lines += ["", "What to do:", *remedies]
    states = {_state(finding) for finding in findings}
    if "MISSING" in states:
        verdict = "This host cannot build or run images yet."
    elif "limited" in states:
        verdict = "This host can build and run images; what is limited makes that slower or less contained."
    else:
        verdict = "This host can build and run images, with everything that Shiplap can use."
    return "\n".join([*lines, "", verdict])


def _state(finding: Finding) -> str:
    if finding.ok:
        return "ok"
    return "MISSING" if finding.essential else "limited"


def _document(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "ok": finding.ok,
        "essential": finding.essential,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }
