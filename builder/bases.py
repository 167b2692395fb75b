"""From a name in FROM or ``--from`` to an image: the store's, else a registry's.

At first only the manifest and the config of a registry's image are fetched. A build that only appends to the image, or
finds all its steps in the cache, needs no more. Layers come when a step needs them, several at a time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from builder.errors import BuildCancelledError
from core.closing import Closing
from core.errors import InvalidReferenceError, ShiplapError
from core.events import BuildPlanned, Monitor, StepFinished, StepInfo, StepStarted
from core.platforms import Platform
from core.references import Reference
from core.trust import Privacy
from images.errors import ImageNotFoundError
from images.platforms import preferences
from images.store import Store
from images.summary import Image

if TYPE_CHECKING:
    from core.digests import DiffID, Digest
    from images.layers import Origin
    from registry.client import Client, TransferMonitor

Connect: TypeAlias = "Callable[[], Client]"
"""Opens a registry client. Called when the first image has to be pulled, so that other builds do not pay for it."""

NewStep: TypeAlias = Callable[[str], StepInfo]
"""Adds a step of this name to the steps of the build."""


class Mismatch(NamedTuple):
    """An image that was found for a platform other than the wanted one."""

    name: str
    found: Platform
    wanted: Platform


class Resolver(Closing):
    """Looks images up, each name once, and fetches their layers. A context manager, which closes its connections.

    connect: None where nothing may be pulled.
    always: ask the registry even for images that the store has (``--pull``).
    """

    def __init__(
        self, store: Store, monitor: Monitor, platform: Platform, connect: Connect | None, *, always: bool
    ) -> None:
        self._store = store
        self._monitor = monitor
        self._platform = platform
        self._connect = connect
        self._always = always
        self._client: Client | None = None
        self._lock = threading.Lock()  # steps that need layers run in threads
        self._new_step: NewStep
        self._found: dict[tuple[str, Platform], Image] = {}
        self._private: set[Digest] = set()
        self._pinned: dict[str, Reference] = {}  # what names of registries were found to mean
        self.mismatches: list[Mismatch] = []
        self._stack = contextlib.ExitStack()

    def __call__(self, name: str, platform: Platform | None, new_step: NewStep | None) -> Image:
        """Look an image up.

        platform: the platform that is named with the image; None: the build's own, but an image that is here will do
        whatever its platform.
        new_step: makes the step that shows a pull; None: no registry is asked.
        Raises ImageNotFoundError, InvalidReferenceError, and what a pull raises.
        """
        key = (name, platform or self._platform)
        if key not in self._found:
            self._found[key] = found = self._resolve(name, platform, new_step)
            wanted = platform or self._platform
            if found.config.platform not in preferences(wanted):
                self.mismatches.append(Mismatch(name, found.config.platform, wanted))
        return self._found[key]

    def found(self) -> list[tuple[str, Digest]]:
        """The names that were looked up, and the IDs of the images that they mean."""
        return [(name, image.id) for (name, _), image in self._found.items()]

    def lasting_name(self, name: str, platform: Platform | None) -> str:
        """Another name of an image that was looked up, which means the same tomorrow; the name itself where there is
        none: of images that the host's administrator gave.
        """
        if self._store.holdings.domain.is_host:
            return str(self._found[name, platform or self._platform].id)
        return str(self._pinned.get(str(Reference.parse(name)), name))

    def bring_layers(self, image: Image, new_step: NewStep) -> None:
        """Have all layers of an image in the store, now. new_step: makes the step that shows the transfer.

        Raises as ``fetch``, and MissingBlobError for a layer that nobody is known to have.
        """
        self._new_step = new_step
        self._store.layers.fetch(image.diff_ids, by=None if self._connect is None else self)

    def layers(self) -> dict[str, tuple[DiffID, ...]]:
        """The layers of the images that were looked up, by name."""
        return {name: tuple(image.diff_ids) for (name, _), image in self._found.items()}

    def privacy(self, image: str) -> Privacy:
        """How far results may go that are built on an image. image: the ID of one that was looked up.

        They stay in the project where the registry shows the image to nobody else. They are everybody's where the
        host's administrator named the image. See docs/trust.md.
        """
        return Privacy.PROJECT if image in self._private else Privacy.COMMON

    def environments(self) -> dict[str, dict[str, str]]:
        """The variables of the images that were looked up, by name."""
        return {
            name: dict(item.partition("=")[::2] for item in image.config.config.env)
            for (name, _), image in self._found.items()
        }

    def _resolve(self, name: str, platform: Platform | None, new_step: NewStep | None) -> Image:
        if self._store.holdings.domain.is_host:
            return self._resolve_for_host(name, platform, new_step)
        return self._resolve_for_run(name, platform, new_step)

    def _resolve_for_host(self, name: str, platform: Platform | None, new_step: NewStep | None) -> Image:
        reference = _reference(name)
        missing: ImageNotFoundError | None = None
        try:
            here = self._store.images.resolve_base(name, platform or self._platform)
        except ImageNotFoundError as error:
            missing = error
        else:
            right = platform is None or here.config.platform in preferences(platform)
            if reference is None or (right and not self._always):
                return here
        if reference is None or self._connect is None or new_step is None:
            if missing is None:
                return here  # of another platform
            raise ImageNotFoundError(missing.message, hint=missing.hint or _BRING_IT_IN)
        if missing is None and not right:
            missing = ImageNotFoundError(f"{name} is here for {here.config.platform}, not for {platform}")
        return self._pull(self._connect, reference, platform or self._platform, new_step, missing)

    def _resolve_for_run(self, name: str, platform: Platform | None, new_step: NewStep | None) -> Image:
        """The image that the name means at its registry now, read with the run's own rights.

        Names that the host's administrator gave are the exception. An image that others pulled, built or pushed cannot
        be named, and neither can an ID: a hash proves no right to the image.
        """
        if name.startswith("sha256:"):
            raise ImageNotFoundError(f"{name} is an ID, which names nothing in a run", hint="write the image's name")
        reference = Reference.parse(name)
        wanted = platform or self._platform
        if not self._always:
            here = self._store.images.given(reference, wanted)
            if here is not None and (platform is None or here.config.platform in preferences(platform)):
                return here
        if self._connect is None or new_step is None:
            raise ImageNotFoundError(f"no such image: {name}", hint=_BRING_IT_IN)
        missing = ImageNotFoundError(
            f"no such image: {name}",
            hint="is the name right, and may this run pull it? docs/trust.md says who names what",
        )
        return self._pull(self._connect, self._pinned.get(str(reference), reference), wanted, new_step, missing)

    def _pull(
        self,
        connect: Connect,
        reference: Reference,
        platform: Platform,
        new_step: NewStep,
        missing: ImageNotFoundError | None,
    ) -> Image:
        from registry.client import pull, shown_to_anybody
        from registry.errors import OutOfBoundsError, RegistryError

        step = new_step(f"[internal] pull {reference.with_default_tag().familiar}")
        try:
            with self._shown(step) as monitor:
                client = self._connected(connect)
                # Check the layers that a run's image claims to have before they become part of a cache key.
                lazy = self._store.holdings.domain.is_host
                pulled = pull(reference, self._store, client=client, platform=platform, lazy=lazy, monitor=monitor)
                if not lazy and not shown_to_anybody(reference, pulled.digest, self._store, client):
                    self._private.add(pulled.image.id)
                # For another platform, too, the name means what it has meant.
                self._pinned.setdefault(str(reference), reference._replace(digest=pulled.digest))
                return pulled.image
        except RegistryError as error:
            if missing is None:
                raise
            hint = error.hint if isinstance(error, OutOfBoundsError) else missing.hint or error.hint
            raise ImageNotFoundError(f"{missing.message}; pulling it failed: {error}", hint=hint) from error

    def fetches_layers(self, new_step: NewStep) -> None:
        """Until this resolver is closed, let the store fetch missing layers when a step needs them.

        new_step: makes the step that shows the transfer.
        """
        if self._connect is not None:
            self._new_step = new_step
            before = self._store.layers.source
            self._store.layers.source = self
            self._stack.callback(setattr, self._store.layers, "source", before)

    def fetch(self, wanted: Sequence[Sequence[Origin]]) -> None:
        """As images.layers.LayerSource. Raises BuildCancelledError and what the client raises."""
        from registry.client import RegistryLayers

        assert self._connect is not None, "fetches_layers has looked"
        count = "a layer" if len(wanted) == 1 else f"{len(wanted)} layers"
        names = dict.fromkeys(Reference.parse(origins[0].repository).familiar_name for origins in wanted)
        with self._shown(self._new_step(f"[internal] fetch {count} of {', '.join(names)}")) as monitor:
            RegistryLayers(self._store, self._connected(self._connect)).fetch(wanted, monitor)

    def _connected(self, connect: Connect) -> Client:
        with self._lock:
            if self._client is None:
                self._client = self._stack.enter_context(connect())
            return self._client

    @contextlib.contextmanager
    def _shown(self, step: StepInfo) -> Iterator[TransferMonitor]:
        """Show the step on the monitor from beginning to end. Yields the monitor that passes its transfers on."""
        from registry.client import StepTransferMonitor
        from registry.errors import TransferCancelledError

        self._monitor.emit(BuildPlanned((step,)))
        self._monitor.emit(StepStarted(step.id, time.time()))
        start = time.monotonic()
        try:
            yield StepTransferMonitor(self._monitor, step.id)
        except TransferCancelledError as error:
            self._monitor.emit(StepFinished(step.id, "cancelled", time.monotonic() - start, time.time()))
            raise BuildCancelledError("cancelled") from error
        except ShiplapError as error:
            self._monitor.emit(StepFinished(step.id, "failed", time.monotonic() - start, time.time(), str(error)))
            raise
        self._monitor.emit(StepFinished(step.id, "done", time.monotonic() - start, time.time()))

    def close(self) -> None:
        self._stack.close()


_BRING_IT_IN = "bring it in with `shiplap pull`, `shiplap image load` or `shiplap image import`"


def _reference(name: str) -> Reference | None:
    """The name as a reference; None when it can only be an ID."""
    try:
        return Reference.parse(name)
    except InvalidReferenceError:
        return None
