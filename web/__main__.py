"""``python -m web [--listen HOST:PORT]``: the web process, as ``shiplap web`` and ``shiplap serve`` start it."""

from __future__ import annotations

import argparse
import sys

from core.errors import ShiplapError
from core.settings import ServiceSettings
from web.settings import DEFAULT_LISTEN, WebSettings


def main() -> int:
    """Check the settings and the database, then serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m web", description="Serve Shiplap's API and registry.")
    parser.add_argument("--listen", default=DEFAULT_LISTEN, metavar="HOST:PORT", help="[default: %(default)s]")
    options = parser.parse_args()
    try:
        settings = WebSettings.parse(options.listen)
        service_settings = ServiceSettings.from_environ()
        from pipelines.service import Service

        with Service.open(service_settings) as service:  # what is wrong is better said here than by a worker process
            service.tokens.ensure_admin_file()
    except ShiplapError as error:
        sys.stderr.write(f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    from web.server import Server

    Server(service_settings, settings).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
