"""SLSA provenance v1 of a build, with the fields that BuildKit's has.

Sources: slsa.dev/spec/v1.1/provenance; moby/buildkit/docs/attestations/slsa-definitions.md. The latter says what the
fields hold, so its URL is the build type. Decision 9 says what is different here.
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Iterable
from typing import Any, Final

from builder.attesting.invocation import Invocation
from builder.attesting.steps import Steps
from builder.graph.mounts import SecretMount, SshMount
from builder.graph.vertices import GitOp, HttpOp, Plan, RunOp
from builder.remotes.giturls import redacted
from builder.request.attestations import Provenance
from builder.request.request import BuildRequest
from core.platforms import Platform
from images.oci import format_time

PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
_BUILD_TYPE: Final = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_FRONTEND: Final = "dockerfile.v0"


def provenance(options: Provenance, build: Invocation, platform: Platform) -> dict[str, Any]:
    """The predicate about the image for ``platform``.

    With SOURCE_DATE_EPOCH the predicate omits the build's ID and times, so that it is as reproducible as the image.
    """
    everything = options.mode == "max"
    definition: dict[str, Any] = {
        "buildType": _BUILD_TYPE,
        "externalParameters": {
            "configSource": _config_source(build.request),
            "request": _request(build, everything=everything),
        },
        "internalParameters": {"builderPlatform": str(Platform.host())},
        "resolvedDependencies": _materials(build, platform),
    }
    metadata = _metadata(options, build)
    if everything:
        steps = Steps(build.plan, build.images)
        definition["internalParameters"]["buildConfig"] = steps.config()
        metadata["buildkit_metadata"]["source"] = {
            "locations": steps.locations(),
            "infos": [
                {
                    "filename": _file_name(build.request),
                    "language": "Dockerfile",
                    "data": base64.b64encode(build.request.dockerfile).decode(),
                }
            ],
        }
    return {
        "buildDefinition": definition,
        "runDetails": {"builder": {"id": options.builder_id}, "metadata": metadata},
    }


def _config_source(request: BuildRequest) -> dict[str, Any]:
    remote = {"uri": request.context.name} if _is_remote(request) else {}
    return {**remote, "path": _file_name(request)}


def _file_name(request: BuildRequest) -> str:
    """The Dockerfile's name, without where it is on this machine."""
    return "Dockerfile" if request.dockerfile_name == "-" else posixpath.basename(request.dockerfile_name)


def _request(build: Invocation, *, everything: bool) -> dict[str, Any]:
    """What was asked for; arguments, labels, and which secrets were used only with ``everything``."""
    request = build.request
    args = {"target": request.target} if request.target else {}
    if request.no_cache:
        args["no-cache"] = ""
    if request.network != "default":
        args["force-network-mode"] = request.network
    if everything:
        args |= {f"build-arg:{name}": value for name, value in request.build_args.items()}
        args |= {f"label:{name}": value for name, value in request.labels.items()}
    document: dict[str, Any] = {"frontend": _FRONTEND, "args": dict(sorted(args.items()))}
    if everything:
        mounts = [mount for op in _runs(build.plan) for mount in op.mounts]
        document["secrets"] = _used((m.id, m.required) for m in mounts if isinstance(m, SecretMount))
        document["ssh"] = _used((m.id, m.required) for m in mounts if isinstance(m, SshMount))
    if not _is_remote(request):
        document["locals"] = [{"name": "context"}, {"name": "dockerfile"}]
    return document


def _used(mounts: Iterable[tuple[str, bool]]) -> list[dict[str, Any]]:
    """Each ID once. An ID is optional unless some step requires it."""
    required: dict[str, bool] = {}
    for name, needed in mounts:
        required[name] = required.get(name, False) or needed
    return [{"id": name} if needed else {"id": name, "optional": True} for name, needed in sorted(required.items())]


def _materials(build: Invocation, platform: Platform) -> list[dict[str, Any]]:
    """Everything that came from elsewhere, with its digest. An index gives this platform's digest."""
    own = {image.name for image in build.images if image.platform == platform}
    images = [image for image in build.images if image.platform == platform or image.name not in own]
    materials = [{"uri": image.uri, "digest": {image.digest.algorithm: image.digest.hex}} for image in images]
    for op, pinned in build.fetched.items():
        algorithm, _, digest = pinned.rpartition(":")
        url = op.url if isinstance(op, HttpOp) else _git_url(op)
        kind = algorithm or ("sha256" if len(digest) == 64 else "sha1")
        materials.append({"uri": redacted(url), "digest": {kind: digest}})
    return materials


def _git_url(op: GitOp) -> str:
    reference = op.reference
    return reference.remote.url + (f"#{reference.ref}" if reference.ref else "")


def _metadata(options: Provenance, build: Invocation) -> dict[str, Any]:
    request = build.request
    networked = any(op.network != "none" for op in _runs(build.plan))
    complete = _is_remote(request)  # no digest pins the content of a local directory
    arguments = request.build_args or request.labels
    document: dict[str, Any] = {
        "buildkit_metadata": {},
        "buildkit_hermetic": complete and not networked,
        "buildkit_completeness": {
            "request": options.mode == "max" or not arguments,
            "resolvedDependencies": complete,
        },
        "buildkit_reproducible": options.reproducible,
    }
    if request.source_date_epoch is not None:
        return document
    times = {"startedOn": format_time(build.started_at), "finishedOn": format_time(build.finished_at)}
    return {"invocationId": build.id, **times, **document}


def _runs(plan: Plan) -> list[RunOp]:
    return [vertex.op for vertex in plan.vertices() if isinstance(vertex.op, RunOp)]


def _is_remote(request: BuildRequest) -> bool:
    from builder.contexts.remote import is_remote

    return is_remote(request.context.name)
