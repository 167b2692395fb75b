"""What a job gets from its run, what it works with, and what comes of it: the data between a run and one job.

The service's worker and ``shiplap ci run`` both fill in ``Given`` and ``JobTools``, and go by the ``JobOutcome``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from msgspec import Struct

from builder.bases import Connect
from builder.cacheio.used import UsedCache
from builder.remotes.access import SourceAccess
from builder.request.cache import CacheFrom
from builder.request.limits import StepLimits
from builder.result import BuildResult
from ci.ends import JobOutcome
from ci.failedfiles import Entrance, GitPlace, Keep
from containers.handles import Container
from containers.launcher import Launcher
from containers.spec import ContainerSpec, Mount
from core.digests import DiffID
from core.events import MissReason, Monitor, NullMonitor
from core.references import Reference
from core.trust import HOST, Domain, Privacy
from images.store import Store

_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class GitMounts(Protocol):
    """How ``.git`` is seen in a workspace: few files of its own, and the objects of the mirror, read-only.

    place: what it is made of, for whoever makes it again; None: it is of a working tree.
    """

    @property
    def place(self) -> GitPlace | None: ...

    def mounted(self, target: str, mtime_s: int) -> AbstractContextManager[Sequence[Mount]]:
        """The mounts that show it at ``target``, for as long as the context lasts.

        mtime_s: of the workspace's files, in seconds since the epoch.
        """


class Given(Struct, frozen=True):
    """What a job gets from its run.

    run: the run's number; of ``shiplap ci run``, ``local``.
    pipeline: its name: caches of jobs are the pipeline's.
    home: where the repository is, of ``shiplap ci run``: what is kept is for the runs of that place.
    attempt: from 1.
    facts: the values of ``ci.facts.FACTS``, without SHIPLAP_JOB, which is the job's name; and those of parameters.
    source: the commit's files as layers, base first; their paths are relative to the workspace.
    outputs: of all jobs before it, those before these too, in the order of the file: job's name and layer.
    before: for each of these jobs the jobs before it; two that are not before each other may conflict.
    exports: by job and name, those of all jobs before it.
    secrets: by name, those that this run may have.
    refused: by name, why it may not have others, for people.
    images: by ``build`` job before it, the ID of its image.
    git: what makes ``.git``; None: the workspace has none.
    reuse: False: every job runs, whatever is known of its result.
    secret_jobs: names of the run's jobs of which ``Job.may_output_secrets`` is true; None: it may be any.
    may_hold_secrets: whether a secret that the run has may be in ``outputs``.
    """

    run: str = "local"
    attempt: int = 1
    facts: Mapping[str, str] = _NOTHING
    source: tuple[DiffID, ...] = ()
    outputs: tuple[tuple[str, DiffID], ...] = ()
    before: Mapping[str, frozenset[str]] = _NOTHING
    exports: Mapping[str, Mapping[str, str]] = _NOTHING
    secrets: Mapping[str, bytes] = _NOTHING
    refused: Mapping[str, str] = _NOTHING
    images: Mapping[str, str] = _NOTHING
    git: GitMounts | None = None
    reuse: bool = True
    pipeline: str = ""
    home: str = ""
    secret_jobs: frozenset[str] | None = None
    may_hold_secrets: bool = True


LOOKING: Final = "[internal] look for an earlier result"
"""The step of a job that ends with whose result it has, or with why it runs."""


OF_SERVICE: Final = "service "
"""How the steps are called that are what a service prints; its name follows."""


class Earlier(NamedTuple):
    """What earlier runs say of a job. outcome: its result; None: it has to run. changes: why it has."""

    outcome: JobOutcome | None
    changes: tuple[MissReason, ...] = ()


class Publisher(Protocol):
    """Names and pushes what ``build`` jobs make, with the rights of the run."""

    def names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        """The names that an image gets in the store, for ``tags`` of the file; none of these: the project's.

        Raises ShiplapErrors for names that the run may not give.
        """

    def push(self, names: tuple[Reference, ...], result: BuildResult) -> str:
        """Send the image to the registries of its names. Returns the digest of its manifest there; empty: nowhere."""


class BuildCaches(Protocol):
    """The build cache elsewhere that builds of the run read, and leave what they made in."""

    def read(self, what: Sequence[str], names: tuple[Reference, ...]) -> tuple[CacheFrom, ...]:
        """The caches of a build. what: tells the builds of a project apart, together with the image's ``names``."""

    def leave(self, read: tuple[CacheFrom, ...], used: UsedCache, names: tuple[Reference, ...]) -> None:
        """Take what a build used and made, to be written once the job has succeeded. read: as for that build."""


class Pins(Protocol):
    """What names of images mean in a run: the first answer counts for all of its jobs, and for its retries.

    Threads: any.
    """

    def get(self, name: str) -> str | None:
        """What a name was found to mean, as a name that always means the same; None: nobody has asked yet."""

    def keep(self, name: str, meaning: str) -> str:
        """Note what was found; returns what counts, which another job may have noted before."""


class MemoryPins:
    """Pins of a run that lives in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}

    def get(self, name: str) -> str | None:
        with self._lock:
            return self._known.get(name)

    def keep(self, name: str, meaning: str) -> str:
        with self._lock:
            return self._known.setdefault(name, meaning)


class JobTools(NamedTuple):
    """What a job is done with.

    store: what the job outputs, and its image, are leased by it until it is closed. Jobs may share it: each works in a
        session of its own.
    launcher: starts its containers.
    monitor: of this job alone; each entry of ``run`` is a step.
    cancelled: once set, the job's processes get SIGTERM, and SIGKILL after its ``grace``.
    killed: once set, they get SIGKILL at once; ``cancelled`` is set by then.
    connect: opens a registry client, with the rights of the run; None: nothing is pulled.
    masked: the values of all secrets of the run's jobs: none of them is seen in any output.
    fingerprint: stands for a secret in keys, so that nobody can guess it; None: keys only say that there is one.
    domain: for whom the run is.
    privacy: how far results may go that contain files of the commit.
    limits: the worker's; a job's own are within them.
    pins: what images mean in this run.
    publisher: None: images of ``build`` jobs are named in the store, and never pushed.
    caches: None: what builds make is remembered on this machine alone.
    access: how builds fetch URLs and git repositories.
    entrance: makes the way in for people, for a container that has been started; None: nobody gets in.
    keep: keeps what a job of commands left that failed; None: nobody wants to have it.
    held: is given the container of a command that failed, while its files and mounts are still there, by the thread of
        the job; a run on a laptop opens a shell in it. None: nobody wants to look.
    """

    store: Store
    launcher: Launcher
    monitor: Monitor = NullMonitor()
    cancelled: threading.Event | None = None
    killed: threading.Event | None = None
    connect: Connect | None = None
    masked: Sequence[bytes] = ()
    fingerprint: Callable[[bytes], str] | None = None
    domain: Domain = HOST
    privacy: Privacy = Privacy.COMMON
    limits: StepLimits = StepLimits()
    pins: Pins | None = None
    publisher: Publisher | None = None
    caches: BuildCaches | None = None
    access: SourceAccess = SourceAccess()
    entrance: Callable[[Container, ContainerSpec], Entrance] | None = None
    keep: Keep | None = None
    held: Callable[[ContainerSpec], None] | None = None
