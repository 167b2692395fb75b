"""The quota of a project for outputs: the job that exceeds it fails, says why, and nobody else is hindered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from ci.ends import JobOutcome, Published
from core.digests import DiffID
from core.settings import ServiceSettings
from images.store import Store
from images.tarwriter import TarWriter
from pipelines.database import migrate
from pipelines.model import ContextSource, RunRequest
from pipelines.runs.keptoutputs import taken_by_project
from pipelines.service import Service
from worker.keptrows import failed_base_name, failed_name, published_name
from worker.outputsquota import within_quota

MOST = 20_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    settings = ServiceSettings.from_environ({"SHIPLAP_REDIS_URL": "unix:///nowhere"}, root=str(tmp_path))
    migrate(settings)
    with Service.open(settings) as opened:
        yield opened


@pytest.fixture
def store(service: Service) -> Iterator[Store]:
    with Store.open(service.settings.root) as opened:
        yield opened


def layer(store: Store, size: int) -> DiffID:
    with store.layers.writer() as blob:
        writer = TarWriter(blob)
        writer.file(b"file", 0o644, 0, 0, 0, size, bytes(size))
        writer.close()
        return blob.commit()


def run_of(service: Service, project: str) -> int:
    return service.runs.submit(RunRequest(ContextSource("sha256:" + "0" * 64), project)).number


def kept(service: Service, store: Store, project: str, size: int) -> None:
    """A run of the project keeps an output of so many bytes, and the frame of its tar."""
    name = published_name(run_of(service, project), "docs", "site")
    store.kept.keep(name, [layer(store, size)], until=time.time() + 60)


def ended(store: Store, size: int, state: Literal["succeeded", "failed"] = "succeeded") -> JobOutcome:
    made = layer(store, size)
    message = "exit code 3" if state == "failed" else ""
    return JobOutcome(state, message, outputs=made, published=(Published("site", made, 1, size, 60.0),))


def test_within_its_quota_a_job_ends_as_it_did(service: Service, store: Store) -> None:
    kept(service, store, "app", 8_000)
    outcome = ended(store, 5_000)
    assert within_quota(service.database, store.kept, "app", outcome, MOST) == outcome
    assert within_quota(service.database, store.kept, "app", ended(store, 10**6), 0).state == "succeeded", "no bound"
    nothing = JobOutcome("succeeded")
    assert within_quota(service.database, store.kept, "app", nothing, 1) == nothing


def test_who_exceeds_it_fails_and_keeps_nothing_of_it(service: Service, store: Store) -> None:
    kept(service, store, "app", 8_000)
    found = within_quota(service.database, store.kept, "app", ended(store, 15_000), MOST)
    assert (found.state, found.failure, found.published, found.outputs) == ("failed", "limit", (), None)
    assert "15000 bytes" in found.message
    assert "project app" in found.message
    assert "SHIPLAP_PROJECT_OUTPUTS_MAX" in found.message


def test_a_job_that_failed_says_why_it_did_first(service: Service, store: Store) -> None:
    found = within_quota(service.database, store.kept, "app", ended(store, 30_000, "failed"), MOST)
    assert found.message.startswith("exit code 3; its outputs for people have 30000 bytes")
    assert (found.failure, found.published) == ("", ())


def test_what_failed_jobs_left_for_shells_gives_way(service: Service, store: Store) -> None:
    kept(service, store, "app", 4_000)
    failed = [run_of(service, project) for project in ("app", "other")]
    rows = [name(run, "test") for run in failed for name in (failed_name, failed_base_name)]
    for row in rows:
        store.kept.keep(row, [layer(store, 8_000)], until=time.time() + 60)
    small, large = ended(store, 1_000), ended(store, 8_000)
    most = taken_by_project(service.database, store.kept)["app"] + 1_000
    assert within_quota(service.database, store.kept, "app", small, most) == small
    assert set(rows) < set(store.kept.names()), "it fits"
    assert within_quota(service.database, store.kept, "app", large, most) == large
    assert [row for row in store.kept.names() if row in rows] == sorted(rows[2:]), "another project's is another's"


def test_other_projects_have_their_own(service: Service, store: Store) -> None:
    kept(service, store, "greedy", 19_000)
    outcome = ended(store, 15_000)
    assert within_quota(service.database, store.kept, "app", outcome, MOST) == outcome


def test_what_is_taken_is_told_by_project_and_what_a_pruned_row_had_is_free(service: Service, store: Store) -> None:
    kept(service, store, "app", 1_000)
    kept(service, store, "app", 2_000)
    kept(service, store, "other", 4_000)
    store.kept.keep("output/999/docs/site", [layer(store, 500)], until=time.time() + 60)
    store.kept.keep("run/1/docs", [layer(store, 9_000)], until=time.time() + 60)
    taken = taken_by_project(service.database, store.kept)
    assert set(taken) == {"app", "other", ""}
    assert 3_000 <= taken["app"] < 12_000
    assert 4_000 <= taken["other"] < 8_000
    store.kept.drop(store.kept.names("output/"))
    assert taken_by_project(service.database, store.kept) == {}
