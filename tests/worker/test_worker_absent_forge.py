"""A git host that is away is the machine's fault: tried again, and an error, not a failure, when that was in vain."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from builder.remotes.gitserver import _AWAY
from core.settings import ServiceSettings
from pipelines.model import GitSource, RunRequest
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.service import Workforce, eventually, finished


@pytest.mark.parametrize(
    "text",
    [
        "fatal: unable to access 'https://git.lan/': Could not resolve host: git.lan",
        "fatal: unable to access 'https://git.lan/': Could not resolve proxy: proxy.lan",
        "ssh: Could not resolve hostname git.lan: Temporary failure in name resolution",
        "fatal: unable to access 'https://git.lan/': Received HTTP code 503 from proxy after CONNECT",
        "fatal: unable to access 'https://git.lan/': Empty reply from server",
        "kex_exchange_identification: Connection closed by remote host",
        "fatal: GnuTLS, handshake failed: The TLS connection was non-properly terminated.",
        "fatal: unable to access 'https://git.lan/': gnutls_handshake() failed: Error in the pull function.",
        "fatal: unable to access 'https://git.lan/': OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to x",
        "fatal: unable to access 'https://git.lan/': Recv failure: Connection was aborted",
    ],
)
def test_what_git_says_of_servers_that_are_away(text: str) -> None:
    assert _AWAY.search(text)


@pytest.mark.parametrize(
    "text",
    [
        "fatal: repository 'https://git.lan/x/' not found",
        "git@git.lan: Permission denied (publickey).",
        "fatal: couldn't find remote ref refs/heads/no",
        "fatal: unable to access 'https://git.lan/': The requested URL returned error: 403",
        "fatal: unable to access 'https://x/': gnutls_handshake() failed: An unexpected TLS packet was received.",
        "fatal: unable to access 'https://git.lan/': server certificate verification failed. CAfile: none",
    ],
)
def test_what_git_says_of_servers_that_answered(text: str) -> None:
    assert not _AWAY.search(text)


def test_run_of_an_absent_git_host_is_tried_again_and_ends_as_an_error(
    settings: ServiceSettings, service: Service, workers: Workforce
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()[1]
    workers.start("--concurrency", "2", environ={"SHIPLAP_GIT_ALLOWED_HOSTS": "127.0.0.1"})
    urls = ["https://git.invalid/team/app.git", f"https://127.0.0.1:{refusing}/app.git"]
    numbers = [service.runs.submit(RunRequest(GitSource(url, ref="main"))).number for url in urls]
    with hanging_up() as closing, hanging_up(reset=True) as resetting:
        for port in (closing, resetting):
            url = f"https://127.0.0.1:{port}/app.git"
            numbers.append(service.runs.submit(RunRequest(GitSource(url, ref="main"))).number)
        eventually(lambda: service.runs.get(numbers[0]).attempt >= 2, timeout_s=60, why="it is tried again")
        for number in numbers:
            run = finished(service, number, timeout_s=120)
            assert (run.state, run.attempt) == ("error", run.max_attempts), run.reason


@contextmanager
def hanging_up(*, reset: bool = False) -> Iterator[int]:
    """The port of a server that hangs up in the middle of every handshake: politely, or by a reset."""

    def serve() -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(stretched(5))
                peer.recv(65536)  # what is left unread would make a reset of the closing
                if reset:
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
