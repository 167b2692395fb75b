"""A git host that is away is the machine's fault: tried again, and an error, not a failure, when that was in vain."""

from __future__ import annotations

import socket
import threading

import pytest

from builder.remotes.git import _AWAY
from core.settings import ServiceSettings
from pipelines.model import GitSource, RunRequest
from pipelines.service import Service
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
    with socket.create_server(("127.0.0.1", 0)) as server, breaking_off(server):
        url = f"https://127.0.0.1:{server.getsockname()[1]}/app.git"
        numbers.append(service.runs.submit(RunRequest(GitSource(url, ref="main"))).number)
        eventually(lambda: service.runs.get(numbers[0]).attempt >= 2, timeout_s=60, why="it is tried again")
        for number in numbers:
            run = finished(service, number, timeout_s=120)
            assert (run.state, run.attempt) == ("error", run.max_attempts), run.reason


class breaking_off:  # noqa: N801 - read as a phrase
    """Whoever connects to ``server`` is cut off."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._thread = threading.Thread(target=self._cut)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _cut(self) -> None:
        while True:
            try:
                peer, _ = self._server.accept()
            except OSError:
                return
            peer.close()
