"""The service's tables, as SQLAlchemy sees them; ``migrations/`` makes and changes them.

Times are seconds since the epoch (UTC), documents are JSON text. SQLite and PostgreSQL have the same tables.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData()

projects = Table(
    "projects",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("concurrency", Integer, nullable=False),
    Column("tag_template", Text, nullable=False),
    Column("keep_runs", Integer, nullable=False),
    Column("keep_days", Integer, nullable=False),
    Column("hook", Text, nullable=False, default="{}", server_default="{}"),  # see pipelines.model.HookSettings
    Column("webhook_secret", LargeBinary),  # encrypted, as is the next
    Column("status_token", LargeBinary),
    Column("weight", Integer, nullable=False, default=1, server_default="1"),  # see pipelines.runs.shares
    Column("keep_failed", Boolean, nullable=False, default=False, server_default=false()),  # see pipelines.runs.shells
    Column("archived_at", Float),  # since when it takes nothing new; null: it does
)

runs = Table(
    "runs",  # what somebody asked for; see jobs for who does it
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("project", ForeignKey("projects.name"), nullable=False),
    Column("state", String(16), nullable=False),  # follows its jobs', see pipelines.runs.states
    Column("priority", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("trigger", Text, nullable=False, default="{}", server_default="{}"),  # a model.Trigger
    Column("branch", String(255), nullable=False, default="", server_default=""),  # of the trigger, for look-ups
    Column("domain", Text, nullable=False, default="", server_default=""),  # for whom it is, see pipelines.runs.domains
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("cancelled_by", Text, nullable=False, default="", server_default=""),
    Column("superseded_by", Integer, nullable=False, default=0, server_default="0"),  # a run's number; 0 for none
    Column("pipeline", String(100), nullable=False, default="", server_default=""),  # its name; empty: a build alone
    Column("plan", Text, nullable=False, default="", server_default=""),  # of a pipeline: a runs.plans.RunPlan
    Column("stop", String(8), nullable=False, default="", server_default=""),  # a ci.graph.Stop
    Column("reason", Text, nullable=False, default="", server_default=""),  # of a pipeline: why it ended, or is to end
    Column("late_at", Float),  # of a pipeline: when its time is over
    Column("blocked_at", Float),  # since when nothing but people or groups lets it go on; its time stands still
    Column("group_name", String(200), nullable=False, default="", server_default=""),  # see pipelines.runs.groups
    Column("group_state", String(8), nullable=False, default="", server_default=""),  # waiting, held; empty: neither
    Column("before", String(64), nullable=False, default="", server_default=""),  # the branch's commit until a push
    Column("held", Text, nullable=False, default="", server_default=""),  # see pipelines.hooks.ownpulls
    Column("is_counted", Boolean, nullable=False, default=False, server_default=false()),  # see pipelines.runs.rollups
    Column("commit", String(64), nullable=False, default="", server_default=""),  # that it is of, as far as it is known
    Index("runs_by_commit", "project", "commit"),
    Index("runs_by_branch", "project", "branch", "number", "state"),  # a list by state too reads no other rows
    Index("runs_of_branch", "branch", "number", "state"),  # of whichever project
    Index("runs_by_state", "state", "number", "project"),
    Index("runs_by_project", "project", "number", "state"),
    Index("runs_by_group", "group_state"),
    Index(
        "runs_uncounted",
        "number",  # those that the totals lack, see pipelines.counters
        sqlite_where=text("is_counted IS 0"),
        postgresql_where=text("is_counted IS false"),
    ),
    sqlite_autoincrement=True,  # the number of a removed run is never given again
)

run_texts = Table(
    "run_texts",  # what runs are found by, see pipelines.runs.texts, which also says how it is indexed
    metadata,
    Column("run", ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True, autoincrement=False),
    Column("text", Text, nullable=False),
)

jobs = Table(
    "jobs",  # what a worker takes, builds and logs: the parts of a run
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),  # among the jobs of all runs
    Column("run", ForeignKey("runs.number", ondelete="CASCADE"), nullable=False),
    Column("place", Integer, nullable=False),  # in its run, from 1 to 256
    Column("name", String(200), nullable=False),
    Column("kind", String(16), nullable=False),  # how spec is to be read
    Column("spec", Text, nullable=False),  # of the first job: model.BuildOptions; of a pipeline's: ci.planning's data
    Column("node", Text, nullable=False, default="", server_default=""),  # of a pipeline's job: a ci.graph.JobNode
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False),
    Column("worker", String(200), nullable=False, default=""),
    Column("worker_labels", Text, nullable=False),
    Column("pulse", BigInteger, nullable=False, default=0),  # grows with each renewal of the lease
    Column("lease_until", Float, nullable=False, default=0.0),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("stop", String(8), nullable=False, default="", server_default=""),  # a ci.graph.JobStop
    Column("group_name", String(200), nullable=False, default="", server_default=""),  # see pipelines.runs.groups
    Column("queued_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("reason", Text, nullable=False, default=""),
    Column("result", Text),
    Column("lines", BigInteger, nullable=False, default=0),
    Column("log_bytes", BigInteger, nullable=False, default=0),
    Column("own_secrets", Text, nullable=False, default="[]", server_default="[]"),  # names; see run_secrets
    Column("not_before", Float, nullable=False, default=0.0, server_default="0"),  # no attempt begins earlier
    Column("failures", Integer, nullable=False, default=0, server_default="0"),  # attempts that failed by themselves
    Column("failed_on", Text, nullable=False, default="[]", server_default="[]"),  # names of workers; see faults
    Column(
        "token", String(64), nullable=False, default="", server_default=""
    ),  # a hash; see pipelines.accounts.runtokens
    Column("host", String(64), nullable=False, default="", server_default=""),  # its worker's; see runs.artifacts
    Column("left_at", String(64), nullable=False, default="", server_default=""),  # the only host with its outputs
    Column("to_send", String(64), nullable=False, default="", server_default=""),  # the host that has some to send
    Column("entered", Integer, nullable=False, default=0, server_default="0"),  # the attempt that people had a shell in
    UniqueConstraint("run", "place", name="jobs_of_run"),
    Index("jobs_by_state", "state"),
    Index("jobs_to_send", "to_send"),
    sqlite_autoincrement=True,  # logs in Redis and tokens have the number, too
)

shells = Table(
    "shells",  # that people open in jobs; see pipelines.runs.shells
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("run", Integer, nullable=False),
    Column("name", String(200), nullable=False),  # the job's
    Column("attempt", Integer, nullable=False),
    Column("project", String(100), nullable=False),
    Column("kind", String(8), nullable=False),  # running or failed, as the job was
    Column("host", String(64), nullable=False),  # whose worker opens it
    Column("actor", String(200), nullable=False),
    Column("address", String(64), nullable=False),
    Column("has_secrets", Boolean, nullable=False),
    Column("terms", Text, nullable=False),  # a runs.shells.ShellTerms
    Column("is_attached", Boolean, nullable=False, default=False, server_default=false()),  # its terminal has come
    Column("state", String(8), nullable=False),  # asked, open, ended
    Column("asked_at", Float, nullable=False),
    Column("opened_at", Float),
    Column("ended_at", Float),
    Column("exit_code", Integer),
    Column("reason", Text, nullable=False, default="", server_default=""),
    Index("shells_by_state", "state", "host"),
    Index("shells_by_job", "job"),
    sqlite_autoincrement=True,  # what is said in Redis has the number, too
)

failed_files = Table(
    "failed_files",  # what failed jobs left, for shells; see pipelines.runs.shells
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("host", String(64), nullable=False),  # whose store has them
    Column("until", Float, nullable=False),
    Column("document", Text, nullable=False),  # a ci.failedfiles.FailedFiles
)

job_reports = Table(
    "job_reports",  # what attempts of jobs reported; see pipelines.runs.reports
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("run", Integer, nullable=False),
    Column("project", String(100), nullable=False),
    Column("pipeline", String(100), nullable=False),
    Column("base", String(200), nullable=False),  # the job's name in the file: that of all of its matrix
    Column("name", String(200), nullable=False),
    Column("commit", String(64), nullable=False),
    Column("counts", Boolean, nullable=False),  # in the history of its tests
    Column("at", Float, nullable=False),
    Column("total", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("skipped", Integer, nullable=False),
    Column("flaky", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("coverage", Float),
    Column("document", LargeBinary, nullable=False),  # ci.reports.packing; empty: not kept any more
    Index("job_reports_by_base", "project", "pipeline", "base", "at"),
    Index("job_reports_by_run", "run"),
)

test_failures = Table(
    "test_failures",  # tests of these reports that failed, or passed when they were tried again
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("place", Integer, primary_key=True),  # among those of the report
    Column("project", String(100), nullable=False),
    Column("pipeline", String(100), nullable=False),
    Column("base", String(200), nullable=False),
    Column("commit", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("suite", String(500), nullable=False),
    Column("name", String(500), nullable=False),
    Column("has_failed", Boolean, nullable=False),
    Column("is_flaky", Boolean, nullable=False),
    Index("test_failures_by_base", "project", "pipeline", "base", "at"),
)

test_histories = Table(
    "test_histories",  # who failed in the last reports of a job, packed; see pipelines.runs.histories
    metadata,
    Column("project", String(100), primary_key=True),
    Column("pipeline", String(100), primary_key=True),
    Column("base", String(200), primary_key=True),
    Column("at", Float, nullable=False),  # of the newest report
    Column("document", LargeBinary, nullable=False),
)

gates = Table(
    "gates",  # jobs that people answer, see pipelines.runs.gates
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("terms", Text, nullable=False),  # a runs.gaterows.GateTerms
    Column("opened_at", Float),
    Column("due_at", Float),  # nobody's answer until then is a no
    Column("decision", String(16), nullable=False, default="", server_default=""),
    Column("decided_by", String(200), nullable=False, default="", server_default=""),
    Column("decided_at", Float),
    Column("comment", Text, nullable=False, default="", server_default=""),
    Column("content", String(64), nullable=False, default="", server_default=""),  # a hash of what was approved
    Column("taken_from", Integer, nullable=False, default=0, server_default="0"),  # the run that was approved
    Index("gates_due", "decision", "due_at"),
)

schedules = Table(
    "schedules",  # when pipelines run by themselves; see pipelines.runs.schedules
    metadata,
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), primary_key=True),
    Column("pipeline", String(100), primary_key=True),
    Column("place", Integer, primary_key=True),  # in its file
    Column("at", String(200), nullable=False),
    Column("zone", String(100), nullable=False),
    Column("branch", String(255), nullable=False),  # empty: the default one
    Column("due_at", Float, nullable=False),
    Column("found_by", Integer, nullable=False),  # the run that looked at the file
    Column("last_run", Integer),
    Index("schedules_by_time", "due_at"),
)

artifacts = Table(
    "artifacts",  # what jobs left in the service's registry; see pipelines.runs.artifacts
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", String(100), primary_key=True),  # of an output for people; else empty
    Column("repository", String(255), nullable=False),
    Column("manifest", String(80), nullable=False),
    Column("content", String(80), nullable=False),  # a layer's diff ID; an image's ID
    Column("blob", String(80), nullable=False),  # of a layer
    Column("media_type", String(100), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("until", Float, nullable=False),  # 0: for a while after the run's end
    Index("artifacts_by_manifest", "repository", "manifest"),
)

output_tokens = Table(
    "output_tokens",  # of workers that send or fetch what jobs output; see pipelines.accounts.outputtokens
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), nullable=False),
    Column("repository", String(255), nullable=False),
    Column("project", String(100), nullable=False),  # whose images it reads, too; empty: none
    Column("expires_at", Float, nullable=False),
    Index("output_tokens_by_job", "job"),
)

made_images = Table(
    "made_images",  # which job made which image, and where that was pushed to; see pipelines.runs.trail
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("registry", String(255), primary_key=True),  # HOST[:PORT]
    Column("repository", String(255), primary_key=True),
    Column("run", Integer, nullable=False),
    Column("manifest", String(80), nullable=False),
    Column("image", String(80), nullable=False),  # its ID
    Index("made_images_by_run", "run"),
    Index("made_images_by_manifest", "repository", "manifest"),
    Index("made_images_by_image", "image"),
)

run_images = Table(
    "run_images",  # what names of images mean in a run: the first answer counts for all of its jobs
    metadata,
    Column("run", ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True),
    Column("name", String(500), primary_key=True),
    Column("meaning", Text, nullable=False),
)

steps = Table(
    "steps",
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("step", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("stage", Text, nullable=False),
    Column("line", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("started_at", Float),
    Column("duration_s", Float, nullable=False),
    Column("first_line", BigInteger, nullable=False),
    Column("last_line", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False, default=0, server_default="0"),
)

log_chunks = Table(
    "log_chunks",
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("first_line", BigInteger, primary_key=True),
    Column("attempt", Integer, nullable=False),
    Column("line_count", Integer, nullable=False),
    Column("byte_offset", BigInteger, nullable=False),  # of the first line in the log's text
    Column("data", LargeBinary, nullable=False),  # zstd of JSON lines
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(200), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Column("scopes", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("last_used_at", Float),
    Column("owner", ForeignKey("users.name", ondelete="CASCADE")),  # null: a robot's
)

secrets = Table(
    "secrets",
    metadata,
    Column("project", String(100), primary_key=True),  # empty: of the whole service
    Column("name", String(200), primary_key=True),
    Column("value", LargeBinary, nullable=False),  # encrypted, see pipelines.sealing.vault
    Column("created_at", Float, nullable=False),
    Column("policy", Text, nullable=False, default="", server_default=""),  # see pipelines.owning.policies
)

registry_logins = Table(
    "registry_logins",  # of the service, to registries elsewhere; projects get them by grants
    metadata,
    Column("registry", String(300), primary_key=True),  # HOST[:PORT]
    Column("username", String(300), nullable=False),
    Column("password", LargeBinary, nullable=False),  # encrypted
    Column("created_at", Float, nullable=False),
)

grants = Table(
    "grants",  # what projects may use that is not their own, see pipelines.owning.grants
    metadata,
    Column("project", String(100), primary_key=True),  # "*" for all
    Column("kind", String(16), primary_key=True),
    Column("name", String(300), primary_key=True),
    Column("may_push", Boolean, nullable=False),  # of images
    Column("policy", Text, nullable=False, default="", server_default=""),  # of secrets; empty: the secret's own
)

project_roles = Table(
    "project_roles",  # beside the roles of users and the scopes of tokens, see pipelines.accounts.roles
    metadata,
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("subject", String(64), primary_key=True),  # a user's name, or a token's hash
    Column("role", String(16), nullable=False),
    Index("project_roles_by_subject", "kind", "subject"),
)

run_secrets = Table(
    "run_secrets",  # given with a run, for its job alone; gone when that ends
    metadata,
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

counters = Table(
    "counters",  # totals over runs, which never fall; see pipelines.counters
    metadata,
    Column("name", String(100), primary_key=True),
    Column("value", Float, nullable=False),
)

job_times = Table(
    "job_times",  # histograms that each job's end adds to; see pipelines.runs.jobtimes
    metadata,
    Column("project", String(100), primary_key=True),
    Column("pipeline", String(100), primary_key=True),
    Column("job", String(200), primary_key=True),  # its name in the file; empty: of all that have no row
    Column("count", BigInteger, nullable=False, default=0, server_default="0"),
    Column("waited_s", Float, nullable=False, default=0.0, server_default="0"),
    Column("took_s", Float, nullable=False, default=0.0, server_default="0"),
    *(
        Column(f"{kind}_{place}", BigInteger, nullable=False, default=0, server_default="0")
        for kind in ("waited", "took")
        for place in range(8)
    ),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("labels", Text, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("pulse", BigInteger, nullable=False),
    Column("heartbeat_at", Float, nullable=False),
    Column("draining", Boolean, nullable=False),
    Column("host", String(64), nullable=False, default="", server_default=""),  # images.store.Store.identity
)

worker_faults = Table(
    "worker_faults",  # jobs that failed by the machine's fault since the worker last did one well
    metadata,
    Column("worker", String(200), primary_key=True),
    Column("job", ForeignKey("jobs.number", ondelete="CASCADE"), primary_key=True),
    Column("times", Integer, nullable=False),
    Column("at", Float, nullable=False),  # the last time
    Column("why", Text, nullable=False),
)

contexts = Table(
    "contexts",
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("used_at", Float, nullable=False),
)

senders = Table(
    "senders",  # of contexts and of their files: who has shown that they have them
    metadata,
    Column("digest", String(80), primary_key=True),
    Column("sender", String(200), primary_key=True),
)

deliveries = Table(
    "deliveries",  # what forges sent to webhooks, and what came of it
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), nullable=False),
    Column("forge", String(16), nullable=False),
    Column("delivery", String(200)),  # the forge's id; null for what was refused and for our own redeliveries
    Column("event", String(100), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("headers", Text, nullable=False),
    Column("body", LargeBinary),  # zstd; null for what was refused
    Column("outcome", String(16), nullable=False),
    Column("status", Integer, nullable=False),  # of the HTTP answer
    Column("reason", Text, nullable=False),
    Column("runs", Text, nullable=False),  # numbers
    Column("repeats", Integer, nullable=False, default=0),  # how often the forge sent it again
    Column("redelivery_of", Integer),
    UniqueConstraint("project", "delivery", name="deliveries_once"),
    Index("deliveries_by_project", "project", "id"),
    sqlite_autoincrement=True,
)

approvals = Table(
    "approvals",  # pull requests from forks: one commit each, which somebody has to look at before it is built
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), nullable=False),
    Column("pull_request", Integer, nullable=False),
    Column("commit", String(64), nullable=False),
    Column("request", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("decided_at", Float),
    Column("decided_by", String(200), nullable=False, default=""),
    Column("run", Integer),
    UniqueConstraint("project", "pull_request", "commit", name="approvals_once"),
    sqlite_autoincrement=True,
)

statuses = Table(
    "statuses",  # the outbox of commit statuses: sent in this order for each commit and context
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), nullable=False),
    Column("run", ForeignKey("runs.number", ondelete="CASCADE"), nullable=False),
    Column("commit", String(64), nullable=False),
    Column("context", String(255), nullable=False),
    Column("state", String(16), nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("outcome", String(16), nullable=False),  # waiting, sent, failed, superseded
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float, nullable=False),  # not before; also the end of a sender's hold on it
    Column("sent_at", Float),
    Column("error", Text, nullable=False, default=""),
    Column("job", Integer, nullable=False, default=0, server_default="0"),  # its place, to link to; 0: the run
    Index("statuses_due", "outcome", "due_at"),
    Index("statuses_by_project", "project", "id"),
    sqlite_autoincrement=True,
)

users = Table(
    "users",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("role", String(16), nullable=False),
    Column("password", Text),  # a hash, see core.passwords; null: no signing in by one
    Column("disabled", Boolean, nullable=False),
    Column("issuer", String(500)),  # with the subject: the user's identity at the provider
    Column("subject", String(255)),
    Column("created_at", Float, nullable=False),
    Column("signed_in_at", Float),
    UniqueConstraint("issuer", "subject"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("user", ForeignKey("users.name", ondelete="CASCADE"), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(300), nullable=False),
    Index("sessions_by_user", "user"),
)

sign_in_links = Table(
    "sign_in_links",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("user", ForeignKey("users.name", ondelete="CASCADE")),  # null: makes the first administrator
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

oidc_sign_ins = Table(
    "oidc_sign_ins",  # that were begun here and are at the provider now
    metadata,
    Column("state", String(64), primary_key=True),  # its hash
    Column("nonce", String(100), nullable=False),
    Column("verifier", String(128), nullable=False),
    Column("next", Text, nullable=False),
    Column("expires_at", Float, nullable=False),
)

throttle = Table(
    "throttle",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("level", Float, nullable=False),
    Column("at", Float, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("actor", String(200), nullable=False),
    Column("action", String(60), nullable=False),
    Column("subject", String(300), nullable=False),
    Column("detail", Text, nullable=False),
    Column("address", String(64), nullable=False),
    Column("project", String(100), nullable=False, default="", server_default=""),  # empty: of the service
    Column("changes", Text, nullable=False, default="", server_default=""),  # JSON, see pipelines.changes
    Index("audit_by_project", "project", "id"),
    Index("audit_by_actor", "actor", "id"),
    Index("audit_by_action", "action", "id"),
)

key_numbers = Table(
    "key_numbers",  # of the key that secrets are sealed with: one row, see pipelines.keys.keynumbers
    metadata,
    Column("number", String(16), primary_key=True),
)

image_tags = Table(
    "image_tags",  # which run has each of the default names that move, see pipelines.runs.naming
    metadata,
    Column("project", ForeignKey("projects.name"), primary_key=True),
    Column("tag", String(128), primary_key=True),
    Column("owner", Text, nullable=False),  # the thing that the name stands for: no other ever gets the name
    Column("run", Integer, nullable=False),  # which may have been removed
    Column("attempt", Integer, nullable=False),
    Column("job", Integer, nullable=False, default=0, server_default="0"),  # of all; 0: the run's one
)

project_days = Table(
    "project_days",  # sums of the runs that ended on a day, see pipelines.runs.rollups
    metadata,
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),  # since the epoch, UTC
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("cancelled", Integer, nullable=False),
    Column("steps", Integer, nullable=False),
    Column("reused", Integer, nullable=False),
    Column("waited_s", Float, nullable=False),
)

project_day_times = Table(
    "project_day_times",  # how many of these runs took how long
    metadata,
    Column("project", ForeignKey("projects.name", ondelete="CASCADE"), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("bucket", Integer, primary_key=True, autoincrement=False),  # see pipelines.runs.rollups.bucket_of
    Column("runs", Integer, nullable=False),
)

heads = Table(
    "heads",  # the newest run of each branch, tag and pull request
    metadata,
    Column("project", String(100), primary_key=True),
    Column("kind", String(8), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("run", ForeignKey("runs.number", ondelete="CASCADE"), nullable=False),
    Index("heads_by_run", "run"),
)

disk_samples = Table(
    "disk_samples",  # how full hosts' disks were, hour by hour, see pipelines.keeping.diskuse
    metadata,
    Column("host", String(64), primary_key=True),  # images.store.Store.identity
    Column("hour", Integer, primary_key=True, autoincrement=False),  # since the epoch
    Column("at", Float, nullable=False),
    Column("used_bytes", BigInteger, nullable=False),
    Column("free_bytes", BigInteger, nullable=False),
    Column("registry_bytes", BigInteger, nullable=False),
    Column("outputs_bytes", BigInteger, nullable=False),
)

backups = Table(
    "backups",  # that were made, or failed, see pipelines.keeping.records
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),  # when it was begun
    Column("took_s", Float, nullable=False),
    Column("by", String(200), nullable=False),
    Column("place", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("images", Boolean, nullable=False),
    Column("error", Text, nullable=False),  # empty: it is whole
    sqlite_autoincrement=True,
)

user_settings = Table(
    "user_settings",  # what users chose for themselves, see pipelines.accounts.preferences
    metadata,
    Column("user", ForeignKey("users.name", ondelete="CASCADE"), primary_key=True),
    Column("chosen", Text, nullable=False),
)

HEAD = "0032"
"""The newest migration: what ``alembic_version`` must say for this version to work."""
