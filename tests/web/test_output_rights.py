"""Who reaches what jobs output, in the service's registry: by tokens of people, of runs, and of workers for this."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from werkzeug.test import Client

from core.references import Reference
from core.trust import of_fork, protected
from images.store import Store
from pipelines.errors import InvalidRequestError
from pipelines.model import Project
from pipelines.owning.grants import Grant
from pipelines.owning.ownership import outputs_of
from pipelines.service import Service
from registry.server.app import application
from registry.server.registry import Registry
from registry.server.settings import ServerSettings
from tests.web.test_registry_access import basic, begin, claimed, nothing, put_blob
from web.app import with_registry
from web.registry_access import ServiceAccounts
from worker.sharedcache import refuse_cache_names

FORK, OTHER_FORK = outputs_of(of_fork("web", 7)), outputs_of(of_fork("web", 8))
ALL = ("runs/web", FORK, OTHER_FORK, "runs/other", "web", "other", "cache/web")


@pytest.fixture
def registry(service: Service) -> Iterator[Client]:
    for name in ("web", "other"):
        service.projects.put(Project(name))
    with Store.open(service.settings.root) as store:
        settings = ServerSettings(access="users", hidden="runs/", anonymous_pull=True)
        registry = Registry(store, settings, accounts=ServiceAccounts(service))
        yield Client(with_registry(nothing, application(registry)))
        registry.close()


def pulls(registry: Client, repository: str, headers: dict[str, str]) -> bool:
    status = registry.get(f"/v2/{repository}/tags/list", headers=headers).status_code
    assert status in (200, 401, 403, 404)
    return status in (200, 404)


def pushes(registry: Client, repository: str, headers: dict[str, str]) -> bool:
    return begin(registry, repository, headers) == 202


def test_outputs_are_read_by_the_project_s_rights_and_written_by_workers(registry: Client, service: Service) -> None:
    member = basic(service.roles.create_token("web", "member", "build")[1])
    builder = basic(service.tokens.create("builder", ["build"])[1])
    assert [name for name in ALL[:4] if pulls(registry, name, member)] == ["runs/web", FORK, OTHER_FORK]
    assert [name for name in ALL[:4] if pulls(registry, name, builder)] == list(ALL[:4])
    for headers in (member, builder):
        assert [name for name in ALL[:4] if pushes(registry, name, headers)] == []
    assert not any(pulls(registry, name, {}) for name in ALL[:4]), "not even where anybody may pull images"


def test_a_run_s_own_token_opens_no_outputs_whatever_its_project_was_given(registry: Client, service: Service) -> None:
    service.grants.give(Grant("web", "image", "*", may_push=True))
    headers = basic(claimed(service).token)
    assert pushes(registry, "web", headers)
    assert pushes(registry, "other", headers), "it was given"
    assert not any(pulls(registry, name, headers) or pushes(registry, name, headers) for name in ALL[:4])


def test_a_fork_s_token_reaches_nothing_but_what_the_fork_output(registry: Client, service: Service) -> None:
    claim = claimed(service)
    admin = basic(service.tokens.create("admin", ["admin"])[1])
    blob = put_blob(registry, "runs/web", b"the project's", admin)
    headers = basic(service.output_tokens.create(claim.number, of_fork("web", 7)))
    assert [name for name in ALL if pushes(registry, name, headers)] == [FORK]
    assert [name for name in ALL[:4] if pulls(registry, name, headers)] == [FORK]
    for source in ({}, {"from": "runs/web"}):  # a digest is no right
        assert begin(registry, FORK, headers, mount=blob, **source) == 202
    assert registry.get(f"/v2/{FORK}/blobs/{blob}", headers=headers).status_code == 404
    scope = " ".join(f"repository:{name}:pull,push" for name in ALL)
    answer = registry.get(f"/v2/token?scope={scope}&service=localhost", headers=headers)
    assert answer.json is not None
    bearer = {"Authorization": f"Bearer {answer.json['token']}"}
    assert [name for name in ALL if pushes(registry, name, bearer)] == [FORK]


def test_token_of_a_project_s_run_reads_its_images_and_writes_its_outputs(registry: Client, service: Service) -> None:
    claim = claimed(service)
    admin = basic(service.tokens.create("admin", ["admin"])[1])
    blob, other = put_blob(registry, "web/app", b"own", admin), put_blob(registry, "runs/other", b"secret", admin)
    text = service.output_tokens.create(claim.number, protected("web"))
    headers = basic(text)
    assert [name for name in ALL if pushes(registry, name, headers)] == ["runs/web"]
    assert begin(registry, "runs/web", headers, mount=blob, **{"from": "web/app"}) == 201
    for source in ({}, {"from": "runs/other"}):
        assert begin(registry, "runs/web", headers, mount=other, **source) == 202
    service.output_tokens.forget(text)
    assert not pulls(registry, "runs/web", headers)


@pytest.mark.parametrize("name", ["ci:5000/runs/web:1-2-site", "ci:5000/runs/web", "ci:5000/runs/x/y"])
def test_no_image_takes_a_name_among_outputs(name: str) -> None:
    with pytest.raises(InvalidRequestError, match="what jobs of runs output"):
        refuse_cache_names([Reference.parse(name)], "ci:5000")
    refuse_cache_names([Reference.parse("ci:5000/runner/app"), Reference.parse("runs/app")], "ci:5000")
