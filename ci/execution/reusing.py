"""Whether a job has to run at all: an earlier result is asked for before, and its own is kept afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec.structs
from msgspec.structs import replace

from builder.explaining.words import in_words
from ci.ends import JobOutcome
from ci.execution.image import JobImage
from ci.execution.services import Beside
from ci.execution.steps import Numbering
from ci.execution.variables import JobSecrets, Variables
from ci.model import Job
from ci.outcome import LOOKING, Earlier, Given, JobTools
from ci.reuse.keys import BesideIngredients, Ingredients, JobKey, is_reusable, key_of
from ci.reuse.results import Results
from ci.workspace.naming import keep_times
from ci.workspace.stack import Stack
from core.digests import chain_id
from core.events import MissReason, StepFinished, StepOutcome, StepStarted
from core.trust import Privacy
from images.oci import ContainerConfig


class Reuse:
    """The result of one job that says what it sees.

    Made by: an attempt, for a job that ``is_reusable``. Threads: one.
    """

    def __init__(self, name: str, job: Job, key: JobKey, given: Given, tools: JobTools) -> None:
        self._key = key
        self._keep_s = keep_times(job.outputs)
        self._marked = frozenset(str(output.name) for output in job.outputs if output.preview)
        self._given = given
        self._results = Results(tools.store, tools.domain, f"job {given.facts.get('SHIPLAP_PROJECT', '')} {name}")
        self._began = time.time()

    def answer(self, numbering: Numbering) -> JobOutcome | None:
        """The result of an earlier run; None: the job has to run. A step tells whose result it is, or why it runs."""
        (step,) = numbering.planned([LOOKING], [0])
        numbering.emit(StepStarted(step.id, self._began))
        found, changes = self.earlier()
        reason = in_words(changes) if found is None else f"the result of run {found.reused_from}"
        ended = time.time()
        outcome: StepOutcome = "done" if found is None else "cached"
        numbering.emit(StepFinished(step.id, outcome, ended - self._began, ended, reason, changes))
        return found

    def earlier(self) -> Earlier:
        """The result of an earlier run, or why there is none."""
        if not self._given.reuse:
            return Earlier(None, (MissReason("no-cache"),))
        found = self._results.find(self._key)
        if found is not None and found.published:  # how long people find them now, the file of today says
            published = (
                replace(each, keep_s=self._keep_s.get(each.name, each.keep_s), preview=each.name in self._marked)
                for each in found.published
            )
            found = replace(found, published=tuple(published))
        changes = () if found is not None else tuple(self._results.changes(self._key, before=self._began))
        return Earlier(found, changes)

    def keep(self, outcome: JobOutcome) -> None:
        """Keep what came of the job, if it succeeded."""
        if outcome.state == "succeeded":
            took_s = time.time() - self._began
            self._results.keep(self._key, outcome, run=self._given.run, took_s=took_s)


def reuse_of(
    name: str,
    job: Job,
    given: Given,
    tools: JobTools,
    image: JobImage,
    variables: Variables,
    secrets: Mapping[str, bytes],
    beside: Sequence[Beside],
    files: Stack,
    privacy: Privacy,
) -> Reuse | None:
    """How results of a job are found and kept; None: it always runs. Raises InputsError.

    variables: all but the image's and those of secrets.
    secrets: by name, those that the job or a service of it gets.
    beside: its services.
    privacy: of ``privacy_of``. What the job's caches hold is in no key, so with them its results are its lane's.
    """
    if not is_reusable(job, secrets, tools.fingerprint):
        return None
    ingredients = Ingredients(
        image=_identity(image),
        image_env=image.env,
        platform=image.foreign,
        variables=variables,
        secrets=secrets,
        beside=tuple(
            BesideIngredients(each.service, _identity(each.image), _says(each.image.config)) for each in beside
        ),
        fingerprint=tools.fingerprint,
        manifest=files.manifest,
    )
    counted = Privacy.DOMAIN if job.caches else privacy
    return Reuse(name, job, key_of(job, ingredients, tools.domain, counted), given, tools)


def given_secrets(own: JobSecrets, beside: Sequence[Beside]) -> dict[str, bytes]:
    """By name, the secrets that a job or one of its services gets."""
    return {**own.values, **{name: value for each in beside for name, value in each.secrets.values.items()}}


def may_see_secrets(given: Given, tools: JobTools, secrets: Mapping[str, bytes]) -> bool:
    """Whether a secret may be in the files of a job: of its own, or in what jobs with secrets output.

    secrets: by name, those that it or a service of it gets.
    """
    return bool(secrets) or bool(given.outputs and given.may_hold_secrets and tools.masked)


def privacy_of(
    given: Given, tools: JobTools, images: Iterable[JobImage], secrets: Mapping[str, bytes], *, has_engine: bool
) -> Privacy:
    """How far may go what a job makes.

    images: its own, and its services'.
    secrets: by name, those that it or a service of it gets.
    has_engine: it may fetch further images, by the rights of the run.
    """
    is_own = has_engine or may_see_secrets(given, tools, secrets)  # what its engine fetched, nobody knows here
    own = Privacy.PROJECT if is_own else Privacy.COMMON
    return max(tools.privacy, own, *(image.privacy for image in images))


def _identity(image: JobImage) -> tuple[str, str]:
    """An image's name, and what identifies its layers."""
    return image.name, str(chain_id(image.layers)) if image.layers else ""


def _says(config: ContainerConfig) -> tuple[object, ...]:
    """What of an image's configuration takes part in a service."""
    return (
        config.entrypoint, config.cmd, config.env, config.user, config.working_dir, sorted(config.exposed_ports),
        None if config.healthcheck is None else msgspec.structs.astuple(config.healthcheck),
    )  # fmt: skip
