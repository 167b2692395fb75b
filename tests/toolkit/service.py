"""A service's parts for tests: Redis on a private socket, PostgreSQL on another, worker processes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import redis

from core.settings import ServiceSettings
from pipelines.model import ContextSource, Run
from pipelines.owning.policies import EVENTS, Policy
from pipelines.service import Service
from pipelines.sources.contexts import ContextEntry, Contexts
from tests.toolkit.bounds import eventually as eventually
from tests.toolkit.bounds import stretched
from tests.toolkit.host import adopting_orphans, children, wait_until_gone

_CHECKOUT = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 20.0

FOR_ALL: Final = Policy(("**",), EVENTS)
"""The policy of a secret that every run of its project gets, but for forks'."""


@dataclass
class RedisServer:
    """A Redis without files, and without TCP unless ``address`` says where. It can be killed, started, and emptied."""

    directory: Path
    address: tuple[str, int] | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.directory}/redis.sock"

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program, "redis-server is not installed: scripts/install-debian test"
        socket = self.directory / "redis.sock"
        host, port = self.address or ("127.0.0.1", 0)
        options = [
            "--bind",
            host,
            "--port",
            str(port),
            "--protected-mode",
            "no",
            "--unixsocket",
            str(socket),
            "--dir",
            str(self.directory),
            "--save",
            "",
        ]
        options += ["--appendonly", "no", "--maxmemory-policy", "noeviction"]
        with (self.directory / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([program, *options], stdout=log, stderr=log)
        eventually(self._answers, timeout_s=_START_TIMEOUT_S, why="redis-server answers")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def empty(self) -> None:
        with contextlib.closing(redis.Redis.from_url(self.url)) as client:
            client.flushall()

    def _answers(self) -> bool:
        with contextlib.closing(redis.Redis.from_url(self.url)) as client, contextlib.suppress(redis.ConnectionError):
            return bool(client.ping())
        return False


@contextlib.contextmanager
def redis_server(directory: Path, address: tuple[str, int] | None = None) -> Iterator[RedisServer]:
    """Redis below ``directory``, whose path must be short enough for a socket."""
    directory.mkdir(parents=True, exist_ok=True)
    server = RedisServer(directory, address)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@dataclass
class PostgresServer:
    """A PostgreSQL cluster on a private socket, as the user postgres. address: where it listens by TCP, too."""

    directory: Path
    binaries: Path
    address: str = ""

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.directory}"

    def control(self, *words: str) -> None:
        options = f"-c listen_addresses={self.address} -c unix_socket_directories={self.directory} -c fsync=off"
        options += " -c max_wal_size=64MB"
        subprocess.run(
            [self.binaries / "pg_ctl", "-D", self.directory / "data", "-l", self.directory / "log", "-w",
             "-o", options, *words],
            user="postgres", group="postgres", extra_groups=[], check=True, stdout=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    def restart(self) -> None:
        """As a crash does: connections break."""
        self.control("-m", "immediate", "restart")


@contextlib.contextmanager
def postgres_server(directory: Path, address: str = "") -> Iterator[PostgresServer]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert found, "postgresql is not installed: scripts/install-debian test"
    directory.mkdir(parents=True)
    shutil.chown(directory, "postgres", "postgres")
    server = PostgresServer(directory, found[-1], address)
    subprocess.run(
        [server.binaries / "initdb", "-D", directory / "data", "-A", "trust", "-E", "UTF8", "-N", "-U", "postgres"],
        user="postgres", group="postgres", extra_groups=[], check=True, stdout=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    if address:
        with (directory / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {address}/24 trust\n")
    server.control("start")
    try:
        yield server
    finally:
        server.control("-m", "immediate", "stop")


@dataclass
class WorkerProcess:
    """``python -m worker``."""

    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """SIGKILL, as the kernel does it when memory runs out."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Nothing of it goes on, as when a machine sleeps; what it runs goes on."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.killpg(self.process.pid, signal.SIGCONT)

    def stop(self, timeout_s: float = 30.0) -> int:
        """SIGTERM, and wait until it has drained."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(stretched(timeout_s))


@dataclass
class Workforce:
    """Starts workers for one service, and ends what is left of them."""

    settings: ServiceSettings
    directory: Path
    workers: list[WorkerProcess] = field(default_factory=list)

    def start(self, *options: str, environ: Mapping[str, str] | None = None) -> WorkerProcess:
        """Returns once the worker consumes."""
        name = f"worker-{len(self.workers) + 1}"
        log = self.directory / f"{name}.log"
        environment = {
            **os.environ,
            "SHIPLAP_ROOT": str(self.settings.root),
            "SHIPLAP_DATABASE_URL": self.settings.database_url,
            "SHIPLAP_REDIS_URL": self.settings.redis_url,
            "SHIPLAP_REGISTRY": self.settings.registry,
            **(environ or {}),
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "worker", "--name", name, *options],
                cwd=_CHECKOUT, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        worker = WorkerProcess(process, log)
        self.workers.append(worker)
        with Service.open(self.settings) as service:

            def consumes() -> bool:
                assert process.poll() is None, log.read_text()
                return any(info.name == name for info in service.workers.list())

            eventually(consumes, why=f"{name} consumes")
        return worker

    def end(self) -> None:
        """Kill them, and wait until all that they started has ended, too: it may still write below their root."""
        with adopting_orphans():
            known = set(children())
            for worker in self.workers:
                worker.kill()
            assert wait_until_gone(known) == {}


@contextlib.contextmanager
def workforce(settings: ServiceSettings, directory: Path) -> Iterator[Workforce]:
    force = Workforce(settings, directory)
    try:
        yield force
    finally:
        force.end()


def upload(contexts: Contexts, files: Mapping[str, str | bytes]) -> ContextSource:
    """A context of these files (of the top directory) on the server."""
    contents = {name: text if isinstance(text, bytes) else text.encode() for name, text in files.items()}
    digests = {name: "sha256:" + hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    entries = [
        ContextEntry(name, "file", 0o644, 1_700_000_000, len(data), digests[name]) for name, data in contents.items()
    ]
    context, missing = contexts.begin(entries)
    for name, digest in digests.items():
        if digest in missing:
            contexts.put_blob(digest, io.BytesIO(contents[name]))
    return ContextSource(context)


def finished(service: Service, number: int, *, timeout_s: float = 60.0) -> Run:
    """The run once it has ended."""
    eventually(lambda: service.runs.get(number).is_final, timeout_s=timeout_s, why=f"run {number} ends")
    return service.runs.get(number)


def numbers(lines: Sequence[tuple[int, bytes]]) -> list[int]:
    return [number for number, _ in lines]
