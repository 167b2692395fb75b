"""What somebody may do never hangs on a name that they chose: of a pusher, of a user elsewhere, of a token."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest
from flask.testing import FlaskClient

from core.trust import Domain, of_user, protected
from pipelines.forges.events import ForgeName
from pipelines.forges.known import FORGES
from pipelines.hooks.planning import Action, Await, Build, plan
from pipelines.model import HookSettings, Project
from pipelines.runs.domains import domain_of
from pipelines.service import Service
from tests.toolkit import forgepayloads as sent
from tests.toolkit.forgepayloads import Hook
from tests.web.conftest import Api
from tests.web.guard.identity_provider import IdentityProvider
from tests.web.guard.signing import PASSWORD, csrf
from tests.web.guard.test_oidc import client_of, come_back
from web.app import create_app

ADMIN = "root"
PEOPLE = ("pusher", "sender", "user", "author", "committer", "actor", "assignee")
NAMES = (
    "login", "login_name", "name", "username", "nickname", "display_name", "full_name", "user_name", "user_username",
)  # fmt: skip
URLS = {
    "github": "https://github.com/octo-org/hello.git", "gitlab": "https://gitlab.com/mike/diaspora.git",
    "gitea": "https://gitea.example/gitea/webhooks.git", "forgejo": "https://codeberg.example/gitea/webhooks.git",
    "bitbucket": "https://bitbucket.org/team/widgets.git",
}  # fmt: skip
EVENTS = {
    "github push": sent.github_push(),
    "github tag": sent.github_push("refs/tags/v1"),
    "github pull request": sent.github_pull_request(),
    "github fork": sent.github_pull_request(fork=True),
    "gitlab push": sent.gitlab_push(),
    "gitlab merge request": sent.gitlab_merge_request(),
    "gitlab fork": sent.gitlab_merge_request(fork=True),
    "gitea push": sent.gitea_push(),
    "gitea pull request": sent.gitea_pull_request(),
    "gitea fork": sent.gitea_pull_request(fork=True),
    "forgejo fork": sent.gitea_pull_request("forgejo", fork=True),
    "bitbucket pull request": sent.bitbucket_pull_request(),
    "bitbucket fork": sent.bitbucket_pull_request(fork=True),
}


def by(hook: Hook, name: str) -> Hook:
    """The same event of people who are called ``name``, and say that they are great."""
    return Hook(hook.forge, hook.event, _renamed(copy.deepcopy(hook.document), name, is_person=False), hook.delivery)


def _renamed(found: Any, name: str, *, is_person: bool) -> Any:
    if isinstance(found, list):
        return [_renamed(each, name, is_person=is_person) for each in found]
    if not isinstance(found, dict):
        return found
    for key, value in found.items():
        if key in ("user_name", "user_username") or (is_person and key in NAMES):
            found[key] = name
        elif "email" in key and isinstance(value, str):
            found[key] = f"{name}@example.org"
        elif key in ("is_admin", "site_admin"):
            found[key] = True
        elif key == "author_association":
            found[key] = "OWNER"
        else:
            found[key] = _renamed(value, name, is_person=key in PEOPLE)
    return found


def project_of(forge: str) -> Project:
    hook = HookSettings(
        URLS[forge],
        cast("ForgeName", forge),
        branches=("main", "master"),
        tags=("*",),
        pull_requests="approve",
    )
    return Project("app", hook=hook)


def nameless(hook: Hook) -> tuple[tuple[Action, ...], set[str]]:
    """What is done about an event, and by whom it says it was."""
    headers, body = hook.request()
    payload = FORGES[hook.forge].parse({name.lower(): value for name, value in headers.items()}, body)
    done, whom = [], set()
    for action in plan(project_of(hook.forge), payload):
        assert isinstance(action, Build | Await), action
        whom.add(action.trigger.by)
        done.append(msgspec.structs.replace(action, trigger=msgspec.structs.replace(action.trigger, by="")))
    return tuple(done), whom


@pytest.mark.parametrize("event", EVENTS)
def test_people_of_a_webhook_get_the_same_whatever_they_are_called(event: str) -> None:
    as_stranger, stranger = nameless(by(EVENTS[event], "stranger"))
    as_admin, admin = nameless(by(EVENTS[event], ADMIN))
    assert as_admin == as_stranger
    assert (admin, stranger) == ({ADMIN}, {"stranger"})  # the names did take part, and are shown
    assert all(isinstance(action, Await if "fork" in event else Build) for action in as_admin)
    assert all(action.request.options.secrets == () for action in as_admin if isinstance(action, Build | Await))


def test_fork_of_who_is_called_as_the_administrator_waits_and_a_push_by_a_stranger_is_the_project_s(
    service: Service,
) -> None:
    service.users.create(ADMIN, "admin", PASSWORD)
    service.projects.put(project_of("github"))
    service.projects.set_webhook_secret("app", sent.SECRET)

    def receive(hook: Hook) -> None:
        headers, body = hook.request()
        service.receiver.receive("app", {name.lower(): value for name, value in headers.items()}, body)

    receive(by(sent.github_pull_request(fork=True), ADMIN))
    assert service.runs.list() == []
    assert [waiting.pull_request for waiting in service.approvals.list("app")] == [7]
    receive(by(sent.github_push(), "stranger"))
    (run,) = service.runs.list()
    assert domain_of(run) == protected("app")


@pytest.fixture
def provider() -> Iterator[IdentityProvider]:
    with IdentityProvider() as running:
        yield running


def is_an_administrator(client: FlaskClient) -> bool:
    status = client.get("/users").status_code
    assert status in (200, 403)
    return status == 200


def test_who_is_called_as_the_administrator_elsewhere_is_none_here(
    service: Service, provider: IdentityProvider
) -> None:
    service.users.create(ADMIN, "admin", PASSWORD)
    client = client_of(service, provider)
    provider.claims = {
        "preferred_username": ADMIN, "name": ADMIN, "nickname": ADMIN, "email": f"{ADMIN}@example.org",
        "email_verified": True, "groups": ["dev"],
    }  # fmt: skip
    assert come_back(client, provider).status_code == 303
    assert not is_an_administrator(client)
    assert {user.name: user.role for user in service.users.list()} == {ADMIN: "admin", f"{ADMIN}-2": "member"}
    service.projects.put(project_of("github"))
    built = client.post("/projects/app/build", data={"_csrf": csrf(client), "branch": "main"})
    assert built.status_code == 303
    (run,) = service.runs.list()
    assert run.trigger.sender == f"user {ADMIN}-2"


def test_administrator_is_one_whatever_they_are_called_elsewhere(service: Service, provider: IdentityProvider) -> None:
    service.users.create("nobody", "viewer", PASSWORD)
    client = client_of(service, provider)
    provider.claims = {"preferred_username": "nobody", "name": "nobody", "groups": ["ops"]}
    come_back(client, provider)
    assert is_an_administrator(client)
    provider.claims = {"preferred_username": ADMIN, "name": "the administrator", "groups": ["ops"]}
    come_back(client, provider)
    assert is_an_administrator(client)  # known by the subject: the new name is none
    assert {user.name: user.role for user in service.users.list()} == {"nobody": "viewer", "nobody-2": "admin"}


def sent_by(client: FlaskClient, service: Service, token: str) -> Domain | None:
    """Whose a context is that somebody sends with this token."""
    api = Api(client, token)
    context = api("POST", "/contexts", {"entries": []})["context"]
    body = {"project": "web", "source": {"type": "context", "context": context}}
    return domain_of(service.runs.get(api("POST", "/runs", body, status=201)["number"]))


def test_what_a_token_sends_is_of_its_owner_whatever_it_is_called(service: Service) -> None:
    """Steps with secrets that came with a request are for who sent it alone."""
    client = create_app(service).test_client()
    for name in (ADMIN, "token"):
        service.users.create(name, "admin", PASSWORD)
    service.users.create("ann", "member", PASSWORD)
    service.projects.put(Project("web"))
    robots = [service.roles.create_token("web", name, "build") for name in ("ci", "ci", ADMIN, "(token x)", "ann")]
    domains = [sent_by(client, service, text) for _, text in robots]
    assert domains == [of_user("web", f"robot {token.id}") for token, _ in robots]
    for owner, name in (("ann", ADMIN), ("ann", "ci"), ("token", "x"), (ADMIN, "ann")):
        _, text = service.tokens.create(name, ["build"], owner=owner)
        assert sent_by(client, service, text) == of_user("web", owner)
