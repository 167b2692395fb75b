"""The nouns of the service, as data that is JSON as it stands: runs, their requests, jobs, steps and results."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from ci import graph
from pipelines.forges.events import ForgeName

RunState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled", "error"]
"""Of a run that is a build alone. Its job has the same states."""

AnyRunState: TypeAlias = RunState | Literal["blocked", "warnings"]
"""Of any run. Only those of pipelines are the last two.

blocked: nothing but people and groups can let it go on.
warnings: it succeeded, but a job failed that may, or needed another attempt.
"""

FINAL_STATES: Final[frozenset[AnyRunState]] = frozenset({"succeeded", "warnings", "failed", "cancelled", "error"})
WorkerState: TypeAlias = Literal["idle", "busy", "draining", "sick", "lost"]
JobState: TypeAlias = graph.State
JobKind: TypeAlias = Literal["build", "plan", "job"]
"""A run's one job that builds; of a run of a pipeline its first job, which planned it, and those of the pipeline."""

FIRST_PLACE: Final = 1
"""The place of a run's first job. Those of its pipeline follow."""

PullRequests: TypeAlias = Literal["off", "own", "approve"]
StepState: TypeAlias = Literal["waiting", "running", "done", "cached", "failed", "cancelled"]

DEFAULT_TIMEOUT_S: Final = 3600
MAX_TIMEOUT_S: Final = 6 * 3600


class ContextSource(msgspec.Struct, frozen=True, tag="context"):
    """An uploaded build context. context: its digest, as ``Contexts.begin`` gave it."""

    context: str


class GitSource(msgspec.Struct, frozen=True, tag="git", omit_defaults=True):
    """A git repository.

    ref: a branch, tag or full commit; empty is the remote's HEAD.
    subdirectory: the context.
    ssh_key: name of the secret (the project's or the service's) with the private key for an ssh URL.
    known_hosts: the server's public keys, as ssh-keyscan prints them; empty: those that the worker's machine knows.
    trusted: false for a source that strangers may have written, such as a fork's pull request. Such a run gets no
    secrets and no registry credentials, pushes nothing and does not write to the shared cache.
    branch, tag: the commit's branch or tag, where ref is only the commit.
    commit: what the ref must be, 12 digits or more.
    base, paths: a commit, and patterns of files. Nothing is built unless a file that the patterns name has changed
    since the base. Where the base cannot be had, everything counts as changed.
    only_pipelines: nothing is built where there is no pipeline file: the push of the branch builds the commit.
    """

    url: str
    ref: str = ""
    subdirectory: str = ""
    ssh_key: str = ""
    known_hosts: str = ""
    trusted: bool = True
    branch: str = ""
    tag: str = ""
    commit: str = ""
    base: str = ""
    paths: tuple[str, ...] = ()
    only_pipelines: bool = False


Source: TypeAlias = ContextSource | GitSource


class Trigger(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cause of a run.

    by: the name of whoever made it: at the forge, of the user, or of the token. For people only: its bearer chose it.
    commit: full id, of webhooks' runs; its status is reported under ``context`` unless that is empty.
    title: of the commit or pull request.
    url: where the forge shows it.
    fork: a pull request from another repository.
    delivery: of the webhook.
    default_branch: of the repository, as the forge's payload says it; empty where it does not.
    sender: who asked for the run here, see ``pipelines.sources.senders``; empty for webhooks' runs.
    retry_of: the run that this one repeats; 0 for none.
    redo: of that, the jobs that are done again, with what comes after them; the others' results are taken over.
    redo_failed: what did not succeed is done again.
    pipeline: the only one that is wanted; empty: all that listen.
    target: the branch that a pull request is to go into.
    params: values of the pipeline's parameters, of a run by hand.
    author: of a run that repeats another, who made the first one; see ``author_of``.
    """

    kind: Literal["manual", "push", "tag", "pull_request", "cron"] = "manual"
    by: str = ""
    branch: str = ""
    tag: str = ""
    pull_request: int = 0
    commit: str = ""
    title: str = ""
    url: str = ""
    fork: bool = False
    delivery: int = 0
    context: str = ""
    default_branch: str = ""
    sender: str = ""
    retry_of: int = 0
    target: str = ""
    redo: tuple[str, ...] = ()
    redo_failed: bool = False
    pipeline: str = ""
    author: str = ""
    params: dict[str, str] = {}

    @property
    def is_part(self) -> bool:
        """Whether some jobs of another run are done again, and not all."""
        return bool(self.retry_of and (self.redo or self.redo_failed))


class BuildOptions(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The options of a build, as ``shiplap build`` has them.

    file: the Dockerfile's path in the context.
    tags: names of the image; none means the project's template.
    secrets: names of stored secrets that the build cannot do without; what people send gets no others.
    timeout_s: of the whole build, at most MAX_TIMEOUT_S.
    pull: ignore images that the host's administrator gave the names in FROM. Registries are asked in every run anyway.
    """

    file: str | None = None
    tags: tuple[str, ...] = ()
    target: str = ""
    build_args: dict[str, str] = {}
    labels: dict[str, str] = {}
    no_cache: bool = False
    pull: bool = False
    platform: str | None = None
    network: Literal["default", "none"] = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    timeout_s: int = DEFAULT_TIMEOUT_S


class RunRequest(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A run that somebody wants.

    priority: higher goes first, -100 to 100.
    worker_labels: the worker must have all of them.
    max_attempts: how often it may start when workers or machines fail; a step that fails is never tried again.
    secrets: content by name (base64 in JSON), for this run alone. It also gets the stored secrets that ``options``
    names.
    pipeline: of a git repository, the one that is run, by its name; empty: all that listen, or else the Dockerfile.
    params: values of the parameters of ``pipeline``. Whether they are right is known when its file is read.
    """

    source: Source
    project: str = "default"
    options: BuildOptions = BuildOptions()
    priority: int = 0
    worker_labels: tuple[str, ...] = ()
    max_attempts: int = 3
    secrets: dict[str, bytes] = {}
    pipeline: str = ""
    params: dict[str, str] = {}


class RunResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a run.

    image, manifest: digests; manifest is that of the pushed image, as registries have it.
    names: the names under which the image can be had.
    error: for people.
    dockerfiles: for a run that failed because it found no Dockerfile: those that the context has, the nearest first;
    null for any other run.
    """

    image: str = ""
    manifest: str = ""
    names: tuple[str, ...] = ()
    executed: int = 0
    cached: int = 0
    duration_s: float = 0.0
    error: str = ""
    dockerfiles: tuple[str, ...] | None = None


class Run(msgspec.Struct, frozen=True):
    """A run together with its one job, as people and programs see it. Times are seconds since the epoch.

    attempt: 0 until a worker took it.
    reason: why it waits, or why it ended as it did.
    lines, log_bytes: of its log, as far as it is stored.
    own_secrets: names of the secrets that came with the run; they are forgotten when it ends.
    domain: for whom the run is, a ``core.trust`` label. Empty until a worker has found out the repository's default
    branch.
    cancelled_by: who wanted it to end.
    superseded_by: the newer run because of which it ended; 0 for none.
    """

    number: int
    project: str
    state: AnyRunState
    priority: int
    attempt: int
    max_attempts: int
    worker: str
    cancel_requested: bool
    source: Source
    options: BuildOptions
    worker_labels: tuple[str, ...]
    created_at: float
    queued_at: float
    started_at: float | None
    finished_at: float | None
    reason: str
    result: RunResult | None
    lines: int
    log_bytes: int
    own_secrets: tuple[str, ...] = ()
    trigger: Trigger = Trigger()
    domain: str = ""
    cancelled_by: str = ""
    superseded_by: int = 0

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def is_trusted(self) -> bool:
        """Whether the run may have secrets and credentials, and may publish what it makes."""
        return not isinstance(self.source, GitSource) or self.source.trusted


class Job(msgspec.Struct, frozen=True):
    """A job of a run as workers have to do with it: the unit of claims, attempts and logs.

    number: among the jobs of all runs.
    run: the number of the run.
    state: of a run that is a build alone, a RunState.
    attempt: 0 until a worker took it.
    reason: why it is to end, or why it ended as it did.
    lines: of its log, as far as it is stored.
    """

    number: int
    run: int
    state: JobState
    attempt: int
    max_attempts: int
    cancel_requested: bool
    reason: str
    lines: int


class Step(msgspec.Struct, frozen=True):
    """A step of a job's latest attempt. first_line, last_line: where the log speaks of it; 0 for nowhere.

    size_bytes: of the layer that it made, as a tar; 0 where it made none, and until the build has succeeded.
    """

    index: int
    name: str
    stage: str
    line: int
    state: StepState
    reason: str = ""
    started_at: float | None = None
    duration_s: float = 0.0
    first_line: int = 0
    last_line: int = 0
    size_bytes: int = 0


class Claim(msgspec.Struct, frozen=True):
    """A job in a worker's hands: the only right to write to it, until another attempt begins.

    run: the job's.
    number: the job's.
    next_line: the number of the first line that this attempt logs.
    token: opens the service's registry while this attempt runs; empty for strangers' runs. Made by
    ``pipelines.accounts.runtokens``.
    kind, name, spec: of the job. The first job of a run is of kind ``build`` until its pipelines are known.
    failures: how many attempts before this one failed by themselves.
    """

    run: Run
    number: int
    attempt: int
    worker: str
    next_line: int
    token: str = ""
    kind: JobKind = "build"
    name: str = "build"
    spec: str = ""
    failures: int = 0


class HookSettings(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The settings of a project's webhook: what is built, and how.

    Patterns are written as in ``.dockerignore``; here they say what is built, and ``!`` what is not. None: all is.

    repository: the URL that is cloned.
    forge: whose webhooks are taken.
    branches, tags: whose pushes are built.
    paths: of files in the repository; a push that changes none of them is not built.
    pull_requests: "own" builds those from the project's own repository, "approve" also those from forks, each commit
    once somebody has approved it.
    file, context, target, build_args: as of ``shiplap build``; context is a directory of the repository.
    ssh_key, known_hosts: see ``GitSource``.
    cancel_superseded: a push ends the runs of the branch's commits before it.
    api_url: of the forge, where it is not as usual.
    status_context: what the commit's mark is called there.
    public_badge: the badge is for everybody, also for those who are not signed in.
    """

    repository: str = ""
    forge: ForgeName | Literal[""] = ""
    branches: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    pull_requests: PullRequests = "own"
    file: str | None = None
    context: str = ""
    target: str = ""
    build_args: dict[str, str] = {}
    ssh_key: str = ""
    known_hosts: str = ""
    cancel_superseded: bool = True
    api_url: str = ""
    status_context: str = "shiplap"
    public_badge: bool = False


class Project(msgspec.Struct, frozen=True, omit_defaults=True):
    """A project, as it is kept.

    concurrency: how many of its runs may run at once, 0 is no limit.
    tag_template: see ``pipelines.projects.tags``.
    keep_runs, keep_days: retention; a run is removed when it is beyond both, 0 keeps for ever.
    has_webhook_secret, has_status_token: whether these are stored, which ``Projects`` does apart from the rest.
    weight: of its share: while both have runs that wait, a project with weight 2 gets twice the places of one with
    weight 1.
    keep_failed: whether what failed jobs left is kept for a while, so that somebody can open a shell in it.
    archived_at: since when it takes no pushes and no runs, and stands in no list of projects; None: it is not archived.
    """

    name: str
    concurrency: int = 0
    tag_template: str = "{defaults}"
    keep_runs: int = 200
    keep_days: int = 30
    hook: HookSettings = HookSettings()
    has_webhook_secret: bool = False
    has_status_token: bool = False
    weight: int = 1
    keep_failed: bool = False
    archived_at: float | None = None

    @property
    def reports_status(self) -> bool:
        """Whether commits are to be marked at the forge."""
        return self.has_status_token and self.hook.forge not in ("", "plain")


class WorkerInfo(msgspec.Struct, frozen=True):
    """A worker as others see it.

    state: lost means that its heart has not beaten for a while, sick that it takes nothing but a trial now and then.
    runs: numbers of what it works on.
    trouble: why it is sick, for people.
    """

    name: str
    labels: tuple[str, ...]
    concurrency: int
    state: WorkerState
    heartbeat_at: float
    runs: tuple[int, ...]
    trouble: str = ""
