"""``build``: an image of the job's workspace, as ``shiplap build`` makes it."""

from __future__ import annotations

from typing import Final

from builder.build import BuildTools, build
from builder.request.attestations import Attestations, Provenance
from builder.request.request import BuildRequest, Output
from builder.result import BuildResult
from ci import limits
from ci.ends import JobOutcome
from ci.execution.contexts import opened_context
from ci.execution.ending import Ending
from ci.execution.image import build_secrets, plain
from ci.execution.reusing import may_see_secrets
from ci.execution.steps import Numbering
from ci.model import Build, Job
from ci.outcome import Given, JobTools
from ci.workspace.stack import Stack
from core.platforms import Platform
from core.references import Reference
from core.trust import Privacy

IMAGE: Final = "IMAGE"
DIGEST: Final = "DIGEST"
"""What each ``build`` exports."""


def build_image(
    name: str,
    job: Job,
    files: Stack,
    given: Given,
    tools: JobTools,
    numbering: Numbering,
    ending: Ending,
) -> JobOutcome:
    """Build, name and push.

    name: the job's in the run.
    files: the workspace, with what jobs before this one output.
    Raises JobFaultError, and what the builder and the publisher raise.
    """
    wanted = job.build
    assert wanted is not None, "a job of this kind has it"
    names = _names(wanted, tools)
    caches = tools.caches.read(("job", name), names) if tools.caches is not None else ()
    with opened_context(tools, files, str(wanted.context), str(wanted.file)) as opened:
        result = build(
            BuildRequest(
                opened.dockerfile,
                opened.name,
                opened.context,
                outputs=(Output("image", "", names),),
                target=str(wanted.target),
                build_args=plain(wanted.args),
                platforms=_platforms(job, wanted),
                network="none" if job.network == "none" else "default",
                secrets=build_secrets(wanted.secrets, given),
                access=tools.access,
                limits=limits.within(tools.limits, job.limits),
                domain=tools.domain,
                context_privacy=_privacy(given, tools),
                fingerprint=tools.fingerprint,
                attest=_attestations(wanted),
                lineage=f"{given.facts.get('SHIPLAP_PROJECT', '')} {name}",
                cache_from=caches,
            ),
            BuildTools(tools.store, tools.launcher, numbering, ending.event(), tools.connect),
        )
    if tools.caches is not None:
        tools.caches.leave(caches, result.cache.leaves(), names)
    pushed = tools.publisher.push(names, result) if tools.publisher is not None and wanted.push else ""
    return _outcome(names, result, pushed)


def _names(wanted: Build, tools: JobTools) -> tuple[Reference, ...]:
    tags = tuple(str(tag) for tag in wanted.tags)
    if tools.publisher is not None:
        return tools.publisher.names(tags)
    return tuple(Reference.parse(tag).with_default_tag() for tag in tags)


def _platforms(job: Job, wanted: Build) -> tuple[Platform, ...]:
    texts = wanted.platforms or ((job.platform,) if job.platform else ())
    return tuple(Platform.parse(str(text)) for text in texts)


def _privacy(given: Given, tools: JobTools) -> Privacy:
    """How far results may go that contain files of the workspace: what jobs with secrets output is the project's."""
    return max(tools.privacy, Privacy.PROJECT) if may_see_secrets(given, tools, {}) else tools.privacy


def _attestations(wanted: Build) -> Attestations:
    if wanted.provenance in ("", "false"):
        return Attestations(None, sbom=wanted.sbom)
    return Attestations(Provenance("max" if wanted.provenance == "max" else "min"), sbom=wanted.sbom)


def _outcome(names: tuple[Reference, ...], result: BuildResult, pushed: str) -> JobOutcome:
    """What later jobs get: the image, and its name with the digest, which means no other one tomorrow.

    pushed: the digest at the registry; empty: nothing was pushed, and the digest is that of the image here.
    """
    digest = pushed or str(result.manifest_digest)
    image = f"{names[0].familiar_name}@{digest}" if names else digest
    made = result.image.id if result.image is not None else result.config_digest
    return JobOutcome("succeeded", exports={IMAGE: image, DIGEST: digest}, image=str(made))
