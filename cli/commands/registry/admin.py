"""What the ``shiplap registry`` commands share: the server's settings and users, and how rights are written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cli.errors import CommandError

if TYPE_CHECKING:
    from images.store import Store
    from registry.server.settings import Access, ServerSettings
    from registry.server.users import Users


def registry_settings(config: str | None, root: Path, *, access: Access) -> ServerSettings:
    """The settings of ``--config``, else of ROOT/serve/registry.toml, else the defaults."""
    from registry.server.settings import load_settings, settings_of

    return load_settings(Path(config), access=access) if config else settings_of(root, access=access)


@contextlib.contextmanager
def users_of(store: Store) -> Iterator[Users]:
    """The registry's users in a store."""
    from registry.server.users import Users

    users = Users.of(store)
    try:
        yield users
    finally:
        users.close()


def parse_right(text: str) -> tuple[str, list[str]]:
    """The pattern and actions in ``PATTERN:pull,push``. Actions alone mean every repository."""
    pattern, colon, actions = text.rpartition(":")
    if not colon:
        pattern = "*"
    if not pattern or not actions:
        raise CommandError(f"not a right: {text!r}", hint="write PATTERN:ACTIONS, as in 'team/*:pull,push' or '*:*'")
    return pattern, actions.split(",")
