"""A place to execute jobs at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ci.execution.jobshop import JobShop, jobshop


@pytest.fixture
def shop(privileged: None, tmp_path: Path, busybox_tar: Path) -> Iterator[JobShop]:
    with jobshop(tmp_path, busybox_tar) as made:
        yield made
