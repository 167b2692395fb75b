"""Which runs a secret is for: what a policy means, whose policy counts, and what the migration made of the lists."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from sqlalchemy import create_engine, text, update

from core.settings import ServiceSettings
from core.trust import Domain, of_branch, of_fork, of_user, protected
from pipelines.database import _url, migrate, upgrade
from pipelines.errors import InvalidRequestError, NotFoundError, SecretError
from pipelines.keeping.backup import backup, restore
from pipelines.model import Project
from pipelines.owning.grants import Grant
from pipelines.owning.policies import SILENT, Policy, PolicyEvent, RunAsks, check_policy, refusal, told
from pipelines.schema import secrets
from pipelines.service import Service
from tests.toolkit.service import FOR_ALL

MAIN, BRANCH, ANN, FORK = protected("app"), of_branch("app", "feature/x"), of_user("app", "ann"), of_fork("app", 7)
PUSH, TAG = RunAsks(MAIN, "push", "main"), RunAsks(MAIN, "tag", tag="v1")
OF_BRANCH, PULL = RunAsks(BRANCH, "push", "feature/x"), RunAsks(BRANCH, "pull_request", "feature/x")
CRON, BY_HAND = RunAsks(MAIN, "cron", "main"), RunAsks(MAIN, "manual", "main")
NEWEST, SENT = RunAsks(MAIN, "manual"), RunAsks(ANN, "manual")
RUNS = {
    "push": PUSH, "tag": TAG, "branch": OF_BRANCH, "pull": PULL, "cron": CRON, "hand": BY_HAND, "newest": NEWEST,
    "sent": SENT, "fork": RunAsks(FORK, "pull_request", "main"), "deploy": PUSH._replace(pipeline="deploy"),
    "test": PUSH._replace(pipeline="test"), "tag by hand": RunAsks(MAIN, "manual", tag="v1"),
}  # fmt: skip
OF_MAIN = {"push", "cron", "hand", "deploy", "test"}


@pytest.mark.parametrize(
    ("policy", "gets"),
    [
        (SILENT, OF_MAIN | {"tag", "newest", "tag by hand"}),
        (Policy(("main",)), OF_MAIN),
        (Policy(("feature/*",)), {"branch", "pull"}),
        (Policy(("**",)), {*RUNS} - {"sent", "fork"}),
        (Policy(("main",), ("push", "tag")), {"push", "tag", "deploy", "test"}),
        (Policy((), ("push",)), {"push", "deploy", "test"}),
        (Policy((), ("tag",)), {"tag"}),
        (Policy(("**",), ("pull_request",)), {"pull"}),
        (Policy((), ("manual",)), {"hand", "newest", "tag by hand"}),
        (Policy((), ("sent",)), {"sent"}),
        (Policy(("main",), ("push", "sent")), {"push", "sent", "deploy", "test"}),
        (Policy((), (), ("deploy",)), {"deploy"}),
        (Policy((), (), ("!deploy",)), {"test"}),
        (Policy(("main",), ("push", "tag"), ("deploy",)), {"deploy"}),
        (Policy(("!main",)), {"tag", "branch", "pull", "newest", "tag by hand"}),
    ],
)
def test_policy_says_which_runs_get_a_secret(policy: Policy, gets: set[str]) -> None:
    check_policy(policy)
    assert {name for name, run in RUNS.items() if not refusal(policy, run)} == gets


def test_refusal_names_the_policy_and_the_run() -> None:
    policy = Policy(("main",), ("push", "tag"), ("deploy",))
    assert refusal(policy, OF_BRANCH._replace(pipeline="test")) == (
        "it is for branches main; events push, tag; pipelines deploy; "
        "this run is of branch feature/x (event push), pipeline test"
    )
    assert refusal(SILENT, SENT).endswith("this run is of what ann sent, without a pipeline")
    assert (told(SILENT), told(Policy((), ("sent",)))) == ("protected branches and tags", "events sent")
    assert refusal(Policy(("**",), ("sent",)), RUNS["fork"]) == "no run of a fork gets secrets"


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (Policy(("",)), "a pattern is empty"),
        (Policy(("a\nb",)), "one line"),
        (Policy(("x",) * 101), "at most 100 branches"),
        (Policy((), (), ("[",)), "pipelines of the policy"),
        (Policy((), ("push", "push")), "names an event twice"),
        (Policy((), ("pull_request",)), "never come from the default branch"),
        (Policy(("main",), ("tag",)), "events that are of none: tag"),
        (Policy(("main",), ("tag", "sent")), "events that are of none: tag, sent"),
    ],
)
def test_policy_that_means_nothing_is_refused(service: Service, policy: Policy, why: str) -> None:
    service.projects.put(Project("app"))
    service.secrets.put("npm", b"value")
    wrongs: tuple[Callable[[], object], ...] = (
        lambda: service.secrets.put("npm", b"other", policy=policy),
        lambda: service.secrets.set_policy("npm", policy),
        lambda: service.grants.give(Grant("app", "secret", "npm", policy=policy)),
    )
    for wrong in wrongs:
        with pytest.raises(InvalidRequestError, match=why):
            wrong()
    assert service.secrets.reveal(["npm"]) == {"npm": b"value"}
    assert service.grants.list() == []


def gets(service: Service, run: RunAsks, **more: Any) -> dict[str, bytes]:
    return dict(service.secrets.hold(run.domain.project, **more).sifted(run).values)


def test_policy_of_a_grant_counts_in_place_of_the_secret_s_own(service: Service) -> None:
    for name in ("app", "web", "shop"):
        service.projects.put(Project(name))
    service.secrets.put("npm", b"of the service", policy=Policy(("feature/*",)))
    service.grants.give(Grant("app", "secret", "npm"))
    service.grants.give(Grant("web", "secret", "npm", policy=Policy((), ("tag",))))

    def who(project: str) -> set[str]:
        runs = {name: run._replace(domain=run.domain._replace(project=project)) for name, run in RUNS.items()}
        return {name for name, run in runs.items() if gets(service, run)}

    assert (who("app"), who("web"), who("shop")) == ({"branch", "pull"}, {"tag"}, set())
    service.grants.give(Grant("*", "secret", "npm", policy=Policy((), ("cron",))))
    assert (who("app"), who("web"), who("shop")) == ({"branch", "pull", "cron"}, {"tag", "cron"}, {"cron"})
    service.secrets.put("npm", b"of the project", project="web")
    assert who("web") == OF_MAIN | {"tag", "newest", "tag by hand"}, "its own one takes the place of the service's"
    assert set(gets(service, RunAsks(protected("web"), "push", "main")).values()) == {b"of the project"}
    service.grants.give(Grant("web", "secret", "npm"), keeps_policy=True)
    assert [grant.policy for grant in service.grants.list(project="web")] == [
        Policy((), ("cron",)), Policy((), ("tag",)),
    ]  # fmt: skip
    for grant in (Grant("app", "image", "base/*"), Grant("app", "bare", "app")):
        with pytest.raises(InvalidRequestError, match=f"a {grant.kind} has no policy"):
            service.grants.give(msgspec.structs.replace(grant, policy=Policy(("main",))))


def test_fork_gets_nothing_whatever_policies_say(service: Service) -> None:
    service.secrets.put("npm", b"value", project="app", policy=Policy(("**",), ("pull_request", "manual", "sent")))
    held = service.secrets.hold("app")._replace(own={"own": b"came with it"})
    sifted = held.sifted(RUNS["fork"])
    assert (dict(sifted.values), set(sifted.refused)) == ({}, {"npm", "own"})
    asked = sifted.refusals(["npm", "nothing of that"], RUNS["fork"])
    assert len({*asked.values()}) == 1, "it learns not which of them there are"
    assert [*asked] == ["npm", "nothing of that"]
    others = held.sifted(TAG)
    assert others.refusals(["nothing of that"], TAG) == others.refused
    assert set(held.sifted(PULL).values) == {"npm", "own"}
    assert set(held.values()) == {b"value", b"came with it"}, "whatever it gets, its log is masked"


def test_policy_stays_when_a_value_is_replaced(service: Service) -> None:
    policy = Policy(("main",), ("push", "tag"), ("deploy",))
    service.secrets.put("npm", b"one-", project="app", policy=policy)
    service.secrets.put("npm", b"two-", project="app")
    (info,) = service.secrets.list(project="app")
    assert (info.policy, service.secrets.reveal(["npm"], project="app")) == (policy, {"npm": b"two-"})
    service.secrets.set_policy("npm", SILENT, project="app")
    assert service.secrets.list(project="app")[0].policy == SILENT
    service.secrets.put("npm", b"two-", project="app", policy=policy)
    assert service.secrets.list(project="app")[0].policy == policy
    for name, project in (("npm", ""), ("other", "app")):
        with pytest.raises(NotFoundError, match="there is no secret"):
            service.secrets.set_policy(name, policy, project=project)
    service.secrets.delete("npm", project="app")
    service.secrets.put("npm", b"new-", project="app")
    assert service.secrets.list(project="app")[0].policy == SILENT, "one that comes later by the same name is another"


def test_secret_that_cannot_be_opened_is_missed_by_whoever_needs_it_alone(
    service: Service, settings: ServiceSettings
) -> None:
    service.secrets.take_key()
    for name in ("npm", "deploy"):
        service.secrets.put(name, b"value", project="app")
    service.secrets.put("deploy", b"of the service")
    service.projects.put(Project("app"))
    service.grants.give(Grant("app", "secret", "deploy"))
    with service.database.write() as connection:  # as half a restored backup, or a hand in the database, leaves it
        this = update(secrets).where(secrets.c.project == "app", secrets.c.name == "deploy")
        connection.execute(this.values(value=b"x" * 40))
    held = service.secrets.hold("app")
    assert held.values() == [b"value"], "nor does another one take its place"
    sifted = held.sifted(RunAsks(protected("app"), "push", "main"))
    assert dict(sifted.values) == {"npm": b"value"}
    assert "the secret deploy cannot be decrypted" in sifted.refused["deploy"]
    with pytest.raises(SecretError):
        service.secrets.hold("app", named=["deploy"])
    (settings.root / "serve" / "secret.key").write_bytes(b"k" * 32)
    with Service.open(settings) as another, pytest.raises(SecretError, match="is another key"):
        another.secrets.hold("app")  # this host's fault: a worker that has the key does the run


def test_name_that_was_asked_for_has_to_be_there(service: Service) -> None:
    service.projects.put(Project("app"))
    with pytest.raises(NotFoundError, match="there is no secret npm"):
        service.secrets.hold("app", named=["npm"])
    service.secrets.put("npm", b"value")
    with pytest.raises(NotFoundError, match="was not given the secret npm"):
        service.secrets.hold("app", named=["npm"])
    service.grants.give(Grant("app", "secret", "npm"))
    assert set(service.secrets.hold("app", named=["npm"]).stored) == {"npm"}


OLD_HOOK = {
    "repository": "https://git.example/app.git", "push_secrets": ["deploy", "npm"], "tag_secrets": ["release", "npm"],
    "pull_request_secrets": ["npm", "nowhere"], "ssh_key": "key",
}  # fmt: skip


def before_policies(settings: ServiceSettings) -> None:
    (settings.root / "serve").mkdir(parents=True, exist_ok=True)
    engine = create_engine(_url(settings.database_url))
    insert = "INSERT INTO projects (name, concurrency, tag_template, keep_runs, keep_days, hook)"
    with engine.connect() as connection:
        upgrade(connection, "0019")
        for name, hook in (("app", OLD_HOOK), ("web", {"push_secrets": ["shared"]}), ("plain", {})):
            values = {"name": name, "hook": json.dumps(hook)}
            connection.execute(text(f"{insert} VALUES (:name, 0, '{{defaults}}', 9, 9, :hook)"), values)
        for project, name in (
            ("app", "deploy"), ("app", "release"), ("app", "key"), ("", "npm"), ("", "shared"), ("", "idle"),
        ):  # fmt: skip
            row = {"project": project, "name": name, "value": b"sealed"}
            connection.execute(text("INSERT INTO secrets VALUES (:project, :name, :value, 1.0)"), row)
        for project, kind, name in (
            ("app", "secret", "npm"), ("*", "secret", "shared"), ("plain", "secret", "shared"), ("web", "login", "npm"),
        ):  # fmt: skip
            given: dict[str, object] = {"project": project, "kind": kind, "name": name, "no": False}
            connection.execute(text("INSERT INTO grants VALUES (:project, :kind, :name, :no)"), given)
        connection.commit()
    engine.dispose()


def check_migrated(service: Service) -> None:
    def policy(*events: PolicyEvent) -> Policy:
        return Policy(("**",), events)

    by_hand: tuple[PolicyEvent, ...] = ("manual", "sent")
    assert {info.name: info.policy for info in service.secrets.list(project="app")} == {
        "deploy": policy("push", "manual", "cron", "sent"), "release": policy("tag", *by_hand), "key": policy(*by_hand),
    }  # fmt: skip
    assert {info.name: info.policy for info in service.secrets.list()} == {
        "npm": SILENT, "shared": SILENT, "idle": SILENT,
    }  # fmt: skip
    assert {(grant.project, grant.kind, grant.name): grant.policy for grant in service.grants.list()} == {
        ("app", "secret", "npm"): policy("push", "tag", "pull_request", "manual", "cron", "sent"),
        ("*", "secret", "shared"): policy(*by_hand),
        ("plain", "secret", "shared"): policy(*by_hand),
        ("web", "secret", "shared"): policy("push", "manual", "cron", "sent"),
        ("web", "login", "npm"): FOR_ALL,
    }
    own = [info.policy for info in service.secrets.list(project="app")]
    for each in (*own, *(grant.policy for grant in service.grants.list())):
        check_policy(each)
    hook = service.projects.get("app").hook
    assert (hook.repository, hook.ssh_key) == (OLD_HOOK["repository"], "key")


def test_migration_lets_every_secret_be_for_the_runs_that_it_was_for(settings: ServiceSettings) -> None:
    before_policies(settings)
    migrate(settings)
    with Service.open(settings) as service:
        check_migrated(service)


def test_policies_come_back_from_a_backup(service: Service, settings: ServiceSettings, tmp_path: Any) -> None:
    policy = Policy(("main",), ("push",), ("deploy",))
    service.projects.put(Project("app"))
    service.secrets.put("own", b"value", project="app", policy=policy)
    service.secrets.put("npm", b"value")
    service.grants.give(Grant("app", "secret", "npm", policy=policy))
    backup(settings, tmp_path / "backup.tar")
    service.secrets.set_policy("own", SILENT, project="app")
    service.grants.give(Grant("app", "secret", "npm"))
    restore(settings, tmp_path / "backup.tar")
    assert service.secrets.list(project="app")[0].policy == policy
    assert service.grants.list()[0].policy == policy


def test_domain_of_a_run_is_all_that_decides_of_its_branch() -> None:
    """What a file or a request calls the branch does not count: the domain's is the server's word."""
    liar = RunAsks(Domain("app", "branch", "evil"), "push", "evil", pipeline="deploy")
    assert refusal(Policy(("main",)), liar)
