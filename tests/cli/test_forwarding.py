"""``shiplap system forward``: what it says of a service that has no engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cli.remote.errors import RemoteError, UnreachableServerError
from cli.remote.forwarding import Forwarder
from cli.remote.servers import Server


class _WithoutEngine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the connection stays open for a next request

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _WithoutEngine) as listener:
        thread = threading.Thread(target=listener.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listener.server_port}"
        listener.shutdown()
        thread.join()


def _checked(server: Server) -> None:
    """On a loop of its own, in a thread: a browser of other tests may have one running in this."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(Forwarder(server).check())).result()


def test_a_service_without_an_engine_is_told_at_once(url: str) -> None:
    with pytest.raises(RemoteError, match="has no engine for you: status 404"):
        _checked(Server(url, "a token"))


def test_what_does_not_answer_is_told_as_that(url: str) -> None:
    with pytest.raises(UnreachableServerError, match="cannot reach"):
        _checked(Server(f"{url.rpartition(':')[0]}:1", "a token"))
