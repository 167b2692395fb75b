"""The key of a job's result: everything that takes part in the job, and nothing that does not.

Times, limits, the worker and paths of the machine do not take part. What takes part is named here, once: the digest
and the words that explain a difference are made from the same list.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import msgspec.structs

from builder.explaining.details import encodable, hidden
from ci.model import Job, Output, Service
from core.digests import Digest
from core.trust import Domain, Privacy
from dockerfile_grammar.secrecy import names_a_secret

EXECUTOR: Final = "1"
"""The version of how jobs are executed: raise it when the same job would give something else than before."""

_MISSING: Final = "missing"
_SHOWN_DIGITS: Final = 8


class BesideIngredients(NamedTuple):
    """What a service brings into a job.

    image: its name, and what identifies its layers.
    says: what its configuration says of its containers.
    """

    service: Service
    image: tuple[str, str]
    says: tuple[object, ...]


class Ingredients(NamedTuple):
    """What takes part in a job, beside what its file says.

    image: its name, and what identifies its layers: their chain ID.
    image_env: the variables that the image sets.
    platform: what the image is for.
    variables: all others, but those of secrets; of equal names the last counts.
    secrets: by name, those that the job gets, or a service of it.
    fingerprint: stands for a secret, so that nobody can guess it.
    manifest: of all files that it sees, as ``Stack.manifest``.
    beside: its services, in the job's order.
    """

    image: tuple[str, str]
    image_env: Iterable[tuple[str, str]]
    platform: str
    variables: Iterable[tuple[str, str]]
    secrets: Mapping[str, bytes]
    fingerprint: Callable[[bytes], str] | None
    manifest: bytes
    beside: tuple[BesideIngredients, ...] = ()


class JobKey(NamedTuple):
    """The key, and what it was made of.

    key: for all for whom it may count; ``core.trust.scoped`` makes the key of a record of it.
    op: identifies the job without the files that it sees.
    members: the job in words, by the names of changes. No secret is in it.
    image: name, and what identifies it.
    content: identifies the files that it sees; manifest: names them.
    privacy: how far its result may go.
    """

    key: str
    op: str
    members: dict[str, str]
    image: tuple[str, str]
    content: Digest
    manifest: bytes
    privacy: Privacy


def is_reusable(job: Job, secrets: Mapping[str, bytes], fingerprint: Callable[[bytes], str] | None) -> bool:
    """Whether a job's result may be known before it runs.

    A job without ``inputs`` may have any effect. A secret that nothing stands for could have changed.
    """
    if job.build is not None or job.inputs is None or job.reuse is False:
        return False
    return not secrets or fingerprint is not None


def key_of(job: Job, ingredients: Ingredients, domain: Domain, privacy: Privacy = Privacy.COMMON) -> JobKey:
    """The key of a job that ``is_reusable``.

    privacy: how far results may go that contain what the job sees and what it runs in.
    """
    members = {name: value for name, value in _members(job, ingredients) if value}
    taking_part = [
        EXECUTOR, domain.project, ingredients.image[1], sorted(members.items()),
        [(name, value) for name, value in sorted(_env(ingredients).items())],
        list(_secrets(job, ingredients)), *_beside(ingredients),
    ]  # fmt: skip
    op, content = _digest(taking_part), Digest.of(ingredients.manifest)
    shown = members | dict(_shown_beside(ingredients)) | _shown_env(ingredients) | _shown_secrets(job, ingredients)
    return JobKey(
        _digest([op, content]),
        op,
        {encodable(name): encodable(value) for name, value in shown.items()},
        ingredients.image,
        content,
        ingredients.manifest,
        max(privacy, Privacy.PROJECT) if ingredients.secrets else privacy,
    )


def _members(job: Job, ingredients: Ingredients) -> Iterable[tuple[str, str]]:
    """The parts of a job that its file says, by the words for them."""
    yield "the commands", _json(job.run) if job.run is not None else ""
    yield "the command", _json(job.args) if job.args is not None else ""
    yield "shell", str(job.shell) if job.run is not None else ""
    yield "workdir", str(job.workdir)
    yield "user", str(job.user)
    yield "platform", f"{job.platform} {ingredients.platform}".strip()
    yield "network", str(job.network)
    yield "tty", "true" if job.tty else ""
    yield "engine", "true" if job.engine else ""
    yield "outputs", _json([_output(output) for output in job.outputs])
    yield "exports", _json(job.exports)
    yield "caches", _json([(cache.name, cache.path) for cache in job.caches]) if job.caches else ""
    yield "reports", "" if job.reports is None else _json(msgspec.structs.astuple(job.reports))


def _beside(ingredients: Ingredients) -> list[object]:
    """Its services. Limits and how long they are waited for do not take part, as times and limits of jobs do not."""
    return [
        (
            each.service.name, each.image, each.says, each.service.args, sorted(each.service.env.items()),
            each.service.ready.port, each.service.ready.command,
        )
        for each in ingredients.beside
    ]  # fmt: skip


def _shown_beside(ingredients: Ingredients) -> Iterable[tuple[str, str]]:
    """Its services in words; of variables and images, a few digits."""
    for each in ingredients.beside:
        service, name = each.service, f"the service {each.service.name}"
        yield name, _json([part for part in (service.args, service.ready.port, service.ready.command) if part])
        yield f"the image of {name}", f"{each.image[0]} {_digest([each.image[1], each.says])[:_SHOWN_DIGITS]}"
        variables = _digest(sorted(service.env.items()))[:_SHOWN_DIGITS] if service.env else "none"
        yield f"the variables of {name}", variables


def _output(output: Output) -> tuple[object, ...]:
    """What of an output decides what there is. How long people find it is not in it."""
    for_people = (output.name, output.on) if output.name else ()
    return (output.path, output.into, output.optional, *for_people)


def _env(ingredients: Ingredients) -> dict[str, str]:
    return dict(ingredients.image_env) | dict(ingredients.variables)


def _secrets(job: Job, ingredients: Ingredients) -> Iterable[tuple[str, str, str, str]]:
    named = [(str(secret.name), secret) for secret in job.secrets]
    named += [(f"{each.name}: {secret.name}", secret) for each in job.services for secret in each.secrets]
    for name, secret in named:
        value = ingredients.secrets.get(secret.name)
        counted = _MISSING
        if value is not None:
            assert ingredients.fingerprint is not None, "such a job is not reusable"
            counted = ingredients.fingerprint(value)
        yield name, str(secret.variable), str(secret.file), counted


def _shown_env(ingredients: Ingredients) -> dict[str, str]:
    return {
        f"env {name}": hidden(value) if names_a_secret(name) else value for name, value in _env(ingredients).items()
    }


def _shown_secrets(job: Job, ingredients: Ingredients) -> dict[str, str]:
    """A few digits stand for a value: enough to see that it changed."""
    return {
        f"secret {name}": " ".join((variable, file, counted[:_SHOWN_DIGITS])).strip()
        for name, variable, file, counted in _secrets(job, ingredients)
    }


def _digest(parts: object) -> str:
    return hashlib.sha256(_json(parts).encode()).hexdigest()


def _json(value: object) -> str:
    """One text for each value, with escapes for what is not ASCII and for bytes that are no UTF-8."""
    return json.dumps(value, separators=(",", ":"), default=list)
