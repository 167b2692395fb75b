"""Builds, as the classic builder does them: a tar of the context comes in, lines of JSON go out.

What the request has and Shiplap's builder does otherwise (intermediate containers, images of steps) needs nothing
here. What would change the result and is not done is refused by name.
"""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import flask

from core.events import BuildPlanned, Event, StepFinished, StepInfo, StepOutput, StepStarted, Warned
from core.files import storage_errors
from core.references import Reference
from core.settings import Settings
from dockerapi import answering, asking, buildcache, handover, imagedocs
from dockerapi.endpoints.transfers import credentials_of_config
from dockerapi.errors import ApiError, bad, not_done
from dockerapi.imagedocs import client_config
from dockerapi.lines import Lines, streamed
from registry.client import Client

if TYPE_CHECKING:
    from builder.bases import Connect
    from builder.request.request import BuildRequest
    from builder.result import BuildResult
    from images.store import Store

bp = flask.Blueprint("builds", __name__)

_LIMITS: Final = "limits of steps are not done over the API"
_REFUSED: Final[Mapping[str, str]] = {
    "squash": "squash is not done: several stages keep an image small",
    **dict.fromkeys(
        ("memory", "memswap", "cpushares", "cpusetcpus", "cpusetmems", "cpuperiod", "cpuquota", "ulimits"), _LIMITS
    ),
    "shmsize": _LIMITS,
    "cgroupparent": "control groups are made where this engine's are",
    "isolation": "it is for Windows",
    "outputs": "outputs are BuildKit's",
    "securityopt": "a step's restrictions are not loosened",
}
"""Parameters, and why one that says something is refused."""

_NOTHING: Final = ("", "0", "null", "{}", "[]", "false", "default")
_NETWORKS: Final[Mapping[str, Any]] = {"": "default", "default": "default", "bridge": "default", "none": "none"}
_SHORT: Final = 12
_MOST_CONTEXT: Final = 64 << 30
_PIECE: Final = 256 << 10


@bp.post("/build")
def build() -> flask.Response:
    """Build an image of the tar in the body, or of what is at a URL."""
    for name, why in _REFUSED.items():
        if asking.text(name) not in _NOTHING:
            raise not_done(f"{name}: {why}")
    if asking.text("version") == "2":
        raise not_done("version 2 is of docker before 23: install buildx, or DOCKER_BUILDKIT=0 docker build")
    network = _NETWORKS.get(asking.text("networkmode"))
    if network is None:
        raise not_done(f"networkmode {asking.text('networkmode')}: default and none are done")
    engine, names, quiet = asking.engine(), _names(), asking.flag("q")
    asked: dict[str, Any] = {
        "target": asking.text("target"),
        "build_args": _pairs("buildargs"),
        "labels": _pairs("labels"),
        "no_cache": asking.flag("nocache"),
        "pull": asking.flag("pull"),
        "platforms": (platform,) if (platform := asking.platform()) else (),
        "network": network,
        "add_hosts": tuple(_host(text) for text in asking.texts("extrahosts")),
    }
    settings: Settings = flask.current_app.extensions["settings"]
    config, credentials = client_config(engine), credentials_of_config()
    file = asking.text("dockerfile") or None
    where = _remote()
    engine.places.make()
    spooled = _spooled(engine.places.root)  # read here, in the request's thread

    def work(lines: Lines) -> None:
        from builder.contexts.opening import open_source
        from builder.remotes.access import Remote
        from builder.request.output import Output
        from builder.request.request import BuildRequest

        with imagedocs.opened(engine) as store, spooled:
            remote = Remote(build_args=asked["build_args"], stopped=lines.cancelled.is_set)
            source = open_source(where or "-", file, stdin=spooled, scratch=store.tmp, remote=remote)
            with source.context:
                outputs = (Output("image", names=names),)
                request = BuildRequest(
                    source.dockerfile, source.dockerfile_name, source.context, outputs=outputs, **asked
                )

                def connect() -> Client:
                    return Client(config, credentials=credentials.get, cancelled=lines.cancelled)

                result = _built(request, store, settings, _Shown(lines, quiet=quiet), connect, lines.cancelled)
        identity = str(result.config_digest)
        for name in names:
            imagedocs.note(engine, "tag", identity, name.familiar)
        if quiet:
            lines.put({"stream": f"{identity}\n"})
            return
        lines.put({"aux": {"ID": identity}})
        lines.put({"stream": f"Successfully built {identity.partition(':')[2][:_SHORT]}\n"})
        for name in names:
            lines.put({"stream": f"Successfully tagged {name.familiar}\n"})

    return streamed(work)


@bp.post("/build/prune")
def prune() -> flask.Response:
    """Remove what the build cache has, and no image has."""
    most = _bytes("max-used-space") or _bytes("keep-storage")
    wanted = asking.filters() or {}
    unused_s = 0.0
    parts: list[tuple[str, str, str]] = []
    for name, values in wanted.items():
        texts = list(values) if isinstance(values, list | dict) else [str(values)]
        if name in ("until", "unused-for"):
            unused_s = max([unused_s, *(_age(text) for text in texts)])
        else:
            parts += [(name.lower(), "==", text) for text in texts]
    test = buildcache.passing(parts)
    bounds = buildcache.Bounds(asking.flag("all"), unused_s, most)
    with imagedocs.opened(asking.engine()) as store:
        removed = list(buildcache.pruned(store, bounds, test, handover.has_gone))
    freed = sum(item.size_bytes for item in removed if not item.shared)
    return answering.document({"CachesDeleted": [item.id for item in removed], "SpaceReclaimed": freed})


def _bytes(name: str) -> int:
    text = asking.text(name) or "0"
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise bad(f"{name} is in bytes, expected an integer, got {text[:100]!r}")
    return int(text)


def _age(text: str) -> float:
    """Seconds of a duration as Go writes it: 24h, 1h30m. Raises ApiError."""
    found = re.fullmatch(r"(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?", text, re.ASCII)
    if not text or found is None:
        raise bad(f'invalid filter: time: invalid duration "{text[:100]}"')
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(hours * 3600 + minutes * 60 + seconds)


def _built(
    request: BuildRequest,
    store: Store,
    settings: Settings,
    monitor: _Shown,
    connect: Connect,
    cancelled: threading.Event,
) -> BuildResult:
    """Build it, with a launcher of its own. Raises ShiplapErrors."""
    from builder.build import BuildTools
    from builder.build import build as run
    from containers.launcher import Launcher

    with Launcher(store.tmp, denied_networks=settings.denied_networks, uplink=settings.uplink) as launcher:
        tools = BuildTools(
            store,
            launcher,
            monitor=monitor,
            cancelled=cancelled,
            connect=connect,
            cache_max=settings.cache_max,
            solved=launcher.retire,
        )
        return run(request, tools)


class _Shown:
    """A build's events as the classic builder's lines. quiet: nothing but the result."""

    def __init__(self, lines: Lines, *, quiet: bool) -> None:
        self._lines = lines
        self._quiet = quiet
        self._steps: dict[int, StepInfo] = {}

    def emit(self, event: Event) -> None:
        if self._quiet:
            return
        if isinstance(event, BuildPlanned):
            self._steps |= {step.id: step for step in event.steps}
        elif isinstance(event, StepStarted):
            step = self._steps.get(event.id)
            if step is not None:
                self._say(f"Step {step.id + 1}/{len(self._steps)} : {step.name}\n")
        elif isinstance(event, StepOutput):
            self._say(event.data.decode(errors="replace"))
        elif isinstance(event, StepFinished) and event.outcome == "cached":
            step = self._steps.get(event.id)
            self._say(f" ---> Using cache: {step.name if step is not None else event.id}\n")
        elif isinstance(event, Warned):
            self._say(f"[Warning] {event.message}\n")

    def _say(self, text: str) -> None:
        self._lines.put({"stream": text})


def _spooled(scratch: Path) -> BinaryIO:
    """The request's body, in a file without a name. Raises ApiError, StorageFullError."""
    file = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 - whoever builds closes it
    left = _MOST_CONTEXT
    try:
        with storage_errors("the build context"):
            while data := flask.request.stream.read(_PIECE):
                left -= len(data)
                if left < 0:
                    raise ApiError(413, f"a build context of more than {_MOST_CONTEXT} bytes")
                file.write(data)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _remote() -> str:
    """The URL or the git repository that is the context; "" where the body is. Raises ApiError."""
    from builder.contexts.remote import is_remote

    where = asking.text("remote")
    if not where:
        return ""
    if where == "client-session":
        raise not_done(
            "remote=client-session is of docker before 23: install buildx, or DOCKER_BUILDKIT=0 docker build"
        )
    if not is_remote(where) or where.startswith("file:"):  # a path would be one of this host's
        raise bad(f"unable to prepare context: {where[:200]} is no URL and no repository")
    return where


def _names() -> tuple[Reference, ...]:
    return tuple(Reference.parse(text).with_default_tag() for text in asking.texts("t") if text)


def _pairs(name: str) -> dict[str, str]:
    """An object of texts in the query; a null is a variable that the client does not have."""
    text = asking.text(name)
    if not text:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad(f"invalid {name}: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(value, str | None) for value in found.values()):
        raise bad(f"invalid {name}: expected an object of texts")
    return {key: value for key, value in found.items() if value is not None}


def _host(text: str) -> tuple[str, str]:
    name, colon, address = text.partition(":")
    if not name or not colon or not address:
        raise bad(f"bad format for add-host: {text!r}")
    return name, address
