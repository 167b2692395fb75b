"""What ``build`` jobs of a run on this machine do with their images: names in the store, and pushes to registries."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from builder.result import BuildResult
from ci.errors import JobFaultError
from cli.errors import CommandError
from cli.options import image_name
from core.errors import InvalidReferenceError
from core.references import Reference
from images.store import Store
from registry.client import Client, push


class LocalPublisher:
    """A ``ci.outcome.Publisher`` with the log-ins of the user.

    Only names that begin with a registry are pushed: on a service ``app:1`` is in the service's registry, and here
    there is none, least of all docker.io.
    """

    def __init__(self, store: Store, connect: Callable[[], Client]) -> None:
        self._store = store
        self._connect = connect
        self._meant: set[Reference] = set()

    def names(self, tags: tuple[str, ...]) -> tuple[Reference, ...]:
        """Raises JobFaultError for what is no name."""
        try:
            found = tuple(map(image_name, tags))
        except (CommandError, InvalidReferenceError) as error:
            raise JobFaultError(error.message, hint=error.hint) from error
        self._meant |= {name for name, tag in zip(found, tags, strict=True) if tag.startswith(f"{name.domain}/")}
        return found

    def push(self, names: tuple[Reference, ...], result: BuildResult) -> str:
        """Raises RegistryErrors."""
        del result  # the names stand for it in the store
        digest = ""
        with contextlib.ExitStack() as stack:
            client: Client | None = None
            for name in names:
                if name not in self._meant:
                    continue
                if client is None:
                    client = stack.enter_context(contextlib.closing(self._connect()))
                digest = str(push(name, self._store, client=client).digest)
        return digest
