"""``python -m web [--listen HOST:PORT]``: the web process, as ``shiplap web`` and ``shiplap serve`` start it."""

from __future__ import annotations

import argparse
import logging
import logging.config
import sys
from pathlib import Path
from typing import Final

from core.errors import ShiplapError
from core.leaving import code_of, leave
from core.listening import require_free
from core.settings import GitSettings, OidcSettings, ServiceSettings
from pipelines.jsonlogs import configuration
from pipelines.welcome import Welcome
from web.settings import DEFAULT_LISTEN, WebSettings

_PLAIN_HTTP: Final = (
    "%s is plain HTTP, and others can connect: whoever is on the way can read tokens, passwords and sessions"
    " (let a proxy with TLS stand before it, and set SHIPLAP_PUBLIC_URL=https://…)"
)
_log: Final = logging.getLogger(__name__)


def main() -> int:
    """Check the settings and the database, then serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m web", description="Serve Shiplap's API and registry.")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="[default: %(default)s]")
    parser.add_argument("--no-welcome", action="store_true", help="Whoever starts this tells the first link.")
    parser.add_argument("--engine-door", metavar="PATH", help="Who serves docker's clients takes connections there.")
    options = parser.parse_args()
    logging.config.dictConfig(configuration())
    try:
        settings = WebSettings.parse(options.listen)
        require_free(settings.host, settings.port)
        service_settings = ServiceSettings.from_environ()
        OidcSettings.from_environ()
        GitSettings.from_environ()
        from pipelines.accounts.tokens import WORKERS
        from pipelines.bare.making import renew_hooks
        from pipelines.service import Service
        from registry.server.settings import settings_of

        settings_of(service_settings.root, access="users")
        renew_hooks(service_settings.root)
        with Service.open(service_settings) as service:  # errors are better reported here than by a worker process
            service.secrets.check_key()
            token_file = service.tokens.ensure_admin_file()
            if service_settings.web_token:
                service.tokens.adopt(WORKERS, service_settings.web_token, ["build"])
            link = None if options.no_welcome else service.links.create_first()
    except ShiplapError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    if settings.is_public and not service_settings.public_url.startswith("https://"):
        _log.warning(_PLAIN_HTTP, settings.address)

    def welcome(url: str) -> None:
        if not options.no_welcome:
            base = service_settings.public_url or url
            Welcome(url, base, service_settings.root, token_file, link, builds=False).say(sys.stdout)

    from web.server import Server

    Server(service_settings, settings, welcome, Path(options.engine_door) if options.engine_door else None).run()
    return 0


if __name__ == "__main__":
    leave(code_of(main))  # gunicorn's processes, this one and its worker, end by SystemExit
