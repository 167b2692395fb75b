"""moby.buildkit.v1.Control and moby.buildkit.v1.frontend.LLBBridge: the calls of a client, one method each.

A build of buildx is a Solve that waits. Within it the client asks by LLBBridge for what it wants, gets a reference, and
returns that. Then the Solve builds, with the exporters that it came with. LLB that clients make themselves is refused:
the Dockerfile is what is built.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from core.platforms import Platform
from core.release import VERSION
from core.settings import Settings
from dockerapi import buildcache, imagedocs
from dockerapi.buildkit import keeping, messages
from dockerapi.buildkit.builds import Build, Builds
from dockerapi.buildkit.rpc import Call, Code, Method, RpcError
from dockerapi.buildkit.sessions import Sessions
from dockerapi.buildkit.wanted import (
    FRONTEND,
    read_attributes,
    read_cache_exports,
    read_cache_imports,
    read_exports,
)

if TYPE_CHECKING:
    from dockerapi.buildkit.solving import Plan, Solve
    from engine.callers import Caller
    from engine.engine import Engine

_BUILD_ID: Final = "buildkit-controlapi-buildid"
_FRONTEND_CAPABILITIES: Final = ("solve.base", "return", "returnmap", "proto.refarray", "importcaches", "frontend.caps")
_BUILDER_CAPABILITIES: Final = ("exporter.multiple", "exporter.image.attestations")
CHANGING: Final = ("/moby.buildkit.v1.Control/Solve", "/moby.buildkit.v1.Control/Prune")
"""The methods that change something."""

_NO_LLB: Final = "LLB is not solved: Shiplap builds Dockerfiles, by the frontend dockerfile.v0"


class Services:
    """BuildKit's services, as they are served to one caller. engine: the caller's."""

    def __init__(self, engine: Engine, caller: Caller, settings: Settings, sessions: Sessions, builds: Builds) -> None:
        self._engine = engine
        self._caller = caller
        self._settings = settings
        self._sessions = sessions
        self._builds = builds
        control, bridge = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
        self.methods: dict[str, Method] = {
            f"{control}Solve": self._solve,
            f"{control}Status": self._status,
            f"{control}ListWorkers": self._list_workers,
            f"{control}Info": self._info,
            f"{control}DiskUsage": self._disk_usage,
            f"{control}Prune": self._prune,
            f"{bridge}Ping": self._ping,
            f"{bridge}Solve": self._bridge_solve,
            f"{bridge}Return": self._return,
        }

    def _solve(self, call: Call) -> None:
        request = call.one(messages.SolveRequest)
        attributes = [request.ExporterAttrs, *(each.Attrs for each in request.Exporters)]
        call.names = [name for each in attributes for name in each.get("name", "").split(",") if name]
        with self._builds.begun(self._caller, request.Ref, request.Session, call.cancelled) as build:
            call.send(messages.SolveResponse(ExporterResponse=self._solved(request, build)))

    def _solved(self, request: Any, build: Build) -> dict[str, str]:
        if request.Entitlements:
            raise RpcError(
                Code.PERMISSION_DENIED, f"{request.Entitlements[0]} is not given to builds over the API: shiplap build"
            )
        if request.Frontend or request.HasField("Definition"):
            asked = _Asked.of(request.Frontend, request.FrontendAttrs, request.Definition, request.Cache.Imports)
        else:
            ref = build.returned()
            if not ref:
                return {}  # it asked what there is, and builds nothing
            asked = build.asked[ref]
        from dockerapi.buildkit.solving import solve

        exporters = [(each.Type, each.Attrs) for each in request.Exporters]
        if not exporters and request.Exporter:
            exporters = [(request.Exporter, request.ExporterAttrs)]
        plan = asked.plan(exporters, request.Cache.Exports)
        tools = self._tools(build, build.cancelled)
        with self._builds.turn(self._caller, build.cancelled):
            return solve(tools, plan)

    def _tools(self, build: Build, cancelled: threading.Event) -> Solve:
        """What a build works with, once its session is there. Raises RpcError."""
        from dockerapi.buildkit.solving import Solve

        session = self._sessions.of(self._caller, build.session, cancelled)
        return Solve(self._engine, self._settings, session, build.progress, cancelled)

    def _status(self, call: Call) -> None:
        ref = call.one(messages.StatusRequest).Ref
        build = self._builds.of(self._caller, ref, call.cancelled)
        call.begin()
        with contextlib.closing(build.progress.follow(call.cancelled)) as told:
            for message in told:
                call.send(message)

    def _list_workers(self, call: Call) -> None:
        call.one(messages.ListWorkersRequest)
        call.send(messages.ListWorkersResponse(record=[self._worker()]))

    def _info(self, call: Call) -> None:
        call.one(messages.Empty)
        call.send(messages.InfoResponse(buildkitVersion=_RELEASE))

    def _worker(self) -> Any:
        """What builds. By a snapshotter buildx knows a store that has indexes, attestations and layouts."""
        host = Platform.host()
        return messages.Worker(
            ID=f"shiplap-{self._caller.uid}",
            Labels={f"org.mobyproject.buildkit.worker.{name}": "shiplap" for name in ("executor", "snapshotter")},
            platforms=[{"Architecture": host.architecture, "OS": host.os, "Variant": host.variant or ""}],
            BuildkitVersion=_RELEASE,
        )

    def _disk_usage(self, call: Call) -> None:
        wanted = _passing(call.one(messages.DiskUsageRequest))
        with imagedocs.opened(self._engine) as store:
            records = [_record(item) for item in store.cache_use.items(roughly=True) if wanted(item)]
        call.send(messages.DiskUsageResponse(record=records))

    def _prune(self, call: Call) -> None:
        request = call.one(messages.PruneRequest)
        wanted = _passing(request)
        most = request.maxUsedSpace or request.keepBytes
        bounds = buildcache.Bounds(request.all, request.keepDuration / 1e9, most)
        call.begin()
        with imagedocs.opened(self._engine) as store:
            for item in buildcache.pruned(store, bounds, wanted, call.cancelled.is_set):
                call.send(_record(item))
        if not (request.filter or request.keepDuration or most):
            freed = keeping.prune(self._engine.places.root, stopped=call.cancelled.is_set)
            if freed:
                call.send(messages.UsageRecord(ID="contexts", Size=freed, RecordType="source.local"))

    def _ping(self, call: Call) -> None:
        call.one(messages.Empty)
        call.send(
            messages.PongResponse(
                FrontendAPICaps=[{"ID": name, "Enabled": True} for name in _FRONTEND_CAPABILITIES],
                LLBCaps=[{"ID": name, "Enabled": True} for name in _BUILDER_CAPABILITIES],
                Workers=[self._worker()],
            )
        )

    def _bridge_solve(self, call: Call) -> None:
        request = call.one(messages.BridgeSolveRequest)
        asked = _Asked.of(request.Frontend, request.FrontendOpt, request.Definition, request.CacheImports)
        build = self._build(call)
        question = request.FrontendOpt.get("requestid", "")
        if question:
            from dockerapi.buildkit.answering import answered

            tools = self._tools(build, call.cancelled)
            with self._builds.turn(self._caller, call.cancelled):
                found = answered(tools, asked.attributes, question)
            call.send(messages.BridgeSolveResponse(result={"metadata": found}))
            return
        ref = build.remember(asked, request.ByteSize())
        answer = messages.BridgeSolveResponse()
        if request.allowResultArrayRef:
            answer.result.ref.id = ref
        elif request.allowResultReturn:
            answer.result.refDeprecated = ref
        else:
            answer.ref = ref
        call.send(answer)

    def _return(self, call: Call) -> None:
        request = call.one(messages.ReturnRequest)
        build = self._build(call)
        error = None
        if request.HasField("error"):
            error = RpcError(request.error.code, request.error.message)
        ref = request.result.ref.id or request.result.refDeprecated
        if len(request.result.refs.refs) > 1:
            error = RpcError(Code.UNIMPLEMENTED, "a result of several references is not done")
        for each in request.result.refs.refs.values():
            ref = ref or each.id
        if error is None and ref and ref not in build.asked:
            error = RpcError(Code.NOT_FOUND, f"no such result: {ref[:100]}")
        build.give(ref, error)
        call.send(messages.Empty())

    def _build(self, call: Call) -> Build:
        """The build that a call of the bridge is within."""
        return self._builds.of(self._caller, call.header(_BUILD_ID), call.cancelled)


class _Asked(NamedTuple):
    """A build of a Dockerfile, before it is known where its result goes."""

    attributes: Any
    cache_from: Any

    @classmethod
    def of(cls, frontend: str, attributes: Any, definition: Any, imports: Iterable[Any]) -> _Asked:
        """Raises ShiplapErrors."""
        if getattr(definition, "def"):
            raise RpcError(Code.UNIMPLEMENTED, _NO_LLB)
        if frontend != FRONTEND:
            raise RpcError(Code.UNIMPLEMENTED, f"the frontend {frontend[:100]!r} is not done: {FRONTEND} is")
        return cls(read_attributes(attributes), read_cache_imports(imports, attributes))

    def plan(self, exporters: Iterable[Any], cache_exports: Iterable[Any]) -> Plan:
        """Raises ShiplapErrors."""
        from dockerapi.buildkit.solving import Plan

        return Plan(self.attributes, read_exports(exporters), self.cache_from, read_cache_exports(cache_exports))


def _passing(request: Any) -> buildcache.Wanted:
    """The filters of ``buildx du`` and ``prune``. Raises ApiError."""
    return buildcache.passing(buildcache.parsed(part) for text in request.filter for part in text.split(",") if part)


_RELEASE: Final = {"package": "github.com/moby/buildkit", "version": "v0.13.0", "revision": f"shiplap-{VERSION}"}
"""Which of BuildKit's releases this speaks as: clients look at it to know what they may ask for."""


def _record(item: Any) -> Any:
    return messages.UsageRecord(
        ID=item.id,
        Mutable=item.type == "mount",
        InUse=item.in_use,
        Size=item.size_bytes,
        CreatedAt={"seconds": int(item.created_at)},
        LastUsedAt={"seconds": int(item.used_at)},
        Description=item.description.encode("utf-8", "replace").decode(),
        RecordType=buildcache.kind_of(item),
        Shared=item.shared,
    )
