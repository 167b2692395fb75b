"""``python -m web [--listen HOST:PORT]``: the web process, as ``shiplap web`` and ``shiplap serve`` start it."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from core.errors import ShiplapError
from core.listening import require_free
from core.settings import OidcSettings, ServiceSettings
from web.settings import DEFAULT_LISTEN, WebSettings

_PLAIN_HTTP: Final = """\
warning: {} is plain HTTP, and others can connect: whoever is on the way can read tokens, passwords and sessions
hint: let a proxy with TLS stand before it, and set SHIPLAP_PUBLIC_URL=https://…
"""


def main() -> int:
    """Check the settings and the database, then serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m web", description="Serve Shiplap's API and registry.")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="[default: %(default)s]")
    parser.add_argument("--no-welcome", action="store_true", help="Whoever starts this tells the first link.")
    options = parser.parse_args()
    try:
        settings = WebSettings.parse(options.listen)
        require_free(settings.host, settings.port)
        service_settings = ServiceSettings.from_environ()
        OidcSettings.from_environ()
        from pipelines.bare.making import renew_hooks
        from pipelines.service import Service
        from pipelines.tokens import WORKERS
        from registry.server.settings import settings_of

        settings_of(service_settings.root, access="users")
        renew_hooks(service_settings.root)
        with Service.open(service_settings) as service:  # what is wrong is better said here than by a worker process
            service.tokens.ensure_admin_file()
            if service_settings.web_token:
                service.tokens.adopt(WORKERS, service_settings.web_token, ["build"])
            link = None if options.no_welcome else service.links.create_first()
    except ShiplapError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    if settings.is_public and not service_settings.public_url.startswith("https://"):
        sys.stderr.write(_PLAIN_HTTP.format(settings.address))
    if link is not None:
        base = service_settings.public_url or settings.local_url(settings.port)
        sys.stdout.write(f"Nobody can sign in yet. Make the first administrator, once:\n{base}/welcome?link={link}\n")
        sys.stdout.flush()
    from web.server import Server

    Server(service_settings, settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
