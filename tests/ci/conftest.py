"""What tests of pipeline files share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ci.errors import PipelineFileError
from ci.parsing import ParsedFile, parse_pipeline

Check = Callable[[str], str]


@pytest.fixture
def parsed() -> Callable[[str], ParsedFile]:
    """Read a file that is in order."""
    return lambda text: parse_pipeline(text.encode())


@pytest.fixture
def lint() -> Check:
    """What is printed of a file: all its problems, each with its place; empty: none."""

    def check(text: str) -> str:
        try:
            return parse_pipeline(text.encode()).problems.render()
        except PipelineFileError as error:
            return error.render()

    return check
