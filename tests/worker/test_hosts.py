"""Workers of two hosts, each with a store of its own: what jobs output crosses by way of the service's registry."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from sqlalchemy import select, update

from core.settings import ServiceSettings
from images.store import Store
from pipelines.bare.making import make_repository
from pipelines.model import HookSettings, Project
from pipelines.runs.pipelines import PLANNING
from pipelines.schema import artifacts, jobs
from pipelines.service import Service
from tests.toolkit.bounds import eventually, stretched
from tests.toolkit.git import git
from tests.toolkit.host import command_lines
from tests.toolkit.service import WorkerProcess, Workforce, finished
from tests.web.processes import WebProcess
from tests.worker.conftest import import_base
from tests.worker.test_worker_elsewhere import elsewhere, with_registry
from tests.worker.test_worker_pipelines import Repository, attempts, log, states
from worker.keptrows import kept_name

SPREAD = """
jobs:
  make:
    image: base
    workers: [one]
    outputs: [out, {path: site, name: site}]
    run: mkdir out site; cat README > out/copy; echo hello > site/index.html
  image:
    needs: make
    workers: [one]
    build: {context: ., push: false}
  change:
    needs: make
    image: base
    workers: [two]
    outputs: [out]
    run: cat out/copy; echo more > out/more
  inside:
    needs: image
    image: {job: image}
    workers: [two]
    run: cat /made
  use:
    needs: [make, change]
    image: base
    workers: [one]
    outputs: [all]
    run: cat out/copy out/more > all
"""
FILES = {
    ".shiplap.yml": SPREAD,
    "README": "hello\n",
    "Dockerfile": "FROM base\nCOPY out/copy /made\nRUN echo built >> /made\n",
}


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    del service  # it has made the database
    with WebProcess(settings) as process:
        yield process


class Served(Repository):
    """A project's bare repository, which workers of other hosts fetch from the web process."""

    def __init__(self, service: Service, settings: ServiceSettings, clone: Path) -> None:
        self.service = service
        self.path = clone
        self.bare = make_repository(settings.root, "app")
        self.url = f"file://{self.bare}"
        git(clone.parent, "init", "--quiet", "--initial-branch=main", str(clone))
        service.projects.put(Project("app", hook=HookSettings(self.url, "plain")))

    def commit(self, files: dict[str, str]) -> str:
        commit = super().commit(files)
        git(self.path, "push", "--quiet", "--force", str(self.bare), "main")
        return commit


@pytest.fixture
def repository(service: Service, settings: ServiceSettings, tmp_path: Path) -> Served:
    return Served(service, settings, tmp_path / "clone")


class Hosts:
    """Two hosts beside that of the web process, whose workers have the labels one and two.

    roots, workers: by label.
    """

    def __init__(
        self, settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, top: Path, busybox: Path
    ) -> None:
        service.secrets.put("any", b"12345", project="app")  # makes the key
        self._token = service.tokens.create("worker", ["build"])[1]
        self._settings, self._web, self._force = settings, web, workers
        self._top, self._busybox = top, busybox
        self.roots: dict[str, Path] = {}
        self.workers: dict[str, WorkerProcess] = {}
        for name in ("one", "two"):
            self.start(name)

    def start(self, name: str) -> None:
        """Start a host's worker; a new host's has the image ``base`` alone."""
        root = self._top / name
        if name not in self.roots:
            import_base(root, self._busybox)
            self.roots[name] = root
        environ = {**with_registry(self._web, self._top), **elsewhere(self._settings, self._web, self._token, root)}
        self.workers[name] = self._force.start("--concurrency", "1", "--labels", name, environ=environ)


@pytest.fixture
def hosts(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path, busybox_tar: Path
) -> Hosts:
    return Hosts(settings, service, web, workers, tmp_path, busybox_tar)


def outputs(service: Service, run: int) -> dict[str, str]:
    return {view.name: view.outputs or view.image for view in service.jobs.list(run) if view.outputs or view.image}


def test_outputs_for_people_are_read_wherever_the_job_was_done(
    service: Service, web: WebProcess, hosts: Hosts, repository: Repository, tmp_path: Path
) -> None:
    """On pages and by the API; and by other programs as what it is, by the project's rights."""
    del hosts
    run = repository.run(FILES)
    token = service.roles.create_token("app", "reader", "read")[1]
    other = service.tokens.create("stranger", ["read"])[1]
    service.projects.put(Project("else"))
    stranger = service.roles.create_token("else", "stranger", "read")[1]
    (view,) = service.outputs.of_run(run.number)[2]
    assert view.artifact == f"runs/app:{run.number}-2-site"
    path = f"/api/v1/runs/{run.number}/jobs/make/outputs/site/file?path=site/index.html"
    assert fetched(web, path, other) == b"hello\n"
    place = f"docker://127.0.0.1:{web.port}/{view.artifact}"
    copied = tmp_path / "copied"
    assert skopeo(place, copied, stranger) != 0
    assert skopeo(place, copied, token) == 0
    manifest = json.loads((copied / "manifest.json").read_bytes())
    (layer,) = manifest["layers"]
    assert layer["annotations"]["org.opencontainers.image.title"] == "site.tar.zst"
    data = zstandard.decompress((copied / layer["digest"].partition(":")[2]).read_bytes(), max_output_size=1 << 20)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert "site/index.html" in tar.getnames()
    assert json.loads(fetched(web, "/v2/_catalog", other)) == {"repositories": ["cache/app"]}


def fetched(web: WebProcess, path: str, token: str) -> bytes:
    request = urllib.request.Request(web.url + path, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=stretched(60)) as answer:
        return bytes(answer.read())


def skopeo(source: str, target: Path, token: str) -> int:
    command = ["skopeo", "copy", "--src-tls-verify=false", f"--src-creds=x:{token}", source, f"dir:{target}"]
    return subprocess.run(command, capture_output=True, check=False, timeout=stretched(60)).returncode


AWAY = """
jobs:
  make: {image: base, workers: [one], outputs: [out, {path: out, name: site}], run: "MARK; echo made > out"}
  near: {needs: make, image: base, workers: [one], run: cat out}
  far: {needs: make, image: base, workers: [two], run: cat out}
"""


def test_registry_that_is_away_when_a_job_ends_fails_nothing_and_loses_nothing(
    service: Service, web: WebProcess, hosts: Hosts, repository: Repository
) -> None:
    """The next job on that host goes on; one on another host waits until the layer has been sent.

    The first job's command waits until the registry is away. By then its host has the commit, whoever planned the run.
    """
    mark = f"sleep 9{web.port}"  # of this test alone: nobody else has the port
    number = repository.push({".shiplap.yml": AWAY.replace("MARK", f"{mark} || true")})
    eventually(lambda: bool(called(mark)), timeout_s=60, why="the first job's command runs")
    web.signal(9)
    web.wait()
    for process in called(mark):
        os.kill(process, signal.SIGTERM)
    eventually(lambda: states(service, number)["make"] == "succeeded", timeout_s=60, why="the first job ends")
    assert any("stays on this host for now" in line for line in log(service, number, "make"))
    with service.database.read() as connection:
        row = connection.execute(select(jobs).where(jobs.c.run == number, jobs.c.name == "make")).one()
    assert row.left_at == row.to_send != ""
    assert states(service, number)["far"] == "queued"
    web.start()
    run = finished(service, number, timeout_s=120)
    assert run.state == "succeeded", run.reason
    assert attempts(service, number)["far"] == 1, "it waited, and did not try in vain"
    assert "made" in log(service, number, "far")
    eventually(lambda: not service.artifacts.has_unsent(row.to_send), why="nothing is left to be sent")
    assert service.artifacts.output(number, 2, "site") is not None


def called(words: str) -> list[int]:
    """The processes whose command line is this, in whatever container."""
    return [process for process, line in command_lines().items() if line == words]


def test_what_is_not_what_the_run_made_is_never_taken(
    service: Service, settings: ServiceSettings, hosts: Hosts, repository: Repository
) -> None:
    """Whatever lies in the registry: what a job gets has the digest that the run's own job told."""
    text = SPREAD.partition("  image:\n")[0] + "  use: {needs: make, image: base, workers: [late], run: cat out/copy}\n"
    number = repository.push({**FILES, ".shiplap.yml": text})
    eventually(lambda: states(service, number).get("use") == "queued", why="the second job waits for its worker")
    with service.database.write() as connection:
        site = connection.execute(select(artifacts).where(artifacts.c.kind == "output")).one()
        evil = {"blob": site.blob, "size": site.size, "manifest": site.manifest}
        connection.execute(update(artifacts).where(artifacts.c.kind == "layer").values(evil))
    hosts.start("late")
    run = finished(service, number)
    assert run.state == "failed"
    assert "hello" not in log(service, number, "use")
    with Store.open(hosts.roots["late"]) as store:
        assert store.kept.get(kept_name(number, "make")) is None


def test_attempt_that_is_killed_while_it_sends_is_done_again(
    service: Service, hosts: Hosts, repository: Repository
) -> None:
    """Nothing tells of what it sent: the next one sends it again, and the run goes on elsewhere."""
    text = """
jobs:
  make: {image: base, workers: [one], outputs: [big], run: "head -c 200000000 /dev/urandom > big"}
  use: {needs: make, image: base, workers: [two], run: "wc -c < big"}
"""
    number = repository.push({".shiplap.yml": text})
    uploads = service.settings.root / "serve" / "uploads"
    eventually(lambda: any(uploads.glob("*")), timeout_s=60, why="an upload begins")
    hosts.workers["one"].kill()
    assert service.artifacts.of_run(number) == {}
    hosts.start("one")
    run = finished(service, number, timeout_s=120)
    assert run.state == "succeeded", run.reason
    assert "200000000" in log(service, number, "use")
    assert attempts(service, number)["make"] == 2


def test_single_host_sends_what_is_for_people_and_what_a_group_waits_on(
    service: Service,
    web: WebProcess,
    settings: ServiceSettings,
    workers: Workforce,
    repository: Repository,
    tmp_path: Path,
) -> None:
    service.secrets.put("any", b"12345", project="app")
    workers.start("--concurrency", "1", environ=with_registry(web, tmp_path))
    text = """
jobs:
  plan: {image: base, outputs: [plan, {path: site, name: site}], run: "echo plan > plan; echo site > site"}
  ask: {needs: plan, approve: Ship it?}
  deploy: {needs: ask, image: base, run: cat plan}
"""
    number = repository.push({".shiplap.yml": text})
    eventually(lambda: states(service, number).get("ask") == "blocked", why="the run waits for people")
    eventually(lambda: len(service.artifacts.of_run(number).get("plan", ())) == 2, why="both are in the registry")
    plain = repository.run({".shiplap.yml": "jobs: {a: {image: base, outputs: [x], run: 'echo x > x'}}"})
    assert plain.state == "succeeded", plain.reason
    assert not service.artifacts.has_unsent(identity_of(settings.root))
    assert service.artifacts.of_run(plain.number) == {}, "with one host and no name nothing moves"


def identity_of(root: Path) -> str:
    with Store.open(root) as store:
        return store.identity


def test_retry_takes_over_what_another_host_made(service: Service, hosts: Hosts, repository: Repository) -> None:
    """The host that made it may be gone by then."""
    text = """
jobs:
  make: {image: base, workers: [one], outputs: [out, {path: out, name: site}], run: "date +%s%N > out"}
  use: {needs: make, image: base, workers: [two], run: "cat out; exit 1"}
"""
    first = repository.run({".shiplap.yml": text})
    assert first.state == "failed"
    hosts.workers["one"].kill()
    again = finished(service, service.runs.retry(first.number, failed=True).number, timeout_s=120)
    assert states(service, again.number)["make"] == "reused", log(service, again.number, PLANNING)
    assert outputs(service, again.number) == outputs(service, first.number)
    assert log(service, again.number, "use")[3] == log(service, first.number, "use")[3]
