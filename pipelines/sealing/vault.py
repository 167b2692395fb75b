"""Secrets for builds, encrypted at rest with the key in ROOT/serve/secret.key (mode 0600, made with the database).

A secret belongs to the service, to a project, or to a single run. A run's own secret is sent with the run, and is
forgotten when the run ends. A job that asks for a name gets the run's own secret first, then its project's, then
the service's if its project was given that by name (``pipelines.owning.grants``). Which runs of the project get a
stored one says its policy (``pipelines.owning.policies``).

AES-256-GCM, a fresh nonce for each value, the secret's owner and name bound to it. Several hosts share the key file
(SHIPLAP_SECRET_KEY_FILE names another place for it).
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import and_, delete, insert, select, update
from sqlalchemy.engine import Connection

from core.masking import MIN_LENGTH
from pipelines.changes import Change, compared, of_secret
from pipelines.database import Database
from pipelines.errors import InvalidRequestError, NotFoundError, SecretError
from pipelines.keys.keynumbers import check_key, note_key
from pipelines.keys.keyring import KeyRing
from pipelines.owning.grants import forget_grants_of_name, has_grant, policies_of
from pipelines.owning.policies import SILENT, Policy, RunAsks, check_policy, decoded, encoded, refusal
from pipelines.schema import jobs, run_secrets, secrets

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_MAX_BYTES: Final = 500 << 10
"""BuildKit's limit too: every step that mounts a secret holds it in memory."""
_MAX_PROJECT: Final = 100
_NONCE_BYTES: Final = 12
POLICY_HINT: Final = (
    "who may maintain the project changes for which runs it is: shiplap secret policy NAME --project P …"
)


class SecretInfo(msgspec.Struct, frozen=True):
    """A secret without its value.

    project: the owner; empty for the whole service.
    policy: which runs get it.
    """

    name: str
    created_at: float
    project: str = ""
    policy: Policy = SILENT


class Opened(NamedTuple):
    """A stored secret with its value. policies: a run that one of them is for gets it; there is one at least."""

    value: bytes
    policies: tuple[Policy, ...]


class Sifted(NamedTuple):
    """What a run gets of its secrets.

    values: by name, those that it gets.
    refused: by name, why the others are not for it, for people.
    """

    values: Mapping[str, bytes]
    refused: Mapping[str, str]

    def refusals(self, names: Iterable[str], run: RunAsks) -> Mapping[str, str]:
        """``refused``, as its file that asks for these may know it: a fork's does not learn which of them there are."""
        return dict.fromkeys(names, refusal(SILENT, run)) if run.domain.is_fork else self.refused


class Held(NamedTuple):
    """All the secrets that runs of a project may have, opened, while it may not be known yet for whom the run is.

    own: by name, those that came with the run. They are the run's, whatever is stored.
    stored: by name.
    broken: by name, why others cannot be opened, for people. A run goes on without them, unless it needs one.
    """

    own: Mapping[str, bytes] = MappingProxyType({})
    stored: Mapping[str, Opened] = MappingProxyType({})
    broken: Mapping[str, str] = MappingProxyType({})

    def values(self) -> list[bytes]:
        """All values, for a masker."""
        return [*self.own.values(), *(each.value for each in self.stored.values())]

    def sifted(self, run: RunAsks) -> Sifted:
        """What this run gets of them."""
        if run.domain.is_fork:  # not even what somebody sent with it
            return Sifted({}, {name: refusal(SILENT, run) for name in (*self.own, *self.stored, *self.broken)})
        values = dict(self.own)
        refused = {name: why for name, why in self.broken.items() if name not in values}
        for name, (value, policies) in self.stored.items():
            reasons = [refusal(policy, run) for policy in policies]
            if name in values:
                continue
            if all(reasons):
                refused[name] = reasons[0]
            else:
                values[name] = value
        return Sifted(values, refused)


class Secrets:
    """All secrets. Thread-safe. keys: what they are encrypted with."""

    def __init__(self, database: Database, key_file: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self.keys = KeyRing(key_file)
        self._clock = clock

    def put(self, name: str, value: bytes, *, project: str = "", policy: Policy | None = None) -> tuple[Change, ...]:
        """Store or replace it. Returns what that changed, without the value. Raises InvalidRequestError.

        project: may be one that does not exist yet.
        policy: None: that of the secret which it replaces; of a new one, it says nothing.
        """
        check_secret(name, value)
        if policy is not None:
            check_policy(policy)
        if len(project) > _MAX_PROJECT:
            raise InvalidRequestError(f"invalid project name {project[:100]!r}")
        sealed = self._seal(_stored(project, name), value)
        this = and_(secrets.c.project == project, secrets.c.name == name)
        with self._database.write() as connection:
            before = connection.execute(select(secrets.c.policy).where(this).with_for_update()).scalar()
            connection.execute(delete(secrets).where(this))
            row = {"project": project, "name": name, "value": sealed, "created_at": self._clock()}
            kept = before or "" if policy is None else encoded(policy)
            connection.execute(insert(secrets).values(**row, policy=kept))
        of_value = of_secret("value", had=before is not None, has=True)
        return (*of_value, *compared({"policy": decoded(before or "")}, {"policy": decoded(kept)}))

    def set_policy(self, name: str, policy: Policy, *, project: str = "") -> tuple[Change, ...]:
        """Say which runs get a stored secret. Returns what that changed. Raises InvalidRequestError, NotFoundError."""
        check_policy(policy)
        this = and_(secrets.c.project == project, secrets.c.name == name)
        with self._database.write() as connection:
            before = connection.execute(select(secrets.c.policy).where(this).with_for_update()).scalar()
            if before is None:
                raise _absent(name, project)
            connection.execute(update(secrets).where(this).values(policy=encoded(policy)))
        return compared({"policy": decoded(before)}, {"policy": policy})

    def list(self, *, project: str = "") -> list[SecretInfo]:
        """Secrets of one project, or those of the whole service; by name."""
        with self._database.read() as connection:
            wanted = select(secrets.c.name, secrets.c.created_at, secrets.c.policy).where(secrets.c.project == project)
            rows = connection.execute(wanted.order_by(secrets.c.name))
            return [SecretInfo(row.name, row.created_at, project, decoded(row.policy)) for row in rows]

    def delete(self, name: str, *, project: str = "") -> None:
        """Raises NotFoundError."""
        with self._database.write() as connection:
            wanted = (secrets.c.project == project, secrets.c.name == name)
            if not connection.execute(delete(secrets).where(*wanted)).rowcount:
                raise _absent(name, project)
            if not project:
                forget_grants_of_name(connection, "secret", name)

    def hold(self, project: str, *, named: Iterable[str] = (), own: Iterable[str] = (), job: int | None = None) -> Held:
        """The secrets that a run of the project may have. Raises SecretError when this host's key is not the service's.

        Of the project's secrets those that cannot be opened with the right key are ``broken``.

        named: names of stored ones that whoever made the run asked for: NotFoundError is raised where one is not there.
        own: names of those that came with the run. job: the run's first, which has them.
        """
        with self._database.read() as connection:
            theirs = {name: self._reveal(connection, name, project, job) for name in own}
            for name in named:
                if name not in theirs:
                    self._reveal(connection, name, project, None)
            broken: dict[str, str] = {}
            return Held(theirs, self._opened(connection, project, broken), broken)

    def reveal(self, names: Iterable[str], *, project: str = "", job: int | None = None) -> dict[str, bytes]:
        """The values that jobs of ``project`` may have, whatever their policies say.

        Raises NotFoundError; SecretError when the key does not fit.
        """
        found = {}
        with self._database.read() as connection:
            for name in names:
                found[name] = self._reveal(connection, name, project, job)
        return found

    def fingerprint(self, value: bytes) -> str:
        """A text that stands for a value. It shows neither the value nor, to a guesser, whether a guess is right."""
        purpose = hmac.digest(self.keys.current(), b"a secret's value, in the key of a build's step", "sha256")
        return hmac.digest(purpose, value, "sha256").hex()

    def signature(self, value: bytes) -> str:
        """Hexadecimal digits that only this service can make for a value: of an address that it gave out."""
        purpose = hmac.digest(self.keys.current(), b"an address that the service gave out", "sha256")
        return hmac.digest(purpose, value, "sha256").hex()

    def check_key(self) -> None:
        """Raises SecretError unless this host's key is the service's."""
        with self._database.read() as connection:
            check_key(connection, self.keys)

    def take_key(self) -> None:
        """Let this host's key be the service's from now on; it is made if there is none."""
        with self._database.write() as connection:
            note_key(connection, self.keys.current())

    def seal_for_job(self, connection: Connection, job: int, values: Mapping[str, bytes]) -> None:
        """Keep secrets that came with a run, in the transaction that makes it. ``check_secret`` has checked them."""
        for name, value in values.items():
            sealed = self._seal(_of_job(job, name), value)
            connection.execute(insert(run_secrets).values(job=job, name=name, value=sealed))

    def seal(self, purpose: str, value: bytes) -> bytes:
        """Encrypt a value for another table. purpose: what the value is bound to: it opens for nothing else."""
        return self._seal(f"!{purpose}", value)

    def unseal(self, purpose: str, sealed: bytes) -> bytes:
        """Decrypt such a value. Raises SecretError when the key does not fit."""
        return self._open(f"!{purpose}", purpose, sealed)

    def _reveal(self, connection: Connection, name: str, project: str, job: int | None) -> bytes:
        if job is not None:
            own = select(run_secrets.c.value).where(run_secrets.c.job == job, run_secrets.c.name == name)
            sealed = connection.execute(own).scalar()
            if sealed is not None:
                return self._open(_of_job(job, name), name, bytes(sealed))
        for scope in dict.fromkeys((project, "")):
            stored = select(secrets.c.value).where(secrets.c.project == scope, secrets.c.name == name)
            sealed = connection.execute(stored).scalar()
            if sealed is not None and not scope and project and not has_grant(connection, project, "secret", name):
                raise NotFoundError(
                    f"project {project} was not given the secret {name}",
                    hint=f"an administrator gives it: shiplap grant add {project} secret {name}",
                )
            if sealed is not None:
                return self._open(_stored(scope, name), name, bytes(sealed))
        raise NotFoundError(f"there is no secret {name}", hint=f"an administrator adds it: shiplap secret set {name}")

    def _opened(self, connection: Connection, project: str, broken: dict[str, str]) -> dict[str, Opened]:
        """By name. broken: gets those that cannot be opened although the key is the service's."""

        def value_of(bound_to: str, row: Any) -> bytes | None:
            try:
                return self._open(bound_to, row.name, bytes(row.value))
            except SecretError as error:
                if not self.keys.kept():
                    raise
                check_key(connection, self.keys)  # else it is this host's fault, and another's worker does it
                broken[row.name] = error.message
                return None

        columns = (secrets.c.name, secrets.c.value, secrets.c.policy)
        found = {}
        given = policies_of(connection, project)
        if given:
            ours = select(*columns).where(secrets.c.project == "", secrets.c.name.in_(given))
            for row in connection.execute(ours):
                own, value = decoded(row.policy), value_of(row.name, row)
                if value is not None:
                    policies = tuple(own if each == SILENT else each for each in given[row.name])
                    found[row.name] = Opened(value, policies)
        for row in connection.execute(select(*columns).where(secrets.c.project == project)):
            found.pop(row.name, None)
            broken.pop(row.name, None)
            value = value_of(_stored(project, row.name), row)
            if value is not None:
                found[row.name] = Opened(value, (decoded(row.policy),))
        return found

    def _seal(self, bound_to: str, value: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self.keys.current()).encrypt(nonce, value, bound_to.encode())

    def _open(self, bound_to: str, name: str, sealed: bytes) -> bytes:
        keys = self.keys.kept()
        if not keys:
            raise SecretError(
                f"the secret {name} cannot be decrypted: there is no {self.keys.file}",
                hint="copy the key from where it was stored, or name its place in SHIPLAP_SECRET_KEY_FILE",
            )
        for key in keys:
            with contextlib.suppress(InvalidTag):
                return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound_to.encode())
        raise SecretError(
            f"the secret {name} cannot be decrypted with {self.keys.file}",
            hint="this key is not the one it was stored with: bring that one back, or store the secret anew",
        )


def _absent(name: str, project: str) -> NotFoundError:
    return NotFoundError(f"there is no secret {name}" + (f" of project {project}" if project else ""))


def check_secret(name: str, value: bytes) -> None:
    """Raises InvalidRequestError for a name or a value that cannot be kept."""
    if not _NAME.fullmatch(name):
        raise InvalidRequestError(
            f"invalid name of a secret: {name[:100]!r}", hint="letters, digits, '_', '.' and '-', at most 100"
        )
    if not MIN_LENGTH <= len(value) <= _MAX_BYTES:
        raise InvalidRequestError(
            f"the secret {name} has {len(value)} bytes, possible are {MIN_LENGTH} to {_MAX_BYTES}",
            hint="a shorter one could not be masked in logs" if len(value) < MIN_LENGTH else None,
        )


def forget_secrets_of_run(connection: Connection, run: int) -> None:
    """Forget the secrets that were sent for a run alone, in the transaction that ends it."""
    its = select(jobs.c.number).where(jobs.c.run == run)
    connection.execute(delete(run_secrets).where(run_secrets.c.job.in_(its)))


def _stored(project: str, name: str) -> str:
    """The text that a stored secret is bound to: swapped rows do not decrypt. Neither part has a slash."""
    return f"{project}/{name}" if project else name


def _of_job(job: int, name: str) -> str:
    return f"#{job}/{name}"
