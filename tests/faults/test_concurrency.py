"""Twenty builds at once over one root, while images are removed and what is not needed is pruned."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from tests.toolkit.bounds import stretched
from tests.toolkit.shiplap import BUSYBOX_NAME, Shiplap

_SAME, _DIFFERENT = 10, 10
_DOCKERFILE = f"""
FROM {BUSYBOX_NAME} AS tools
ARG WHO
RUN seq 2000 > /numbers && echo $WHO > /who
FROM {BUSYBOX_NAME}
COPY files /files
RUN cat /files/* > /all
COPY --from=tools /numbers /who /from/
RUN sort -r /from/numbers > /reversed
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    directory = tmp_path / "context"
    (directory / "files").mkdir(parents=True)
    for index in range(20):
        (directory / "files" / f"f{index}").write_bytes(b"%d" % index * 3000)
    (directory / "Dockerfile").write_text(_DOCKERFILE)
    return directory


def _meddle(shiplap: Shiplap, done: threading.Event, failures: list[str]) -> None:
    """Prune and remove all the time: each may find nothing to do, or something in use; none may fail otherwise."""
    while not done.is_set():
        for command in (("image", "prune", "-f"), ("image", "prune", "-f", "--cache"), ("image", "rm", "-f", "same")):
            result = shiplap(*command, check=False)
            if result.returncode != 0 and "no such image" not in result.stderr:
                failures.append(f"{command}: {result.stderr}")


def test_twenty_builds_while_others_remove_and_prune(
    shiplap: Shiplap, busybox_tar: Path, context: Path, tmp_path: Path
) -> None:
    shiplap("image", "import", busybox_tar, BUSYBOX_NAME)
    done, failures = threading.Event(), list[str]()
    meddler = threading.Thread(target=_meddle, args=(shiplap, done, failures))
    names = ["same"] * _SAME + [f"other{index}" for index in range(_DIFFERENT)]
    logs = [tmp_path / f"log{index}" for index in range(len(names))]
    meddler.start()
    try:
        builds = []
        for name, log in zip(names, logs, strict=True):
            with log.open("wb") as output:
                arguments = ("build", "--network", "none", "-t", name, "--build-arg", f"WHO={name}", context)
                builds.append(shiplap.start(*arguments, stdout=output, stderr=subprocess.STDOUT))
        codes = [build.wait(stretched(240)) for build in builds]
    finally:
        done.set()
        meddler.join()
    assert [log.read_text() for log, code in zip(logs, codes, strict=True) if code != 0] == []
    assert failures == []
    for name in names[_SAME:]:
        said = shiplap("run", "--network", "none", name, "cat", "/from/who").stdout
        assert said == f"{name}\n"
    assert shiplap("image", "verify").stdout == "all content matches its digests\n"
