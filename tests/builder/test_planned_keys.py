"""A plan of nearly all that a Dockerfile may say, word by word as it was recorded: steps, keys, what reads from what.

A key that changes makes every cache of every user worth nothing, so ``planned/*.txt`` are recorded anew only together
with ``_KEY_FORMAT`` of ``builder/graph/vertices.py``, or for a step that this Dockerfile did not have before. Steps
that have no key of their own, bases and what is fetched, are recorded as they are.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.bases import NewStep
from builder.contexts.context import Context
from builder.contexts.keys import context_key
from builder.contexts.kinds import NamedImage
from builder.frontend.stages import Planned, plan
from builder.graph.vertices import CopyOp, RunOp, Vertex, WorkdirOp, op_digest
from builder.request.attestations import Attestations
from builder.request.request import BuildRequest
from core.digests import DiffID, Digest
from core.platforms import Platform
from dockerfile_grammar import parse
from images.oci import ImageConfig, encode

HERE = Path(__file__).parent / "planned"
AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
CASES: dict[str, dict[str, Any]] = {
    "one-platform": {},
    "two-platforms": {"platforms": (AMD64, ARM64), "build_args": {"LEVEL": "2", "LOST": "x"}},
    "with-options": {
        "target": "last",
        "build_args": {
            "HTTPS_PROXY": "http://proxy",
            "BUILDKIT_CACHE_MOUNT_NS": "ns",
            "BUILDKIT_SANDBOX_HOSTNAME": "h",
        },
        "labels": {"k": "given"},
        "default_labels": {"k": "default", "org.opencontainers.image.created": ""},
        "network": "none",
        "add_hosts": (("db", "10.0.0.1"),),
        "source_date_epoch": 7,
        "attest": Attestations(sbom=True),
    },
}


def resolve(name: str, platform: Platform | None, new_step: NewStep | None) -> Any:
    assert name in ("base", "other", "elsewhere", "registry/kept"), name
    if new_step is not None:
        new_step(f"pull {name}")
    config = ImageConfig.for_platform(platform or AMD64)
    return SimpleNamespace(id=Digest.of(name.encode()), config=config, diff_ids=(DiffID.of(name.encode()),))


def described(result: Planned) -> str:
    """All of a plan, a line for each step, vertex and entry of a history. Vertices by the numbers of their steps."""
    lines = [f"step {step.id} of {step.stage!r}, line {step.line}: {step.name}" for step in result.plan.steps]
    for chain in result.plan.chains:
        lines += ["", f"chain {chain.name}", *map(_vertex, chain.vertices)]
    for image in result.plan.images:
        scanned = [(name, vertex.step.id) for name, vertex in image.scanned]
        lines += ["", f"image for {image.platform}: {_number(image.result)}, {scanned=}, {image.dates_label=}"]
        lines += [encode(image.config).decode(), *(encode(entry).decode() for entry in image.history)]
    return "\n".join([*lines, "", f"unused arguments: {', '.join(result.unused_args)}", ""])


def _vertex(vertex: Vertex) -> str:
    op = vertex.op
    key = op_digest(op) if isinstance(op, RunOp | CopyOp | WorkdirOp) else repr(op)
    parts = [(part.source, part.context) for part in op.parts] if isinstance(op, CopyOp) else []
    place = f"{vertex.lines.first}-{vertex.lines.last}"
    sources = [source.step.id for source in vertex.sources]
    return f"{vertex.step.id} on {_number(vertex.input)}, lines {place}, {sources=}, {parts=}: {key}"


def _number(vertex: Vertex | None) -> int | None:
    return None if vertex is None else vertex.step.id


def planned(tmp_path: Path, **options: Any) -> Planned:
    data = (HERE / "Dockerfile").read_bytes()
    (tmp_path / "docs").mkdir()
    with Context.open_directory(str(tmp_path)) as context, Context.open_directory(str(tmp_path / "docs")) as docs:
        named: dict[str, Any] = {"docs": docs, context_key("kept"): NamedImage("registry/kept")}
        members = {"platforms": (AMD64,), "named_contexts": named, **options}
        return plan(parse(data, "Dockerfile"), BuildRequest(data, "Dockerfile", context, **members), resolve)


@pytest.mark.parametrize("case", CASES)
def test_plan_is_as_recorded(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Platform, "host", lambda: AMD64)
    assert described(planned(tmp_path, **CASES[case])) == (HERE / f"{case}.txt").read_text("utf-8")
