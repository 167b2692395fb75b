"""All parts of one registry server, put together over a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from core.settings import RegistrySettings
from images.store import Store
from registry.server.access import Accounts, Gate
from registry.server.attempts import Attempts
from registry.server.content import Content
from registry.server.manifests import Manifests
from registry.server.rows import Rows
from registry.server.rules import Rules
from registry.server.schema import hidden, prepare
from registry.server.settings import ServerSettings
from registry.server.tokens import TokenSigner, load_key
from registry.server.uploads import Uploads
from registry.server.users import Users

if TYPE_CHECKING:
    from registry.client import Client
    from registry.server.mirror import Mirror


class Registry:
    """The registry of a store, whatever speaks for it. Thread-safe. ``close`` leaves the store open."""

    def __init__(
        self,
        store: Store,
        settings: ServerSettings,
        *,
        clock: Callable[[], float] = time.time,
        upstream: Client | None = None,
        accounts: Accounts | None = None,
    ) -> None:
        """upstream: asks the registries that are mirrored here; None: nothing is. It is closed with this.

        accounts: who else gets in, not being a user of the registry.
        Repositories that a program around it has hidden are so for whoever opens it (``schema.hide``).
        """
        prepare(store.database)
        found = hidden(store.database)
        if found is not None and not settings.hidden:
            settings = replace(settings, hidden=found[0])
        directory = store.root / "serve"
        self.store = store
        self.clock = clock
        self.rows = Rows(store)
        self.rules = Rules(self.rows)
        self.settings = settings = replace(settings, made=self.rules.of)
        self.content = Content(store, self.rows, settings, clock=clock)
        self.uploads = Uploads(directory / "uploads", self.rows, self.content, settings, clock=clock)
        self.manifests = Manifests(self.rows, self.content, settings, clock=clock)
        self.users = Users(self.rows, clock=clock)
        self.signer = TokenSigner(load_key(directory / "token.key"), lifetime_s=settings.token_lifetime_s, clock=clock)
        self.gate = Gate(self.users, self.signer, settings, Attempts(clock), accounts)
        self.mirror: Mirror | None = None
        if upstream is not None:
            from registry.server.mirror import Mirror

            self.mirror = Mirror(upstream, self.rows, self.manifests, self.uploads, settings)

    @classmethod
    def serving(cls, store: Store, settings: ServerSettings, *, accounts: Accounts | None = None) -> Self:
        """As a server has it: with a client for the registries that ``settings`` mirror."""
        upstream = None
        if any(policy.mirror for policy in settings.policies):
            from registry.client import Client, ClientConfig

            upstream = Client(ClientConfig.load(RegistrySettings.from_environ(), store.root))
        return cls(store, settings, upstream=upstream, accounts=accounts)

    def close(self) -> None:
        """Close database connections; no request may run any more."""
        if self.mirror is not None:
            self.mirror.close()
        self.rows.close()
