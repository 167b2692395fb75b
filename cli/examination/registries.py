"""A look at the registry that runs push to: log in, begin an upload, and take it back.

In the service's own registry, it also pushes an image and deletes it. Nothing stays, and nothing counts in a project.
"""

from __future__ import annotations

import contextlib
import email.utils
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from core.settings import RegistrySettings, ServiceSettings
from pipelines.examination.findings import Finding
from pipelines.examination.stores import clock

if TYPE_CHECKING:
    from registry.client.client import Client
    from registry.client.config import Endpoint
    from registry.client.repository import Repository
    from registry.credentials import Credentials

NAME: Final = "registry"
_PROJECTS_LONGEST_NAME: Final = 100  # pipelines.projects.projects
_PIECE: Final = b"written by shiplap doctor\n"
_OCTETS: Final = {"Content-Type": "application/octet-stream"}
_DOCUMENT: Final = "application/vnd.oci.image.manifest.v1+json"
_EMPTY: Final = "application/vnd.oci.empty.v1+json"


def look_at_registry(settings: ServiceSettings) -> Iterator[Finding]:
    """Look at the registry. Having none is a warning: a worker then keeps its images to itself."""
    from pipelines.addresses import listening_url, plain_registries
    from registry.client.client import Client
    from registry.client.config import ClientConfig
    from registry.client.logins import registry_domain
    from registry.client.retrying import RetryPolicy

    host = settings.registry or urlsplit(listening_url(settings.root)).netloc
    if not host:
        yield Finding(NAME, "WARN", "none is named, and no service listens here", "set SHIPLAP_REGISTRY=HOST[:PORT]")
        return
    config = ClientConfig.load(RegistrySettings.from_environ(), settings.root, insecure=plain_registries(settings))
    domain = registry_domain(host)
    whose, credentials = _log_in_of(settings, config.docker_config, domain)
    with Client(config, credentials=lambda _: credentials, policy=RetryPolicy(tries=1)) as client:
        endpoint = config.endpoints(domain, mirrors=False)[0]
        response = client.call(endpoint, "GET", "v2/", expect={200})
        response.close()
        there = _date(response.headers.get("Date"))
        if there is not None:
            yield clock("clock of the registry", there)
        if credentials is None:
            remedy = f"shiplap login {host}, with DOCKER_CONFIG as the worker has it; runs of projects have their own"
            yield Finding(NAME, "WARN", f"{host} answers; nothing was pushed, for there is no log-in here", remedy)
            return
        done = _push(client, endpoint, whole=whose == _ADMIN)
    yield Finding(NAME, "OK", f"{host}: log-in with {whose}; {done}")


_ADMIN: Final = "the administrator's token"


def _log_in_of(settings: ServiceSettings, docker_config: Path, domain: str) -> tuple[str, Credentials | None]:
    """The service's credentials for this registry. Its own tokens go to its own addresses only."""
    from pipelines.addresses import listening_url
    from registry.credentials import Credentials, CredentialStore

    stored = CredentialStore(docker_config).get(domain)
    if stored is not None:
        return f"that of {docker_config}/config.json", stored
    own = {urlsplit(url).netloc for url in (listening_url(settings.root), settings.public_url)}
    if domain in own:
        with contextlib.suppress(FileNotFoundError, PermissionError):
            return _ADMIN, Credentials("doctor", admin_token(settings.root))
    if settings.web_token and domain in {*own, urlsplit(settings.web_url).netloc}:  # where a worker sends it anyway
        return "SHIPLAP_WEB_TOKEN", Credentials("doctor", settings.web_token)
    return "", None


def admin_token(root: Path) -> str:
    """The token that the service's first start wrote. Raises OSError."""
    return (root / "serve" / "admin.token").read_text(encoding="utf-8").strip()


def _push(client: Client, endpoint: Endpoint, *, whole: bool) -> str:
    """Try a push; what was done. whole: also push an image and delete it. Elsewhere, what is deleted may stay."""
    from registry.client.repository import Repository
    from registry.client.uploading import start, upload_location

    identity = f"shiplap-doctor-{os.urandom(8).hex()}-"
    repository = Repository(client, endpoint, identity + "0" * (_PROJECTS_LONGEST_NAME + 1 - len(identity)))
    scopes = repository.scopes("pull,push")
    base = client.base(endpoint)
    begun = start(repository)
    location = upload_location(begun, f"{base}/{repository.upload_url()}", base)
    length = {"Content-Length": str(len(_PIECE)), "Content-Range": f"0-{len(_PIECE) - 1}"}
    sent = client.call(
        endpoint, "PATCH", location, expect={202, 201, 204}, scopes=scopes, headers={**_OCTETS, **length}, body=_PIECE
    )
    sent.close()
    last = upload_location(sent, location, base)
    client.call(endpoint, "DELETE", last, expect={200, 202, 204, 404}, scopes=scopes, retry=False).close()
    if not whole:
        return "an upload was begun and taken back"
    _push_image(repository)
    return "an image was pushed and deleted"


def _push_image(repository: Repository) -> None:
    from core.digests import Digest

    config = Digest.of(b"{}")
    descriptor = {"mediaType": _EMPTY, "digest": str(config), "size": 2}
    layer = {**descriptor, "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(Digest.of(_PIECE))}
    layer["size"] = len(_PIECE)
    document = json.dumps(
        {"schemaVersion": 2, "mediaType": _DOCUMENT, "artifactType": "application/vnd.shiplap.doctor",
         "config": descriptor, "layers": [layer]}
    ).encode()  # fmt: skip
    manifest = Digest.of(document)
    scopes = repository.scopes("pull,push,delete")
    with contextlib.ExitStack() as undo:
        for content in (b"{}", _PIECE):
            digest = Digest.of(content)
            undo.callback(_delete, repository, f"blobs/{digest}")
            repository.client.call(
                repository.endpoint, "POST", repository.upload_url(digest=str(digest)), expect={201}, scopes=scopes,
                headers={**_OCTETS, "Content-Length": str(len(content))}, body=content,
            ).close()  # fmt: skip
        undo.callback(_delete, repository, f"manifests/{manifest}")
        repository.put_manifest(manifest, _DOCUMENT, document)
        repository.manifest(manifest)


def _delete(repository: Repository, what: str) -> None:
    repository.client.call(
        repository.endpoint, "DELETE", repository.url(what), expect={202, 404},
        scopes=repository.scopes("pull,push,delete"), retry=False,
    ).close()  # fmt: skip


def _date(text: str | None) -> float | None:
    with contextlib.suppress(ValueError, TypeError):
        return email.utils.parsedate_to_datetime(text or "").timestamp()
    return None
