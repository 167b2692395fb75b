"""Uploaded contexts on a worker: runs share their files, and leave nothing behind that no later run reads."""

from __future__ import annotations

import sqlite3

from core.digests import Digest
from core.settings import ServiceSettings
from pipelines.service import Service
from tests.toolkit.service import Workforce, finished
from tests.worker.test_worker import submit, texts

MANY = {f"f{number}": "x" * number for number in range(1000)}


def test_runs_of_one_context_at_the_same_time_do_not_disturb_each_other(service: Service, workers: Workforce) -> None:
    """Each makes names of the same blobs, which moves the blobs' ctime while others read them."""
    workers.start("--concurrency", "4")
    dockerfile = "FROM base\nARG N\nRUN echo $N\nCOPY . /c\n"
    runs = [submit(service, f"{dockerfile}LABEL n={number}\n", MANY) for number in range(8)]
    ended = [finished(service, run.number) for run in runs]
    assert [(run.state, run.reason) for run in ended] == [("succeeded", "")] * len(runs)


def test_a_run_leaves_no_memos_that_only_its_own_directory_could_read(
    service: Service, workers: Workforce, settings: ServiceSettings
) -> None:
    workers.start()
    for content in "12":
        run = submit(service, "FROM base\nCOPY . /c\n", {"f": content})
        assert finished(service, run.number).state == "succeeded"
    with sqlite3.connect(settings.root / "store.db") as database:
        kinds = dict(database.execute("SELECT kind, count(*) FROM memo GROUP BY kind"))
    assert kinds.keys().isdisjoint({"context", "outcome"})
    assert kinds["copied-layer"] == 1, "the second run has found that of the first"


def test_a_damaged_file_is_the_machines_fault_and_is_sent_again(service: Service, workers: Workforce) -> None:
    run = submit(service, "FROM base\nCOPY f /f\nRUN cat /f\n", {"f": "right"})
    blob = service.contexts.blobs([str(Digest.of(b"right"))])[0][1]
    blob.write_bytes(b"wrong")
    workers.start()
    ended = finished(service, run.number)
    assert ended.attempt > 1
    assert "was not uploaded" in ended.reason
    again = submit(service, "FROM base\nCOPY f /f\nRUN cat /f\n", {"f": "right"})
    assert finished(service, again.number).state == "succeeded"
    assert texts(service, again.number) == ["right"]
