"""What the names in a run's FROM mean: what their registry says now, by the run's own rights, or the administrator."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.platforms import Platform
from core.references import Reference
from core.settings import ServiceSettings
from images.oci import ImageConfig
from images.store import Store
from pipelines.model import BuildOptions, GitSource, Project, Run, RunRequest
from pipelines.owning.grants import Grant
from pipelines.service import Service
from registry.client import Client, ClientConfig, push
from registry.credentials import Credentials
from tests.registry.conftest import layer_tar
from tests.toolkit.foreign import run_tool
from tests.toolkit.git import git
from tests.toolkit.registries import DebianRegistry, debian_registry
from tests.toolkit.service import FOR_ALL, Workforce, finished
from tests.worker.test_worker import submit, texts

_LET = {"SHIPLAP_GIT_ALLOWED_HOSTS": "127.0.0.1"}


def put(registry: str, name: str, content: str, directory: Path, *, user: str = "") -> None:
    """Push an image of one file ``content`` from another machine's store."""
    with Store.open(directory / "elsewhere") as store:
        with store.layers.writer() as writer:
            writer.write(layer_tar(content))
            diff_id = writer.commit()
        image = store.images.put(ImageConfig.for_platform(Platform.host()), [diff_id])
        credentials = Credentials(user, "s3cret") if user else None
        with Client(ClientConfig(directory / "nowhere"), credentials=lambda _: credentials) as client:
            push(Reference.parse(f"{registry}/{name}"), store, client=client, image=image)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[DebianRegistry, Path]]:
    """A registry for alice alone, and a docker configuration with her password."""
    directory, config = tmp_path / "guarded", tmp_path / "docker"
    directory.mkdir()
    config.mkdir()
    (directory / "htpasswd").write_text(run_tool("htpasswd", "-Bbn", "alice", "s3cret"))
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(directory / "htpasswd")}}}
    with debian_registry(directory, auth) as registry:
        known = {"auths": {registry.host: {"auth": base64.b64encode(b"alice:s3cret").decode()}}}
        (config / "config.json").write_text(json.dumps(known))
        yield registry, config


def untrusted(service: Service, settings: ServiceSettings, dockerfile: str, number: int) -> Run:
    """A run of what a stranger wrote."""
    repository = settings.root / "git" / "default.git"
    if not number:
        repository.mkdir(parents=True)
        git(repository, "init", "--quiet", "--initial-branch=main")
    (repository / "Dockerfile").write_text(dockerfile)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "one")
    source = GitSource(f"file://{repository}", ref="main", trusted=False)
    return finished(service, service.runs.submit(RunRequest(source, max_attempts=1)).number)


def test_stranger_s_run_is_given_nothing_that_others_pulled_by_name_digest_or_id(
    service: Service,
    workers: Workforce,
    settings: ServiceSettings,
    guarded: tuple[DebianRegistry, Path],
    tmp_path: Path,
) -> None:
    registry, config = guarded
    name = f"{registry.host}/secretproj:1"
    put(registry.host, "secretproj:1", "plans", tmp_path, user="alice")
    service.grants.give(Grant("*", "login", "*", policy=FOR_ALL))
    workers.start("--concurrency", "1", environ={**_LET, "DOCKER_CONFIG": str(config)})
    text = f"FROM {name} AS plans\nFROM base\nCOPY --from=plans / /x/\nRUN ls /x\n"
    trusted = finished(service, submit(service, text).number)
    assert trusted.state == "succeeded", trusted.result
    assert texts(service, trusted.number) == ["plans"]
    with Store.open(settings.root) as store:
        image = store.images.resolve(name)
        (known,) = store.images.digests(image.id)
    for number, base in enumerate((name, known.familiar, str(image.id), image.id.short)):
        run = untrusted(service, settings, text.replace(name, base), number)
        assert run.state != "succeeded", base
        assert not texts(service, run.number)


def test_tag_is_asked_for_in_every_run_and_a_pull_of_another_names_nothing(
    service: Service, workers: Workforce, settings: ServiceSettings, tmp_path: Path
) -> None:
    (tmp_path / "registry").mkdir()
    with debian_registry(tmp_path / "registry") as registry:
        name = f"{registry.host}/tool:1"
        text = f"FROM {name} AS tool\nFROM base\nCOPY --from=tool / /x/\nRUN ls /x\n"
        workers.start("--concurrency", "1", environ=_LET)
        for content in ("old", "new"):
            put(registry.host, "tool:1", content, tmp_path)
            run = finished(service, submit(service, text).number)
            assert texts(service, run.number) == [content]
        with Store.open(settings.root) as store:  # the host's word counts for all
            store.images.tag(Reference.parse(name), store.images.resolve("base").id)
        given = f"FROM {name}\nRUN echo the host says so\n"
        assert texts(service, finished(service, submit(service, given).number).number) == ["the host says so"]
        asked = finished(service, submit(service, given, options=BuildOptions(pull=True)).number)
        assert asked.state == "failed"  # what the registry has is no base for a RUN
        with Store.open(settings.root) as store:
            store.images.untag(Reference.parse(name))
    away = finished(service, submit(service, text, max_attempts=1).number)
    assert away.state == "error"  # a machine's fault, and no answer from here


def test_what_a_run_built_names_nothing_for_another(
    service: Service, workers: Workforce, settings: ServiceSettings
) -> None:
    workers.start("--concurrency", "1")
    service.projects.put(Project("shop"))
    made = submit(service, "FROM base\nRUN echo x >/x\n", options=BuildOptions(tags=("app:1", "base")))
    ended = finished(service, made.number)
    assert ended.state == "succeeded"
    assert ended.result is not None
    with Store.open(settings.root) as store:
        assert store.images.resolve("app:1").id == ended.result.image
        assert store.images.resolve("base").id != ended.result.image
    for project in ("shop", "default"):
        run = finished(service, submit(service, "FROM app:1\n", project=project, max_attempts=1).number)
        assert run.state in ("failed", "error")
        assert "no such image: app:1" in run.reason


def test_what_is_built_on_an_image_that_needs_a_log_in_is_the_project_s(
    service: Service, workers: Workforce, guarded: tuple[DebianRegistry, Path], tmp_path: Path
) -> None:
    registry, config = guarded
    put(registry.host, "private:1", "plans", tmp_path, user="alice")
    for project in ("shop", "other"):
        service.projects.put(Project(project))
    service.grants.give(Grant("*", "login", "*", policy=FOR_ALL))
    workers.start("--concurrency", "1", environ={**_LET, "DOCKER_CONFIG": str(config)})
    text = f"FROM {registry.host}/private:1\nCOPY f /f\n"
    cached = []
    for project in ("shop", "shop", "other"):
        run = finished(service, submit(service, text, {"f": "x"}, project=project).number)
        assert run.result is not None
        assert run.state == "succeeded", run.result
        cached.append(run.result.cached)
    assert cached == [0, 1, 0]
