"""The steps of a plan as BuildKit's provenance has them: LLB operations in JSON.

Spec: moby/buildkit, solver/pb/ops.proto. Values of secrets are in no plan; only the names of their mounts are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from builder.graph.mounts import BindMount, CacheMount, RunMount, SecretMount, SshMount
from builder.graph.vertices import BaseOp, CopyOp, GitOp, HttpOp, Plan, RunOp, Vertex, WorkdirOp
from builder.remotes.giturls import redacted
from core.digests import Digest

if TYPE_CHECKING:
    from builder.attesting.invocation import BaseImage


class Steps:
    """Numbers the vertices of a plan from ``step0`` up. A vertex comes after those that it builds on."""

    def __init__(self, plan: Plan, images: Sequence[BaseImage]) -> None:
        self._images = {image.image_id: image for image in images}
        self._vertices = list(plan.vertices())
        self._ids = {vertex: f"step{number}" for number, vertex in enumerate(self._vertices)}

    def config(self) -> dict[str, Any]:
        """``buildConfig``."""
        steps = [self._step(vertex) for vertex in self._vertices]
        mapping = {str(Digest.of(msgspec.json.encode(step))): step["id"] for step in steps}
        return {"llbDefinition": steps, "digestMapping": dict(sorted(mapping.items()))}

    def locations(self) -> dict[str, Any]:
        """Where in the Dockerfile each step stands."""
        places: dict[str, Any] = {}
        for vertex, step in self._ids.items():
            lines = vertex.lines
            ranges = [{"start": {"line": lines.first}, "end": {"line": lines.last}}]
            places[step] = {"locations": [{"ranges": ranges}]} if lines.first else {}
        return places

    def _step(self, vertex: Vertex) -> dict[str, Any]:
        below = [vertex.input] if vertex.input is not None else []
        inputs = [f"{self._ids[each]}:0" for each in (*below, *vertex.sources)]
        step: dict[str, Any] = {"id": self._ids[vertex], "op": {"Op": self._op(vertex)}}
        return {**step, "inputs": inputs} if inputs else step

    def _op(self, vertex: Vertex) -> dict[str, Any]:
        op = vertex.op
        if isinstance(op, BaseOp):
            image = self._images.get(op.image)
            name = op.image if image is None or image.name is None else f"{image.name}@{image.digest}"
            return {"source": {"identifier": f"docker-image://{name}"}}
        if isinstance(op, HttpOp):
            return {"source": {"identifier": redacted(op.url)}}
        if isinstance(op, GitOp):
            return {"source": {"identifier": f"git://{redacted(op.reference.remote.url)}#{op.reference.ref}"}}
        if isinstance(op, RunOp):
            return {"exec": _exec(op, first_source=int(vertex.input is not None))}
        if isinstance(op, WorkdirOp):
            return {"file": {"actions": [{"Action": {"mkdir": {"path": op.path, "mode": 0o755, "makeParents": True}}}]}}
        return {"file": {"actions": _copies(op)}}


def _exec(op: RunOp, *, first_source: int) -> dict[str, Any]:
    meta: dict[str, Any] = {"args": list(op.args), "env": [f"{name}={value}" for name, value in op.env], "cwd": op.cwd}
    if op.user:
        meta["user"] = op.user
    document: dict[str, Any] = {
        "meta": meta,
        "mounts": [{"input": 0, "dest": "/", "output": 0}, *(_mount(mount, first_source) for mount in op.mounts)],
    }
    networks = {"host": 1, "none": 2}
    if op.network in networks:
        document["network"] = networks[op.network]
    return document


def _mount(mount: RunMount, first_source: int) -> dict[str, Any]:
    """A mount; its input counts from the step's own filesystem."""
    if isinstance(mount, BindMount):
        return {
            "input": mount.source + first_source,
            "dest": mount.target,
            "selector": mount.path,
            "readonly": mount.readonly,
        }
    if isinstance(mount, CacheMount):
        return {"dest": mount.target, "mountType": 3, "cacheOpt": {"ID": mount.id, "sharing": mount.sharing}}
    if isinstance(mount, SecretMount):
        secret = {"ID": mount.id, "optional": not mount.required}
        return {"dest": mount.target or "", "mountType": 1, "secretOpt": secret}
    if isinstance(mount, SshMount):
        return {"dest": mount.target, "mountType": 2, "SSHOpt": {"ID": mount.id, "optional": not mount.required}}
    return {"dest": mount.target, "mountType": 4, "TmpfsOpt": {"size": mount.size_bytes}}


def _copies(op: CopyOp) -> list[dict[str, Any]]:
    actions = []
    for part in op.parts:
        spec = part.spec
        for source in (*spec.sources, *(f"<<{name}" for name, _ in spec.heredocs)):
            copy: dict[str, Any] = {"src": source, "dest": spec.destination}
            if spec.chown:
                copy["owner"] = spec.chown
            if spec.chmod:
                copy["mode"] = spec.chmod
            actions.append({"Action": {"copy": copy}})
    return actions
