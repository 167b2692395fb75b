"""In which order files of tests begin, and which are shared out test by test. A plug-in.

A run of everything ends when its last test does. A file is one worker's, so that what is dear to make for its tests is
made once: whoever begins a file of minutes as the last one lets all others wait. So what takes longest begins first,
and then the files with the most tests, as pytest-xdist has it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

LONGEST: Final = (
    "examples/test_real_projects.py",
    "project/test_bench.py",
    "examples/test_examples.py",
    "project/test_wheel.py",
    "compose/test_shiplaps_image.py",
    "examples/test_own_pipeline.py",
    "worker/test_hosts.py",
    "cli/test_beside_docker.py",
    "dockerapi/test_beside_dockerd.py",
    "dockerapi/test_compose_beside_dockerd.py",
    "faults/test_another_release.py",
    "faults/test_power_loss.py",
    "worker/test_worker_faults.py",
    "worker/test_trust.py",
    "differential/test_differential.py",
    "web/browser/test_accessibility.py",
    "faults/test_sigkill.py",
    "cli/test_runs_jobs.py",
    "worker/test_worker_limits.py",
    "web/browser/test_pipeline_page.py",
    "web/test_openapi.py",
    "project/test_demo.py",
    "worker/test_worker_caches_of_jobs.py",
    "pipelines/test_ends_at_once.py",
    "worker/test_worker_pipeline_events.py",
    "cli/test_first_push.py",
    "worker/test_worker_reach.py",
    "cli/test_ci_run.py",
    "cli/test_remote_build.py",
    "worker/test_worker_pipelines.py",
    "examples/test_pipelines_page.py",
    "web/test_crowd.py",
    "worker/test_worker.py",
    "web/test_git_serving.py",
    "pipelines/test_killed_in_a_transaction.py",
    "worker/test_worker_elsewhere.py",
    "project/test_suite_rules.py",
    "examples/test_pipeline_everywhere.py",
    "web/test_push_follow.py",
    "images/test_store_survives.py",
    "cli/test_backup_command.py",
    "pipelines/test_gates.py",
    "pipelines/test_shares.py",
    "faults/test_filesystems.py",
    "cli/test_service_doctor.py",
    "project/test_scripts.py",
    "web/test_follow.py",
    "pipelines/test_old_backups.py",
    "cli/test_supervisor.py",
    "pipelines/test_pgbouncer.py",
    "registry/server/test_listening.py",
    "web/test_listening.py",
    "worker/test_worker_killed_often.py",
    "worker/test_worker_killed_at.py",
    "web/test_schemathesis.py",
    "fuzz/test_fuzz.py",
    "containers/test_container_network.py",
    "registry/server/test_server_docker.py",
    "pipelines/test_backup.py",
    "cli/test_build_command.py",
    "containers/test_setup_failures.py",
    "registry/client/test_client_commands.py",
    "worker/test_hook_push.py",
    "faults/test_keepers.py",
    "web/test_git_attacks.py",
    "pipelines/test_hosts_that_vanish.py",
    "security/test_rootless.py",
)
"""Files that take half a minute or more, below ``tests``; the longest first."""

APART: Final = frozenset(
    (
        "cli/test_backup_command.py",
        "examples/test_pipelines_page.py",
        "faults/test_power_loss.py",
        "images/test_store_survives.py",
        "pipelines/test_killed_in_a_transaction.py",
        "pipelines/test_shares.py",
        "project/test_bench.py",
        "project/test_scripts.py",
        "project/test_suite_rules.py",
        "worker/test_trust.py",
        "worker/test_worker.py",
        "worker/test_worker_elsewhere.py",
        "worker/test_worker_faults.py",
        "worker/test_worker_killed_at.py",
        "worker/test_worker_pipeline_events.py",
        "worker/test_worker_pipelines.py",
        "worker/test_worker_reach.py",
    )
)
"""Those of ``LONGEST`` whose tests share nothing that is dear to make: each test goes to whoever is free."""

_TESTS: Final = Path(__file__).resolve().parents[1]


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Hands out files in the order in which they were collected, and the tests of some by themselves."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # else by the number of tests alone

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if file.removeprefix("tests/") in APART else file


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is nothing to share out
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LongestFirst | None:
    return LongestFirst(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each worker begin with another room: what one has compiled, the others need not. ``longest_first`` sorts."""
    report = yield
    worker = getattr(collector.config, "workerinput", None)
    if worker is not None and collector.path == _TESTS and report.result:
        number, rooms = int(worker["workerid"].removeprefix("gw")), report.result
        first = len(rooms) * number // worker["workercount"] % len(rooms)
        report.result = rooms[first:] + rooms[:first]
    return report


def longest_first(items: list[pytest.Item]) -> None:
    """Sort what was collected; each file's tests stay together, in their order."""
    places = {file: place for place, file in enumerate(beginning([item.path for item in items]))}
    items.sort(key=lambda item: places[item.path])


def beginning(files: Iterable[Path]) -> list[Path]:
    """The order in which files begin. files: each as often as it has tests."""
    places = {_TESTS / file: place for place, file in enumerate(LONGEST)}
    sizes = Counter(files)
    return sorted(sizes, key=lambda file: (places.get(file, len(places)), -sizes[file], file))
