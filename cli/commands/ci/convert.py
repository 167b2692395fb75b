"""``shiplap ci convert``."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Final

import click

from ci.convert.converting import DIALECTS, Converted, Dialect, convert
from ci.errors import CiError, PipelineFileError
from ci.files import read_pipeline_file
from ci.parsing import DIRECTORY, FILE
from cli.errors import describe
from cli.progress.text import harmless
from core.files import write_atomically

LEFT: Final = 1
"""The exit code when something is left to do."""

WRONG: Final = 2
"""The exit code when a file cannot be converted."""

_STDOUT: Final = "-"


@click.command("convert")
@click.argument("dialect", metavar="woodpecker|drone|github|gitlab", type=click.Choice(DIALECTS))
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--output", "-o", metavar="PATH", help="Write there; - is the terminal. Of several FILEs, a directory.")
@click.option("--default-branch", metavar="NAME", default="", help="What the project's default branch is called.")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def command(dialect: Dialect, files: tuple[Path, ...], output: str | None, default_branch: str, force: bool) -> int:
    """Write another system's pipeline anew, as one of Shiplap's.

    One FILE becomes .shiplap.yml, several become .shiplap/NAME.yml, each a pipeline of its own. What is written lints.
    What could not be done is listed with its line, and at the top of what is written: nothing is guessed. A command
    that is not converted fails; a job whose condition is not, is in runs by hand only.

    The exit code is 0 when nothing is left to do, 1 when something is listed, 2 when nothing was written.

    \b
    shiplap ci convert github .github/workflows/*.yml
    shiplap ci convert gitlab --default-branch main .gitlab-ci.yml
    """
    try:
        found = {path: _converted(dialect, path, default_branch) for path in files}
        places = _places(files, output)
        if output != _STDOUT and not force:
            _refuse_what_is_there(places.values())
    except PipelineFileError as error:
        click.echo(harmless(error.render()), err=True)
        return WRONG
    except CiError as error:
        click.echo(describe(error), err=True)
        return WRONG
    for path, converted in found.items():
        if converted.remarks.in_order():
            click.echo(harmless(converted.remarks.render()), err=True)
        if output == _STDOUT:
            click.echo(harmless(converted.text), nl=False)
            continue
        place = places[path]
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, converted.text.encode())
        count = len(converted.remarks)
        told = f"{count} thing{'s' if count != 1 else ''} to look at" if count else "nothing is left to do"
        click.echo(harmless(f"{place}: made from {path}: {told}"), err=True)
    return LEFT if any(len(converted.remarks) for converted in found.values()) else 0


def _converted(dialect: Dialect, path: Path, default_branch: str) -> Converted:
    return convert(dialect, read_pipeline_file(path), str(path), default_branch)


def _places(files: tuple[Path, ...], output: str | None) -> dict[Path, Path]:
    """Where each goes. Raises CiError when two would go to one place."""
    if len(files) == 1:
        return {files[0]: Path(output or FILE)}
    if output == _STDOUT:
        raise CiError("several pipelines do not fit into one file", hint="-o DIRECTORY, or one FILE at a time")
    directory = Path(output or DIRECTORY)
    places: dict[Path, Path] = {}
    for path in files:
        name = path.name.removesuffix(".yaml").removesuffix(".yml").lstrip(".") or "main"
        place = directory / f"{name}.yml"
        if place in places.values():
            raise CiError(
                f"{path} would be written to {place}, as another one is", hint="convert it by itself, with -o"
            )
        places[path] = place
    return places


def _refuse_what_is_there(places: Collection[Path]) -> None:
    """Raises CiError where something would be lost, or where pipelines would be in a file and in a directory."""
    for place in places:
        if os.path.lexists(place):
            raise CiError(f"{place} is there already", hint="-o PATH writes elsewhere, --force over it")
    if Path(FILE) in places and os.path.isdir(DIRECTORY):
        raise CiError(f"there is {DIRECTORY}/, and pipelines are in one or the other", hint=f"-o {DIRECTORY}/NAME.yml")
    if any(place.parent == Path(DIRECTORY) for place in places) and os.path.lexists(FILE):
        hint = f"move {FILE} to {DIRECTORY}/main.yml"
        raise CiError(f"there is {FILE}, and pipelines are in one or the other", hint=hint)
