"""A web process as ``shiplap web`` starts it, and something that writes a run's log as a worker does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from core.events import BuildPlanned, StepFinished, StepInfo, StepOutput, StepStarted
from core.masking import Masker
from core.settings import ServiceSettings
from pipelines.model import ContextSource, RunRequest, RunResult
from pipelines.runs.logwriter import LogWriter
from pipelines.service import Service
from tests.toolkit.bounds import stretched
from tests.toolkit.host import adopting_orphans, children, wait_until_gone
from tests.toolkit.ports import free_port

_CHECKOUT = Path(__file__).resolve().parents[2]


class WebProcess:
    """A context manager. ``kill`` and ``start`` again as often as wanted: the port stays."""

    def __init__(self, settings: ServiceSettings, **more: str) -> None:
        """more: variables of its environment besides."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._settings = settings
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        """Of the process."""
        return {
            **os.environ,
            "PYTHONPATH": str(_CHECKOUT),
            "SHIPLAP_ROOT": str(self._settings.root),
            "SHIPLAP_REDIS_URL": self._settings.redis_url,
            "SHIPLAP_DATABASE_URL": self._settings.database_url,
            **self._more,
        }

    def prefix(self) -> list[str]:
        """What starts the process."""
        return []

    def start(self) -> None:
        command = [*self.prefix(), sys.executable, "-m", "web", "--listen", f"127.0.0.1:{self.port}"]
        self._process = subprocess.Popen(command, env=self.environment(), start_new_session=True)
        deadline = time.monotonic() + stretched(60)
        while not self.answers():
            assert self._process.poll() is None, "the web process ended"
            assert time.monotonic() < deadline, "the web process does not answer"
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        """To gunicorn's master and its worker."""
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def kill_master(self) -> None:
        """Only the process that was started, and not the one that serves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(stretched(60))

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(stretched(60))

    def peak_memory_bytes(self) -> int:
        """The most that the process that serves ever had resident."""
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        status = Path(f"/proc/{children[0]}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert match is not None
        return int(match[1]) * 1024

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            with adopting_orphans():  # the process that serves may still write below the root
                known = set(children())
                self.signal(signal.SIGKILL)
                self._process.wait(stretched(60))
                assert wait_until_gone(known) == {}

    def answers(self) -> bool:
        """Whether anybody does at the port."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
                connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(100)
        except OSError:
            return False


class FakeWorker:
    """Takes one run and writes its log, a step with lines of output, without building anything."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.number = service.runs.submit(RunRequest(ContextSource("sha256:" + "0" * 64))).number
        claim = service.claims.take("fake", ())
        assert claim is not None
        assert claim.number == self.number
        self._claim = claim
        self._writer = LogWriter(claim, service.database, service.live, Masker(), lost=lambda: None)
        self._writer.emit(BuildPlanned((StepInfo(0, "[1/1] RUN much", "", 1),)))
        self._writer.emit(StepStarted(0, time.time()))

    def write(self, first: int, last: int) -> None:
        """Lines of output ``line FIRST`` to ``line LAST``."""
        for number in range(first, last + 1):
            self._writer.emit(StepOutput(0, 1, b"line %d\n" % number, time.time()))

    def begin(self, text: str) -> None:
        """A line that does not end yet."""
        self._writer.emit(StepOutput(0, 1, text.encode(), time.time()))

    def write_and_fail(self, *output: bytes) -> None:
        """The step prints lines and fails, and the run with it."""
        for data in output:
            self._writer.emit(StepOutput(0, 1, data + b"\n", time.time()))
        self._writer.emit(StepFinished(0, "failed", 1.0, time.time(), "exit code: 1"))
        self._writer.close()
        result = RunResult(error="error: Dockerfile:1:1: RUN much: exit code: 1")
        self._service.claims.finish(self._claim, "failed", "RUN much: exit code: 1", result, store=self._writer.store)
        self._writer.end()

    def write_and_finish(self, last: int) -> None:
        self.write(1, last)
        self.finish()

    def finish(self) -> None:
        """The step and the run succeed."""
        self._writer.emit(StepFinished(0, "done", 1.0, time.time()))
        self._writer.close()
        self._service.claims.finish(self._claim, "succeeded", "", RunResult(), store=self._writer.store)
        self._writer.end()


def status_of(request: urllib.request.Request) -> int:
    """What a web process answers, be it an error."""
    try:
        with urllib.request.urlopen(request, timeout=stretched(20)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
