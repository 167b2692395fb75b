"""Secrets for builds, of the whole service or of one project. No answer ever holds a value."""

from __future__ import annotations

import base64
import binascii
from typing import Final

import msgspec

from pipelines.sealing.vault import SecretInfo
from web.calls import Call
from web.endpoints import Api
from web.errors import InvalidRequestError
from web.views.names import ProjectName, SecretName

api: Final = Api("secrets")

_NO_SECRET: Final = {404: "There is no such secret"}
_NO_PROJECT: Final = {404: "There is no such project"}


class SecretValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a secret is to be.

    value: as text, or value_base64: any bytes.
    """

    value: str | None = None
    value_base64: str | None = None


class SecretList(msgspec.Struct, frozen=True):
    """Names only."""

    secrets: list[SecretInfo]


@api.endpoint("GET", "/secrets", scope="admin")
def list_secrets(call: Call) -> SecretList:
    """List the names of the service's secrets. Projects may use those that they were given: /grants."""
    return SecretList(list(call.service.secrets.list()))


@api.endpoint("PUT", "/secrets/{secret}", scope="admin", status=204)
def put_secret(call: Call, secret: SecretName, body: SecretValue) -> None:
    """Store a secret of the service, in place of one of that name. It is encrypted on disk, and masked in logs.

    A project may use it once it was given it: PUT /grants. A secret that is stored anew stays given.
    """
    call.service.secrets.put(secret, _bytes(body))


@api.endpoint("DELETE", "/secrets/{secret}", scope="admin", status=204, errors=_NO_SECRET)
def delete_secret(call: Call, secret: SecretName) -> None:
    """Delete a secret, and forget to whom it was given."""
    call.service.secrets.delete(secret)


@api.endpoint("GET", "/projects/{project}/secrets", scope="maintain", errors=_NO_PROJECT)
def list_project_secrets(call: Call, project: ProjectName) -> SecretList:
    """List the names of a project's own secrets."""
    return SecretList(list(call.service.secrets.list(project=call.service.projects.get(project).name)))


@api.endpoint("PUT", "/projects/{project}/secrets/{secret}", scope="maintain", status=204, errors=_NO_PROJECT)
def put_project_secret(call: Call, project: ProjectName, secret: SecretName, body: SecretValue) -> None:
    """Store a secret of a project: only its runs get it, in place of the service's of the same name."""
    call.service.secrets.put(secret, _bytes(body), project=call.service.projects.get(project).name)


@api.endpoint("DELETE", "/projects/{project}/secrets/{secret}", scope="maintain", status=204, errors=_NO_SECRET)
def delete_project_secret(call: Call, project: ProjectName, secret: SecretName) -> None:
    """Delete a secret of a project."""
    call.service.secrets.delete(secret, project=project)


def _bytes(body: SecretValue) -> bytes:
    if (body.value is None) == (body.value_base64 is None):
        raise InvalidRequestError("a secret has either value or value_base64")
    if body.value is not None:
        return body.value.encode()
    try:
        return base64.b64decode(body.value_base64 or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"value_base64 is no base64: {error}") from error
