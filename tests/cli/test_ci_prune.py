"""A prune in the middle of ``shiplap ci run``, and after it: what jobs output stays for who comes after them."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from images.store import Store
from tests.cli.test_ci_run import Repository
from tests.toolkit.shiplap import Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

_CHAIN = """
jobs:
  make:
    image: busybox:1.37
    run: mkdir out && echo made > out/file
    outputs: [out]
  wait:
    needs: make
    image: busybox:1.37
    run: echo waiting && sleep 6
  take:
    needs: [make, wait]
    image: busybox:1.37
    run: cat out/file source && git_directory=$(ls .git) && echo $git_directory
"""


def _prune(shiplap: Shiplap) -> None:
    shiplap("image", "prune", "-f")
    shiplap("cache", "prune", "--all", "-f")


def test_a_prune_takes_nothing_that_a_run_needs_or_keeps(tmp_path: Path, busybox_tar: Path) -> None:
    shiplap = Shiplap(tmp_path / "root")
    shiplap("image", "import", busybox_tar, "busybox:1.37")
    repository = Repository(shiplap, tmp_path / "repository")
    repository.commit(_CHAIN, {"source": "of the commit\n"})
    process = shiplap.start(
        "ci", "run", "--progress", "plain", cwd=repository.directory, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    with process:
        assert process.stderr is not None
        told = b""
        while b"wait | waiting" not in told:
            line = process.stderr.readline()
            assert line, told.decode()
            told += line
        _prune(shiplap)
        told += process.stderr.read()
    assert process.returncode == 0, told.decode()
    assert b"take | made\n" in told
    assert b"take | of the commit\n" in told

    _prune(shiplap)
    with Store.open(shiplap.root) as store:
        (name,) = store.kept.names("local/")
        kept = store.kept.get(name)
        assert kept is not None
        assert len(kept.layers) == 1
        assert kept.until > time.time() + 6 * 86400
        assert store.layers.size(kept.layers[0]) > 0
        store.kept.drop([name])
    shiplap("image", "verify")
    _prune(shiplap)
    with Store.open(shiplap.root) as store:
        assert not store.layers.has(kept.layers[0])
    shiplap("image", "verify")
