"""What the trail, comparisons and rules show of projects in which one has no role: nothing, not even that it is there.

Projects ``web`` and ``other``. Each has a run that pushed an image; ``web/app`` was pushed by ``other``'s run, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from images.store import Store
from pipelines.accounts.roles import ProjectRole
from pipelines.model import GitSource, Project, RunRequest, RunResult, Trigger
from pipelines.service import Service
from registry.server.registry import Registry
from registry.server.settings import Policy, ServerSettings, settings_from
from tests.toolkit.bounds import eventually
from tests.web.browser.stock import BASE, Stock, layer_tar
from tests.web.guard.signing import csrf, sign_in
from web.app import create_app
from web.pages.trail import CONTAINERS, ContainerLink, Containers

MINE, OTHERS = "a" * 40, "b" * 40
HOST = "localhost"
IMAGE = "sha256:" + "5" * 64

Door = Callable[..., FlaskClient]


@pytest.fixture
def registry(service: Service) -> Iterator[Registry]:
    with Store.open(service.settings.root) as store:
        made = Registry(store, ServerSettings(access="users", hidden="runs/"))
        yield made
        made.close()


@pytest.fixture
def app(service: Service, registry: Registry) -> Flask:
    for name in ("web", "other"):
        service.projects.put(Project(name))
        Stock(registry, f"{name}/app").image([layer_tar({**BASE, name: b"1"})], "main")
        Stock(registry, f"cache/{name}").image([layer_tar(BASE)], "main")
    _run(service, registry, "web", MINE, "web/app")
    _run(service, registry, "other", OTHERS, "other/app")
    _run(service, registry, "other", OTHERS, "web/app")
    return create_app(service, registry)


def _run(service: Service, registry: Registry, project: str, commit: str, repository: str) -> None:
    trigger = Trigger("push", "ada", branch="main", commit=commit, title=f"secret plan of {project}")
    service.runs.submit(RunRequest(GitSource("https://git.example/x"), project), trigger)
    claim = service.claims.take("w", ())
    assert claim is not None
    manifest = str(registry.manifests.find(repository, "main").digest)
    names = (f"{HOST}/{repository}:main",)
    result = RunResult(image=IMAGE, manifest=manifest, names=names)
    service.claims.finish(claim, "succeeded", "", result, store=lambda connection: None)


@pytest.fixture
def door(app: Flask, service: Service) -> Door:
    """Browsers of users, who have a role in ``web`` alone or one of the service."""

    def open_for(name: str, role: ProjectRole | None = None, everywhere: str = "guest") -> FlaskClient:
        client = app.test_client()
        sign_in(client, service, name, everywhere)  # type: ignore[arg-type]
        if role is not None:
            service.roles.set("web", "user", name, role)
        return client

    return open_for


def test_an_image_names_no_run_of_a_project_that_may_not_be_seen(door: Door) -> None:
    """The newest run that pushed it is ``other``'s: to whom may not see that, it is ``web``'s."""
    mine, all_ = door("gus", "read"), door("ada", everywhere="admin")
    for path in ("/images/web/app", "/images/web/app/-/main"):
        seen, whole = mine.get(path).text, all_.get(path).text
        assert ("/runs/1" in seen, "/runs/3" in seen, OTHERS in seen, "plan of other" in seen) == (
            True,
            False,
            False,
            False,
        )
        assert "/runs/3" in whole


def test_a_run_and_a_commit_name_no_image_of_another_project(door: Door, service: Service) -> None:
    mine = door("gus", "read")
    service.roles.set("other", "user", "gus", "read")
    assert "/images/other/app" in mine.get("/runs/2").text
    service.roles.remove("web", "user", "gus")
    assert "/images/web/app" not in mine.get("/runs/3").text
    assert "/images/web/app" not in mine.get(f"/projects/other/commits/{OTHERS}").text


NOT_MINE = (
    f"/projects/other/commits/{OTHERS}",
    f"/projects/other/commits/{OTHERS[:8]}",
    "/projects/nowhere/commits/aaaaaaaa",
    "/images/other/app",
    "/images/other/app/-/main",
    "/images/other/app/-/main/layers/0",
    "/images/other/app/-/-/rules",
    "/images/web/app/-/main/compare?with=other/app:main",
    "/images/web/app/-/main/compare?with=other/app:nothing",
    "/images/web/app/-/main/compare?with=localhost/other/app:main",
    "/images/other/app/-/main/compare?with=web/app:main",
    "/runs/1/compare/2",
    "/runs/2/compare/1",
    "/runs/1/compare/999",
)


def test_what_may_not_be_seen_is_as_if_it_were_not_there(door: Door) -> None:
    client = door("gus", "maintain")
    for path in NOT_MINE:
        answer = client.get(path, follow_redirects=True)
        assert answer.status_code == 404, path
        assert "plan of other" not in answer.text, path


def test_of_internal_repositories_ones_own_are_counted(door: Door) -> None:
    mine = door("gus", "read").get("/images").text
    assert 'Internal <span class="soft num">1</span>' in mine
    assert "cache/web" not in mine
    shown = door("guy", "read").get("/images?internal=1").text
    assert ("cache/web" in shown, "cache/other" in shown) == (True, False)


def test_who_sees_all_is_told_of_as_many_internal_repositories_as_are_listed(door: Door, registry: Registry) -> None:
    with registry.rows.transaction() as connection:
        connection.execute("INSERT INTO registry_repositories (name, created_at) VALUES ('runs/web/fork', 0)")
    boss = door("boss", everywhere="admin")
    shown = [boss.get(path).text for path in ("/images", "/images?internal=1")]
    assert ["runs/web/fork" in text for text in shown] == [False, True]
    assert all('Internal <span class="soft num">3</span>' in text for text in shown)


def test_rules_are_chosen_by_role(door: Door, registry: Registry) -> None:
    path = "/images/web/app/-/-/rules"

    def save(client: FlaskClient) -> int:
        form = {"_csrf": csrf(client), "quota": "1 MB", "immutable_tags": "v*"}
        return client.post(path, data=form).status_code

    assert [save(door(name, role)) for name, role in (("v", "read"), ("m", "build"))] == [403, 403]
    assert registry.rules.of("web/app") is None
    assert save(door("gus", "maintain")) == 303
    assert registry.rules.of("web/app") == Policy("web/app", None, ("v*",))  # the quota is not theirs to choose
    assert save(door("ada", everywhere="admin")) == 303
    assert registry.rules.of("web/app") == Policy("web/app", 1_000_000, ("v*",))
    assert door("other").post("/images/other/app/-/-/rules", data={}).status_code in (403, 404)


def test_a_maintainer_keeps_the_quota_that_an_administrator_chose(door: Door, registry: Registry) -> None:
    registry.rules.set("web/app", Policy("", quota_bytes=5_000))
    client = door("gus", "maintain")
    assert client.post("/images/web/app/-/-/rules", data={"_csrf": csrf(client), "quota": ""}).status_code == 303
    assert registry.rules.of("web/app") == Policy("web/app", 5_000)


def test_rules_are_the_same_by_the_api(door: Door, registry: Registry, service: Service) -> None:
    reader, keeper, admin = door("gus", "read"), door("tea", "maintain"), door("ada", everywhere="admin")
    path = "/api/v1/images/web/app/-/rules"

    def put(client: FlaskClient, body: object, at: str = path) -> tuple[int, Any]:
        answer = client.put(at, json=body, headers={"X-CSRF-Token": csrf(client)})
        return answer.status_code, answer.json

    assert put(reader, {})[0] == 403
    assert put(keeper, {}, path.replace("web/app", "other/app"))[0] == 404
    tags = {"immutable_tags": ["v*"], "retention": {"keep_last": 3}}
    chosen = {**tags, "quota_bytes": 5}
    assert put(keeper, chosen)[0] == 403, "the quota is an administrator's"
    status, found = put(keeper, tags)
    assert (status, found["rules"]["immutable_tags"], found["rules"]["quota_bytes"]) == (200, ["v*"], None)
    assert found["origins"] == {
        "quota_bytes": "default", "immutable_tags": "chosen", "untagged_days": "default", "retention": "chosen",
    }  # fmt: skip
    assert put(admin, {**chosen, "untagged_days": 12345.678})[1]["rules"]["quota_bytes"] == 5
    assert 'value="12345.678"' in admin.get("/images/web/app/-/-/rules").text, "whoever saves the form changes nothing"
    kept = put(keeper, {"quota_bytes": 5})[1]["rules"]
    assert (kept["quota_bytes"], kept["immutable_tags"], kept["retention"]) == (5, [], None)
    assert reader.get(path).json == keeper.get(path).json
    wrong: list[object] = [{"retention": {}}, {"immutable_tags": ["a b"]}, {"quota_bytes": -1}, {"untagged_days": 1e9}]
    assert {put(keeper, body)[0] for body in wrong} <= {400, 422}
    assert put(admin, {}, path.replace("web/app", "runs/web"))[0] == 409
    rules = (admin.get("/api/v1/registry").json or {})["rules"]
    assert [(rule["pattern"], rule["origin"], rule["quota_bytes"]) for rule in rules] == [("web/app", "chosen", 5)]
    noted = [entry for entry in service.audit.list() if entry.action == "set image rules"]
    assert [entry.actor for entry in noted] == ["tea", "ada", "tea"]


def test_runs_are_compared_by_the_api_for_who_may_read_both(door: Door) -> None:
    reader, admin = door("gus", "read"), door("ada", everywhere="admin")
    same = reader.get("/api/v1/runs/1/compare?other=1").json
    assert same is not None
    assert (same["old"], same["new"], same["settings"], same["commits"]) == (1, 1, [], [])
    assert [each["repository"] for each in same["new_images"]] == ["web/app"]
    assert reader.get("/api/v1/runs/1/compare?other=2").status_code == 404, "of a project that is not theirs"
    both = admin.get("/api/v1/runs/2/compare?other=1").json
    assert both is not None
    assert (both["old"], both["new"], both["times"][0]["name"]) == (1, 2, "the whole run")
    assert admin.get("/api/v1/runs/1/compare?other=99").status_code == 404
    assert admin.get("/api/v1/runs/1/compare").status_code in (400, 422)


def test_hidden_repositories_take_no_rules(door: Door) -> None:
    client = door("ada", everywhere="admin")
    answer = client.post("/images/runs/web/-/-/rules", data={"_csrf": csrf(client), "quota": "1"})
    assert (answer.status_code, "belongs to the service" in answer.text) == (409, True)


def test_what_the_file_says_is_shown_with_its_pattern_and_not_taken_from_a_form(
    service: Service, registry: Registry, app: Flask
) -> None:
    document = {"repository": [{"pattern": "web/*", "immutable_tags": ["v*"], "mirror": "hub.example"}]}
    with Store.open(service.settings.root) as store:
        fixed = Registry(store, settings_from(document, access="users"))
        client = create_app(service, fixed).test_client()
        sign_in(client, service, "ada", "admin")
        text = client.get("/images/web/app/-/-/rules").text
        assert "web/*" in text
        assert "hub.example" in text
        assert 'name="immutable_tags"' not in text
        form = {"_csrf": csrf(client), "immutable_tags": "x", "quota": "7"}
        assert client.post("/images/web/app/-/-/rules", data=form).status_code == 303
        assert fixed.rules.of("web/app") == Policy("web/app", 7)
        fixed.close()


def test_maintainers_delete_images_of_their_project_alone_on_pages_and_by_the_api(
    door: Door, registry: Registry
) -> None:
    clients = {"reader": door("v", "read"), "builder": door("m", "build"), "maintainer": door("t", "maintain")}

    def delete(who: str, repository: str) -> list[int]:
        """Many by a page, one by a page, one by the API; nobody is shown a button who may not."""
        client = clients[who]
        token = {"_csrf": csrf(client)}
        shown = client.get(f"/images/{repository}")
        assert ("delete-chosen" in shown.text) == (who == "maintainer" and shown.status_code == 200)
        many = client.post(f"/images/{repository}/-/-/delete", data={**token, "chosen": "main", "sure": "1"})
        one = client.post(f"/images/{repository}/-/nothing/delete", data=token)
        headers = {"X-CSRF-Token": csrf(client)}
        api = client.delete(f"/api/v1/images/{repository}/-/manifests/nothing", headers=headers)
        return [answer.status_code for answer in (many, one, api)]

    assert [delete(who, "web/app") for who in ("reader", "builder")] == [[403] * 3] * 2
    assert delete("maintainer", "other/app") == [404] * 3
    assert registry.manifests.find("other/app", "main")
    assert delete("maintainer", "web/app") == [303, 404, 404]


def test_containers_of_an_image_are_those_that_the_function_gives(door: Door, app: Flask) -> None:
    asked: list[set[str]] = []

    def give(rights: object, images: set[str]) -> list[ContainerLink]:
        asked.append(set(images))
        return [ContainerLink("shop-1", "/containers/1", "running", image) for image in images]

    client = door("gus", "read")
    assert "container " not in client.get("/runs/1").text
    function: Containers = give  # type: ignore[assignment]
    app.extensions[CONTAINERS] = function
    assert "shop-1" in client.get("/runs/1").text
    assert asked == [{IMAGE}]


def test_garbage_to_compare_with_is_refused(door: Door) -> None:
    client = door("gus", "read")
    for wanted in ("", "a b", ":", "@", "x@y", "../../etc", "sha256:zz", "\u202e", "x" * 5000, "%00"):
        answer = client.get("/images/web/app/-/main/compare", query_string={"with": wanted})
        assert answer.status_code in (400, 404, 422), wanted


def test_the_api_says_of_commits_and_images_what_its_sender_may_see(door: Door) -> None:
    client, api = door("gus", "read"), "/api/v1"
    found = client.get(f"{api}/projects/web/commits/{MINE[:7]}").json
    assert found is not None
    assert (found["commit"], found["runs"], [each["repository"] for each in found["images"]]) == (
        MINE,
        [1],
        ["web/app"],
    )
    compare = f"{api}/images/web/app/-/compare"
    same = {"old": "main", "new": "main"}
    eventually(lambda: (client.get(compare, query_string=same).json or {})["files"] is not None)
    answer = client.get(compare, query_string=same).json
    assert answer is not None
    assert (answer["same_layers"], answer["files"]["paths"], answer["packages"]) == (1, [], None)
    for path, query in (
        (f"{api}/projects/other/commits/{OTHERS}", {}),
        (f"{api}/images/other/app/-/compare", same),
        (compare, {**same, "old_repository": "other/app"}),
        (compare, {**same, "old_repository": "runs/web"}),
        (compare, {**same, "old": "nothing"}),
    ):
        assert client.get(path, query_string=query).status_code == 404, (path, query)


def test_an_image_of_thousands_of_layers_and_labels_is_a_short_page(
    door: Door, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("image", "compare"):
        monkeypatch.setattr(f"web.pages.{module}.MOST_LAYERS", 2)
    config = {"Labels": {f"label-{at}": "x" for at in range(3000)}, "Env": [f"E{at}=1" for at in range(3000)]}
    history = [{"created_by": f"RUN {at}", "empty_layer": True} for at in range(3000)]
    shelf = Stock(registry, "web/huge")
    shelf.image([layer_tar(BASE)], "settings", config=config, history=history)
    shelf.image([layer_tar({f"f{at}": b"1"}) for at in range(3)], "layers", history=[])
    client = door("gus", "read")
    for tag in ("settings", "layers"):
        answer = client.get(f"/images/web/huge/-/{tag}")
        assert (answer.status_code, len(answer.data) < 500_000) == (200, True), tag
    assert client.get("/images/web/huge/-/layers/layers/0").status_code == 404
    assert client.get("/images/web/huge/-/layers/compare?with=settings").status_code == 422
