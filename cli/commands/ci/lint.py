"""``shiplap ci lint``."""

from __future__ import annotations

from pathlib import Path

import click

from ci.errors import CiError, PipelineFileError
from ci.files import pipeline_files, read_pipeline_file
from ci.parsing import DIRECTORY, FILE, parse_pipeline
from cli.errors import describe
from cli.jobs.parts import parts_here, top_of
from cli.progress.text import harmless

WRONG = 2
"""The exit code for a file that cannot be used."""


@click.command("lint")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=Path))
def command(files: tuple[Path, ...]) -> int:
    """Say what is wrong with pipeline files.

    Without FILE, those of this directory: .shiplap.yml, or those in .shiplap/. All errors are printed at once, and
    warnings of what is allowed and hardly meant. The exit code is 2 when a file has an error, else 0.
    """
    try:
        paths = files or tuple(Path(name) for name in pipeline_files(Path()))
    except CiError as error:
        click.echo(describe(error), err=True)
        return WRONG
    if not paths:
        click.echo(f"error: there is neither {FILE} nor {DIRECTORY}/NAME.yml here", err=True)
        return WRONG
    return max(_lint(path) for path in paths)


def _lint(path: Path) -> int:
    try:
        parsed = parse_pipeline(read_pipeline_file(path), str(path), parts_here(top_of(path)))
    except PipelineFileError as error:
        click.echo(harmless(error.render()))
        return WRONG
    except CiError as error:
        click.echo(describe(error), err=True)
        return WRONG
    if len(parsed.problems):
        click.echo(harmless(parsed.problems.render()))
    count = len(parsed.pipeline.jobs)
    click.echo(f"{harmless(str(path))}: in order: {count} job{'s' if count != 1 else ''}")
    return 0
