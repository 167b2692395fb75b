"""The image that a job runs in: pulled, built from the commit's files, or made by a job before it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from builder.bases import Resolver
from ci.errors import JobFaultError
from ci.execution.ending import Ending
from ci.execution.steps import Numbering
from ci.execution.variables import without_secret
from ci.model import Image as WantedImage
from ci.model import ImageBuild
from ci.outcome import Given, JobTools
from ci.workspace.stack import Stack
from core.cancellation import check
from core.digests import DiffID, Digest
from core.platforms import Platform
from core.trust import Privacy
from images.errors import ImageNotFoundError
from images.locks import try_named
from images.oci import ContainerConfig
from images.platforms import preferences
from images.summary import Image
from registry.errors import ResponseError, UnreachableError

_POLL_S: Final = 0.05


class JobImage(NamedTuple):
    """An image, as far as a container is made of it.

    Of a job's, its entrypoint, command, user and directory do not count.

    name: for messages.
    layers: base first, all of them in the store.
    env: its variables.
    config: what else it says of its containers; a service goes by it.
    foreign: its platform, when this machine cannot run it without an emulator.
    privacy: how far results may go that were made in it. Of what it was built from nothing is known here.
    """

    name: str
    id: Digest
    layers: tuple[DiffID, ...]
    env: tuple[tuple[str, str], ...]
    config: ContainerConfig = ContainerConfig()
    foreign: str = ""
    privacy: Privacy = Privacy.PROJECT

    @classmethod
    def of(cls, name: str, image: Image, privacy: Privacy = Privacy.PROJECT) -> JobImage:
        platform = image.config.platform
        foreign = "" if platform in preferences(Platform.host()) else str(platform)
        pairs = (item.partition("=")[::2] for item in image.config.config.env)
        return cls(name, image.id, tuple(image.diff_ids), tuple(pairs), image.config.config, foreign, privacy)


def image_of(
    image: WantedImage, platform: str, given: Given, tools: JobTools, numbering: Numbering, ending: Ending
) -> JobImage:
    """Find or make the image of a job or a service; its layers are in the store afterwards.

    platform: the job's; empty: this machine's.
    Raises JobFaultError where there is no such image; what a build, a registry or the store raises.
    """
    if image.build is not None:
        return _built(image.build, platform, given, tools, numbering, ending)
    if image.job:
        known = given.images.get(image.job)
        if known is None:
            raise JobFaultError(
                f'"{image.job}" has made no image in this run', hint="a job that may fail makes none when it does"
            )
        found = tools.store.images.get(Digest.parse(known))
        tools.store.holdings.admit(found.diff_ids)  # the run has made it
        return _whole(f"the image of {image.job}", found, tools, numbering)
    return _resolved(str(image.reference), platform, tools, numbering)


def _resolved(name: str, platform: str, tools: JobTools, numbering: Numbering) -> JobImage:
    """The image that a name means in this run: whoever asks first decides for all."""
    wanted = Platform.parse(platform) if platform else None
    key = f"{name} {wanted or ''}".strip()
    meant = tools.pins.get(key) if tools.pins is not None else None
    with Resolver(tools.store, numbering, wanted or Platform.host(), tools.connect, always=False) as resolver:
        try:
            found = resolver(meant or name, wanted, numbering.new_step)
            if tools.pins is not None and meant is None:
                pinned = resolver.lasting_name(name, wanted)
                meant = tools.pins.keep(key, pinned)
                if meant != pinned:
                    found = resolver(meant, wanted, numbering.new_step)
        except ImageNotFoundError as error:
            raise _not_found(error) from error
        _check_platform(name, found, wanted)
        resolver.bring_layers(found, numbering.new_step)
        privacy = resolver.privacy(str(found.id))
    return JobImage.of(name, found, privacy)


def _check_platform(name: str, found: Image, wanted: Platform | None) -> None:
    if wanted is not None and found.config.platform not in preferences(wanted):
        raise JobFaultError(
            f"{name} is for {found.config.platform}, and the job's `platform` is {wanted}",
            hint="name an image for that platform",
        )


def _not_found(error: ImageNotFoundError) -> Exception:
    """What to raise for an image that is not found: a registry that is away is no fault of the job's."""
    cause = error.__cause__
    if isinstance(cause, UnreachableError) or (isinstance(cause, ResponseError) and cause.retryable):
        return cause
    return JobFaultError(error.message, hint=error.hint or "is the name right, and may this run pull it?")


def _built(
    wanted: ImageBuild, platform: str, given: Given, tools: JobTools, numbering: Numbering, ending: Ending
) -> JobImage:
    """Build it from the commit's files. It gets no name; its steps come from the cache as those of any build."""
    # Most jobs' images are pulled: what plans and builds takes as long to load as a short job.
    from builder.build import BuildTools, build
    from builder.request.request import BuildRequest
    from ci.execution.contexts import opened_context

    what = ("image", *map(str, (wanted.context, wanted.file, wanted.target, platform)))
    caches = tools.caches.read(what, ()) if tools.caches is not None else ()
    with (
        _alone(f"{tools.domain.scope} {given.source} {wanted} {platform}", tools, numbering),
        opened_context(tools, Stack(tools.store, given.source), str(wanted.context), str(wanted.file)) as opened,
    ):
        result = build(
            BuildRequest(
                opened.dockerfile,
                opened.name,
                opened.context,
                target=str(wanted.target),
                build_args=plain(wanted.args),
                platforms=(Platform.parse(platform),) if platform else (),
                secrets=build_secrets(wanted.secrets, given),
                access=tools.access,
                limits=tools.limits,
                domain=tools.domain,
                context_privacy=tools.privacy,
                lineage=f"{given.facts.get('SHIPLAP_PROJECT', '')} image {wanted.context}",
                cache_from=caches,
                fingerprint=tools.fingerprint,
            ),
            BuildTools(tools.store, tools.launcher, numbering.after_these(), ending.event(), tools.connect),
        )
    assert result.image is not None, "the store is the output"
    if tools.caches is not None and result.executed:  # else it would be asked for nothing before each job
        tools.caches.leave(caches, result.cache.leaves(), ())
    return _whole(f"the image of {wanted.context}", result.image, tools, numbering)


@contextlib.contextmanager
def _alone(what: str, tools: JobTools, numbering: Numbering) -> Iterator[None]:
    """Let one job at a time build an image: to the others its cache is the answer. Of a matrix, all want the same."""
    lock = tools.store.root / "tmp" / ".images-of-jobs"
    held = try_named(lock, what)
    if held is None:
        with numbering.shown("[internal] wait for another job to build the same image"):
            while (held := try_named(lock, what)) is None:
                check()
                time.sleep(_POLL_S)
    try:
        yield
    finally:
        os.close(held)


def _whole(name: str, image: Image, tools: JobTools, numbering: Numbering) -> JobImage:
    """An image of the store, whose base may never have been needed until now."""
    with Resolver(tools.store, numbering, Platform.host(), tools.connect, always=False) as resolver:
        resolver.bring_layers(image, numbering.new_step)
    return JobImage.of(name, image)


def plain(args: Mapping[str, str]) -> dict[str, str]:
    """Build arguments without their places in the file."""
    return {str(name): str(value) for name, value in args.items()}


def build_secrets(names: tuple[str, ...], given: Given) -> Mapping[str, bytes]:
    """The secrets that a build's RUNs may mount. Raises JobFaultError when the run may not have one."""
    missing = next((name for name in names if name not in given.secrets), None)
    if missing is not None:
        raise without_secret("the build", missing, given)
    return {str(name): given.secrets[name] for name in names}
