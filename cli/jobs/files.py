"""Which pipeline file is meant, and what is in it."""

from __future__ import annotations

from pathlib import Path

from ci.errors import CiError
from ci.files import pipeline_files, read_pipeline_file
from ci.parsing import DIRECTORY, FILE, ParsedFile, parse_pipeline, pipeline_name
from ci.parts import ReadPart
from cli.errors import CommandError
from core.suggestions import suggestion


def read_pipeline(top: Path, file: Path | None, name: str, read_part: ReadPart) -> ParsedFile:
    """The pipeline that is meant.

    top: of the repository; its files are asked when no file was named.
    file: the value of ``--file``.
    name: the value of ``--pipeline``; empty: there has to be just one.
    read_part: for the parts that it uses.
    Raises PipelineFileError, other CiErrors and CommandError.
    """
    if file is not None:
        if name:
            raise CommandError("--file and --pipeline say the same thing", hint="take one of them")
        return parse_pipeline(read_pipeline_file(file), str(file), read_part)
    path = _chosen(pipeline_files(top), name)
    return parse_pipeline(read_pipeline_file(top / path), path, read_part)


def _chosen(paths: list[str], name: str) -> str:
    if not paths:
        raise CiError(
            f"there is neither {FILE} nor {DIRECTORY}/NAME.yml here", hint="docs/pipelines.md has a first one"
        )
    names = {pipeline_name(path): path for path in paths}
    if name:
        if name not in names:
            raise CommandError(
                f'there is no pipeline "{name}"', hint=suggestion(name, names) or f"there are {', '.join(names)}"
            )
        return names[name]
    if len(paths) > 1:
        raise CommandError(f"there are several pipelines: {', '.join(names)}", hint="--pipeline NAME takes one of them")
    return paths[0]
