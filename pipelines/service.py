"""Everything of this room, opened together: what the web and worker processes hold."""

from __future__ import annotations

from typing import Self

from core.certificates import certificate_places
from core.closing import Closing
from core.settings import RegistrySettings, ServiceSettings
from pipelines.accounts.audit import Audit
from pipelines.accounts.outputtokens import OutputTokens
from pipelines.accounts.preferences import AllPreferences
from pipelines.accounts.roles import Roles
from pipelines.accounts.runtokens import RunTokens
from pipelines.accounts.sessions import Links, Sessions
from pipelines.accounts.sign_ins import SignIns
from pipelines.accounts.throttle import Throttle
from pipelines.accounts.tokens import Tokens
from pipelines.accounts.users import Users
from pipelines.addresses import own_registries
from pipelines.database import Database
from pipelines.hooks.approvals import Approvals
from pipelines.hooks.deliveries import Deliveries
from pipelines.hooks.receiving import Receiver
from pipelines.logs.live import LiveLogs
from pipelines.logs.reading import Logs
from pipelines.owning.grants import Grants
from pipelines.projects.borders import Borders
from pipelines.projects.projects import Projects
from pipelines.runs.artifacts import Artifacts
from pipelines.runs.claims import Claims
from pipelines.runs.gates import Gates
from pipelines.runs.jobs import Jobs
from pipelines.runs.listing import Listing
from pipelines.runs.naming import Naming
from pipelines.runs.outputs import Outputs
from pipelines.runs.pipelines import Pipelines
from pipelines.runs.queue import Queue, redis_client
from pipelines.runs.reports import TestReports
from pipelines.runs.runs import Runs
from pipelines.runs.schedules import Schedules
from pipelines.runs.shares import SharedOrder
from pipelines.runs.shellpipes import ShellPipes
from pipelines.runs.shells import Shells
from pipelines.runs.trail import Trails
from pipelines.runs.workers import Workers
from pipelines.sealing.logins import Logins
from pipelines.sealing.vault import Secrets
from pipelines.sources.contexts import Contexts
from pipelines.sources.git import repositories
from pipelines.sources.upstream import Upstream


class Service(Closing):
    """Everything of this room that shares one database, opened together.

    Made by: each process of the service for itself, after it was forked: connections do not survive a fork.
    Threads: any may use it.
    Ended by: ``close``, when nobody uses it any more; its connections are closed then.
    """

    def __init__(self, settings: ServiceSettings, database: Database) -> None:
        serve = settings.root / "serve"
        serve.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.settings = settings
        self.database = database
        self._redis = redis_client(settings.redis_url)
        self.live = LiveLogs(self._redis)
        self.queue = Queue(settings.redis_url)
        self.workers = Workers(database)
        self.secrets = Secrets(database, settings.key_file)
        self.logins = Logins(database, self.secrets)
        self.grants = Grants(database)
        self.borders = Borders(database, self.registries, repositories(settings))
        self.run_tokens = RunTokens(database)
        self.output_tokens = OutputTokens(database)
        self.order = SharedOrder()
        self.runs = Runs(database, self.queue, self.workers, self.order, self.secrets, self.borders)
        self.listing = Listing(database, self.order, self.runs.explain)
        self.claims = Claims(database, self.live)
        self.logs = Logs(database, self.live)
        self.jobs = Jobs(database, self.queue, self.workers, self.order)
        self.reports = TestReports(database)
        self.outputs = Outputs(database)
        self.artifacts = Artifacts(database)
        self.trails = Trails(database)
        self.gates = Gates(database, self.queue)
        self.schedules = Schedules(database)
        self.shells = Shells(database)
        self.shell_pipes = ShellPipes(self._redis)
        self.pipelines = Pipelines(database, self.secrets, self.runs)
        self.naming = Naming(database)
        self.projects = Projects(database, self.secrets, self.borders, repositories(settings))
        self.deliveries = Deliveries(database)
        self.approvals = Approvals(database, self.runs)
        self.receiver = Receiver(database, self.projects, self.runs, self.deliveries, self.approvals)
        places = certificate_places(RegistrySettings.from_environ().docker_config, settings.root)
        upstream = Upstream(settings.web_url, settings.web_token, places) if settings.web_url else None
        self.contexts = Contexts(database, serve / "contexts", upstream=upstream)
        self.users = Users(database)
        self.preferences = AllPreferences(database)
        self.sessions = Sessions(database)
        self.links = Links(database)
        self.sign_ins = SignIns(database)
        self.throttle = Throttle(database)
        self.audit = Audit(database)
        self.tokens = Tokens(database, serve / "admin.token")
        self.roles = Roles(database, self.tokens)

    @classmethod
    def open(cls, settings: ServiceSettings) -> Self:
        """Connect to the database. Redis may be away. Raises SchemaError, DatabaseUnreachableError, SettingsError."""
        database = Database.open(settings)
        try:
            return cls(settings, database)
        except BaseException:
            database.close()
            raise

    def registries(self) -> frozenset[str]:
        """The names of the service's own registry, HOST[:PORT]."""
        return own_registries(self.settings)

    def close(self) -> None:
        self.queue.close()
        self._redis.close()
        self.database.close()
