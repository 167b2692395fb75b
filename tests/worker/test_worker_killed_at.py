"""SIGKILL of a worker right where it hurts: the next attempt is right, nothing is left over, all content is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import select

from core.settings import ServiceSettings
from images.store import Store
from pipelines.runs.pipelines import PLANNING
from pipelines.schema import jobs
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.service import Workforce, finished
from tests.toolkit.shiplap import Shiplap
from tests.worker.test_worker_pipelines import Repository, attempts, log, states

_CHECKOUT = Path(__file__).resolve().parents[2]
_FILES = 40
_WORKER = """
import os, signal, sys
import ci.source.mirror, ci.source.treewriter, ci.workspace.outputs, images.kept, pipelines.runs.claims
where = sys.argv.pop(1)
seen = 0

def die():
    os.killpg(0, signal.SIGKILL)

def at(owner, name, *, times=1, behind=False):
    real = getattr(owner, name)
    def patched(*arguments, **members):
        global seen
        seen += 1
        if seen == times and not behind:
            die()
        found = real(*arguments, **members)
        if seen == times:
            die()
        return found
    setattr(owner, name, patched)

if where == "fetch":
    at(ci.source.mirror.Mirror, "_run_fetch", behind=True)  # the objects are there, and nothing else
elif where == "source layer":
    at(ci.source.treewriter.TreeLayer, "_blob", times=20)
elif where == "outputs' layer":
    at(ci.workspace.outputs._Walk, "file", times=20)
elif where == "between layer and row":
    at(images.kept.Kept, "keep")
elif where == "end of a job":
    real = pipelines.runs.claims.Claims.finish
    def finish(self, claim, *arguments, **members):
        if claim.kind == "job":
            at(pipelines.runs.claims, "follow_job", behind=True)  # all is written but the commit
        return real(self, claim, *arguments, **members)
    pipelines.runs.claims.Claims.finish = finish
from worker.__main__ import leave, main
leave(main())
"""
_PIPELINE = f"""
jobs:
  make:
    image: base
    outputs: [out, src]
    run: mkdir out; for n in $(seq {_FILES}); do echo $n > out/$n; done; rm src/f1
  use: {{needs: make, image: base, run: "ls out | wc -l; ls src | wc -l; ls -d .git"}}
"""


def start(settings: ServiceSettings, where: str, log: Path) -> int:
    """Let a worker take what there is until it is killed; its exit status."""
    environ = {
        **os.environ,
        "SHIPLAP_ROOT": str(settings.root),
        "SHIPLAP_DATABASE_URL": settings.database_url,
        "SHIPLAP_REDIS_URL": settings.redis_url,
    }
    with log.open("wb") as output:
        return subprocess.run(
            [sys.executable, "-c", _WORKER, where, "--name", "dead", "--concurrency", "1"],
            cwd=_CHECKOUT, env=environ, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
            start_new_session=True, timeout=stretched(60), check=False,
        ).returncode  # fmt: skip


@pytest.mark.parametrize("where", ["fetch", "source layer", "outputs' layer", "between layer and row", "end of a job"])
def test_worker_killed_in_the_middle_leaves_a_run_that_goes_on(
    service: Service, settings: ServiceSettings, workers: Workforce, tmp_path: Path, where: str
) -> None:
    repository = Repository(service, settings.root / "git" / "app")
    files = {f"src/f{number}": f"{number}\n" * 50 for number in range(_FILES)}
    number = repository.push({".shiplap.yml": _PIPELINE, **files})
    said = tmp_path / "dead.log"
    assert start(settings, where, said) == -9, said.read_text()
    with service.database.read() as connection:
        (lost,) = connection.execute(select(jobs.c.number, jobs.c.name).where(jobs.c.state == "running")).all()
    assert lost.name == ("build" if where == "fetch" else "make")
    assert service.claims.release(lost.number, 1, "worker dead was killed") is not None
    workers.start("--concurrency", "1")
    run = finished(service, number, timeout_s=stretched(60))
    assert run.state == "succeeded", run.reason
    assert states(service, number) == dict.fromkeys((PLANNING, "make", "use"), "succeeded")
    again = PLANNING if where == "fetch" else "make"
    assert attempts(service, number) == {PLANNING: 1, "make": 1, "use": 1, again: 2}
    assert log(service, number, "make").count("succeeded") == 1
    assert {str(_FILES), str(_FILES - 1), ".git"} <= set(log(service, number, "use"))
    workers.end()
    assert Shiplap(settings.root)("image", "verify").returncode == 0
    with Store.open(settings.root) as store:
        assert len(store.kept.names(f"run/{number}/")) == 1
        rows = store.database.all("SELECT path FROM snapshots WHERE path IS NOT NULL")
        left = {name for name in os.listdir(settings.root / "snapshots") if not name.startswith(".")}
        assert left == {row[0] for row in rows}
        sessions = [path for path in store.tmp.parent.iterdir() if path.is_dir() and not path.name.startswith(".")]
        assert sessions == [store.tmp]
    mirrors = settings.root / "mirrors"
    assert [name for name in os.listdir(mirrors) if ".away" in name or name.startswith(".making")] == []
