"""One solve: its files come from the client, the builder builds, and what is made goes where it was asked for."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

from builder.build import BuildTools, build
from builder.contexts.context import MAX_DOCKERFILE_BYTES, Context
from builder.contexts.dockerfiles import parse_ignore_patterns, require_dockerfile
from builder.contexts.keys import context_key
from builder.contexts.named import open_named_context
from builder.contexts.opening import BuildSource, open_source
from builder.contexts.remote import is_remote
from builder.copying.contextfiles import ContextFiles
from builder.errors import stop_when
from builder.frontend.outline import outline
from builder.frontend.parsing import parse_remembered
from builder.recall import recall
from builder.remotes.access import Remote, SourceAccess
from builder.request.request import BuildRequest
from containers.launcher import Launcher
from core.cancellation import asking
from core.platforms import Platform
from core.settings import Settings
from dockerapi import imagedocs
from dockerapi.buildkit.caches import ClientCaches
from dockerapi.buildkit.keeping import Place, place_for
from dockerapi.buildkit.progress import Progress
from dockerapi.buildkit.receiving import receive
from dockerapi.buildkit.sending import send_directory, send_file
from dockerapi.buildkit.sessions import Session
from dockerapi.buildkit.wanted import Attributes, Export
from dockerapi.errors import not_done
from dockerapi.imagedocs import client_config
from registry.client import Client

if TYPE_CHECKING:
    from builder.bases import Connect
    from builder.contexts.kinds import NamedContext
    from builder.request.cache import CacheFrom, CacheTo
    from builder.result import BuildResult, RecalledResult
    from engine.engine import Engine
    from images.store import Store

_CONTEXT, _DOCKERFILE, _IGNORE = "context", "dockerfile", ".dockerignore"
_UPLOADED: Final = "buildkit-session"
_GIT_SECRETS: Final = ("GIT_AUTH_TOKEN", "GIT_AUTH_HEADER")
_DEFAULT_AGENT: Final = "default"


class Solve(NamedTuple):
    """What a build works with.

    engine, settings: of the caller, of this process.
    session: the client's services.
    progress: what the client follows.
    cancelled: ends the build once it is set.
    """

    engine: Engine
    settings: Settings
    session: Session
    progress: Progress
    cancelled: threading.Event


class Plan(NamedTuple):
    """What is built, and where it goes."""

    attributes: Attributes
    exports: list[Export]
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()


def solve(tools: Solve, plan: Plan) -> dict[str, str]:
    """Build it, and put it out. The exporters' answers. Raises ShiplapErrors."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(asking(stop_when(tools.cancelled.is_set)))
        store = stack.enter_context(imagedocs.opened(tools.engine))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=store.tmp, prefix="solve-")))
        request = requested(tools, plan, store, scratch, stack)
        caches = ClientCaches(tools.session)
        result = _built(tools, request, store, caches)
        _send(tools, plan.exports, request)
    answers = {"containerimage.config.digest": str(result.config_digest), **caches.answers()}
    if result.root is not None:
        root = {"mediaType": result.root.media_type, "digest": str(result.root.digest), "size": result.root.size}
        answers["containerimage.digest"] = str(result.root.digest)
        answers["containerimage.descriptor"] = base64.b64encode(json.dumps(root).encode()).decode()
    if result.names:
        answers["image.name"] = ",".join(str(name) for name in result.names)
    for name in result.names:
        imagedocs.note(tools.engine, "tag", str(result.config_digest), name.familiar)
    return answers


def requested(tools: Solve, plan: Plan, store: Store, scratch: Path, stack: contextlib.ExitStack) -> BuildRequest:
    """The builder's request, with the client's files, secrets and agents. ``stack`` closes what it opens."""
    attributes, session = plan.attributes, tools.session
    secrets: dict[str, bytes] = {}
    agents = {}
    if attributes.context:
        secrets = _secrets(session, _GIT_SECRETS)
        if "ssh://" in attributes.context or "@" in attributes.context:
            agents = _agents(session, [_DEFAULT_AGENT])
    access = SourceAccess(ssh=agents)
    source = _source(tools, attributes, scratch, stack, Remote(access, secrets, stopped=tools.cancelled.is_set))
    stack.callback(source.context.close)
    members = attributes.request
    platforms = members["platforms"] or (Platform.host(),)
    taken = outline(
        parse_remembered(source.dockerfile, source.dockerfile_name, store),
        members["target"],
        members["build_args"],
        platforms[0],
    )
    names = [needed.name for needed in taken.secrets]
    if b"ADD" in source.dockerfile.upper() or attributes.named:
        names += _GIT_SECRETS
    secrets |= _secrets(session, [name for name in names if name not in secrets])
    agents |= _agents(session, [needed.name for needed in taken.ssh if needed.name not in agents])
    return BuildRequest(
        source.dockerfile,
        source.dockerfile_name,
        source.context,
        outputs=tuple(_placed(export, scratch) for export in plan.exports),
        secrets=secrets,
        access=SourceAccess(ssh=agents),
        named_contexts=_named(tools, attributes.named, store, platforms, stack),
        cache_from=plan.cache_from,
        cache_to=plan.cache_to,
        **members,
    )


def definition(tools: Solve, plan: Plan, scratch: Path, stack: contextlib.ExitStack) -> BuildRequest:
    """A request of which only the Dockerfile is there: for questions about it. ``stack`` closes what it opens."""
    attributes = plan.attributes
    if attributes.context:
        source = _source(tools, attributes, scratch, stack, Remote(stopped=tools.cancelled.is_set))
    else:
        name, dockerfile, _ = _dockerfile(tools, attributes.filename, scratch)
        source = BuildSource(dockerfile, name, Context.empty(scratch))
    stack.callback(source.context.close)
    return BuildRequest(source.dockerfile, source.dockerfile_name, source.context, **attributes.request)


def _source(
    tools: Solve, attributes: Attributes, scratch: Path, stack: contextlib.ExitStack, remote: Remote
) -> BuildSource:
    """The Dockerfile and the context. Raises ShiplapErrors."""
    where = attributes.context
    if where:
        url = urlsplit(where)
        if url.hostname == _UPLOADED:
            with tools.progress.internal("[internal] load remote build context"):
                spooled = stack.enter_context(tempfile.TemporaryFile(dir=scratch))  # noqa: SIM115 - it is given to ``stack``
                tools.session.upload(url.path, url.netloc, spooled)
                spooled.seek(0)
                return open_source("-", attributes.filename, stdin=spooled, scratch=scratch)
        if not is_remote(where) or where.startswith("file:"):
            raise not_done(f"context {where[:200]}: a directory of the client's, a URL or a repository is")
        with tools.progress.internal("[internal] load remote build context"):
            return open_source(where, attributes.filename, stdin=io.BytesIO(), scratch=scratch, remote=remote)
    found, dockerfile, ignore = _dockerfile(tools, attributes.filename, scratch)
    if ignore is None:
        ignore = _ignore_file(tools, _CONTEXT, scratch)
    context = _received(tools, _CONTEXT, ignore, scratch, stack)
    return BuildSource(dockerfile, found, context)


def _dockerfile(tools: Solve, name: str, scratch: Path) -> tuple[str, bytes, bytes | None]:
    """Name and text of the client's Dockerfile, and the ignore file beside it."""
    with tools.progress.internal(f"[internal] load build definition from {name}") as told:
        folder = scratch / "dockerfile"
        folder.mkdir()
        wanted = [name, f"{name}{_IGNORE}", *([name.lower()] if name == "Dockerfile" else ())]
        metadata = {"dir-name": [_DOCKERFILE], "followpaths": wanted}
        receive(tools.session, Place(str(folder)), metadata, lambda size: told("transferring dockerfile:", size))
        with Context.open_private(str(folder), name) as beside:
            found, dockerfile = require_dockerfile(beside, None if name == "Dockerfile" else name, "the client's files")
            ignore = beside.read(f"{found}{_IGNORE}")
    return found, dockerfile, ignore


def _ignore_file(tools: Solve, directory: str, scratch: Path) -> bytes | None:
    with tools.progress.internal(f"[internal] load {_IGNORE}") as told:
        folder = Path(tempfile.mkdtemp(dir=scratch, prefix="ignore-"))
        metadata = {"dir-name": [directory], "followpaths": [_IGNORE]}
        receive(tools.session, Place(str(folder)), metadata, lambda size: told(f"transferring {directory}:", size))
        with Context.open_private(str(folder), directory) as found:
            return found.read(_IGNORE, limit_bytes=MAX_DOCKERFILE_BYTES)


def _received(
    tools: Solve, directory: str, ignore: bytes | None, scratch: Path, stack: contextlib.ExitStack
) -> Context:
    """A directory of the client's, without what its ignore file names. ``stack`` gives its place back."""
    patterns = None if ignore is None else parse_ignore_patterns(ignore, _IGNORE)
    place = stack.enter_context(place_for(tools.engine.places.root, scratch, tools.session.key, directory))
    metadata = {"dir-name": [directory]}
    if patterns is not None:
        metadata["exclude-patterns"] = list(patterns.texts)
    with tools.progress.internal(
        "[internal] load build context" if directory == _CONTEXT else f"[context {directory}]"
    ) as told:
        receive(tools.session, place, metadata, lambda size: told("transferring context:", size))
    opened = Context.open_directory(place.path) if place.is_kept else Context.open_private(place.path, directory)
    opened.name = directory
    return opened.with_ignore(patterns)


def _named(
    tools: Solve,
    named: Mapping[str, str],
    store: Store,
    platforms: tuple[Platform, ...],
    stack: contextlib.ExitStack,
) -> dict[str, NamedContext]:
    found: dict[str, NamedContext] = {}
    for name, value in named.items():
        scheme, _, directory = value.partition(":")
        if scheme == "local":
            scratch = Path(tempfile.mkdtemp(dir=store.tmp, prefix="named-"))
            stack.callback(shutil.rmtree, scratch, ignore_errors=True)
            ignore = _ignore_file(tools, directory, scratch)
            context = _received(tools, directory, ignore, scratch, stack)
            stack.callback(context.close)
            found[context_key(name)] = context
        elif value.startswith("docker-image://") or (is_remote(value) and not value.startswith("file:")):
            # Nothing else: a path would be one of this host's.
            found[context_key(name)] = open_named_context(value, store, platforms)
        else:
            raise not_done(f"context {name}={value[:200]}: a directory, docker-image://, a URL or a repository is done")
    return found


def _secrets(session: Session, names: list[str] | tuple[str, ...]) -> dict[str, bytes]:
    found = {name: session.secret(name) for name in dict.fromkeys(names)}
    return {name: value for name, value in found.items() if value is not None}


def _agents(session: Session, names: list[str]) -> dict[str, Any]:
    found = {name: session.agent(name) for name in dict.fromkeys(names)}
    return {name: agent for name, agent in found.items() if agent is not None}


def connecting(tools: Solve) -> Connect:
    """What opens registry clients for a build, with the credentials of its client."""
    config = client_config(tools.engine)

    def connect() -> Client:
        return Client(config, credentials=tools.session.credentials, cancelled=tools.cancelled)

    return connect


def _built(tools: Solve, request: BuildRequest, store: Store, caches: ClientCaches) -> BuildResult | RecalledResult:
    files = ContextFiles(request, store)
    recalled = recall(request, store, tools.progress, files)
    if recalled is not None:
        return recalled
    settings = tools.settings
    with Launcher(store.tmp, denied_networks=settings.denied_networks, uplink=settings.uplink) as launcher:
        return build(
            request,
            BuildTools(
                store,
                launcher,
                monitor=tools.progress,
                cancelled=tools.cancelled,
                connect=connecting(tools),
                cache_max=settings.cache_max,
                solved=launcher.retire,
                files=files,
                cache_directories=caches,
            ),
        )


def _placed(export: Export, scratch: Path) -> Any:
    """The output, with a place of ours where it goes to the client."""
    return export.output._replace(dest=str(_place(export, scratch))) if export.is_sent else export.output


def _place(export: Export, scratch: Path) -> Path:
    return scratch / f"output-{export.number}"


def _send(tools: Solve, exports: list[Export], request: BuildRequest) -> None:
    for export, output in zip(exports, request.outputs, strict=True):
        if export.is_sent:
            with tools.progress.internal("sending tarball" if output.type != "local" else "copying files"):
                send = send_directory if output.type == "local" else send_file
                send(tools.session, export.number, Path(output.dest))
