"""A pipeline file, typed: what ``ci.parsing`` makes of it, and what planning and execution go by.

Everything is immutable. Texts that can be wrong in ways which only show beside others (names, patterns) are
``ci.language.shapes.Text`` and know where they stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, get_args

from msgspec import Struct

EventName: TypeAlias = Literal["push", "tag", "pull_request", "manual", "cron", "local"]
EVENTS: Final[tuple[EventName, ...]] = get_args(EventName)
"""``local`` is ``shiplap ci run`` without ``--event``; no pipeline listens to it, and a ``when`` may name it."""

After: TypeAlias = Literal["success", "failure", "always"]
ParamType: TypeAlias = Literal["string", "boolean", "number", "choice"]
OutputOn: TypeAlias = Literal["success", "failure", "always"]
WhenBusy: TypeAlias = Literal["wait", "replace", "cancel"]

HOUR_S: Final = 3600.0
DAY_S: Final = 24 * HOUR_S
OUTPUTS_KEPT_S: Final = 30 * DAY_S
_NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})


class Schedule(Struct, frozen=True):
    """When a pipeline is run by itself.

    at: as ``ci.cron`` reads it.
    branch: whose head and file are taken; empty: the default one.
    zone: whose clock counts.
    """

    at: str
    branch: str = ""
    zone: str = "UTC"


class Refs(Struct, frozen=True):
    """What a pipeline listens to of one event. None: all of it.

    branches: of a pull request, the target's.
    paths: patterns; one of the files that changed has to fit.
    schedules: of ``cron``.
    """

    branches: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    schedules: tuple[Schedule, ...] = ()


class SourceOptions(Struct, frozen=True):
    """How a commit's files come. history: commits; None: all of them, with tags; 0: no ``.git``."""

    history: int | None = None
    submodules: bool = False
    lfs: bool = False


class ImageBuild(Struct, frozen=True):
    """An image that is built for a job to run in: from the commit's files, never pushed, never named."""

    context: str = "."
    file: str = ""
    target: str = ""
    args: Mapping[str, str] = _NOTHING
    secrets: tuple[str, ...] = ()


class Build(Struct, frozen=True):
    """A job that builds an image from its workspace, as ``shiplap build`` does.

    tags: none: the project's names.
    push: False: the image is for later jobs of the run only.
    provenance: as ``--provenance`` takes it; empty: the service's default.
    """

    context: str = "."
    file: str = ""
    target: str = ""
    args: Mapping[str, str] = _NOTHING
    platforms: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    push: bool = True
    sbom: bool = False
    provenance: str = ""


class Image(Struct, frozen=True):
    """What a job runs in: exactly one of the three is there."""

    reference: str = ""
    build: ImageBuild | None = None
    job: str = ""


class Need(Struct, frozen=True):
    """A job that has to end before. is_optional: only when it is in this run. text: as written, with its place."""

    job: str
    is_optional: bool
    text: str


class Fits(Struct, frozen=True):
    """One map of ``when``: all of its members have to fit; None fits always."""

    event: tuple[str, ...] | None = None
    branch: tuple[str, ...] | None = None
    target: tuple[str, ...] | None = None
    tag: tuple[str, ...] | None = None
    paths: tuple[str, ...] | None = None
    fork: bool | None = None
    matrix: Mapping[str, tuple[str, ...]] | None = None
    params: Mapping[str, tuple[str, ...]] | None = None


class Directories(Struct, frozen=True):
    """The names of the commit's directories that fit a pattern, as a list of a matrix."""

    pattern: str


class Matrix(Struct, frozen=True):
    """A job for each combination of values.

    lists: name to values, in the order of the file.
    include: combinations that are added.
    exclude: those that fit one of these are not made.
    max_parallel: how many at once; None: as many as there are.
    """

    lists: Mapping[str, tuple[str, ...] | Directories] = _NOTHING
    include: tuple[Mapping[str, str], ...] = ()
    exclude: tuple[Mapping[str, str], ...] = ()
    max_parallel: int | None = None
    fail_fast: bool = False


class Secret(Struct, frozen=True):
    """A secret that a job gets, as a variable or as a file in memory; without either, as a variable of its name."""

    name: str
    variable: str = ""
    file: str = ""
    optional: bool = False


class Output(Struct, frozen=True):
    """Files that later jobs get, and, where they have a name, people.

    into: another directory than the one they lie in; empty: the same.
    name: under which people find them; entries of one name are one download. Empty: they are for jobs alone.
    on: of which end of the job they are taken; of all but ``success`` they are for people alone.
    keep_s: how long people find them.
    preview: whether a mark at the commit opens what has this name.
    """

    path: str
    into: str = ""
    optional: bool = False
    name: str = ""
    on: OutputOn = "success"
    keep_s: float = OUTPUTS_KEPT_S
    preview: bool = False

    def is_for_jobs(self) -> bool:
        """Whether later jobs get it: what is taken of failures, too, is for people alone."""
        return self.on == "success"


class Cache(Struct, frozen=True):
    """A directory that is kept for the job's next runs.

    path: in the container.
    name: by which jobs of the project share it; empty: it is the job's own.
    limit: of what is kept, in bytes.
    """

    path: str
    name: str = ""
    limit: int = 10 << 30


class ReportsWanted(Struct, frozen=True):
    """What a job reports. Empty: nothing of that kind.

    junit: patterns of files with results of tests.
    coverage: a regular expression of RE2's for what the job prints.
    summary: a file with a text for people.
    """

    junit: tuple[str, ...] = ()
    coverage: str = ""
    summary: str = ""


class Retry(Struct, frozen=True):
    """How often a job is tried again, and after what.

    times: further attempts. on: kinds of failures, or exit codes; empty: whatever it failed by.
    """

    times: int = 0
    on: tuple[str, ...] = ()


class Gate(Struct, frozen=True):
    """What people are asked before a run goes on.

    by: members of the project who may answer; empty: all who may maintain it.
    not_author: whoever the run is of may not.
    timeout_s: nobody's answer within that is a no.
    """

    message: str
    by: tuple[str, ...] = ()
    not_author: bool = False
    timeout_s: float = 7 * DAY_S


class Param(Struct, frozen=True):
    """A parameter of runs by hand. All others get the default.

    choices: of a ``choice``.
    pattern: what all of a ``string`` has to match, an expression of RE2; empty: anything does.
    about: for people.
    """

    default: str
    type: ParamType = "string"
    choices: tuple[str, ...] = ()
    pattern: str = ""
    about: str = ""


class Concurrency(Struct, frozen=True):
    """A group of jobs or runs of a project, of which so many go on at once.

    limit: how many.
    when_busy: what becomes of one that finds the group full. wait: it waits. replace: those that wait already give way.
        cancel: so do those that go on.
    """

    group: str
    limit: int = 1
    when_busy: WhenBusy = "wait"


class Limits(Struct, frozen=True):
    """What a job may use, within the worker's limits; 0: no limit of its own. Sizes in bytes."""

    memory: int = 0
    cpus: float = 0.0
    pids: int = 0
    disk: int = 0
    shm: int = 0


class Ready(Struct, frozen=True):
    """What says that a service is ready; without a port and a command, its image does.

    port: of TCP, on which something listens; 0: that does not count.
    command: it succeeds in the service's container; (): that does not count.
    timeout_s: how long it is waited for.
    """

    port: int = 0
    command: tuple[str, ...] = ()
    timeout_s: float = 60.0


class Service(Struct, frozen=True):
    """A container beside a job's, which reaches it by name.

    args: in the place of the image's CMD; None: the image's own.
    limits: within the job's.
    """

    image: Image
    name: str = ""
    env: Mapping[str, str] = _NOTHING
    args: tuple[str, ...] | None = None
    secrets: tuple[Secret, ...] = ()
    limits: Limits = Limits()
    ready: Ready = Ready()


class Job(Struct, frozen=True):
    """A job of the file, before the matrix and ``${NAME}``. Exactly one of run, args, build, approve and use is there.

    use: a part, as ``ci.language.names.PartPlace`` reads it. Once the parts are there, their jobs are in its place.
    given: the part's parameters.
    timeout_s: of an attempt.
    grace_s: between SIGTERM and SIGKILL.
    inputs: None: it sees the whole workspace, and always runs.
    reuse: None: when it has inputs.
    """

    run: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    build: Build | None = None
    approve: Gate | None = None
    use: str | None = None
    given: Mapping[str, str] = _NOTHING
    image: Image | None = None
    needs: tuple[Need, ...] = ()
    after: After = "success"
    when: tuple[Fits, ...] = ()
    matrix: Matrix | None = None
    env: Mapping[str, str] = _NOTHING
    secrets: tuple[Secret, ...] = ()
    inputs: tuple[str, ...] | None = None
    outputs: tuple[Output, ...] = ()
    exports: tuple[str, ...] = ()
    reports: ReportsWanted | None = None
    services: tuple[Service, ...] = ()
    caches: tuple[Cache, ...] = ()
    engine: bool = False
    shell: str = "sh"
    user: str = ""
    workdir: str = "/work"
    tty: bool = False
    workers: tuple[str, ...] = ()
    platform: str = ""
    limits: Limits = Limits()
    network: str = "default"
    timeout_s: float = HOUR_S
    grace_s: float = 10.0
    retry: Retry = Retry()
    may_fail: bool = False
    concurrency: Concurrency | None = None
    reuse: bool | None = None

    @property
    def images(self) -> tuple[Image, ...]:
        """Those of its containers: its own, and its services'."""
        own = () if self.image is None else (self.image,)
        return (*own, *(service.image for service in self.services))

    @property
    def secret_names(self) -> frozenset[str]:
        """The names of all secrets that its containers and its builds ask for."""
        asked = [*self.secrets, *(secret for service in self.services for secret in service.secrets)]
        builds = [image.build for image in self.images]
        lists = [each.secrets for each in (self.build, *builds) if each is not None]
        return frozenset(map(str, (*(secret.name for secret in asked), *(name for names in lists for name in names))))

    @property
    def may_output_secrets(self) -> bool:
        """Whether what it outputs may have a secret in it: one that it asks for, or that others left in a cache."""
        return bool(self.secret_names or self.caches)


class Pipeline(Struct, frozen=True):
    """A pipeline file, read and found to be in order.

    name: the file's.
    on: what it listens to, by event.
    """

    name: str
    on: Mapping[str, Refs]
    jobs: Mapping[str, Job]
    env: Mapping[str, str] = _NOTHING
    timeout_s: float = 6 * HOUR_S
    stop_on_failure: bool = False
    source: SourceOptions = SourceOptions()
    statuses: Literal["run", "jobs"] = "run"
    params: Mapping[str, Param] = _NOTHING
    services: Mapping[str, Service] = _NOTHING
    concurrency: Concurrency | None = None
