"""What the commands that talk to registries share: options, the client, and what Ctrl-C does to a transfer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from cli.declared import Option
from cli.guarding import say
from core.settings import RegistrySettings, Settings

if TYPE_CHECKING:
    from cli.progress.transfers import TransferDisplay
    from images.store import Store
    from images.stored import Image
    from registry.client import Client, ClientConfig

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

INSECURE: Final = Option(
    ("--insecure-registry",),
    "Speak plain HTTP, or TLS without verification, to this registry. Repeatable.",
    metavar="HOST[:PORT]",
    dest="insecure",
    multiple=True,
)
"""For one command what ``SHIPLAP_INSECURE_REGISTRIES`` is for all."""


def insecure_option(command: _Decorated) -> _Decorated:
    """``INSECURE`` for a click command."""
    return INSECURE(command)


def progress_option(command: _Decorated) -> _Decorated:
    """``--progress``: a bar for each layer on a terminal, else lines."""
    return Option(("--progress",), "[default: auto]", choices=("auto", "plain", "tty"), default="auto")(command)


def client_config(root: str | None, insecure: Sequence[str]) -> ClientConfig:
    """How registries are reached, by environment, ``registries.json`` and options. root: the value of ``--root``."""
    from registry.client import ClientConfig

    return ClientConfig.load(RegistrySettings.from_environ(), Settings.from_environ(root=root).root, insecure=insecure)


def open_client(root: str | None, insecure: Sequence[str], cancelled: threading.Event) -> Client:
    """A client of registries; the caller closes it. Once ``cancelled`` is set, its transfers end."""
    from registry.client import Client

    return Client(client_config(root, insecure), cancelled=cancelled)


def find_or_pull(store: Store, name: str, root: str | None, insecure: Sequence[str]) -> Image:
    """An image of the store; one that is not there is pulled, with its progress on standard error.

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


def transfers_on_stderr() -> TransferDisplay:
    """A display for transfers that are not what the command is about."""
    import os

    from cli.progress.choose import choose_mode
    from cli.progress.transfers import open_transfers

    mode = choose_mode("auto", sys.stderr, quiet=False)
    return open_transfers(mode, sys.stderr, colours=not os.environ.get("NO_COLOR"))


class Transfer(NamedTuple):
    """What a pull or push works with."""

    store: Store
    client: Client
    display: TransferDisplay


@contextmanager
def transferring(root: str | None, insecure: Sequence[str], progress: str, *, quiet: bool) -> Iterator[Transfer]:
    """Store, client and display, within which Ctrl-C ends the transfer with TransferCancelledError."""
    import os

    from cli.progress.choose import choose_mode
    from cli.progress.transfers import open_transfers
    from cli.signals import cancelling
    from cli.store import open_store
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
            import click

            raise click.exceptions.Exit(received.exit_code) from None
