"""The API over a root of its own that has busybox."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.toolkit.engineapi import Api
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap


@pytest.fixture(scope="module")
def api(privileged: None, busybox_tar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """``shiplap engine``, with the image ``busybox``."""
    folder = Path(tempfile.mkdtemp(prefix="shiplap-api-", dir="/tmp"))  # a socket's path is short
    shiplap = Shiplap(tmp_path_factory.mktemp("api") / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    api = Api(shiplap, folder)
    api.start()
    try:
        yield api
    finally:
        api.stop()
        shutil.rmtree(folder)
