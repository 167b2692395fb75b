"""Requests of each kind of client, in each version of the API: what they are answered, and with which members.

``recorded/`` has a file for each kind: the versions that it speaks, and requests in their order, as their documentation
has them, in our own words.

    ask: method, path and query      body: of the request         like: a body of what is said of that container
    gives: the status, 200 where it does not say; by the first version that gives it where versions differ
    has: paths of members, with the first version that has them, or the first and the last
    keep: a name for the answer's Id in later requests
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.platforms import Platform
from dockerapi.versions import NEWEST, Version, v
from images.store import Store
from tests.images.test_indexes import multi
from tests.toolkit.engineapi import Api, UnixConnection
from tests.toolkit.shiplap import BUSYBOX_NAME

pytestmark = pytest.mark.usefixtures("privileged")

_RECORDED = Path(__file__).parent / "recorded"
_NOTHING = object()


@pytest.fixture(scope="module")
def seen(api: Api) -> Iterator[Api]:
    """With a container that runs, and an image for two platforms, one of which is this host's."""
    words = ("--name", "seen", "-l", "of=a test", "-p", "127.0.0.1::80", "--restart", "on-failure", BUSYBOX_NAME)
    api.docker("run", "-d", *words, "sleep", "1000", check=True)
    with Store.open(api.shiplap.root) as store:
        multi(store, "many", Platform.host(), Platform.parse("linux/arm64"))
    yield api
    api.docker("rm", "-f", "seen")


@pytest.mark.parametrize("minor", range(24, NEWEST.minor + 1))
def test_clients_are_answered_in_each_version(seen: Api, minor: int) -> None:
    client = UnixConnection(seen.socket)
    for path in sorted(_RECORDED.glob("*.yaml")):
        names = {"BASE": BUSYBOX_NAME}
        recorded = yaml.safe_load(path.read_text())
        if not any(
            _is_within(versions if "-" in versions else f"{versions}-{versions}", v(minor))
            for versions in recorded["versions"]
        ):
            continue
        for number, request in enumerate(recorded["requests"]):
            told = f"{path.stem}, request {number + 1}, {v(minor)}: {request['ask']}"
            status, answer = _sent(client, request, v(minor), names)
            assert status == _given(request.get("gives", 200), v(minor)), f"{told}\n{answer}"
            if "keep" in request:
                names[request["keep"]] = answer["Id"]
            for member, versions in request.get("has", {}).items() if status == http.client.OK else ():
                there = _member(answer, member) is not _NOTHING
                assert there == _is_within(str(versions), v(minor)), f"{told}: {member}\n{answer}"
    client.close()


def _sent(client: http.client.HTTPConnection, request: Any, version: Version, names: dict[str, str]) -> tuple[int, Any]:
    method, _, path = request["ask"].partition(" ")
    body = json.dumps(request["body"]) if "body" in request else None
    if "like" in request:
        _, found = _asked(client, "GET", f"/v{version}/containers/{request['like']}/json", None)
        networks = {"EndpointsConfig": found["NetworkSettings"]["Networks"]}
        body = json.dumps({**found["Config"], "HostConfig": found["HostConfig"], "NetworkingConfig": networks})
    for name, value in names.items():
        path, body = path.replace(name, value), body and body.replace(name, value)
    path = path.translate({ord(" "): "%20", ord('"'): "%22", ord("{"): "%7B", ord("}"): "%7D"})
    return _asked(client, method, f"/v{version}{path}", body)


def _asked(client: http.client.HTTPConnection, method: str, path: str, body: str | None) -> tuple[int, Any]:
    client.request(method, path, body, {"Content-Type": "application/json"} if body else {})
    answer = client.getresponse()
    data = answer.read()
    if answer.headers.get_content_type() == "application/json" and data and "/events?" not in path:
        return answer.status, json.loads(data)
    return answer.status, data[:200]


def _given(gives: Any, version: Version) -> int:
    if isinstance(gives, int):
        return gives
    return max((Version.parse(str(since)), int(status)) for since, status in gives.items() if _from(since, version))[1]


def _from(since: Any, version: Version) -> bool:
    return version >= Version.parse(str(since))


def _is_within(versions: str, version: Version) -> bool:
    first, _, last = versions.partition("-")
    return _from(first, version) and (not last or version <= Version.parse(last))


def _member(document: Any, path: str) -> Any:
    """What is at the path, whose names may have a slash; nothing: ``_NOTHING``."""
    for name in path.split("."):
        if isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        elif isinstance(document, dict) and name in document:
            document = document[name]
        else:
            return _NOTHING
    return document
