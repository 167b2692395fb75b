"""Repositories that belong to the program around the registry: in no list, and reached by its own accounts alone."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from werkzeug.test import Client

from images.oci import OCI_MANIFEST
from images.store import Store
from registry.server import owned
from registry.server.access import Account
from registry.server.app import application
from registry.server.collect import collect
from registry.server.portable import list_repositories as portable
from registry.server.registry import Registry
from registry.server.schema import hide
from registry.server.settings import Policy, Retention, ServerSettings
from registry.server.survey import list_repositories
from registry.server.users import ACTIONS, EVERYONE, Grant

PASSWORD = "correct horse battery"
RULES = Policy("*", quota_bytes=1, immutable_tags=("*",), retention=Retention(keep_last=0), untagged_days=0.0)


class Known:
    """One account, which may do everything."""

    def log_in(self, password: str) -> Account | None:
        return self.find("inside") if password == "shp_inside" else None

    def find(self, name: str) -> Account | None:
        return Account("inside", (Grant("*", frozenset(ACTIONS)),)) if name == "inside" else None


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    settings = ServerSettings(access="users", anonymous_pull=True, hidden="runs/", policies=(RULES,))
    with Store.open(tmp_path / "root") as store:
        made = Registry(store, settings, accounts=Known())
        made.users.set_password("bob", PASSWORD, new=True)
        for user in ("bob", EVERYONE):
            made.users.grant(user, "*", ACTIONS)
        hide(store.database, "runs/", time.time())
        yield made
        made.close()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


INSIDE = basic("x", "shp_inside")


def put(client: Client, repository: str, content: bytes, tag: str = "") -> str:
    """An artifact of one blob; the digest of its manifest."""
    digests = []
    for data in (b"{}", content):
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        url = f"/v2/{repository}/blobs/uploads/?digest={digest}"
        assert client.post(url, data=data, headers=INSIDE).status_code == 201
        digests.append({"mediaType": "application/x", "digest": digest, "size": len(data)})
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": digests[0], "layers": digests[1:]}
    data = json.dumps(document).encode()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    headers = {**INSIDE, "Content-Type": OCI_MANIFEST}
    assert client.put(f"/v2/{repository}/manifests/{tag or digest}", data=data, headers=headers).status_code == 201
    return digest


def test_no_list_shows_them_and_no_rule_is_about_them(registry: Registry) -> None:
    client = Client(application(registry))
    digest = put(client, "runs/app", b"output", "1-2-site")
    for name in ("runs", "runsx", "runr/z"):
        registry.content.put_bytes(name.encode(), lambda *_: None)
        with registry.rows.transaction() as connection:
            registry.content.repository_id(connection, name)
    shown = ["runr/z", "runs", "runsx"]
    for headers in (INSIDE, basic("bob", PASSWORD)):
        assert client.get("/v2/_catalog", headers=headers).json == {"repositories": shown}
    assert client.get("/v2/_catalog?n=1&last=runs", headers=INSIDE).json == {"repositories": ["runsx"]}
    assert [found.name for found in list_repositories(registry.store, registry.settings.hidden_range)] == shown
    assert [found.name for found in portable(registry)] == shown
    assert [name for _, name in owned.repositories(registry)] == ["runs/app"]
    assert collect(registry, grace_s=0).manifests == 0
    assert client.get(f"/v2/runs/app/manifests/{digest}", headers=INSIDE).status_code == 200


@pytest.mark.parametrize("who", ["nobody", "a user with all rights"])
def test_only_the_program_s_own_accounts_reach_them(registry: Registry, who: str) -> None:
    client = Client(application(registry))
    digest = put(client, "runs/app", b"output", "1-2-site")
    headers = {} if who == "nobody" else basic("bob", PASSWORD)
    blob = f"sha256:{hashlib.sha256(b'output').hexdigest()}"
    for path in (f"manifests/{digest}", "manifests/1-2-site", f"blobs/{blob}", "tags/list", f"referrers/{digest}"):
        assert client.get(f"/v2/runs/app/{path}", headers=headers).status_code in (401, 403), path
    assert client.post("/v2/runs/app/blobs/uploads/", headers=headers).status_code in (401, 403)
    assert client.delete(f"/v2/runs/app/manifests/{digest}", headers=headers).status_code in (401, 403)
    mounted = client.post(f"/v2/mine/blobs/uploads/?mount={blob}&from=runs/app", headers=headers)
    assert mounted.status_code in (202, 401)  # an upload begins: nothing was mounted
    scope = "repository:runs/app:pull,push,delete"
    asked = client.get(f"/v2/token?scope={scope}", headers=headers)
    if asked.status_code == 200:
        assert asked.json is not None
        bearer = {"Authorization": f"Bearer {asked.json['token']}"}
        assert client.get(f"/v2/runs/app/manifests/{digest}", headers=bearer).status_code in (401, 403)


def test_what_their_program_does_not_want_goes_unless_it_came_again(registry: Registry) -> None:
    client = Client(application(registry))
    old, again = put(client, "runs/app", b"old", "1-2-a"), put(client, "runs/app", b"again", "1-2-b")
    (key, name), *_ = owned.repositories(registry)
    before = time.time()
    put(client, "runs/app", b"again", "1-2-b")  # while somebody decides that nobody wants it
    found = [digest for page in owned.manifests(registry, key, before) for digest in page]
    assert found == [old]
    assert owned.remove(registry, key, [old, again], ["1-2-a", "1-2-b"], before) == 1
    assert client.get(f"/v2/{name}/manifests/{again}", headers=INSIDE).status_code == 200
    assert client.get(f"/v2/{name}/tags/list", headers=INSIDE).json == {"name": name, "tags": ["1-2-b"]}
    assert collect(registry, grace_s=0).blobs == 1


def test_images_that_had_such_names_before_are_not_theirs(registry: Registry) -> None:
    client = Client(application(registry))
    digest = put(client, "runs/old", b"an image")
    with registry.rows.transaction() as connection:
        value = f"runs/ {time.time() + 1!r}"
        connection.execute("UPDATE meta SET value = ? WHERE key = 'registry_hidden'", (value,))
    (key, _), *_ = owned.repositories(registry)
    assert [*owned.manifests(registry, key, time.time() + 9), *owned.tags(registry, key, time.time() + 9)] == []
    assert client.get(f"/v2/runs/old/manifests/{digest}", headers=INSIDE).status_code == 200


def test_they_are_so_for_whoever_opens_the_registry(registry: Registry) -> None:
    """A command that collects by the rules beside the service, say."""
    client = Client(application(registry))
    digest = put(client, "runs/app", b"output")
    other = Registry(registry.store, ServerSettings(policies=(RULES,)))
    assert other.settings.is_hidden("runs/app")
    assert collect(other, grace_s=0).manifests == 0
    other.close()
    assert client.get(f"/v2/runs/app/manifests/{digest}", headers=INSIDE).status_code == 200
