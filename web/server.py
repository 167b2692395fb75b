"""The application under gunicorn: one process, and a thread for each request.

Followers of logs wait in their threads. That costs little: only the touched kilobytes of a stack. Threads share the
hub's encoded lines, while several processes would each read and encode every log.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from core.files import write_atomically
from core.notify import ServiceManager
from core.processes import end_with_parent
from core.proxies import TrustedProxies, parse_address
from core.settings import GitSettings, OidcSettings, ServiceSettings
from pipelines.jsonlogs import configuration
from pipelines.owning.ownership import OUTPUTS
from registry.server.app import application
from registry.server.impatience import Impatient
from registry.server.listening.connection import Connection
from registry.server.listening.worker import ListeningWorker
from web.app import create_app, with_registry, with_repositories
from web.backing import hub_of
from web.engines.handing import Handing, is_dockers, refuse_plain
from web.gitserving.application import GitServing
from web.guard.proxies import BehindProxies
from web.hooks.pending import PendingThread
from web.hooks.statuses import status_thread
from web.housekeeping import Housekeeper
from web.previews import OutputsHost
from web.registry_access import ServiceAccounts
from web.settings import WebSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

    from pipelines.service import Service
    from registry.server.registry import Registry
    from web.identities import Provider

_STACK_BYTES: Final = 1 << 20  # of address space; only the touched part takes memory
_GRACE_S: Final = 10
_KEEPALIVE_S: Final = 30


class Worker(ListeningWorker):
    """A gunicorn worker that ends the streams when it is to stop, or when its master is gone.

    Without that it would serve the streams for as long as they go on, and hold the port against the next master.
    """

    def init_process(self) -> None:
        end_with_parent(self.ppid)
        self.proxies = self.app.proxies
        self.handing: Handing | None = self.app.handing
        super().init_process()

    def gives_away(self, conn: Connection) -> bool:
        """docker's clients are the engine's, where this service has one. Without TLS, they are of this host alone."""
        if self.handing is None or not is_dockers(conn.received):
            return False
        if self._is_private(conn):
            self.handing.hand(conn.sock, conn.received)
        else:
            refuse_plain(conn.sock)
        return True

    def _is_private(self, conn: Connection) -> bool:
        """Whether it comes from this host, or from a proxy that is believed."""
        if not conn.is_over_ip:
            return True
        address = parse_address(conn.client[0])
        return (address is not None and address.is_loopback) or bool(self.proxies.trusts(conn.client[0]))

    def handle_exit(self, sig: int, frame: Any) -> None:
        application = getattr(self, "wsgi", None)  # there is none while the worker starts
        if application is not None:
            application.hub.stopping = True
        super().handle_exit(sig, frame)


class _Application:
    """The application that gunicorn calls, with the hub within reach of its worker."""

    def __init__(self, wsgi: WSGIApplication, hub: Any) -> None:
        self._wsgi = wsgi
        self.hub = hub

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self._wsgi(environ, start_response)


class Server(BaseApplication):  # type: ignore[misc] # gunicorn has no types
    """Gunicorn with our settings instead of its command line.

    welcome: gets the URL as soon as it is known.
    door: of the engine's gate, which serves docker's clients at this port; None: there is none.
    """

    def __init__(
        self,
        service_settings: ServiceSettings,
        settings: WebSettings,
        welcome: Callable[[str], None] | None = None,
        door: Path | None = None,
    ) -> None:
        self.handing = Handing(door) if door else None
        self._service_settings = service_settings
        self._settings = settings
        self._welcome = welcome
        self._note = b""
        self._manager = ServiceManager.from_environ()
        super().__init__()

    @property
    def proxies(self) -> TrustedProxies:
        """The proxies that are believed when they name a client."""
        return TrustedProxies(self._service_settings.trusted_proxies)

    def load_config(self) -> None:
        for name, value in {
            "bind": self._settings.address,
            "workers": 1,
            "worker_class": "web.server.Worker",
            "threads": self._settings.threads,
            "worker_connections": Worker.most_connections(self._settings.threads),
            "keepalive": _KEEPALIVE_S,
            "graceful_timeout": _GRACE_S,
            "timeout": 60,
            "proc_name": "shiplap-web",
            "control_socket_disable": True,
            "forwarded_allow_ips": "",  # web.guard.proxies knows which proxies to believe
            "logconfig_dict": configuration({"gunicorn.error": {"level": "INFO", "propagate": True}}),
            "when_ready": self._announce,
            "on_exit": self._forget,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> _Application:
        """Make the application in the worker process: nothing here is shared across the fork."""
        from pipelines.service import Service

        threading.stack_size(_STACK_BYTES)
        service = Service.open(self._service_settings)
        registry = self._registry(service)
        app = create_app(service, registry, self._identities())
        status_thread(service).start()
        PendingThread(service).start()
        Housekeeper(service, registry, every_s=registry.settings.collect_every_s).start()
        hub, stalled_s = hub_of(app), registry.settings.stalled_s
        repositories = GitServing(service, GitSettings.from_environ(), lambda: hub.stopping)
        wsgi = with_registry(app, Impatient(application(registry), stalled_s))
        wsgi = with_repositories(wsgi, Impatient(repositories, stalled_s))
        wsgi = OutputsHost(wsgi, self._service_settings.outputs_url)
        return _Application(BehindProxies(wsgi, self._service_settings.trusted_proxies), hub)

    def _registry(self, service: Service) -> Registry:
        """The registry by the rules of ROOT/serve/registry.toml. Holders of API tokens get in; strangers never.

        A client that uses the registry's name for runs gets answers with that name: workers may not reach the public
        address.
        """
        from images.store import Store
        from registry.server.registry import Registry
        from registry.server.schema import hide, prepare
        from registry.server.settings import settings_of

        root = self._service_settings.root
        name = self._service_settings.registry or urlsplit(self._note.decode().strip()).netloc
        settings = settings_of(root, access="users")
        settings = replace(
            settings,
            public_url=settings.public_url or self._service_settings.public_url,
            other_names=frozenset({name}) - {urlsplit(self._service_settings.public_url).netloc},
            hidden=f"{OUTPUTS}/",
        )
        store = Store.open(root)
        prepare(store.database)
        hide(store.database, settings.hidden, time.time())  # also for the commands that open it beside us
        return Registry.serving(store, settings, accounts=ServiceAccounts(service))

    def _identities(self) -> Provider | None:
        from web.identities import Provider

        settings = OidcSettings.from_environ()
        return Provider(settings) if settings.issuer else None

    @property
    def _url_file(self) -> Path:
        return self._service_settings.root / "serve" / "url"

    def _announce(self, arbiter: Any) -> None:
        """Write down where we listen, for commands on this machine."""
        port = arbiter.LISTENERS[0].sock.getsockname()[1]
        url = self._settings.local_url(port)
        self._note = url.encode() + b"\n"
        write_atomically(self._url_file, self._note)
        if self._welcome is not None:
            self._welcome(url)
        self._manager.ready()

    def _forget(self, arbiter: Any) -> None:
        """Remove that note, unless another web process has replaced it. The listeners are closed already."""
        del arbiter
        with contextlib.suppress(FileNotFoundError):
            if self._url_file.read_bytes() == self._note:
                self._url_file.unlink()
