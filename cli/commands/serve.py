"""``shiplap serve``."""

from __future__ import annotations

import contextlib
import functools
import logging
import logging.config
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from cli.errors import CommandError
from cli.service.lasting import lasting
from cli.service.supervisor import Child, Supervisor
from core.files import try_lock
from core.filesystems import require_fit
from core.listening import parse_listen, require_free
from core.memory import SERVICE_BYTES, memory_limit, planned
from core.notify import ServiceManager
from core.programs import Programs
from core.settings import ServiceSettings
from engine.places import Places

_DRAIN_S = 600.0
_HURRY_S = 10.0  # for runs to go back into the queue; less than 20 s together with the other processes' time
_START_S = 30.0
_ENGINE_S = 15.0
_WEB_S = 15.0
_MAX_SOCKET_PATH = 107  # bytes in sun_path, less the one that ends it: unix(7)
_PARTS: Final = ("web.__main__", "worker.__main__")
_PART_OF_ENGINE: Final = "dockerapi.__main__"
_NEEDED_LATER: Final = ("web.server", "worker.heart")  # by them; with what these import, it is nearly all
_log: Final = logging.getLogger(__name__)


@click.command("serve")
@click.option("--listen", metavar="HOST:PORT", default="127.0.0.1:8080", help="[default: 127.0.0.1:8080]")
@click.option("--concurrency", type=click.IntRange(1, 64), default=2, help="Runs at the same time.  [default: 2]")
@click.option("--engine", is_flag=True, help="Serve the Docker Engine API, too, as 'shiplap engine' does.")
@click.option(
    "--token-users", metavar="FILE", help="With --engine: lines NAME USER: whose tokens open it, and who of this host."
)
@click.pass_obj
def command(root: str | None, *, listen: str, concurrency: int, engine: bool, token_users: str | None) -> int:
    """Serve builds to a team: API, queue, worker, logs and registry.

    All of it is on one port. Redis is started and looked after, on a socket of its own, unless SHIPLAP_REDIS_URL names
    another. The database is SQLite unless SHIPLAP_DATABASE_URL names PostgreSQL. The parts start apart with 'shiplap
    web' and 'shiplap worker'.

    \b
    shiplap serve
    shiplap --host http://127.0.0.1:8080 build -t app .
    """
    from pipelines.database import migrate
    from pipelines.jsonlogs import configuration
    from pipelines.service import Service
    from pipelines.welcome import Welcome

    logging.config.dictConfig(configuration())
    settings = ServiceSettings.from_environ(root=root)
    manager = ServiceManager.from_environ()
    own_redis = not os.environ.get("SHIPLAP_REDIS_URL")
    address = parse_listen(listen)
    require_fit(str(settings.root))
    if engine and os.geteuid() != 0:
        raise CommandError("--engine is for root's service", hint="without root, start shiplap engine beside it")
    if token_users and not engine:
        raise CommandError("--token-users says who has an engine: --engine is missing")
    if token_users:
        _require_terms(token_users, listen, address[0])
    door = Places.of(settings.root).handed if token_users else None
    parts = [*_PARTS, _PART_OF_ENGINE] if engine else _PARTS
    programs = functools.partial(Programs, parts, _NEEDED_LATER)
    with _alone(settings.root), Supervisor(lambda: lasting(settings.root), programs) as supervisor:
        require_free(*address)
        planned(memory_limit(), concurrency, SERVICE_BYTES)  # with too little memory nothing is started
        migrate(settings)
        with Service.open(settings) as service:
            token_file = service.tokens.ensure_admin_file()
            first_link = service.links.create_first()
        environment = {"SHIPLAP_ROOT": str(settings.root)}
        if own_redis:
            supervisor.start(_redis(settings.root), timeout_s=_START_S)
        url_file = settings.root / "serve" / "url"
        url_file.unlink(missing_ok=True)
        shown = {} if settings.engine or not engine else {"SHIPLAP_ENGINE": f"unix://{Places.of(settings.root).api}"}
        web = Child(
            "the web process",
            ["--listen", listen, "--no-welcome", *([f"--engine-door={door}"] if door else [])],
            _WEB_S,
            url_file.exists,
            environment | shown,
            program="web.__main__",
        )
        supervisor.start(web, timeout_s=_START_S)
        if supervisor.ending:
            return 0
        url = url_file.read_text().strip()
        environment["SHIPLAP_REGISTRY"] = settings.registry or url.partition("//")[2]
        _forget_credentials(settings.root)
        worker = Child(
            "the worker",
            ["--concurrency", str(concurrency), "--reserved", str(SERVICE_BYTES)],
            _DRAIN_S,
            environment=environment,
            hurry_s=_HURRY_S,
            program="worker.__main__",
        )
        supervisor.start(worker, timeout_s=_START_S)
        if engine:
            terms = (
                [f"--tokens={url}", f"--token-users={token_users}", f"--handed={door}", "--insecure"] if door else []
            )
            supervisor.start(_engine(settings.root, environment, terms if door else []), timeout_s=_START_S)
        Welcome(url, settings.public_url or url, settings.root, token_file, first_link).say(sys.stdout)
        manager.ready()
        supervisor.run()
        manager.ending()
        _log.info("ending: runs that are being built may finish (once more to end at once)")
    return 0


def _require_terms(token_users: str, listen: str, host: str) -> None:
    """Raise ShiplapErrors for what the engine would not start with."""
    from core.proxies import parse_address
    from dockerapi.tcp.terms import users_of

    users_of(token_users)
    found = parse_address(host.strip("[]"))
    if host not in ("", "localhost") and (found is None or not (found.is_loopback or found.is_unspecified)):
        raise CommandError(
            f"--token-users with --listen {listen}: the engine asks this service whose a token is, on the loopback",
            hint="--listen 127.0.0.1:PORT, or 0.0.0.0:PORT for a proxy with TLS on another host",
        )


def _forget_credentials(root: Path) -> None:
    """Remove the administrator's token, which earlier versions left here for the worker."""
    directory = root / "serve" / "docker"
    (directory / "config.json").unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        directory.rmdir()


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    serve = root / "serve"
    serve.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = try_lock(serve / "serve.lock")
    if lock is None:
        raise CommandError(f"a service runs on {root} already", hint="--root DIR starts another one beside it")
    try:
        yield
    finally:
        os.close(lock)


def _redis(root: Path) -> Child:
    directory = root / "serve" / "redis"
    directory.mkdir(exist_ok=True, mode=0o700)
    path = directory / "redis.sock"
    length = len(os.fsencode(path))
    if length > _MAX_SOCKET_PATH:
        raise CommandError(
            f"{path} is too long for a socket's path: {length} bytes, and the kernel takes {_MAX_SOCKET_PATH}",
            hint="take a shorter --root, or run a Redis of your own and name it in SHIPLAP_REDIS_URL",
        )
    options = {
        "port": "0", "unixsocket": str(path), "unixsocketperm": "600", "dir": str(directory), "save": "",
        "appendonly": "no", "maxmemory-policy": "noeviction", "daemonize": "no",
        "logfile": str(directory / "redis.log"),
    }  # fmt: skip
    arguments = [argument for name, value in options.items() for argument in (f"--{name}", value)]
    return Child("Redis", ["redis-server", *arguments], 5.0, lambda: _answers(path))


def _engine(root: Path, environment: Mapping[str, str], terms: list[str]) -> Child:
    """The engine's API. What systemd passed to us, if anything, is not for it. terms: of clients at our port."""
    path = Places.of(root).api
    return Child(
        "the engine's API",
        ["--listen", f"unix://{path}", *terms],
        _ENGINE_S,
        lambda: _answers(path),
        environment,
        program=_PART_OF_ENGINE,
    )


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
