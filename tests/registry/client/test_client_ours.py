"""Our client and our server: what the server's store has is not sent, and small blobs take one request."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.references import Reference
from images.store import Store
from images.summary import Image
from images.verify import verify
from registry.client import Client, pull, push
from tests.registry.server.serving import Server, serving
from tests.toolkit.faulty import Relay, relay

_MakeImage = Callable[..., Image]


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("ours") / "root") as running:
        yield running


@pytest.fixture
def relayed(ours: Server) -> Iterator[Relay]:
    with relay(ours.host) as made:
        yield made


def requests(made: Relay) -> list[str]:
    """What came, without digests, which vary, and without the first GET /v2/."""
    lines = [f"{seen.method} {seen.path}" for seen in made.seen]
    return [re.sub(r"sha256(:|%3A)[0-9a-f]{64}", "D", line) for line in lines if line != "GET /v2/"]


def test_small_blobs_take_one_request(relayed: Relay, store: Store, client: Client, make_image: _MakeImage) -> None:
    name = Reference.parse(f"{relayed.host}/small:1")
    make_image(store, str(name), layers=2)
    push(name, store, client=client)
    post = "POST /v2/small/blobs/uploads/?mount=D&digest=D"
    assert requests(relayed) == [post, post, post, "PUT /v2/small/manifests/1"]


def test_what_the_servers_store_has_is_not_sent(
    ours: Server, relayed: Relay, client: Client, make_image: _MakeImage
) -> None:
    name = Reference.parse(f"{relayed.host}/shared:1")
    with Store.open(ours.root) as store:
        make_image(store, str(name), layers=2, size=3_000_000)
        pushed = push(name, store, client=client, monitor=None)
    assert not [line for line in requests(relayed) if line.startswith("PATCH")]
    assert pushed.digest


def test_what_another_repository_has_is_not_sent_and_a_new_one_is(
    relayed: Relay, store: Store, other_store: Store, client: Client, make_image: _MakeImage, recorder: Any
) -> None:
    first, second = (Reference.parse(f"{relayed.host}/big-{number}:1") for number in (1, 2))
    image = make_image(store, str(first), layers=1, size=3_000_000)
    push(first, store, client=client)
    assert sum(line.startswith("PATCH") for line in requests(relayed)) == 1
    store.images.tag(second, image.id)
    push(second, store, client=client, monitor=recorder)
    assert sum(line.startswith("PATCH") for line in requests(relayed)) == 1
    assert set(recorder.final.values()) == {"Layer already exists"}
    assert pull(second, other_store, client=client).image.id == image.id
    assert verify(other_store) == []
