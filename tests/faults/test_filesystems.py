"""What depends on the file system below the root, on each kind that can be mounted here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.trees import remove_tree, tree_usage
from tests.toolkit.filesystems import KINDS, mounted
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

pytestmark = pytest.mark.usefixtures("privileged")

TEXT = f"""\
FROM {BUSYBOX_NAME} AS made
RUN mkdir -p /d/e/f && for n in $(seq 300); do echo $n > /d/e/f/$n; done && ln /d/e/f/1 /d/hard && mkfifo /d/pipe
RUN rm -r /d/e/f && mkdir /d/e/f && echo again > /d/e/f/1 && chown 5:6 /d/hard
FROM {BUSYBOX_NAME}
COPY --from=made /d /d
COPY f /f
RUN --mount=type=cache,target=/c echo kept >> /c/k && cat /d/e/f/1 /f && test ! -e /d/e/f/2 && stat -c %u:%g /d/hard
"""


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    with mounted(request.param, tmp_path) as directory:
        yield directory


def test_kinds_that_a_plain_linux_has_are_here() -> None:
    assert {"ext4", "tmpfs"} <= set(KINDS)


def test_deep_and_wide_tree_is_removed_whole(place: Path) -> None:
    top = place / "top"
    for number in range(40):
        directory = top / str(number) / "a" / "b" / "c"
        directory.mkdir(parents=True)
        for name in range(30):
            (directory / str(name)).write_text("x")
    assert tree_usage(str(top)).inodes >= 40 * (4 + 30)
    remove_tree(str(top))
    assert os.listdir(place) in ([], ["lost+found"])


def test_builds_runs_and_pruning(place: Path, busybox_tar: Path, tmp_path: Path) -> None:
    shiplap = Shiplap(place / "root")
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(TEXT)
    (context / "f").write_text("from the context\n")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    first = shiplap.build(context, "-t", "app")
    again = shiplap.build(context, "-t", "app")
    assert (again.executed, again.image_id) == (0, first.image_id)
    assert shiplap("run", "app", "cat", "/d/e/f/1", "/f").stdout == "again\nfrom the context\n"
    saved = tmp_path / "app.tar"
    shiplap("image", "save", "-o", saved, "app")
    shiplap("image", "rm", "app")
    shiplap("image", "load", "-i", saved)
    shiplap("image", "verify")
    shiplap("image", "prune", "--all", "--cache", "--force")
    left = [name for name in os.listdir(place / "root" / "snapshots") if not name.startswith(".")]
    assert left == []
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    assert shiplap.build(context, "-t", "app").executed == first.executed


def test_killed_build_leaves_nothing_that_the_next_trips_over(place: Path, busybox_tar: Path, tmp_path: Path) -> None:
    shiplap = Shiplap(place / "root")
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN mkdir -p /a/b/c && echo begun && sleep 300\n")
    with shiplap.start("build", "--progress=plain", context, stderr=subprocess.PIPE) as build:
        assert build.stderr is not None
        for line in build.stderr:
            if line.rstrip().endswith(b"begun"):
                break
        build.kill()
    (context / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN true\n")
    shiplap.build(context)
    shiplap("image", "prune", "--all", "--cache", "--force")
    assert [name for name in os.listdir(place / "root" / "snapshots") if not name.startswith(".")] == []
