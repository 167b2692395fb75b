"""What a worker makes of the answers of the web process that has the build contexts."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from pipelines.errors import NotFoundError, UpstreamError
from pipelines.sources.upstream import Upstream


class _Handler(http.server.BaseHTTPRequestHandler):
    status = 200
    seen: tuple[str, str, str] = ("", "", "")

    def do_GET(self) -> None:
        self._answer(b"entries")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        type(self).seen = (self.command, self.path, self.headers["Authorization"])
        self.send_response(self.status)
        body = body if self.status == 200 else b"told \xff why"
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_words: object) -> None: ...


@pytest.fixture
def handler() -> Iterator[tuple[type[_Handler], Upstream]]:
    class Handler(_Handler): ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Handler, Upstream(f"http://127.0.0.1:{server.server_address[1]}", "t0ken")
        server.shutdown()
        thread.join()


def test_manifest_is_asked_for_with_the_token(handler: tuple[type[_Handler], Upstream]) -> None:
    answers, upstream = handler
    assert upstream.manifest("sha256:0") == b"entries"
    assert answers.seen == ("GET", "/api/v1/contexts/sha256:0", "Bearer t0ken")


@pytest.mark.parametrize(("status", "kind"), [(404, NotFoundError), (403, UpstreamError), (201, UpstreamError)])
def test_refusal_is_told(
    handler: tuple[type[_Handler], Upstream], status: int, kind: type[NotFoundError | UpstreamError]
) -> None:
    answers, upstream = handler
    answers.status = status
    with pytest.raises(kind) as refused:
        upstream.manifest("sha256:0")
    assert "told \ufffd why" in refused.value.message
    with pytest.raises(kind):
        list(upstream.blobs(["sha256:0"]))
    if kind is UpstreamError:
        assert f"refuses its build contexts: {status}" in refused.value.message
        assert "SHIPLAP_WEB_TOKEN" in str(refused.value.hint)
