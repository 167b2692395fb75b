"""``shiplap ci graph``."""

from __future__ import annotations

from pathlib import Path

import click

from ci.conditions import Event
from ci.directories import directories_of
from ci.errors import CiError, PipelineFileError, RepositoryError
from ci.files import pipeline_files, read_pipeline_file
from ci.language.jobs import KINDS
from ci.model import EVENTS, EventName, Job
from ci.parsing import DIRECTORY, FILE, parse_pipeline
from ci.planning import Plan, plan
from ci.source.discovery import find_repository
from cli.commands.ci.lint import WRONG
from cli.errors import CommandError, describe
from cli.jobs.parts import parts_here, top_of
from cli.options import json_option
from cli.progress.text import harmless
from cli.table import print_json, print_table
from core.settings import FetchSettings, Settings


@click.command("graph")
@click.argument("file", required=False, metavar="[FILE]", type=click.Path(path_type=Path))
@click.option("--event", type=click.Choice(EVENTS), default="local", show_default=True, help="What the run is of.")
@click.option("--branch", metavar="NAME", help="The branch that is run.  [default: the one that is checked out]")
@click.option("--target", default="", metavar="NAME", help="The branch that a pull request is to go into.")
@click.option("--tag", default="", metavar="NAME", help="The tag.")
@click.option("--fork", "is_fork", is_flag=True, help="The commit comes from a fork.")
@json_option
@click.pass_obj
def command(
    root: str | None,
    /,
    file: Path | None,
    *,
    event: EventName,
    branch: str | None,
    target: str,
    tag: str,
    is_fork: bool,
    as_json: bool,
) -> int:
    """Show which jobs an event would run, and what they wait for.

    Nothing is run. Conditions about files that changed are taken to hold: that is decided when a commit is there.
    """
    try:
        path = file if file is not None else _only_file()
        top = top_of(path)
        parsed = parse_pipeline(read_pipeline_file(path), str(path), parts_here(top))
        branch = _branch_of(top, root) if branch is None else branch
        facts = {"SHIPLAP_EVENT": event, "SHIPLAP_BRANCH": branch, "SHIPLAP_TARGET": target, "SHIPLAP_TAG": tag}
        asked = Event(event, branch, target, tag, is_fork, facts, directories=lambda fits: directories_of(top, fits))
        planned = plan(parsed, asked)
    except PipelineFileError as error:
        click.echo(harmless(error.render()))
        return WRONG
    except CiError as error:
        click.echo(describe(error), err=True)
        return WRONG
    if as_json:
        _print_json(planned)
    else:
        _print(planned)
    return 0


def _branch_of(top: Path, root: str | None) -> str:
    """The branch that is checked out, which ``ci run`` takes; empty where there is none, or no repository."""
    try:
        return find_repository(Settings.from_environ(root=root).root, top, FetchSettings.from_environ()).branch
    except RepositoryError:
        return ""


def _only_file() -> Path:
    names = pipeline_files(Path())
    if not names:
        raise CiError(f"there is neither {FILE} nor {DIRECTORY}/NAME.yml here")
    if len(names) > 1:
        raise CommandError(f"there are several pipelines here: {', '.join(names)}", hint="name one of them")
    return Path(names[0])


def _print(planned: Plan) -> None:
    if planned.jobs:
        rows = [(job.name, _kind(job.job), ", ".join(job.needs), ", ".join(_services(job.job))) for job in planned.jobs]
        columns = 4 if any(row[-1] for row in rows) else 3
        print_table(("JOB", "DOES", "NEEDS", "SERVICES")[:columns], [row[:columns] for row in rows])
    else:
        click.echo(f"nothing is run: {harmless(planned.reason, colours=False)}")
    for name, reason in planned.left_out.items():
        click.echo(harmless(f"{name} is left out: {reason}", colours=False))


def _kind(job: Job) -> str:
    return next(kind for kind in KINDS if getattr(job, kind) is not None)


def _services(job: Job) -> list[str]:
    return [str(service.name) for service in job.services]


def _print_json(planned: Plan) -> None:
    jobs = [
        {
            "name": job.name,
            "job": job.base,
            "does": _kind(job.job),
            "needs": list(job.needs),
            "matrix": dict(job.combination),
            "services": _services(job.job),
        }
        for job in planned.jobs
    ]
    print_json({"jobs": jobs, "left_out": dict(planned.left_out), "reason": planned.reason})
