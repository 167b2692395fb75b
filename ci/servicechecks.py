"""What of a file's services only shows beside its jobs: their names, and who uses them."""

from __future__ import annotations

from collections.abc import Container

from ci.language.shapes import Text
from ci.model import Pipeline
from ci.problems import Problems
from dockerfile_grammar.source import Span


def check_services(pipeline: Pipeline, names: Container[str], problems: Problems) -> None:
    """Add what is wrong. names: of all jobs, also of those that could not be read."""
    used = {service.name for job in pipeline.jobs.values() for service in job.services}
    for name in pipeline.services:
        if name in names:
            problems.error(_span(name), f'a job is called "{name}" as well; a service has a name of its own')
        elif name not in used and not problems.has_errors:
            problems.warning(_span(name), f'no job uses the service "{name}"')


def _span(name: str) -> Span | None:
    return name.span if isinstance(name, Text) else None
