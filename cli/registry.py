"""Shared by the commands that talk to registries: options, the client, and what Ctrl-C does to a transfer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from cli.declared import Option
from core.settings import RegistrySettings, Settings

if TYPE_CHECKING:
    from cli.progress.transfers import TransferDisplay
    from registry.client import Client, ClientConfig

_Decorated = TypeVar("_Decorated", bound=Callable[..., Any])

INSECURE: Final = Option(
    ("--insecure-registry",),
    "Speak plain HTTP, or TLS without verification, to this registry. Repeatable.",
    metavar="HOST[:PORT]",
    dest="insecure",
    multiple=True,
)
"""The option that does for one command what ``SHIPLAP_INSECURE_REGISTRIES`` does for all."""


def insecure_option(command: _Decorated) -> _Decorated:
    """``INSECURE`` for a click command."""
    return INSECURE(command)


PROGRESS: Final = Option(("--progress",), "[default: auto]", choices=("auto", "plain", "tty"), default="auto")
"""A bar for each layer on a terminal, else lines."""


def client_config(root: str | None, insecure: Sequence[str]) -> ClientConfig:
    """The client's config, from environment, ``registries.json`` and options. root: the value of ``--root``."""
    from registry.client import ClientConfig

    return ClientConfig.load(RegistrySettings.from_environ(), Settings.from_environ(root=root).root, insecure=insecure)


def open_client(root: str | None, insecure: Sequence[str], cancelled: threading.Event) -> Client:
    """A registry client. The caller closes it. Once ``cancelled`` is set, its transfers end."""
    from registry.client import Client

    return Client(client_config(root, insecure), cancelled=cancelled)


def transfers_on_stderr() -> TransferDisplay:
    """A display for transfers that are a side effect of the command."""
    import os

    from cli.progress.choose import choose_mode
    from cli.progress.transfers import open_transfers

    mode = choose_mode("auto", sys.stderr, quiet=False)
    return open_transfers(mode, sys.stderr, colours=not os.environ.get("NO_COLOR"))
