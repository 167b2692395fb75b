"""Secrets for builds, of the whole service or of one project. No answer ever holds a value."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Final

import msgspec

from pipelines.changes import Change
from pipelines.owning.policies import Policy, told
from pipelines.sealing.vault import SecretInfo
from web.calls import Call
from web.endpoints import Api
from web.errors import InvalidRequestError
from web.guard import note
from web.views.names import ProjectName, SecretName

api: Final = Api("secrets")

_NO_SECRET: Final = {404: "There is no such secret"}
_NO_PROJECT: Final = {404: "There is no such project"}


class SecretValue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a secret is to be.

    value: as text, or value_base64: any bytes.
    policy: which runs get it. Without it, that of the secret which it replaces stays; a new one is for protected
    branches and tags.
    """

    value: str | None = None
    value_base64: str | None = None
    policy: Policy | None = None


class SecretList(msgspec.Struct, frozen=True):
    """Names, and which runs get them."""

    secrets: list[SecretInfo]


@api.endpoint("GET", "/secrets", scope="admin")
def list_secrets(call: Call) -> SecretList:
    """List the service's secrets, without values. Projects may use those that they were given: /grants."""
    return SecretList(list(call.service.secrets.list()))


@api.endpoint("PUT", "/secrets/{secret}", scope="admin", status=204)
def put_secret(call: Call, secret: SecretName, body: SecretValue) -> None:
    """Store a secret of the service, in place of one of that name. It is encrypted on disk, and masked in logs.

    A project may use it once it was given it: PUT /grants. A secret that is stored anew stays given.
    """
    changes = call.service.secrets.put(secret, _bytes(body), policy=body.policy)
    _note(call, "put secret", f"secret={secret}", body.policy, changes)


@api.endpoint("PUT", "/secrets/{secret}/policy", scope="admin", status=204, errors=_NO_SECRET)
def put_secret_policy(call: Call, secret: SecretName, body: Policy) -> None:
    """Say which runs get a secret of the service, where the grant of a project does not say it. Its value stays."""
    changes = call.service.secrets.set_policy(secret, body)
    _note(call, "put secret policy", f"secret={secret}", body, changes)


@api.endpoint("DELETE", "/secrets/{secret}", scope="admin", status=204, errors=_NO_SECRET)
def delete_secret(call: Call, secret: SecretName) -> None:
    """Delete a secret, and forget to whom it was given."""
    call.service.secrets.delete(secret)


@api.endpoint("GET", "/projects/{project}/secrets", scope="maintain", errors=_NO_PROJECT)
def list_project_secrets(call: Call, project: ProjectName) -> SecretList:
    """List a project's own secrets, without values."""
    return SecretList(list(call.service.secrets.list(project=call.service.projects.get(project).name)))


@api.endpoint("PUT", "/projects/{project}/secrets/{secret}", scope="maintain", status=204, errors=_NO_PROJECT)
def put_project_secret(call: Call, project: ProjectName, secret: SecretName, body: SecretValue) -> None:
    """Store a secret of a project: only its runs get it, in place of the service's of the same name."""
    owner = call.service.projects.get(project).name
    changes = call.service.secrets.put(secret, _bytes(body), project=owner, policy=body.policy)
    _note(call, "put project secret", f"project={owner} secret={secret}", body.policy, changes)


@api.endpoint("PUT", "/projects/{project}/secrets/{secret}/policy", scope="maintain", status=204, errors=_NO_SECRET)
def put_project_secret_policy(call: Call, project: ProjectName, secret: SecretName, body: Policy) -> None:
    """Say which of the project's runs get a secret of its own. Its value stays; a fork's run gets none."""
    changes = call.service.secrets.set_policy(secret, body, project=project)
    _note(call, "put project secret policy", f"project={project} secret={secret}", body, changes)


@api.endpoint("DELETE", "/projects/{project}/secrets/{secret}", scope="maintain", status=204, errors=_NO_SECRET)
def delete_project_secret(call: Call, project: ProjectName, secret: SecretName) -> None:
    """Delete a secret of a project."""
    call.service.secrets.delete(secret, project=project)


def _note(call: Call, action: str, subject: str, policy: Policy | None, changes: Sequence[Change]) -> None:
    """Note an action with the policy that it gave, if it gave one."""
    note(call.service, action, subject, f"for {told(policy)}" if policy else "", actor=call.actor, changes=changes)


def _bytes(body: SecretValue) -> bytes:
    if (body.value is None) == (body.value_base64 is None):
        raise InvalidRequestError("a secret has either value or value_base64")
    if body.value is not None:
        return body.value.encode()
    try:
        return base64.b64decode(body.value_base64 or "", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"value_base64 is no base64: {error}") from error
