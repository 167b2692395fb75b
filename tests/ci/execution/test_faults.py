"""Jobs whose process is killed, for whom they are, and what no caller may forget."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from builder.result import BuildResult
from containers.errors import LauncherError
from core.references import Reference
from core.trust import Domain, of_branch, of_fork, protected
from images.store import Store
from tests.ci.execution.jobshop import JobShop
from tests.containers.running import Traces
from tests.toolkit.bounds import eventually, stretched

_KILLED = """
import sys
from pathlib import Path
from tests.ci.execution import jobshop

shop = jobshop.JobShop(Path(sys.argv[1]), Path(sys.argv[2]))
jobshop.Seen.emit = lambda self, event: print(shop.launcher.pid, event, flush=True)
files = {"f": "x", "Dockerfile": "FROM base:1\\nRUN echo begun >&2; sleep 1000\\n"}
shop.run(sys.argv[3], files=files, given={"secrets": {"KEY": b"a-secret-value"}})
"""

_RUN = """
jobs:
  a:
    image: base:1
    secrets: [{name: KEY, file: /run/key}]
    outputs: "*"
    run: ["echo first", "echo more >f; (setsid sleep 1000 &); echo begun; sleep 1000"]
"""


@pytest.mark.parametrize("text", [_RUN, "jobs: {a: {image: {build: .}, run: 'true'}}", "jobs: {a: {build: .}}"])
def test_killed_with_its_process_a_job_leaves_nothing(
    privileged: None, tmp_path: Path, busybox_tar: Path, text: str
) -> None:
    root = tmp_path / "root"
    command: list[str | Path] = [sys.executable, "-c", _KILLED, root, busybox_tar, text]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()}
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "data=b'begun" in line:
                traces = Traces.of(int(line.split()[0]))
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    eventually(lambda: not traces.left(), why="its containers are gone")
    with Store.open(root) as store:
        kept = {row[0] for row in store.database.all("SELECT path FROM snapshots WHERE path IS NOT NULL")}
        left = {name for name in os.listdir(root / "snapshots") if not name.startswith(".")}
        assert left == kept
        assert os.listdir(store.tmp) == ["lock"]


def test_launcher_that_dies_is_no_fault_of_the_jobs(shop: JobShop) -> None:
    shop.run("jobs: {a: {image: 'base:1', run: 'true'}}")

    def kill() -> None:
        eventually(lambda: "begun" in shop.last.said)
        os.kill(shop.launcher.pid, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(LauncherError):
        shop.run("jobs: {a: {image: 'base:1', run: 'echo begun; sleep 1000', outputs: '*'}}")
    thread.join(stretched(60))
    assert shop.left() == []


@pytest.mark.parametrize("domain", [protected("p"), of_branch("p", "x"), of_fork("p", 3)], ids=str)
def test_run_of_any_domain_has_what_its_jobs_left(shop: JobShop, domain: Domain) -> None:
    text = """
jobs:
  a: {image: "base:1", run: "mkdir out; echo made >out/f", outputs: out}
  b: {image: {build: .}, needs: a, run: "cat out/f /built"}
  app: {build: {file: App}, needs: b}
  c: {image: {job: app}, run: "cat out/f /app/out/f"}
"""
    shop.store.act_for(domain)
    files = {"Dockerfile": "FROM base:1\nRUN echo built >/built\n", "App": "FROM base:1\nCOPY . /app\n"}
    assert shop.run(text, files=files, domain=domain).state == "succeeded"
    assert shop.seen["b"].said.endswith("made\nbuilt\n")
    assert shop.last.said == "made\nmade\n"


class _Reading:
    """A publisher that reads what it is to push, from its own session."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        return tuple(Reference.parse(tag) for tag in tags)

    def push(self, names: tuple[Reference, ...], result: BuildResult) -> str:
        images = [result.image]
        if result.is_index:
            images += self._store.images.indexes.get(result.manifest_digest).images
        for image in images:
            assert image is not None
            for layer in image.diff_ids:
                self._store.layers.path(layer).read_bytes()
        return f"sha256:{len(images)}"


@pytest.mark.parametrize("platforms", ["", ", platforms: [linux/amd64, linux/arm64]"])
def test_publisher_of_a_run_has_what_was_built(shop: JobShop, platforms: str) -> None:
    domain = protected("p")
    shop.store.act_for(domain)
    files = {"Dockerfile": "FROM scratch\nCOPY . /all\n"}
    text = f"jobs: {{app: {{build: {{tags: 'r.example/app:1'{platforms}}}}}}}"
    outcome = shop.run(text, files=files, domain=domain, publisher=_Reading(shop.store))
    assert outcome.exports["DIGEST"] == ("sha256:3" if platforms else "sha256:1")


def test_secrets_of_the_job_are_masked_whatever_the_caller_says(shop: JobShop) -> None:
    text = "jobs: {a: {image: 'base:1', secrets: [KEY], run: 'echo $KEY'}}"
    shop.run(text, given={"secrets": {"KEY": b"correct-horse-battery"}}, masked=())
    assert "horse" not in shop.last.said
