"""What a run on this machine, or a question about one, is made of: opened, read, and planned."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace

from builder.bases import Connect
from ci.errors import CiError, JobCancelledError
from ci.local.ending import EndRequests
from ci.local.runner import ToolsFor
from ci.local.selecting import selected
from ci.missingsecrets import missing_secrets
from ci.model import Pipeline
from ci.outcome import Given, JobTools, MemoryPins, Publisher
from ci.planning import Plan, plan
from cli.building.secrets import read_named_secrets
from cli.errors import CommandError, describe
from cli.guarding import say
from cli.jobs.asked import About
from cli.jobs.files import read_pipeline
from cli.jobs.fingerprints import fingerprints
from cli.jobs.parts import parts_here
from cli.jobs.tree import check_event, opened_repository, read_tree
from cli.options import environ, given_params
from cli.progress.text import one_line
from cli.registry import open_client
from cli.signals import Received, asking_to_end
from cli.store import open_store
from containers.launcher import Launcher
from core.cancellation import asking
from core.settings import Settings
from core.suggestions import aside, suggestion
from images.store import Store

if TYPE_CHECKING:
    from registry.client import Client

WRONG: Final = 2
"""The exit code for a file or a command line that cannot be used."""


class NothingIsRunError(Exception):
    """There is nothing to go on with, and everything about that has been printed. code: the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class OpenedRun(NamedTuple):
    """A run that could begin.

    plan: the jobs that were asked for.
    given: what all of them get.
    tools: what an attempt is done with.
    requests: how somebody ends the run; Ctrl-C does. received: the signal.
    """

    store: Store
    launcher: Launcher
    pipeline: Pipeline
    plan: Plan
    given: Given
    tools: ToolsFor
    requests: EndRequests
    received: Received


@contextlib.contextmanager
def opened_run(
    root: str | None,
    insecure: Sequence[str],
    about: About,
    jobs: Sequence[str],
    warn: Callable[[str], None],
    *,
    reuse: bool = True,
) -> Iterator[OpenedRun]:
    """Within: everything is open. Raises NothingIsRunError, and ShiplapErrors and OSErrors for what the machine did.

    root: the value of ``--root``. jobs: names; empty: all. warn: takes a line for its user.
    """
    requests, received = EndRequests(), Received()
    with contextlib.ExitStack() as stack:
        try:
            secrets = read_named_secrets(about.secrets, environ())
            check_event(about)
            store = stack.enter_context(open_store(root, insecure))
            repository = stack.enter_context(opened_repository(store.root))
            pipeline = read_pipeline(
                repository.top, about.path, about.pipeline, parts_here(repository.top, root, secrets)
            )
            _warn_of_unnamed(secrets, pipeline.pipeline, warn)
            settings = Settings.from_environ(root=root)
            launcher = stack.enter_context(
                Launcher(store.tmp, denied_networks=settings.denied_networks, uplink=settings.uplink)
            )
            received = stack.enter_context(asking_to_end(requests.ask, times=2, at_once=launcher.close))
            if any(job.inputs is None for job in pipeline.pipeline.jobs.values() if job.run or job.args):
                launcher.warm()  # while git looks at the files: such a job is never known already
            with asking(requests.check):
                tree = read_tree(repository, about, pipeline.pipeline.source, store)
                event = replace(tree.event, params=given_params(about.params))
                planned = selected(plan(pipeline, event), jobs)
        except JobCancelledError as error:
            say(describe(error))
            raise NothingIsRunError(received.exit_code) from error
        except (CiError, CommandError) as error:
            say(describe(error))
            raise NothingIsRunError(WRONG) from error
        file = pipeline.problems.source.filename
        brings = "shiplap ci run --secret NAME=FILE"
        for missing in missing_secrets(planned.jobs, file, secrets, {}, bring=brings, change=""):
            warn(one_line(missing))
        given = Given(
            facts={**planned.params, **tree.event.facts},
            source=tree.layers,
            secrets=secrets,
            git=tree.git,
            reuse=reuse,
            pipeline=pipeline.pipeline.name,
            home=str(repository.top),
            secret_jobs=frozenset(each.name for each in planned.jobs if each.job.may_output_secrets),
        )
        tools = _Tools(root, insecure, about, store, launcher, given)
        yield OpenedRun(store, launcher, pipeline.pipeline, planned, given, tools.of, requests, received)


def warn_in_words(message: str) -> None:
    """Print a warning."""
    say(f"warning: {message}")


def _warn_of_unnamed(secrets: Iterable[str], pipeline: Pipeline, warn: Callable[[str], None]) -> None:
    """Of secrets that no job of the file would get: a slip of the pen, most likely."""
    named = {name for job in pipeline.jobs.values() for name in job.secret_names}
    for name in secrets:
        if name not in named:
            warn(f"no job names the secret {one_line(name)}{aside(suggestion(name, named))}")


class _Tools:
    """What the attempts of one run have in common."""

    def __init__(
        self, root: str | None, insecure: Sequence[str], about: About, store: Store, launcher: Launcher, given: Given
    ) -> None:
        self._root = root
        self._insecure = insecure
        self._pushes = about.event != "local"
        self._store = store
        self._launcher = launcher
        self._secrets = tuple(given.secrets.values())
        self._fingerprint = fingerprints(store.root) if self._secrets else None
        self._pins = MemoryPins()

    def of(self, cancelled: threading.Event) -> JobTools:
        def connect() -> Client:
            return open_client(self._root, self._insecure, cancelled)

        return JobTools(
            self._store,
            self._launcher,
            connect=connect,
            masked=self._secrets,
            fingerprint=self._fingerprint,
            pins=self._pins,
            publisher=_publisher(self._store, connect) if self._pushes else None,
        )


def _publisher(store: Store, connect: Connect) -> Publisher:
    from cli.jobs.publishing import LocalPublisher  # most runs push nothing

    return LocalPublisher(store, connect)
