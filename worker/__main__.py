"""``python -m worker``: builds the runs of a service until SIGTERM, which lets running builds end first."""

from __future__ import annotations

import argparse
import gc
import logging
import logging.config
import os
import platform
import sys
import warnings
from collections.abc import Sequence

from celery.platforms import SecurityWarning
from celery.signals import worker_ready

from containers.enclosure import Enclosure
from containers.hubrules import parse_networks
from containers.rootless import become_root
from core.errors import ShiplapError
from core.filesystems import require_fit
from core.leaving import leave
from core.memory import in_mib, memory_limit, planned
from core.notify import ServiceManager
from core.settings import ServiceSettings, StepSettings
from pipelines.jsonlogs import configuration
from pipelines.runs.queue import check_labels, queues_of_worker
from pipelines.service import Service
from worker.pool import Pool
from worker.processresources import WorkerSettings
from worker.pulse import Pulse
from worker.sideprocess import ExporterProcess
from worker.tally import Tally
from worker.tasks import make_app

_MAX_CONCURRENCY = 64
_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="worker", description="Build the runs of a Shiplap service.")
    parser.add_argument("--concurrency", type=int, default=2, metavar="N", help="runs at once  [default: 2]")
    parser.add_argument("--name", default=f"{platform.node()}-{os.getpid()}", help="unique among all workers")
    parser.add_argument("--labels", default="", help="what runs may ask for, commas between")
    parser.add_argument(
        "--reserved", type=int, default=0, metavar="BYTES", help="memory that others take under the same limit"
    )
    parser.add_argument("--max-jobs", type=int, default=0, metavar="N", help="end after so many jobs")
    parser.add_argument(
        "--until-idle", type=float, default=0.0, metavar="SECONDS", help="end after so long without any"
    )
    given = parser.parse_args(arguments)
    logging.config.dictConfig(configuration())
    manager = ServiceManager.from_environ()
    try:
        settings = _settings(given)
        become_root()  # without root's rights: root of a user namespace; before anything starts a thread
        worker_ready.connect(lambda **_: manager.ready(), weak=False)  # the worker consumes
        serve(settings, Tally(max(0, given.max_jobs), max(0.0, given.until_idle)))
    except ShiplapError as error:
        print(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""), file=sys.stderr)  # noqa: T201 - the outermost layer
        return 1
    return 0


def serve(settings: WorkerSettings, tally: Tally) -> None:
    """Work until SIGTERM, or until there have been enough jobs. Raises ShiplapErrors at the start."""
    gc.collect()
    gc.freeze()  # the processes that are forked from here on share what there is
    with Service.open(settings.service) as service:  # errors are reported here, not by every pool process
        service.secrets.check_key()
    with Enclosure(settings.bound_bytes, settings.swap_bytes) as enclosure:
        _tell(settings, enclosure)
        _work(settings._replace(group=enclosure.name), tally)


def _tell(settings: WorkerSettings, enclosure: Enclosure) -> None:
    """Log what bounds the steps."""
    held = "a control group holds them to it"
    if not enclosure.name:
        held = "no control group can hold them to it here: when there is no more, the kernel ends steps first"
    _log.info(
        "runs at a time: %d; steps at a time in each: %s; memory for all steps: %s (%s)",
        settings.concurrency,
        settings.steps_at_once or "any number",
        in_mib(settings.bound_bytes),
        held,
    )


def _work(settings: WorkerSettings, tally: Tally) -> None:
    # Containers need root. Celery warns of messages that are programs; that danger is closed off: only JSON is taken.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    with Pulse(settings) as pulse, ExporterProcess(settings) as exporter:
        app = make_app(settings, exporter.outlet, tally)
        tally.attach(app)
        pulse.attach(app)
        exporter.attach(app)
        worker = app.Worker(
            hostname=f"worker@{settings.name}",
            pool=Pool,
            concurrency=settings.concurrency,
            queues=queues_of_worker(settings.labels),
            loglevel=logging.getLogger().level,
            without_gossip=True,
            without_heartbeat=True,
            without_mingle=True,
            quiet=True,
        )
        worker.start()


def _settings(given: argparse.Namespace) -> WorkerSettings:
    service = ServiceSettings.from_environ()
    require_fit(str(service.root))
    listed = [label.strip() for label in given.labels.split(",") if label.strip()] or service.worker_labels
    limit = memory_limit()
    steps = StepSettings.from_environ(memory_bytes=limit.memory_bytes)
    parse_networks(steps.denied_networks)
    wanted = max(1, min(given.concurrency, _MAX_CONCURRENCY))
    capacity = planned(limit, wanted, given.reserved)
    if capacity.runs < wanted:
        _log.warning("runs at a time: %d instead of %d, for there are %s", capacity.runs, wanted, limit)
    step_bytes = min(steps.memory_bytes or capacity.bound_bytes, capacity.bound_bytes)
    return WorkerSettings(
        service,
        given.name,
        check_labels(listed),
        capacity.runs,
        steps._replace(memory_bytes=step_bytes),
        steps_at_once=capacity.steps,
        bound_bytes=capacity.bound_bytes,
        swap_bytes=limit.swap_bytes,
    )


if __name__ == "__main__":
    leave(main())
