"""Which log-in a run uses at which registry: its token, what its project was given, or none."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from core.settings import ServiceSettings
from core.trust import of_branch, of_fork, protected
from pipelines.logs.lines import decode_line
from pipelines.model import BuildOptions, GitSource, Project, RunRequest
from pipelines.owning.grants import Grant
from pipelines.owning.policies import Policy, RunAsks
from pipelines.service import Service
from registry.credentials import Credentials
from tests.toolkit.service import FOR_ALL, Workforce, finished, upload
from tests.web.processes import WebProcess
from worker.credentials import RunCredentials

OURS = "ci.example:5000"
PUBLIC = "ci.example"
TOLD: list[str] = []
"""What runs were told of log-ins that are not for them."""


@pytest.fixture
def web(settings: ServiceSettings, service: Service) -> Iterator[WebProcess]:
    del service  # it has made the database
    with WebProcess(settings) as process:
        yield process


def docker_config(directory: Path, *registries: str) -> Path:
    """A log-in of the worker's own to each of these."""
    auth = base64.b64encode(b"worker:own").decode()
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"auths": {name: {"auth": auth} for name in registries}}))
    return directory


MAIN = RunAsks(protected("web"), "push", "main")


def credentials(
    service: Service, directory: Path, *, trusted: bool = True, ours: bool = True, asks: RunAsks = MAIN
) -> RunCredentials:
    """Of a run of project ``web``, on a worker that is logged in to three registries itself."""
    service.runs.submit(RunRequest(GitSource("https://git.example/x", trusted=trusted), "web"))
    claim = service.claims.take("worker-1", ())
    assert claim is not None
    return RunCredentials(
        claim,
        service.grants,
        service.logins,
        registries=frozenset((OURS, PUBLIC)),
        answers_as_ours=lambda _: ours,
        docker_config=docker_config(directory, OURS, "ghcr.io", "quay.io"),
        asks=asks,
        tell=TOLD.append,
    )


def test_log_ins_of_the_worker_are_no_projects_unless_given(service: Service, tmp_path: Path) -> None:
    found = credentials(service, tmp_path / "docker")
    assert found.find("ghcr.io") is None
    own = found.find(OURS)
    assert own is not None
    assert (own.username, own.password[:9]) == ("run-1", "shp_run_1")
    service.grants.give(Grant("web", "login", "ghcr.io"))
    assert found.find("ghcr.io") == Credentials("worker", "own")
    assert found.find("quay.io") is None
    service.logins.put("ghcr.io", "robot", "stored")
    assert found.find("ghcr.io") == Credentials("robot", "stored")


def test_log_in_is_for_the_runs_that_its_policy_names(service: Service, tmp_path: Path) -> None:
    """One that says nothing is for protected branches and tags; what refuses one leaves the others."""
    topic = MAIN._replace(domain=of_branch("web", "topic"), branch="topic")
    found = credentials(service, tmp_path / "docker", asks=topic)
    TOLD.clear()
    for registry in ("ghcr.io", OURS, "*"):
        service.grants.give(Grant("web", "login", registry))
    assert [found.find("ghcr.io"), found.find("ghcr.io"), found.find("quay.io")] == [None] * 3
    own = found.find(OURS)
    assert own is not None
    assert own.username == "run-1", "its token, as without a grant"
    why = "not for this run: it is for protected branches and tags; "
    why += "this run is of branch topic (event push), without a pipeline"
    assert [
        f"{what} {why}"
        for what in ("the log-in to ghcr.io is", "the worker's own log-ins are", f"the log-in to {OURS} is")
    ] == TOLD, "each once"
    service.grants.give(Grant("*", "login", "ghcr.io", policy=Policy(("topic",), ("push",))))
    assert found.find("ghcr.io") == Credentials("worker", "own")
    fork = MAIN._replace(domain=of_fork("web", 7))
    service.grants.give(Grant("*", "login", "ghcr.io", policy=FOR_ALL))
    assert credentials(service, tmp_path / "docker", asks=fork, trusted=False).find("ghcr.io") is None


def test_log_in_refused_by_name_is_not_had_by_a_grant_of_all(service: Service, tmp_path: Path) -> None:
    topic = MAIN._replace(domain=of_branch("web", "topic"), branch="topic")
    found = credentials(service, tmp_path / "docker", asks=topic)
    service.grants.give(Grant("*", "login", "*", policy=FOR_ALL))
    assert found.find("ghcr.io") == Credentials("worker", "own")
    service.grants.give(Grant("web", "login", "ghcr.io", policy=Policy(("main",))))
    assert found.find("ghcr.io") is None
    assert found.find("quay.io") == Credentials("worker", "own")


def test_log_ins_that_all_have_are_not_the_services_own(service: Service, tmp_path: Path) -> None:
    """The migration gives the workers' log-ins to all; with the one to this registry a run would be the worker."""
    service.grants.give(Grant("*", "login", "*"))
    found = credentials(service, tmp_path / "docker")
    assert found.find("quay.io") == Credentials("worker", "own")
    own = found.find(OURS)
    assert own is not None
    assert own.username == "run-1"


def test_services_public_name_is_its_own_too(service: Service, tmp_path: Path) -> None:
    """Behind a proxy with TLS, Dockerfiles name the registry as people do."""
    found = credentials(service, tmp_path / "docker")
    own = found.find(PUBLIC)
    assert own is not None
    assert own.username == "run-1"
    assert found.find(f"{PUBLIC}.evil.example") is None


def test_run_pulls_by_the_public_name_what_it_pushed_by_another(
    service: Service, web: WebProcess, workers: Workforce, tmp_path: Path
) -> None:
    pushed_to = web.url.removeprefix("http://")
    public = pushed_to.replace("127.0.0.1", "localhost")
    environ = {"SHIPLAP_REGISTRY": pushed_to, "SHIPLAP_PUBLIC_URL": f"http://{public}", "DOCKER_CONFIG": str(tmp_path)}
    workers.start("--concurrency", "1", environ=environ)
    service.projects.put(Project("web", tag_template="{registry}/{project}:{number}"))
    for dockerfile in ("FROM scratch\nCOPY Dockerfile /\n", f"FROM {public}/web:1\nCOPY Dockerfile /again\n"):
        source = upload(service.contexts, {"Dockerfile": dockerfile})
        ended = finished(service, service.runs.submit(RunRequest(source, "web")).number)
        assert ended.state == "succeeded", ended.result


def test_token_of_a_run_is_not_told_to_a_registry_of_others(service: Service, tmp_path: Path) -> None:
    """SHIPLAP_REGISTRY may name one that is not this service's."""
    found = credentials(service, tmp_path / "docker", ours=False)
    assert found.find(OURS) is None
    service.grants.give(Grant("web", "login", OURS))
    assert found.find(OURS) == Credentials("worker", "own")


def test_run_of_a_stranger_is_anybody_everywhere(service: Service, tmp_path: Path) -> None:
    service.grants.give(Grant("*", "login", "*"))
    service.grants.give(Grant("*", "login", "ghcr.io"))
    service.logins.put("ghcr.io", "robot", "stored")
    found = credentials(service, tmp_path / "docker", trusted=False)
    assert [found.find(domain) for domain in (OURS, "ghcr.io", "quay.io")] == [None, None, None]


def test_runs_reach_their_projects_images_and_no_others(
    service: Service, web: WebProcess, workers: Workforce, tmp_path: Path
) -> None:
    """On a worker without any log-in: a run pushes and its project's next run pulls, another project's may not."""
    host = web.url.removeprefix("http://")
    workers.start("--concurrency", "1", environ={"SHIPLAP_REGISTRY": host, "DOCKER_CONFIG": str(tmp_path / "none")})
    service.projects.put(Project("web", tag_template="{registry}/{project}:{number}"))
    service.projects.put(Project("other", tag_template="{registry}/web:{number}"))

    def run(project: str, dockerfile: str) -> tuple[str, str]:
        source = upload(service.contexts, {"Dockerfile": dockerfile})
        options = BuildOptions(no_cache=True)
        ended = finished(service, service.runs.submit(RunRequest(source, project, options)).number)
        warned = [decode_line(data) for _, data in service.logs.read(ended.number)]
        assert [line.text for line in warned if line.kind == "warning"] == []
        return ended.state, ended.result.error if ended.result is not None else ""

    assert run("web", "FROM base\nRUN echo secret > /secret\n") == ("succeeded", "")
    retag(web, service, "web", "1", "elsewhere")  # no store of this worker knows this name
    state, error = run("other", f"FROM {host}/web:elsewhere\n")
    assert (state, "belongs to project web, not to other" in error) == ("failed", True), error
    service.projects.put(Project("other"))
    state, error = run("other", f"FROM {host}/web:elsewhere\nRUN cat /secret\n")
    assert (state, "denied" in error) == ("failed", True), error
    assert run("web", f"FROM {host}/web:elsewhere\nRUN cat /secret\n") == ("succeeded", "")
    retag(web, service, "web", "1", "given")
    service.grants.give(Grant("other", "image", "web"))
    assert run("other", f"FROM {host}/web:given\nRUN cat /secret\n") == ("succeeded", "")


def retag(web: WebProcess, service: Service, repository: str, tag: str, new: str) -> None:
    """Give an image another tag, as an administrator."""
    url = f"{web.url}/v2/{repository}/manifests/"
    token = service.tokens.create("admin", ["admin"])[1]
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/vnd.oci.image.manifest.v1+json"}
    with urlopen(Request(url + tag, headers=headers)) as answer:
        data, headers["Content-Type"] = answer.read(), answer.headers["Content-Type"]
    urlopen(Request(url + new, data, headers, method="PUT")).close()
