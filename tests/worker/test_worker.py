"""Runs through a real queue, a real worker and real containers."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import select

from core.references import Reference
from core.settings import ServiceSettings
from images.store import Store
from pipelines.errors import ConflictError
from pipelines.logs.lines import decode_line
from pipelines.model import BuildOptions, Project, Run, RunRequest
from pipelines.owning.grants import Grant
from pipelines.schema import run_secrets
from pipelines.service import Service
from tests.toolkit.registries import debian_registry
from tests.toolkit.service import FOR_ALL, RedisServer, Workforce, eventually, finished, upload


def submit(service: Service, dockerfile: str, files: dict[str, str] | None = None, **members: object) -> Run:
    source = upload(service.contexts, {"Dockerfile": dockerfile, **(files or {})})
    return service.runs.submit(RunRequest(source, **members))  # type: ignore[arg-type]  # a test's shorthand


def texts(service: Service, number: int, kind: str = "output") -> list[str]:
    lines = [decode_line(data) for batch in service.logs.follow(number) for _, data in batch]
    assert [line.n for line in lines] == list(range(1, len(lines) + 1))
    return [line.text for line in lines if line.kind == kind]


def wait_for_output(service: Service, number: int) -> None:
    for batch in service.logs.follow(number):
        if any(decode_line(data).kind == "output" for _, data in batch):
            return


def test_run_is_built_and_its_log_kept(service: Service, workers: Workforce, settings: ServiceSettings) -> None:
    workers.start()
    run = submit(
        service,
        "FROM base\nARG WHO\nCOPY greeting /g\nRUN cat /g; echo $WHO\nRUN echo two\n",
        {"greeting": "hello\n"},
        options=BuildOptions(tags=("app:1",), build_args={"WHO": "world"}, labels={"l": "1"}),
    )
    ended = finished(service, run.number)
    assert ended.state == "succeeded"
    assert ended.result is not None
    assert (ended.result.executed, ended.result.cached) == (3, 0)
    assert ended.result.names == ("app:1",)
    assert texts(service, run.number) == ["hello", "world", "two"]
    steps = service.runs.steps(run.number)
    assert [step.state for step in steps] == ["done"] * 5
    assert [step.size_bytes > 0 for step in steps] == [False, True, True, True, False]  # FROM … and the export
    with Store.open(settings.root) as store:
        image = store.images.resolve("app:1")
        assert image.id == ended.result.image
        assert image.config.config is not None
        assert image.config.config.labels == {"l": "1"}
    again = finished(service, service.runs.retry(run.number).number)
    assert again.result is not None
    assert (again.result.executed, again.result.cached) == (0, 3)
    assert workers.workers[0].stop() == 0
    assert service.workers.list() == []


def test_what_a_run_cached_can_be_pruned_while_its_worker_lives(
    service: Service, workers: Workforce, settings: ServiceSettings
) -> None:
    workers.start()
    dockerfile = "FROM base\nRUN head -c 100000 /dev/zero >/f\nRUN exit 3\n"
    for _ in range(2):  # what is gone is made again
        run = finished(service, submit(service, dockerfile).number)
        assert [step.state for step in service.runs.steps(run.number)][:3] == ["done", "done", "failed"]
        with Store.open(settings.root) as store:
            assert store.cache_use.trim(0).freed_bytes > 100_000
            assert store.cache_use.items() == []


def test_failed_step_fails_the_run_once(service: Service, workers: Workforce) -> None:
    workers.start()
    run = finished(service, submit(service, "FROM base\nRUN echo before; exit 3\n").number)
    assert (run.state, run.attempt) == ("failed", 1)
    assert run.result is not None
    assert "Dockerfile:2" in run.result.error
    assert "exit code: 3" in run.reason
    assert texts(service, run.number) == ["before"]


@pytest.mark.parametrize(
    ("dockerfile", "message"),
    [
        ("FRUM base\n", "FRUM"),
        ("FROM base\nCOPY missing /\n", "missing"),
    ],
)
def test_mistakes_of_users_are_told(service: Service, workers: Workforce, dockerfile: str, message: str) -> None:
    workers.start("--concurrency", "1")
    run = finished(service, submit(service, dockerfile).number)
    assert (run.state, run.attempt) == ("failed", 1)
    assert message in run.reason


def test_dockerfile_cannot_be_outside_of_the_context(service: Service, workers: Workforce) -> None:
    workers.start("--concurrency", "1")
    for path in ("../../../../../../etc/passwd", "/etc/passwd", "nowhere"):
        run = finished(service, submit(service, "FROM base\n", options=BuildOptions(file=path)).number)
        assert run.state == "failed"
        assert "there is no" in run.reason


def test_a_run_without_a_dockerfile_names_those_that_there_are(service: Service, workers: Workforce) -> None:
    workers.start("--concurrency", "1")
    source = upload(service.contexts, {"web.Dockerfile": "FROM base\n", "a.txt": "x"})
    run = finished(service, service.runs.submit(RunRequest(source)).number)
    assert (run.state, run.reason) == (
        "failed",
        "there is no Dockerfile in the build context (there is web.Dockerfile)",
    )
    assert run.result is not None
    assert run.result.dockerfiles == ("web.Dockerfile",)
    assert "hint" not in run.result.error  # what to do is said where it is shown
    nothing = finished(service, service.runs.submit(RunRequest(upload(service.contexts, {"a.txt": "x"}))).number)
    assert nothing.result is not None
    assert nothing.result.dockerfiles == ()
    misspelt = finished(
        service, service.runs.submit(RunRequest(source, options=BuildOptions(file="web.Dockerfil"))).number
    )
    assert misspelt.reason == "there is no web.Dockerfil in the build context (did you mean web.Dockerfile?)"


def test_cancel_ends_a_running_step_within_a_second(service: Service, workers: Workforce) -> None:
    workers.start()
    run = submit(service, "FROM base\nRUN echo started; sleep 300\n")
    wait_for_output(service, run.number)
    service.runs.cancel(run.number, superseded_by=6)
    asked = time.monotonic()
    assert finished(service, run.number).state == "cancelled"
    assert time.monotonic() - asked < 5  # a second when the machine has nothing else to do
    assert texts(service, run.number, "status")[-1] == "cancelled: superseded by #6"
    assert service.runs.get(run.number).reason == "superseded by #6"


def deep_archive() -> bytes:
    """Two members in turn, each in a directory 500 deep of its own, a hundred thousand times: minutes of work."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for top in ("x", "y"):
            tar.addfile(tarfile.TarInfo(f"{top}/" * 500 + "f"))
        size = tar.offset
    return gzip.compress(made.getvalue()[:size] * 100_000, 1)


@pytest.mark.parametrize("how", ["cancel", "time-out"])
def test_an_archive_without_end_is_left_when_the_run_has_to_end(service: Service, workers: Workforce, how: str) -> None:
    workers.start()
    options = BuildOptions(timeout_s=10) if how == "time-out" else BuildOptions()
    source = upload(service.contexts, {"Dockerfile": "FROM base\nADD a.tar.gz /d/\n", "a.tar.gz": deep_archive()})
    run = service.runs.submit(RunRequest(source, options=options))
    if how == "cancel":
        eventually(lambda: any(step.state == "running" for step in service.runs.steps(run.number)), why="it unpacks")
        service.runs.cancel(run.number)
    ended = finished(service, run.number)
    assert (ended.state, ended.reason) == (
        ("cancelled", "cancelled") if how == "cancel" else ("failed", "stopped after 10 s, the run's time-out")
    )


def test_run_that_takes_too_long_is_stopped(service: Service, workers: Workforce) -> None:
    workers.start()
    run = finished(
        service, submit(service, "FROM base\nRUN echo on; sleep 300\n", options=BuildOptions(timeout_s=1)).number
    )
    assert (run.state, run.reason) == ("failed", "stopped after 1 s, the run's time-out")


def test_sigterm_lets_running_builds_end(service: Service, workers: Workforce) -> None:
    worker = workers.start("--concurrency", "1")
    first = submit(service, "FROM base\nRUN echo started; sleep 4; echo done\n")
    second = submit(service, "FROM base\nRUN echo two\n")
    eventually(lambda: service.runs.get(first.number).state == "running")
    assert worker.stop() == 0
    assert service.runs.get(first.number).state == "succeeded"
    assert service.runs.get(second.number).state == "queued"
    workers.start("--concurrency", "1")
    assert finished(service, second.number).attempt == 1


def test_run_for_a_label_waits_for_its_worker(service: Service, workers: Workforce) -> None:
    workers.start("--concurrency", "1")
    special = submit(service, "FROM base\nRUN echo special\n", worker_labels=("gpu",))
    plain = submit(service, "FROM base\nRUN echo plain\n")
    assert finished(service, plain.number).worker == "worker-1"
    assert service.runs.get(special.number).reason == "no running worker has the label gpu"
    workers.start("--concurrency", "1", "--labels", "gpu,big")
    assert finished(service, special.number).worker == "worker-2"


def test_secrets_of_a_run_are_masked_in_its_log(service: Service, workers: Workforce) -> None:
    workers.start("--concurrency", "1")
    service.secrets.put("key", b"correct horse", project="default", policy=FOR_ALL)
    options = BuildOptions(secrets=("key",), build_args={"K": "correct horse"})
    run = submit(service, 'FROM base\nARG K\nRUN echo "is $K"; echo -n "$K" | base64; false\n', options=options)
    assert finished(service, run.number).state == "failed"
    assert texts(service, run.number) == ["is ***", "***=="]
    lacking = submit(service, "FROM base\n", options=BuildOptions(secrets=("nothing",)))
    assert finished(service, lacking.number).reason.startswith("there is no secret nothing")


MOUNTS = """FROM base
RUN --mount=type=secret,id=stored --mount=type=secret,id=own cat /run/secrets/* | tr a-z A-Z
"""


def test_steps_get_stored_secrets_and_those_that_came_with_the_run(service: Service, workers: Workforce) -> None:
    workers.start("--concurrency", "1")
    service.secrets.put("stored", b"of the service\n", policy=FOR_ALL)
    service.projects.put(Project("app"))
    service.grants.give(Grant("*", "secret", "stored"))
    service.secrets.put("stored", b"of the project\n", project="app", policy=FOR_ALL)
    for project, expected in (("default", "OF THE SERVICE"), ("app", "OF THE PROJECT")):
        options = BuildOptions(secrets=("stored",), no_cache=True)
        run = submit(service, MOUNTS, project=project, options=options, secrets={"own": b"of this run\n"})
        assert run.own_secrets == ("own",)
        assert finished(service, run.number).state == "succeeded"
        assert texts(service, run.number) == ["OF THIS RUN", expected]
    with service.database.read() as connection:
        assert connection.execute(select(run_secrets)).all() == []
    with pytest.raises(ConflictError, match="came with secrets"):
        service.runs.retry(run.number)


def test_image_is_pushed_under_the_names_of_the_template(
    settings: ServiceSettings, service: Service, workers: Workforce, tmp_path: Path, broker: RedisServer
) -> None:
    (tmp_path / "registry").mkdir()
    with debian_registry(tmp_path / "registry") as registry:
        workers.start("--concurrency", "1", environ={"SHIPLAP_REGISTRY": registry.host})
        service.projects.put(Project("app", tag_template="{registry}/{project}:{number} {registry}/{project}:{branch}"))
        run = finished(service, submit(service, "FROM base\nRUN echo x > /x\n", project="app").number)
        assert run.state == "succeeded", run
        name = f"{registry.host}/app:{run.number}"
        assert run.result is not None
        assert run.result.names == (name,)
        assert f"pushed {name}@{run.result.manifest}" in texts(service, run.number, "status")
        url = f"http://{registry.host}/v2/app/manifests/{run.result.manifest}"
        with urlopen(Request(url, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})) as answer:
            assert answer.status == 200
        tagged = finished(
            service, submit(service, "FROM base\nRUN echo x > /x\n", options=BuildOptions(tags=("team/tool",))).number
        )
        assert tagged.result is not None
        assert tagged.result.names == (f"{registry.host}/team/tool:latest",)
    assert Reference.parse(name).domain == registry.host
