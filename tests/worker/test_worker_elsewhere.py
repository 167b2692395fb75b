"""A worker that shares no disk with the web process: contexts, secrets and images reach it over the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.references import Reference
from core.settings import ServiceSettings
from core.trust import of_branch, of_fork, of_user, protected
from pipelines.bare.making import install_hook, make_repository
from pipelines.errors import InvalidRequestError
from pipelines.logs.lines import decode_line
from pipelines.metrics import snapshot
from pipelines.model import BuildOptions, GitSource, HookSettings, Project, Run, RunRequest
from pipelines.owning.grants import Grant
from pipelines.projects.tags import TagFacts
from pipelines.service import Service
from tests.toolkit.git import git
from tests.toolkit.service import FOR_ALL, Workforce, eventually, finished, upload
from tests.web.processes import WebProcess
from tests.worker.conftest import import_base
from worker.sharedcache import refuse_cache_names, shared_caches, shared_target
from worker.work import is_trusted

DOCKERFILE = """FROM base
COPY big small /
RUN --mount=type=secret,id=key cat small; echo; wc -c < big; wc -c < /run/secrets/key
"""


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    del service  # it has made the database
    with WebProcess(settings) as process:
        yield process


def elsewhere(settings: ServiceSettings, web: WebProcess, token: str, root: Path) -> dict[str, str]:
    """The environment of a worker that has nothing of the web process but its address, a token and the key."""
    key = root.with_suffix(".key")
    shutil.copy(settings.root / "serve" / "secret.key", key)
    return {
        "SHIPLAP_ROOT": str(root),
        "SHIPLAP_SECRET_KEY_FILE": str(key),
        "SHIPLAP_WEB_URL": web.url,
        "SHIPLAP_WEB_TOKEN": token,
    }


def submit(service: Service, small: str) -> Run:
    source = upload(service.contexts, {"Dockerfile": DOCKERFILE, "big": bytes(3 << 20), "small": small})
    return service.runs.submit(RunRequest(source, options=BuildOptions(secrets=("key",))))


def output(service: Service, number: int) -> list[str]:
    lines = [decode_line(data) for _, data in service.logs.read(number)]
    return [line.text for line in lines if line.kind == "output"]


def test_context_comes_from_the_web_process(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path, busybox_tar: Path
) -> None:
    service.secrets.put("key", b"12345", project="default", policy=FOR_ALL)
    root = tmp_path / "elsewhere"
    import_base(root, busybox_tar)
    token = service.tokens.create("worker", ["build"])[1]
    workers.start("--concurrency", "1", environ=elsewhere(settings, web, token, root))
    run = finished(service, submit(service, "small").number)
    assert run.state == "succeeded", run.result
    assert output(service, run.number) == ["small", str(3 << 20), "5"]
    fetched = set((root / "serve" / "contexts" / "blobs").iterdir())
    again = finished(service, submit(service, "other").number)
    assert output(service, again.number)[0] == "other"
    assert len(set((root / "serve" / "contexts" / "blobs").iterdir()) - fetched) == 1
    web.signal(9)
    web.wait()
    given_up = finished(service, submit(service, "third").number)
    assert (given_up.state, given_up.attempt) == ("error", 3)
    assert "cannot fetch a build context" in given_up.reason


def test_worker_without_the_address_of_the_web_process_says_so(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path
) -> None:
    service.secrets.put("key", b"12345", project="default", policy=FOR_ALL)
    environ = elsewhere(settings, web, "", tmp_path / "elsewhere")
    workers.start("--concurrency", "1", environ={**environ, "SHIPLAP_WEB_URL": ""})
    run = finished(service, submit(service, "small").number)
    assert run.state == "failed"
    assert run.result is not None
    assert "SHIPLAP_WEB_URL" in run.result.error


def bare_repository(settings: ServiceSettings, service: Service, web: WebProcess, name: str, directory: Path) -> str:
    """As ``project add --bare`` makes it, with something to build pushed over HTTP; its file URL."""
    path = make_repository(settings.root, name)
    service.projects.put(Project(name, hook=HookSettings(forge="plain", repository=f"file://{path}")))
    install_hook(path, f"{web.url}/hooks/{name}", service.projects.set_webhook_secret(name))
    clone = directory / f"clone-of-{name}"
    git(directory, "init", "--quiet", "--initial-branch=main", str(clone))
    (clone / "Dockerfile").write_text(f"FROM base\nRUN echo built for {name}\n")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "-m", "one")
    token = service.roles.create_token(name, "pusher", "build")[1]
    git(clone, "push", "--quiet", f"http://x:{token}@127.0.0.1:{web.port}/git/{name}.git", "main")
    return f"file://{path}"


def test_bare_repository_comes_from_the_web_process(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path, busybox_tar: Path
) -> None:
    """A run gets its own project's, and what that was given."""
    root = tmp_path / "elsewhere"
    import_base(root, busybox_tar)
    url = bare_repository(settings, service, web, "app", tmp_path)
    others = bare_repository(settings, service, web, "other", tmp_path)
    stale = root / "git" / "app.git"  # is not looked at
    stale.mkdir(parents=True)
    workers.start("--concurrency", "1", environ=elsewhere(settings, web, "", root))
    (pushed,) = service.runs.list(project="app")
    run = finished(service, pushed.number)
    assert run.state == "succeeded", run.reason
    assert output(service, run.number) == ["built for app"]
    branch = finished(service, service.runs.submit(RunRequest(GitSource(url, "main"), "app")).number)
    assert branch.state == "succeeded", branch.reason
    service.grants.give(Grant("app", "bare", "other"))
    given = finished(service, service.runs.submit(RunRequest(GitSource(others, "main"), "app")).number)
    assert given.state == "succeeded", given.reason
    strangers = service.runs.submit(RunRequest(GitSource(url, "main", trusted=False), "app"))
    assert "strangers" in finished(service, strangers.number).reason


def test_worker_without_the_address_says_so_of_repositories_too(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path
) -> None:
    bare_repository(settings, service, web, "app", tmp_path)
    environ = elsewhere(settings, web, "", tmp_path / "elsewhere")
    workers.start("--concurrency", "1", environ={**environ, "SHIPLAP_WEB_URL": ""})
    (pushed,) = service.runs.list(project="app")
    run = finished(service, pushed.number)
    assert run.result is not None
    assert "SHIPLAP_WEB_URL" in run.result.error


def with_registry(web: WebProcess, directory: Path) -> dict[str, str]:
    """The environment of a worker that pushes to the registry of the web process, and has no log-in to it."""
    return {"SHIPLAP_REGISTRY": web.url.removeprefix("http://"), "DOCKER_CONFIG": str(directory / "no-credentials")}


STEPS = """FROM base AS tools
RUN echo tool > /tool
FROM base
COPY small /
COPY --from=tools /tool /
RUN cat /tool small
"""


def wait_for_cache(service: Service, runs: int) -> None:
    """Until so many runs' parts of the shared cache are written, or given up."""
    eventually(lambda: sum(snapshot(service).cache_written.values()) == runs, why="the cache is written")


def test_second_worker_runs_nothing_that_the_first_has_run(
    settings: ServiceSettings, service: Service, web: WebProcess, workers: Workforce, tmp_path: Path, busybox_tar: Path
) -> None:
    service.secrets.put("key", b"12345", project="default", policy=FOR_ALL)
    token = service.tokens.create("worker", ["build"])[1]
    registry = with_registry(web, tmp_path)
    import_base(tmp_path / "elsewhere", busybox_tar)
    workers.start("--concurrency", "1", "--labels", "first", environ=registry)
    other = elsewhere(settings, web, token, tmp_path / "elsewhere")
    workers.start("--concurrency", "1", "--labels", "second", environ={**registry, **other})
    source = upload(service.contexts, {"Dockerfile": STEPS, "small": "small\n"})
    results = []
    for label in ("first", "second"):
        run = service.runs.submit(RunRequest(source, worker_labels=(label,), project="app"))
        ended = finished(service, run.number)
        assert ended.state == "succeeded", ended.result
        wait_for_cache(service, run.number)
        warned = [decode_line(data) for _, data in service.logs.read(run.number)]
        assert [line.text for line in warned if line.kind == "warning"] == []
        results.append(ended.result)
    first, second = results
    assert first is not None
    assert second is not None
    assert (first.executed, first.cached) == (4, 0)
    assert (second.executed, second.cached, second.image) == (0, 4, first.image)
    assert snapshot(service).cache_written == {"written": 1, "unchanged": 1, "failed": 0, "dropped": 0}
    rows = [step.name.partition(" 127")[0] for step in service.runs.steps(run.number) if not step.line]
    assert rows == ["exporting to image", "[internal] import the cache", "pushing image"]

    run = service.runs.submit(RunRequest(source, worker_labels=("second",), project="app"))
    assert finished(service, run.number).state == "succeeded"  # it has all steps itself: the cache is asked at the end
    rows = [step.name.partition(" 127")[0] for step in service.runs.steps(run.number) if not step.line]
    assert sorted(rows) == ["[internal] import the cache", "exporting to image", "pushing image"]


def test_what_strangers_wrote_gets_nothing_and_leaves_nothing(service: Service) -> None:
    run = service.runs.submit(RunRequest(GitSource("https://git.example/x", trusted=False), project="app"))
    claim = service.claims.take("worker", ())
    assert claim is not None
    assert not is_trusted(claim)
    facts = TagFacts("app", run.number, "ci:5000", "feature/x")
    assert shared_caches(run, of_fork("app", 7), facts, ()) == ()
    assert shared_target(()) is None


def test_every_domain_writes_its_own_shared_cache_and_reads_the_protected_lane_s(service: Service) -> None:
    run = service.runs.submit(RunRequest(GitSource("https://git.example/x"), project="app"))
    facts = TagFacts("app", run.number, "ci:5000")
    (main,) = shared_caches(run, protected("app"), facts, ())
    assert main.location.startswith("ci:5000/cache/app:protected-")
    own, lane = shared_caches(run, of_branch("app", "feature/x"), facts, ())
    assert lane == main
    assert own.location.startswith("ci:5000/cache/app:branch-feature-x-")
    assert shared_target((own, lane)) == own.location
    assert shared_caches(run, protected("app"), TagFacts("app", 1), ()) == ()


def test_no_two_domains_have_one_shared_cache(service: Service) -> None:
    run = service.runs.submit(RunRequest(GitSource("https://git.example/x"), project="app"))
    facts = TagFacts("app", run.number, "ci:5000")
    names = ("x", "feature/x", "feature-x", "x" * 300, "x" * 301, "protected", "ann (token ci)", "\udcff")
    domains = [make("app", name) for make in (of_branch, of_user) for name in names]
    places = {shared_caches(run, domain, facts, ())[0].location for domain in (protected("app"), *domains)}
    assert len(places) == len(domains) + 1
    for place in places:
        assert str(Reference.parse(place)) == place


@pytest.mark.parametrize("name", ["ci:5000/cache/app:protected-1", "ci:5000/cache/app", "ci:5000/cache/x/y"])
def test_no_image_takes_the_place_of_a_shared_cache(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="what workers share"):
        refuse_cache_names([Reference.parse(name)], "ci:5000")
    refuse_cache_names([Reference.parse("ci:5000/cachet/app"), Reference.parse("cache/app")], "ci:5000")
    refuse_cache_names([Reference.parse(name)], "")


@pytest.mark.parametrize("module", ["worker", "web"])
def test_process_with_another_key_refuses_to_start(settings: ServiceSettings, tmp_path: Path, module: str) -> None:
    key = tmp_path / "other.key"
    key.write_bytes(b"k" * 32)
    environ = {
        **os.environ,
        "SHIPLAP_ROOT": str(settings.root),
        "SHIPLAP_DATABASE_URL": settings.database_url,
        "SHIPLAP_REDIS_URL": settings.redis_url,
        "SHIPLAP_SECRET_KEY_FILE": str(key),
    }
    command = [sys.executable, "-m", module, *(["--listen", "127.0.0.1:0"] if module == "web" else [])]
    done = subprocess.run(command, env=environ, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert f"{key} is another key" in done.stderr
