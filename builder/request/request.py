"""What one build is asked to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.contexts.context import Context
from builder.remotes.access import SourceAccess
from builder.request.attestations import Attestations
from builder.request.cache import CacheFrom, CacheTo
from builder.request.limits import StepLimits
from builder.request.output import Output
from core.platforms import Platform
from core.trust import HOST, Domain, Privacy

if TYPE_CHECKING:
    from builder.contexts.kinds import NamedContext
    from containers.spec import Network

__all__ = ["BuildRequest", "Output"]

GIVEN: Final = "given"
"""Stands for a secret in cache keys where its value does not count."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class BuildRequest(NamedTuple):
    """One build, as it was asked for.

    dockerfile_name: as the user wrote it, for messages.
    context: stays open until the build has ended.
    pull: ask the registry even for images that are in the store.
    secrets: content by ID, for RUN's mounts.
    withheld: by ID, why others are not given, for people; in no key.
    no_cache_stages: names of stages whose steps all run, whatever the cache has.
    lineage: the same for builds that are versions of one another; a miss is explained against the last one. Empty:
    builds of the same directory are versions.
    hold_failures: keep a RUN that fails in its StepFailedError; whoever catches the error may enter the step, and
    closes it.
    access: how URLs and git repositories are fetched, and the SSH agents for RUN's mounts.
    named_contexts: by ``builder.contexts.keys.context_key``; their directories stay open as long as ``context``.
    allow: entitlements: ``network.host``, ``security.insecure``.
    limits: what each RUN may use.
    platforms: what to build for; none: for this machine.
    attest: the attestations to make of the images.
    domain: for whom it is built, and so whose results it may use.
    context_privacy: how far results may go that contain files of ``context``.
    own_secrets: the ``secrets`` that came with the request; the others are stored for the project.
    fingerprint: replaces a secret's value in cache keys, so that nobody can guess it; None: the key only says that
    there is a secret.
    default_labels: set unless the Dockerfile or ``labels`` set them; in no step's key. An empty
    org.opencontainers.image.created among them becomes the image's own creation time.
    shared_cache_mounts: IDs of cache mounts that all builds share, except those of forks.
    """

    dockerfile: bytes
    dockerfile_name: str
    context: Context
    outputs: tuple[Output, ...] = (Output("image"),)
    target: str = ""
    build_args: Mapping[str, str] = _NOTHING
    labels: Mapping[str, str] = _NOTHING
    no_cache: bool = False
    pull: bool = False
    platforms: tuple[Platform, ...] = ()
    network: Network = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()
    source_date_epoch: int | None = None
    secrets: Mapping[str, bytes] = _NOTHING
    withheld: Mapping[str, str] = _NOTHING
    access: SourceAccess = SourceAccess()
    named_contexts: Mapping[str, NamedContext] = _NOTHING
    allow: frozenset[str] = frozenset()
    limits: StepLimits = StepLimits()
    no_cache_stages: tuple[str, ...] = ()
    cache_from: tuple[CacheFrom, ...] = ()
    cache_to: tuple[CacheTo, ...] = ()
    lineage: str = ""
    hold_failures: bool = False
    attest: Attestations = Attestations()
    domain: Domain = HOST
    context_privacy: Privacy = Privacy.COMMON
    own_secrets: frozenset[str] = frozenset()
    fingerprint: Callable[[bytes], str] | None = None
    shared_cache_mounts: frozenset[str] = frozenset()
    default_labels: Mapping[str, str] = _NOTHING

    @property
    def platform(self) -> Platform:
        """The first platform, which is the only one in a request for one platform."""
        return self.platforms[0] if self.platforms else Platform.host()

    @property
    def will_run(self) -> bool:
        """Whether a RUN is most likely executed, guessed before parsing: there is one, and the cache is not used."""
        return self.no_cache and b"RUN" in self.dockerfile

    @property
    def reads_layers(self) -> bool:
        """Whether the build later reads the layers that it wrote: it packs them, or looks into them."""
        kept = all(output == Output("image", names=output.names) for output in self.outputs)
        several = len(self.platforms) > 1 or self.source_date_epoch is not None
        return not kept or several or bool(self.cache_to or self.attest)

    def counted(self, value: bytes) -> str:
        """The stand-in, in a step's key, for a value that takes part in the step."""
        return GIVEN if self.fingerprint is None else self.fingerprint(value)

    @property
    def given(self) -> list[str]:
        """Everything that may take part in steps without being in their operations. Builds that differ in it differ."""
        secrets = [f"secret {name} {self.counted(value)}" for name, value in sorted(self.secrets.items())]
        return [*secrets, *(f"ssh {name}" for name in sorted(self.access.ssh))]

    @property
    def context_name(self) -> str:
        """The name that contexts share of which each takes the place of the last one; empty: it is never seen again.

        A run's context is in a directory of the run's own: its domain and what it builds tell it from others'.
        """
        if self.domain.is_host:
            return self.context.key
        return f"{self.domain.scope}\0{self.lineage}\0{self.dockerfile_name}"

    @property
    def lineage_name(self) -> str:
        """The name that builds of the same thing share; empty for a context that is never seen again.

        It contains the project. Builds of a fork's pull request have a name of their own.
        """
        name = self.lineage or (self.context.key if self.domain.is_host else self.domain.project_scope)
        return f"{name}\0{self.dockerfile_name}\0{self.platform}" if name else ""
