"""Tells whether a command is meant for a server. Every build asks, so this imports no more than it must."""

from __future__ import annotations

import sys

from core.settings import RemoteSettings


def host_option() -> str | None:
    """The value of ``shiplap --host``; None when it was not given."""
    if "click" not in sys.modules:  # cli.declared read the command line, which had no --host then
        return None
    import click

    context = click.get_current_context(silent=True)
    host = context.meta.get("shiplap.host") if context is not None else None
    return str(host) if host is not None else None


def may_be_chosen(host: str | None = None) -> bool:
    """Whether there is anything that could choose a server: the option, the environment, or this user's contexts."""
    settings = RemoteSettings.from_environ(host=host)
    return bool(settings.host) or (settings.config / "contexts.json").exists()


def chosen_server() -> str | None:
    """The URL of the server that builds go to; None: they run here."""
    host = host_option()
    if not may_be_chosen(host):
        return None
    from cli.remote.servers import chosen_url

    return chosen_url(host)
