"""Outputs at the two ends of an attempt: those of jobs before it are brought here, and its own are sent.

They are sent at once where the service has workers on several hosts, for the next job may begin elsewhere. A registry
that is away does not hurt the job: what it made stays on this host, and is sent later (``worker.sender``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence

from builder.errors import stop_when
from ci.ends import JobOutcome
from ci.model import Job
from core.cancellation import asking
from core.digests import DiffID, Digest
from core.errors import ShiplapError
from core.trust import Domain
from pipelines.errors import DatabaseUnreachableError, OutputsAwayError, StaleAttemptError
from pipelines.runs.artifacts import Artifact, Left, output_tag
from pipelines.runs.logwriter import LogWriter
from registry.errors import RegistryError, TransferCancelledError, UnreachableError
from worker.crossing import Crossing, crosses, crossing, has_image
from worker.keptrows import kept_name, kept_until
from worker.work import Work


def bring(
    work: Work, domain: Domain, outputs: Sequence[tuple[str, DiffID]], images: Mapping[str, str], late_at: float
) -> None:
    """Have here, and keep for the run, what jobs of it made.

    outputs: by job, the layer. images: by job, the image's ID. late_at: when the run's time is over.
    Raises OutputsAwayError, UnreachableError, and what the store raises.
    """
    store, run = work.store, work.claim.run.number
    layers = {job: layer for job, layer in outputs if not store.layers.is_stored(layer)}
    away = {job: identity for job, identity in images.items() if not has_image(store, identity)}
    if not layers and not away:
        return
    with _opened(work, domain, (*layers, *away)) as place:
        known = work.keeper.insist(lambda: work.resources.service.artifacts.of_run(run))
        for job in dict.fromkeys((*layers, *away)):
            wanted = layers.get(job)
            _fetch(place, job, known.get(job, ()), wanted, away.get(job, ""))
            kept = [layer for other, layer in outputs if other == job]
            identity = [Digest.parse(images[job])] if job in images else []
            store.kept.keep(kept_name(run, job), kept, identity, until=kept_until(late_at, time.time()))


def bring_from(work: Work, domain: Domain, run: int, job: str, outcome: JobOutcome) -> bool:
    """Have here what a job of another run made for jobs after it. Returns whether all of it is here."""
    service = work.resources.service
    if not crosses(service, domain):
        return False
    known = work.keeper.insist(lambda: service.artifacts.of_run(run)).get(job, ())
    try:
        with _opened(work, domain, (job,)) as place:
            _fetch(place, job, known, outcome.outputs, outcome.image)
    except (OutputsAwayError, RegistryError):
        return False
    return True


def bring_published(work: Work, domain: Domain, run: int, job: str, name: str) -> bool:
    """Have here an output for people of a job of another run. Returns whether it is."""
    service = work.resources.service
    if not crosses(service, domain):
        return False
    known = work.keeper.insist(lambda: service.artifacts.of_run(run)).get(job, ())
    found = next((each for each in known if each.kind == "output" and each.name == name), None)
    if found is None:
        return False
    try:
        with _opened(work, domain, (job,)) as place:
            place.fetch_layer(found)
    except (OutputsAwayError, RegistryError):
        return False
    return True


def used_images(job: Job, images: Mapping[str, str]) -> dict[str, str]:
    """Of the images that jobs before it made, those that a job's containers are made of."""
    names = [image.job for image in (job.image, *(service.image for service in job.services)) if image is not None]
    return {str(name): images[str(name)] for name in names if name and str(name) in images}


def leave(work: Work, writer: LogWriter, domain: Domain, place: int, outcome: JobOutcome) -> Left:
    """Send what a job made, where another host may need it now; else say who is to send it.

    place: the job's, in its run.
    """
    service, host = work.resources.service, work.resources.host
    is_left = outcome.outputs is not None or bool(outcome.image)
    if not is_left and not outcome.published:
        return Left(host)
    if not crosses(service, domain):
        return Left(host, is_left=is_left)
    if not work.keeper.insist(service.artifacts.is_on_several_hosts):
        run = work.claim.run.number
        waits = is_left and work.keeper.insist(lambda: service.artifacts.has_gates(run))
        return Left(host, is_left=is_left, is_unsent=bool(outcome.published) or waits)
    try:
        with asking(stop_when(work.keeper.stopped.is_set)), _opened(work, domain, ()) as opened:
            sent = send_all(opened, work.claim.run.number, place, outcome, time.time())
    except (StaleAttemptError, DatabaseUnreachableError):
        raise
    except ShiplapError as error:
        writer.status(f"warning: what it output stays on this host for now, and is sent later: {error.message}")
        return Left(host, is_left=is_left, is_unsent=True)
    return Left(host, tuple(sent))


def send_all(place: Crossing, run: int, number: int, outcome: JobOutcome, ended_at: float) -> list[Artifact]:
    """Send all that a job made. number: the job's place in the run. Raises RegistryErrors, ImagesErrors."""
    return [*send_for_jobs(place, outcome), *send_for_people(place, run, number, outcome, ended_at)]


def send_for_jobs(place: Crossing, outcome: JobOutcome) -> list[Artifact]:
    """Send what later jobs get. Raises RegistryErrors, ImagesErrors."""
    found = [place.send_layer(outcome.outputs)] if outcome.outputs is not None else []
    return [*found, place.send_image(Digest.parse(outcome.image))] if outcome.image else found


def send_for_people(place: Crossing, run: int, number: int, outcome: JobOutcome, ended_at: float) -> list[Artifact]:
    """Send outputs for people, each with a tag of its own. Raises RegistryErrors, ImagesErrors."""
    return [
        place.send_layer(
            each.layer,
            kind="output",
            name=str(each.name),
            tag=output_tag(run, number, str(each.name)),
            until=ended_at + each.keep_s,
        )
        for each in outcome.published
    ]


@contextlib.contextmanager
def _opened(work: Work, domain: Domain, jobs: Sequence[str]) -> Iterator[Crossing]:
    """jobs: whose outputs are wanted, for the message. Raises OutputsAwayError where nothing crosses."""
    resources, keeper = work.resources, work.keeper
    with crossing(
        resources.service, resources.settings, work.store, work.claim.number, domain,
        cancelled=keeper.stopped, insist=keeper.insist,
    ) as place:  # fmt: skip
        if place is None:
            raise OutputsAwayError(
                f"what {', '.join(jobs) or 'the job'} made cannot cross to another host",
                hint="workers on several hosts need the service's own registry: SHIPLAP_REGISTRY",
            )
        yield place


def _fetch(place: Crossing, job: str, known: Sequence[Artifact], layer: DiffID | None, image: str) -> None:
    """layer, image: what is wanted; None or empty: nothing."""
    wanted = [("layer", str(layer))] if layer is not None else []
    wanted += [("image", image)] if image else []
    for kind, content in wanted:
        found = next((each for each in known if each.kind == kind and each.content == content), None)
        if found is None:
            raise OutputsAwayError(
                f"what {job} made is on the host of its worker alone, and not in the service's registry",
                hint="it is sent as soon as that worker runs and the registry is in reach; retry the run then",
            )
        try:
            if kind == "layer":
                place.fetch_layer(found)
            else:
                place.fetch_image(found)
        except (UnreachableError, TransferCancelledError):
            raise
        except RegistryError as error:
            raise OutputsAwayError(f"what {job} made cannot be fetched: {error.message}", hint=error.hint) from error
