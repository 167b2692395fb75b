"""A disk that is full when a job writes, and when its outputs are taken: nothing is left, and the next job is done."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import StorageFullError
from images.verify import verify
from tests.ci.execution.jobshop import JobShop

_SIZE = "48m"
_MIB = 1 << 20
_OUTPUTS = "jobs: {a: {image: 'base:1', outputs: [out], run: 'mkdir out; head -c SIZE /dev/zero > out/x; echo done'}}"


@pytest.fixture
def small(privileged: None, tmp_path: Path, busybox_tar: Path) -> Iterator[JobShop]:
    """On a small file system of its own."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", str(place)], check=True)
    try:
        shop = JobShop(place / "root", busybox_tar)
        yield shop
        shop.close()
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def used_bytes(shop: JobShop) -> int:
    words = subprocess.run(["df", "-B1", "--output=used", str(shop.root)], capture_output=True, text=True, check=True)
    return int(words.stdout.split()[-1])


def test_outputs_for_which_there_is_no_room_are_the_machine_s_fault_and_leave_nothing(small: JobShop) -> None:
    assert small.run(_OUTPUTS.replace("SIZE", "1k")).state == "succeeded"
    before = used_bytes(small)
    with pytest.raises(StorageFullError):
        small.run(_OUTPUTS.replace("SIZE", "25m"))
    assert "done\n" in small.last.said, "the job itself had room"
    assert small.left() == []
    assert verify(small.store) == []
    assert used_bytes(small) < before + _MIB
    outcome = small.run(_OUTPUTS.replace("SIZE", "2m"))
    assert outcome.outputs is not None
    assert small.store.layers.size(outcome.outputs) > 2 * _MIB


def test_job_that_fills_the_disk_fails_and_leaves_nothing(small: JobShop) -> None:
    assert small.run(_OUTPUTS.replace("SIZE", "1k")).state == "succeeded"
    before = used_bytes(small)
    outcome = small.run(_OUTPUTS.replace("SIZE", "100m"))
    assert (outcome.state, outcome.outputs) == ("failed", None)
    assert outcome.message.startswith("exit code 1: head: "), "its command is told that there is no room"
    assert small.left() == []
    assert verify(small.store) == []
    assert used_bytes(small) < before + _MIB
    assert small.run(_OUTPUTS.replace("SIZE", "2m")).state == "succeeded"
