"""What users get wrong, and what they are told: the error names the place, and its hint the next step."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.references import Reference
from images.store import Store
from images.summary import Image
from registry.client import Client, RetryPolicy, login, pull, push
from registry.errors import InvalidResponseError, NotFoundError, RateLimitedError, ResponseError, UnreachableError
from tests.toolkit.faulty import Answer, Fault, ScriptedRegistry
from tests.toolkit.ports import free_port

_MakeImage = Callable[..., Image]
_ClientFor = Callable[..., Client]

PAGE = Answer(headers={"Content-Type": "text/html; charset=utf-8"}, body=b"<html>Welcome</html>")


def answers(answer: Answer) -> list[Fault]:
    """Whatever is asked."""
    return [lambda seen, _: answer] * 50


def test_page_for_people_is_no_registry_whatever_is_asked_of_it(
    scripted: ScriptedRegistry, store: Store, client: Client, make_image: _MakeImage
) -> None:
    scripted.fault("", *answers(PAGE))
    name = Reference.parse(f"{scripted.host}/app:1")
    make_image(store, str(name))
    for attempt in (
        lambda: pull(name, store, client=client),
        lambda: push(name, store, client=client),
        lambda: login(scripted.host, "alice", "s3cret", config=client.config),
    ):
        with pytest.raises(InvalidResponseError, match=f"{scripted.host} is no registry") as caught:
            attempt()
        assert caught.value.hint == "are its name and port right?"
    assert not client.config.docker_config.joinpath("config.json").exists()


def test_server_that_knows_nothing_of_registries(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    scripted.fault("", *answers(Answer(404, body=b"nothing here")))
    for attempt in (
        lambda: pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client),
        lambda: login(scripted.host, "alice", "s3cret", config=client.config),
    ):
        with pytest.raises(NotFoundError) as caught:
            attempt()
        assert caught.value.hint == f"{scripted.host} does not answer as registries do: are its name and port right?"


def test_registry_without_a_base_is_pulled_from(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    scripted.fault("GET /v2/$", *answers(Answer(404)))  # files on a plain web server
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN") as caught:
        pull(Reference.parse(f"{scripted.host}/app:none"), store, client=client)
    assert caught.value.hint
    assert "is the name spelt right?" in caught.value.hint


@pytest.mark.parametrize(
    ("tag", "hint"),
    [
        ("v1.01", "there is no tag 'v1.01'; did you mean v1.0.1 or v1.0?"),
        ("latest", "there is no tag 'latest'; there are edge, old, v1.0, …"),
    ],
)
def test_tag_that_is_not_there_is_told_with_those_that_are(
    tag: str, hint: str, scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    listed = Answer(body=b'{"name":"app","tags":["edge","old","v1.0","v1.0.1"]}')
    scripted.fault("/tags/list", *answers(listed))
    with pytest.raises(NotFoundError, match="MANIFEST_UNKNOWN") as caught:
        pull(Reference.parse(f"{scripted.host}/app:{tag}"), store, client=client)
    assert caught.value.hint == hint
    with pytest.raises(NotFoundError) as caught:
        pull(Reference.parse(f"{scripted.host}/app@sha256:{'0' * 64}"), store, client=client)
    assert caught.value.hint
    assert "is the name spelt right?" in caught.value.hint


def test_page_in_place_of_a_manifest(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    scripted.fault("/manifests/", *answers(PAGE))
    with pytest.raises(InvalidResponseError, match="no JSON object, but text/html") as caught:
        pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client)
    assert caught.value.hint
    assert "is it a registry" in caught.value.hint


def test_redirect_to_where_nobody_listens_names_both(scripted: ScriptedRegistry, store: Store, client: Client) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    scripted.fault("/manifests/", *answers(Answer(307, {"Location": f"http://{nobody}/x"})))
    with pytest.raises(UnreachableError, match=rf"{nobody}.*\({scripted.host} redirects there\)"):
        pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client)


@pytest.mark.parametrize("place", ["http://far.test:99999/x", "http://[::1/x", "http://far.test:me/x", "http://a b/x"])
def test_redirect_to_no_web_address_is_told(
    place: str, scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    scripted.fault("/manifests/", *answers(Answer(307, {"Location": place})))
    with pytest.raises(InvalidResponseError, match="is no web address: "):
        pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client)


@pytest.mark.parametrize(
    ("asked", "told"), [("90", "wait 90 s"), ("3000", "wait 50 minutes"), ("21600", "wait 6 hours")]
)
def test_pause_that_a_registry_wants_is_told(
    asked: str, told: str, scripted: ScriptedRegistry, store: Store, client_for: _ClientFor
) -> None:
    scripted.fault("/manifests/", *answers(Answer(429, {"Retry-After": asked})))
    client = client_for(policy=RetryPolicy(tries=1))
    with pytest.raises(RateLimitedError) as caught:
        pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client)
    assert caught.value.hint
    assert caught.value.hint.startswith(told)


def test_what_a_registry_says_counts_more_than_its_base(
    scripted: ScriptedRegistry, store: Store, client: Client
) -> None:
    refused = Answer(400, body=b'{"errors":[{"code":"NAME_INVALID","message":"no such namespace"}]}')
    scripted.fault("GET /v2/$", *answers(Answer(404)))
    scripted.fault("/manifests/", *answers(refused))
    with pytest.raises(ResponseError, match="NAME_INVALID: no such namespace") as caught:
        pull(Reference.parse(f"{scripted.host}/app:1"), store, client=client)
    assert "does not answer" not in (caught.value.hint or "")
