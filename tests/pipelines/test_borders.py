"""A run has the rights of its project: what it may name, and what its project was given."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import pipelines
from core.settings import ServiceSettings
from pipelines.accounts.runtokens import CACHE_S, RunTokens
from pipelines.database import Database, _engine, migrate
from pipelines.errors import DeniedError, InvalidRequestError, NotFoundError
from pipelines.model import (
    BuildOptions,
    ContextSource,
    GitSource,
    HookSettings,
    Project,
    Run,
    RunRequest,
    RunResult,
    RunState,
)
from pipelines.owning.grants import Grant, Kind
from pipelines.owning.ownership import bare_owner, owner_of
from pipelines.owning.policies import EVENTS, Policy
from pipelines.service import Service

CONTEXT = ContextSource("sha256:" + "0" * 64)


@pytest.fixture
def web(service: Service) -> Service:
    """A service with the projects ``web``, ``other`` and ``cache``."""
    for name in ("web", "other", "cache"):
        service.projects.put(Project(name))
    return service


@pytest.mark.parametrize(
    ("repository", "owner"),
    [
        ("web", "web"), ("web/base", "web"), ("cache/web", "web"), ("cache/web/x", "web"), ("webs", "default"),
        ("team/web", "default"), ("cache", "cache"), ("cache/cache", "cache"), ("cache/nobodys", "default"),
        ("default", "default"), ("runs/web", "web"), ("runs/gone/x", "gone"), ("runs", "default"),
    ],
)  # fmt: skip
def test_every_repository_is_one_projects(repository: str, owner: str) -> None:
    assert owner_of(repository, {"web", "cache", "default"}.__contains__) == owner


@pytest.mark.parametrize(
    ("url", "owner"),
    [
        ("file:///git/web.git", "web"), ("file:///git/web/lib.git", "web"), ("file:///git/web", "web"),
        ("file:///git", ""), ("file:///elsewhere/web.git", ""), ("https://git.example/web.git", ""),
    ],
)  # fmt: skip
def test_every_bare_repository_is_one_projects(url: str, owner: str) -> None:
    assert bare_owner(url, Path("/git")) == owner


def submit(service: Service, project: str, *tags: str) -> Run:
    return service.runs.submit(RunRequest(CONTEXT, project, BuildOptions(tags=tags)))


@pytest.mark.parametrize(
    ("project", "tag"),
    [
        ("web", "web:1"), ("web", "web/base"), ("web", "cache/web:x"), ("default", "tool:1"),
        ("default", "team/tool"), ("web", "ghcr.io/other/app:1"), ("new", "new:1"),
    ],
)  # fmt: skip
def test_run_may_name_its_projects_images_and_those_elsewhere(web: Service, project: str, tag: str) -> None:
    assert submit(web, project, tag).options.tags == (tag,)


@pytest.mark.parametrize(
    ("project", "tag", "owner"),
    [
        ("web", "other:latest", "other"), ("web", "other/base:1", "other"), ("web", "cache/other:main", "other"),
        ("default", "other:1", "other"), ("web", "tool:1", "default"), ("cache", "cache/other:1", "other"),
        ("web", "ci.example:5000/other:1", "other"), ("web", "docker.io/library/other:1", "other"),
    ],
)  # fmt: skip
def test_run_that_names_another_projects_image_is_refused(web: Service, project: str, tag: str, owner: str) -> None:
    web.settings = web.settings._replace(registry="ci.example:5000")
    with pytest.raises(DeniedError, match=f"belongs to project {owner}, not to {project}"):
        submit(web, project, tag)
    assert web.runs.list() == []


def test_project_that_was_given_anothers_images_may_name_them(web: Service) -> None:
    web.grants.give(Grant("web", "image", "other/*"))
    with pytest.raises(DeniedError):
        submit(web, "web", "other/app:1")  # to pull only
    web.grants.give(Grant("web", "image", "other/*", may_push=True))
    submit(web, "web", "other/app:1")
    with pytest.raises(DeniedError):
        submit(web, "web", "other:1")
    web.grants.take(Grant("web", "image", "other/*"))
    with pytest.raises(DeniedError):
        submit(web, "web", "other/app:1")


def bare(service: Service, name: str) -> str:
    return f"file://{service.settings.root}/git/{name}.git"


def test_bare_repository_is_for_its_project(web: Service) -> None:
    web.runs.submit(RunRequest(GitSource(bare(web, "web")), "web"))
    web.projects.put(Project("web", hook=HookSettings(repository=bare(web, "web"), forge="plain")))
    for refused in (
        lambda: web.runs.submit(RunRequest(GitSource(bare(web, "other")), "web")),
        lambda: web.runs.submit(RunRequest(GitSource(bare(web, "other")), "default")),
        lambda: web.projects.put(Project("web", hook=HookSettings(repository=bare(web, "other"), forge="plain"))),
        lambda: web.borders.check_source("web", bare(web, "other")),
    ):
        with pytest.raises(DeniedError, match="belongs to project other"):
            refused()
    assert web.projects.get("web").hook.repository == bare(web, "web")
    web.grants.give(Grant("web", "bare", "other"))
    web.runs.submit(RunRequest(GitSource(bare(web, "other")), "web"))
    web.borders.check_source("web", bare(web, "other"))


def test_secret_of_the_service_is_for_those_that_were_given_it(web: Service) -> None:
    web.secrets.put("npm", b"of the service")
    with pytest.raises(NotFoundError, match="project web was not given the secret npm"):
        web.secrets.reveal(["npm"], project="web")
    web.grants.give(Grant("web", "secret", "npm"))
    assert web.secrets.reveal(["npm"], project="web") == {"npm": b"of the service"}
    with pytest.raises(NotFoundError):
        web.secrets.reveal(["npm"], project="other")
    web.secrets.put("npm", b"of the project", project="other")
    assert web.secrets.reveal(["npm"], project="other") == {"npm": b"of the project"}
    web.grants.give(Grant("*", "secret", "npm"))
    assert web.secrets.reveal(["npm"], project="cache") == {"npm": b"of the service"}


def test_what_goes_away_takes_its_grants_with_it(web: Service) -> None:
    """A secret, a log-in or a project that comes later by the same name is another one."""
    web.secrets.put("npm", b"of the service")
    web.logins.put("ghcr.io", "robot", "hunter2hunter2")
    for kind, name in (("secret", "npm"), ("login", "ghcr.io"), ("image", "other")):
        web.grants.give(Grant("web", kind, name))  # type: ignore[arg-type] # the kinds are as they are written there
    web.secrets.delete("npm")
    web.logins.delete("ghcr.io")
    assert [grant.kind for grant in web.grants.list()] == ["image"]
    web.projects.remove("web")
    assert web.grants.list() == []


@pytest.mark.parametrize(
    ("kind", "name", "push"),
    [
        ("image", "Other", False), ("image", "../x", False), ("image", "ci:5000/x", False), ("secret", "a b", False),
        ("login", "https://x", False), ("bare", "a/b", False), ("secret", "npm", True),
    ],
)  # fmt: skip
def test_grant_that_means_nothing_is_refused(web: Service, kind: Kind, name: str, push: bool) -> None:
    with pytest.raises(InvalidRequestError):
        web.grants.give(Grant("web", kind, name, push))
    with pytest.raises(NotFoundError):
        web.grants.give(Grant("nobodys", "secret", "npm"))


def test_password_of_a_login_is_encrypted_and_bound_to_its_registry(web: Service) -> None:
    web.logins.put("ghcr.io", "robot", "hunter2hunter2")
    assert web.logins.reveal("ghcr.io") == ("robot", "hunter2hunter2")
    assert web.logins.reveal("quay.io") is None
    with web.database.write() as connection:
        assert "hunter2" not in str(connection.execute(text("SELECT * FROM registry_logins")).all())
        connection.execute(text("UPDATE registry_logins SET registry = 'quay.io'"))
    with pytest.raises(Exception, match="cannot be decrypted"):
        web.logins.reveal("quay.io")


def test_token_of_a_run_is_for_its_projects_repositories(web: Service) -> None:
    web.grants.give(Grant("web", "image", "other/base"))
    submit(web, "web")
    claim = web.claims.take("worker-1", ())
    assert claim is not None
    rights = web.run_tokens.log_in(claim.token)
    assert rights is not None
    assert all(rights.covers(name, action) for name in ("web", "web/x", "cache/web") for action in ("pull", "push"))
    assert (rights.covers("other/base", "pull"), rights.covers("other/base", "push")) == (True, False)
    for name in ("other", "other/x", "cache/other", "tool", "webs", "cache"):
        assert not any(rights.covers(name, action) for action in ("pull", "push", "delete")), name
    assert not rights.covers("web", "delete")


def test_run_of_no_project_has_what_is_nobodys(web: Service) -> None:
    submit(web, "default")
    claim = web.claims.take("worker-1", ())
    assert claim is not None
    rights = web.run_tokens.log_in(claim.token)
    assert rights is not None
    assert [rights.covers(name, "push") for name in ("tool", "team/tool", "web", "cache/web")] == [1, 1, 0, 0]


@pytest.mark.parametrize("state", ["failed", "cancelled", "error"])
def test_token_of_a_run_ends_with_its_attempt(web: Service, state: RunState) -> None:
    submit(web, "web")
    first = web.claims.take("worker-1", ())
    assert first is not None
    web.claims.release(first.number, 1, "the worker is gone")
    assert web.run_tokens.log_in(first.token) is None
    second = web.claims.take("worker-2", ())
    assert second is not None
    assert web.run_tokens.log_in(first.token) is None
    rights = web.run_tokens.log_in(second.token)
    assert rights is not None
    assert web.run_tokens.standing(second.number, rights.known) == rights
    assert web.run_tokens.standing(second.number, "0" * 20) is None
    assert second.token not in str(rows_of(web))
    web.claims.finish(second, state, "", RunResult(), store=lambda _: None)
    assert web.run_tokens.log_in(second.token) is None
    assert web.run_tokens.standing(second.number, rights.known) is None


def test_token_of_a_run_that_succeeded_is_left_with_its_cache(web: Service) -> None:
    web.grants.give(Grant("web", "image", "tool"))
    submit(web, "web")
    claim = web.claims.take("worker-1", ())
    assert claim is not None
    before = web.run_tokens.log_in(claim.token)
    assert before is not None
    web.claims.finish(claim, "succeeded", "", RunResult(), store=lambda _: None)
    rights = web.run_tokens.log_in(claim.token)
    assert rights is not None
    assert rights.ended
    assert web.run_tokens.standing(claim.number, before.known) == rights
    names = ("cache/web", "web", "web/base", "tool", "other", "cache/other")
    assert [name for name in names if rights.covers(name, "push")] == ["cache/web"]
    assert [name for name in names if rights.covers(name, "pull")] == ["cache/web", "web", "web/base"]
    assert not any(rights.covers(name, "delete") for name in names)
    assert web.run_tokens.source(claim.token, "web") is None
    for after, is_good in ((CACHE_S - 60, True), (CACHE_S + 1, False)):
        later = RunTokens(web.database, clock=lambda: time.time() + after)  # noqa: B023 - called in the loop alone
        assert (later.log_in(claim.token) is not None) == is_good
        assert (later.standing(claim.number, rights.known) is not None) == is_good
    web.run_tokens.forget(claim.number, claim.attempt)
    assert web.run_tokens.log_in(claim.token) is None
    assert web.run_tokens.standing(claim.number, rights.known) is None


def test_run_of_a_stranger_has_no_token(web: Service) -> None:
    web.runs.submit(RunRequest(GitSource("https://git.example/fork", trusted=False), "web"))
    claim = web.claims.take("worker-1", ())
    assert claim is not None
    assert claim.token == ""
    assert web.run_tokens.standing(claim.number, "") is None


@pytest.mark.parametrize("text", ["", "shp_run_1_", "shp_run_1_" + "x" * 43, "shp_run_999_" + "x" * 43, "shp_x"])
def test_what_is_no_token_of_a_run_opens_nothing(web: Service, text: str) -> None:
    submit(web, "web")
    web.claims.take("worker-1", ())
    assert web.run_tokens.log_in(text) is None


def rows_of(service: Service) -> list[object]:
    with service.database.read() as connection:
        return [*connection.execute(text("SELECT * FROM runs")).all()]


def test_migration_keeps_what_projects_could_use(settings: ServiceSettings) -> None:
    at(settings, "0007")
    database = Database(_engine(settings))
    hook = json.dumps({"repository": f"file://{settings.root}/git/shared.git"})
    own = json.dumps({"repository": f"file://{settings.root}/git/other.git"})
    insert = "INSERT INTO projects (name, concurrency, tag_template, keep_runs, keep_days, hook)"
    with database.write() as connection:
        for name, template, its_hook in (
            ("web", "{registry}/team/{project}:{number} {registry}/{project}:{branch} ghcr.io/x:{tag}", hook),
            ("other", "{registry}/{project}:{number}", own),
        ):
            values = {"name": name, "template": template, "hook": its_hook}
            connection.execute(text(f"{insert} VALUES (:name, 0, :template, 9, 9, :hook)"), values)
        for owner in ("", "web"):
            row = {"project": owner, "name": f"npm{owner}", "value": b"sealed"}
            connection.execute(text("INSERT INTO secrets VALUES (:project, :name, :value, 1.0)"), row)
    database.close()
    migrate(settings)
    with Service.open(settings) as service:
        assert service.grants.list() == [
            Grant("*", "login", "*", policy=Policy(("**",), EVENTS)),
            Grant("*", "secret", "npm", policy=Policy(("**",), ("manual", "sent"))),
            Grant("web", "bare", "shared"),
            Grant("web", "image", "team/web", may_push=True),
        ]  # fmt: skip


def test_new_service_gives_nothing_to_anybody(service: Service) -> None:
    assert service.grants.list() == []


def at(settings: ServiceSettings, revision: str) -> None:
    """An empty database as an earlier version left it."""
    (settings.root / "serve").mkdir(parents=True, exist_ok=True)
    config = Config()
    config.set_main_option("script_location", str(Path(pipelines.__file__).parent / "migrations"))
    database = Database(_engine(settings))
    with database.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    database.close()
