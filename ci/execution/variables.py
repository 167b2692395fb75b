"""What a job knows: its variables, and its secrets as variables and as files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ci.errors import JobFaultError
from ci.execution.script import EXPORTS
from ci.facts import FACTS
from ci.matrix import Combination
from ci.model import Job, Secret
from ci.outcome import Given

Variables = tuple[tuple[str, str], ...]


def variables(job: Job, name: str, combination: Combination, given: Given) -> Variables:
    """All but secrets, in order: the last of equal names counts.

    name: the job's in the run. A job with ``inputs`` gets nothing that its key does not name.
    """
    found: dict[str, str] = {"CI": "true", "SHIPLAP_EXPORTS": EXPORTS}
    if job.inputs is None:
        found |= {fact: given.facts.get(fact, "") for fact in FACTS}
        found |= {name: value for name, value in given.facts.items() if name not in FACTS}  # parameters
        found |= {"SHIPLAP_JOB": name, "SHIPLAP_RUN": given.run, "SHIPLAP_ATTEMPT": str(given.attempt)}
    for values in (combination, job.env):
        found |= {str(key): str(value) for key, value in values.items()}
    return tuple(found.items())


class SecretFile(NamedTuple):
    path: str
    content: bytes


class JobSecrets(NamedTuple):
    """The secrets of one job. values: by name, those that it gets."""

    variables: Variables
    files: tuple[SecretFile, ...]
    values: Mapping[str, bytes]


def secrets_of(wanted: Sequence[Secret], given: Given, who: str = "the job") -> JobSecrets:
    """What a job or a service gets of the secrets that its run may have.

    who: needs them, for the message of the JobFaultError that is raised when it may not have one.
    """
    found = list(_available(wanted, given, who))
    return JobSecrets(
        tuple(
            (str(secret.variable or secret.name), _as_value(secret, value))
            for secret, value in found
            if not secret.file
        ),
        tuple(SecretFile(str(secret.file), value) for secret, value in found if secret.file),
        {str(secret.name): value for secret, value in found},
    )


def _available(wanted: Sequence[Secret], given: Given, who: str) -> Iterator[tuple[Secret, bytes]]:
    for secret in wanted:
        value = given.secrets.get(secret.name)
        if value is not None:
            yield secret, value
        elif not secret.optional:
            raise without_secret(who, secret.name, given, f"{{name: {secret.name}, optional: true}}")


def without_secret(who: str, name: str, given: Given, otherwise: str = "") -> JobFaultError:
    """The error of whoever needs a secret that the run may not have. otherwise: what the file may say in its place."""
    rather = f" Or: {otherwise}" if otherwise else ""
    if name in given.refused:
        return JobFaultError(
            f"{who} needs the secret {name}, which this run may not have: {given.refused[name]}",
            hint=f"its policy is changed by `shiplap secret policy`, and in the project's settings.{rather}",
        )
    here, there = f"`ci run --secret {name}=FILE`", f"`secret set --project PROJECT {name} FILE`"
    hint = f"{here} brings it; on a service {there} does, but never to a fork's run.{rather}"
    return JobFaultError(f"{who} needs the secret {name}, which this run has not", hint=hint)


def _as_value(secret: Secret, value: bytes) -> str:
    if b"\0" in value:
        raise JobFaultError(
            f"the secret {secret.name} cannot be a variable: it has a NUL byte",
            hint=f"take it as a file: {{name: {secret.name}, file: PATH}}",
        )
    return value.decode("utf-8", "surrogateescape")
