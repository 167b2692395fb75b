"""Checks of pipeline files for their authors: the messages of ``shiplap ci lint``, as data."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from ci.document import MAX_BYTES
from ci.errors import PipelineFileError
from ci.parsing import FILE, parse_alone
from ci.problems import Problem, Severity
from web.calls import Call
from web.endpoints import Api

api: Final = Api("lint")


class LintRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pipeline file that is to be checked.

    file: what is in it.
    name: its path in the repository, for messages.
    """

    file: Annotated[str, msgspec.Meta(max_length=MAX_BYTES)]
    name: Annotated[str, msgspec.Meta(max_length=255)] = FILE


class LintProblem(msgspec.Struct, frozen=True):
    """One thing that is wrong with a file, or looks wrong.

    line, column: where, both from 1; 0 for the file as a whole.
    hint: what to do about it.
    """

    severity: Severity
    message: str
    line: int
    column: int
    hint: str | None


class LintReply(msgspec.Struct, frozen=True):
    """The result of checking a pipeline file.

    usable: it has no error.
    problems: in the order of its lines.
    jobs: the names of its jobs, each matrix once; none for a file that cannot be used.
    text: the problems as the command line prints them.
    """

    usable: bool
    problems: list[LintProblem]
    jobs: list[str]
    text: str


@api.endpoint("POST", "/lint", scope="read", noted=False)
def lint_pipeline(call: Call, body: LintRequest) -> LintReply:  # noqa: ARG001 - as every endpoint
    """Check a pipeline file. Nothing is kept, and nothing is run. Parts that it uses are not looked at."""
    try:
        parsed = parse_alone(body.file.encode(errors="surrogatepass"), body.name)
    except PipelineFileError as error:
        return LintReply(False, [_told(problem) for problem in error.problems], [], error.render())
    return LintReply(
        True, [_told(problem) for problem in parsed.problems], list(parsed.pipeline.jobs), parsed.problems.render()
    )


def _told(problem: Problem) -> LintProblem:
    start = problem.span.start if problem.span is not None else None
    line, column = (start.line, start.column) if start is not None else (0, 0)
    return LintProblem(problem.severity, problem.message, line, column, problem.hint)
