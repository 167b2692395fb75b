"""Images and registries: pull, push, what a registry has, and whether it accepts somebody.

Credentials are those that the client sends with the request. The engine's own files of credentials are root's, and not
for callers.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from typing import Any, Final

import flask

from core.references import Reference
from dockerapi import answering, asking, imagedocs
from dockerapi.endpoints.images import import_tar
from dockerapi.errors import ApiError, bad
from dockerapi.imagedocs import client_config
from dockerapi.lines import Lines, streamed
from images.oci import decode_index
from images.store import Store
from registry.client import (
    FINAL_STATES,
    Client,
    ClientConfig,
    LayerProgress,
    NullTransferMonitor,
    pull,
    push,
    registry_domain,
    verify,
)
from registry.client.finding import Finder
from registry.client.lazy import RegistryLayers
from registry.client.repository import Repository, is_index
from registry.credentials import Credentials
from registry.errors import UnauthorizedError

bp = flask.Blueprint("transfers", __name__)

_BAR: Final = 50
_MOST_TAGS: Final = 10_000


@bp.post("/images/create")
def create() -> flask.Response:
    """Pull an image, or import one from a tar."""
    if asking.text("fromSrc"):
        return import_tar()
    name, tag = asking.text("fromImage"), asking.text("tag")
    asked = _reference(name, tag)
    engine, platform = asking.engine(), asking.platform()
    config, credentials = client_config(engine), _given()

    def work(lines: Lines) -> None:
        with imagedocs.opened(engine) as store, _client(config, credentials, lines.cancelled) as client:
            store.layers.source = RegistryLayers(store, client)
            for reference in _of_registry(client, asked) if _is_every(name, tag) else [asked]:
                pulled = pull(reference, store, client=client, platform=platform, monitor=_Progress(lines, _PULLING))
                lines.put({"status": f"Digest: {pulled.digest}"})
                done = "Downloaded newer image for" if pulled.fresh else "Image is up to date for"
                lines.put({"status": f"Status: {done} {reference.familiar}"})
                labels = pulled.image.config.config.labels
                imagedocs.note(engine, "pull", reference.familiar, reference.familiar, labels)

    return streamed(work)


@bp.post("/images/<path:name>/push")
def send(name: str) -> flask.Response:
    """Send an image to the registry that its name begins with."""
    tag = asking.text("tag")
    asked = _reference(name, tag)
    engine, platform = asking.engine(), asking.platform()
    config, credentials = client_config(engine), _given()
    with imagedocs.opened(engine) as store:
        references = _of_store(store, asked) if _is_every(name, tag) else [asked]
        for reference in references:
            imagedocs.found(store, reference.familiar)

    def work(lines: Lines) -> None:
        with imagedocs.opened(engine) as store, _client(config, credentials, lines.cancelled) as client:
            store.layers.source = RegistryLayers(store, client)
            for reference in references:
                pushed = push(reference, store, client=client, platform=platform, monitor=_Progress(lines, _PUSHING))
                aux = {"Tag": reference.tag or "", "Digest": str(pushed.digest), "Size": pushed.size_bytes}
                lines.put({"progressDetail": {}, "aux": aux})
                imagedocs.note(engine, "push", reference.familiar, reference.familiar)

    return streamed(work)


def _is_every(name: str, tag: str) -> bool:
    """Whether all tags of a repository are meant: docker's command line names one unless it is told ``-a``."""
    named = Reference.parse(name)
    return not tag and named.tag is None and named.digest is None


def _of_registry(client: Client, name: Reference) -> list[Reference]:
    """The tags that a registry has of a repository; where it tells none, the one that is taken otherwise."""
    for endpoint in client.endpoints(name, mirrors=True):
        if tags := Repository(client, endpoint, name.path).tags(_MOST_TAGS):
            return [_reference(name.familiar_name, tag) for tag in tags]
    return [name]


def _of_store(store: Store, name: Reference) -> list[Reference]:
    """The tags that are here of a repository; where there is none, the one that is taken otherwise."""
    names = (each for image in store.images.list() for each in image.names)
    return sorted((each for each in names if each.name == name.name), key=str) or [name]


@bp.get("/distribution/<path:name>/json")
def distribution(name: str) -> flask.Response:
    """What a registry has by a name."""
    reference = _reference(name, "")
    with _client(client_config(asking.engine()), _given(), threading.Event()) as client:
        tag = reference.digest or reference.tag
        assert tag is not None
        raw, _ = Finder(reference, client, NullTransferMonitor()).manifest(tag)
        descriptor = {"mediaType": raw.media_type, "digest": str(raw.digest), "size": len(raw.data)}
        described = decode_index(raw.data).manifests if is_index(raw.media_type) else ()
        platforms = [
            _platform(each.platform.os, each.platform.architecture, each.platform.variant)
            for each in described
            if each.platform is not None and each.platform.os != "unknown"
        ]
    return answering.document({"Descriptor": descriptor, "Platforms": platforms})


@bp.post("/auth")
def auth() -> flask.Response:
    """Whether a registry accepts somebody. Nothing is kept: the client keeps what comes back."""
    body = asking.body()
    given = _credentials(body)
    domain = registry_domain(str(asking.member(body, "serveraddress") or "docker.io"))
    try:
        accepted = verify(domain, given, config=client_config(asking.engine()))
    except UnauthorizedError as error:
        raise ApiError(401, f"Get {domain}: {error.message}") from error
    return answering.document({"Status": "Login Succeeded", "IdentityToken": accepted.identity_token})


class _Progress:
    """What a transfer's monitor is told, as docker's lines. words: docker's for states of layers."""

    def __init__(self, lines: Lines, words: Mapping[str, str]) -> None:
        self._lines = lines
        self._words = words

    def layer(self, progress: LayerProgress) -> None:
        """As a transfer's monitor."""
        line: dict[str, Any] = {"status": self._words.get(progress.state, progress.state), "progressDetail": {}}
        if progress.detail:
            line["status"] += f" {progress.detail}"
        if progress.current_bytes and progress.total_bytes and progress.state not in FINAL_STATES:
            line["progressDetail"] = {"current": progress.current_bytes, "total": progress.total_bytes}
            line["progress"] = _bar(progress.current_bytes, progress.total_bytes)
        self._lines.put({**line, "id": progress.id})

    def message(self, text: str) -> None:
        """As a transfer's monitor."""
        tag, colon, rest = text.partition(": Pulling from ")
        self._lines.put({"status": f"Pulling from {rest}", "id": tag} if colon else {"status": text})


_PULLING: Final = {"Waiting": "Pulling fs layer"}
_PUSHING: Final = {"Waiting": "Preparing", "Compressing": "Preparing"}


def _reference(name: str, tag: str) -> Reference:
    if not name:
        raise bad("no image was named")
    separator = "@" if tag.startswith("sha256:") else ":"
    return Reference.parse(f"{name}{separator}{tag}" if tag else name).with_default_tag()


def _client(config: ClientConfig, credentials: Credentials | None, cancelled: threading.Event) -> Client:
    return Client(config, credentials=lambda _domain: credentials, cancelled=cancelled)


def _given() -> Credentials | None:
    """Credentials of ``X-Registry-Auth``. Raises ApiError."""
    header = flask.request.headers.get("X-Registry-Auth", "")
    if not header:
        return None
    given = _credentials(_decoded("X-Registry-Auth", header))
    return given if given != Credentials() else None


def credentials_of_config() -> dict[str, Credentials]:
    """Those of ``X-Registry-Config``, by domain: of several registries, for a build. Raises ApiError."""
    header = flask.request.headers.get("X-Registry-Config", "")
    if not header:
        return {}
    found = _decoded("X-Registry-Config", header)
    if not all(isinstance(each, dict) for each in found.values()):
        raise bad("invalid X-Registry-Config header: expected an object for each registry")
    return {registry_domain(host): _credentials(each) for host, each in found.items()}


def _decoded(name: str, header: str) -> dict[str, Any]:
    """The JSON object in a header. Raises ApiError."""
    try:
        found = json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (ValueError, RecursionError) as error:
        raise bad(f"invalid {name} header: {error}") from error
    if not isinstance(found, dict):
        raise bad(f"invalid {name} header: expected an object")
    return found


def _credentials(document: dict[str, Any]) -> Credentials:
    username, password, identity, token = (
        str(asking.member(document, name) or "") for name in ("username", "password", "identitytoken", "registrytoken")
    )
    encoded = str(asking.member(document, "auth") or "")
    if encoded and not username:
        try:
            username, _, password = base64.b64decode(encoded).decode().partition(":")
        except ValueError as error:
            raise bad(f"invalid auth of a registry: {error}") from error
    return Credentials(username, password, identity, token)


def _platform(system: str, architecture: str, variant: str | None) -> dict[str, str]:
    found = {"architecture": architecture, "os": system}
    return {**found, "variant": variant} if variant else found


def _bar(current: int, total: int) -> str:
    """As docker draws it for clients that draw none themselves."""
    done = min(_BAR, current * _BAR // total)
    arrow = "=" * done + (">" if done < _BAR else "")
    return f"[{arrow:<{_BAR}}] {current}B/{total}B"
