"""Transfers: pulls and pushes of commands, with the store, a client, a display, and what Ctrl-C does."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from cli.errors import CommandEnded
from cli.guarding import say
from cli.registry import open_client, transfers_on_stderr
from cli.store import open_store

if TYPE_CHECKING:
    from cli.progress.transfers import TransferDisplay
    from images.store import Store
    from images.summary import Image
    from registry.client import Client


def find_or_pull(store: Store, name: str, root: str | None, insecure: Sequence[str]) -> Image:
    """An image of the store. A missing one is pulled from its registry, with progress on standard error.

    Raises ImageNotFoundError with the reason when neither has it, TransferCancelledError after Ctrl-C.
    """
    from images.errors import ImageNotFoundError

    try:
        return store.images.resolve(name)
    except ImageNotFoundError as missing:
        from cli.signals import cancelling
        from core.references import Reference
        from registry.client import pull
        from registry.errors import RegistryError, TransferCancelledError

        reference = Reference.parse(name).with_default_tag()
        say(f"{missing.message}; pulling it")
        cancelled = threading.Event()
        with ExitStack() as stack:
            client = stack.enter_context(open_client(root, insecure, cancelled))
            stack.enter_context(cancelling(cancelled, at_once=client.close))
            display = stack.enter_context(transfers_on_stderr())
            try:
                return pull(reference, store, client=client, monitor=display).image
            except TransferCancelledError:
                raise
            except RegistryError as error:
                message = f"{missing.message}; pulling it failed: {error}"
                raise ImageNotFoundError(message, hint=missing.hint or error.hint) from error


class Transfer(NamedTuple):
    """What a pull or push works with."""

    store: Store
    client: Client
    display: TransferDisplay


@contextmanager
def transferring(root: str | None, insecure: Sequence[str], progress: str, *, quiet: bool) -> Iterator[Transfer]:
    """Open store, client and display. Within, Ctrl-C ends the transfer with TransferCancelledError."""
    import os

    from cli.progress.choose import choose_mode
    from cli.progress.transfers import open_transfers
    from cli.signals import cancelling
    from registry.client import RegistryLayers
    from registry.errors import TransferCancelledError

    cancelled = threading.Event()
    with ExitStack() as stack:
        store = stack.enter_context(open_store(root))
        client = stack.enter_context(open_client(root, insecure, cancelled))
        store.layers.source = RegistryLayers(store, client)
        received = stack.enter_context(cancelling(cancelled, at_once=client.close))
        mode = choose_mode(progress, sys.stdout, quiet=quiet)
        display = stack.enter_context(open_transfers(mode, sys.stdout, colours=not os.environ.get("NO_COLOR")))
        try:
            yield Transfer(store, client, display)
        except TransferCancelledError:
            if received.number is None:
                raise
            raise CommandEnded(received.exit_code) from None
