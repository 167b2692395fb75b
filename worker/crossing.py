"""What jobs output on its way between hosts: layers and images, sent to the service's registry and fetched from it.

Each output is an OCI artifact: a manifest with one layer, a tar that is compressed by zstd. Nothing in the manifest
tells of the run, so that equal outputs of a project are there once. An image goes with a manifest of its own. Whoever
fetches something knows from the database what it has to be; a registry's word for it does not count.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from typing import Final

from msgspec.structs import replace

from core.digests import DiffID, Digest
from core.references import Reference
from core.trust import Domain
from images.errors import ImageNotFoundError
from images.oci import OCI_MANIFEST, Descriptor, Manifest, decode_config, decode_manifest, encode
from images.store import Store
from pipelines.errors import DatabaseUnreachableError, OutputsAwayError
from pipelines.owning.ownership import outputs_of
from pipelines.runs.artifacts import Artifact, ArtifactKind
from pipelines.service import Service
from registry.client import NullTransferMonitor, push
from registry.client.contents import import_layer
from registry.client.monitor import LayerReporter
from registry.client.repository import Repository
from registry.client.sending import Sender, refusals_of_damage
from worker.connecting import Insist, outputs_client
from worker.processresources import WorkerSettings

ARTIFACT_TYPE: Final = "application/vnd.shiplap.output.v1+tar"
TITLE: Final = "org.opencontainers.image.title"
"""The annotation by which clients name the file that they make of a layer."""

_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_EMPTY: Final = b"{}"
_LEVEL: Final = 1  # of zstd: the network is seldom slower than that


class Crossing:
    """The outputs of one domain in the registry, for one store. Methods also raise RegistryErrors."""

    def __init__(self, store: Store, repository: Repository, place: Reference) -> None:
        self._store = store
        self._repository = repository
        self._place = place

    def send_layer(
        self, layer: DiffID, *, kind: ArtifactKind = "layer", name: str = "", tag: str = "", until: float = 0.0
    ) -> Artifact:
        """Send a layer that the store has. name, tag, until: of an output for people. Raises ImagesErrors."""
        blob = self._store.layers.compressed(layer, "zstd", _LEVEL)
        titled = replace(blob, annotations={TITLE: f"{name or 'outputs'}.tar.zst"})
        config = Descriptor(media_type=_EMPTY_TYPE, digest=Digest.of(_EMPTY), size=len(_EMPTY))
        manifest = encode(
            Manifest(
                schema_version=2, media_type=OCI_MANIFEST, artifact_type=ARTIFACT_TYPE, config=config, layers=(titled,)
            )
        )
        sender = Sender(self._repository)
        with refusals_of_damage(self._store, blob.digest):
            sender.send(blob, lambda: self._store.blobs.open(blob.digest), moved=_ignore)
        sender.send(config, lambda: io.BytesIO(_EMPTY), moved=_ignore)
        digest = Digest.of(manifest)
        self._repository.put_manifest(tag or digest, OCI_MANIFEST, manifest)
        return Artifact(
            kind, name, self._place.path, str(digest), str(layer), str(blob.digest), blob.media_type, blob.size, until
        )

    def send_image(self, identity: Digest) -> Artifact:
        """Send an image that the store has. Raises ImagesErrors."""
        image = self._store.images.get(identity)
        pushed = push(self._place, self._store, client=self._repository.client, image=image, by_digest=True)
        return Artifact("image", "", self._place.path, str(pushed.digest), str(identity))

    def fetch_layer(self, found: Artifact) -> DiffID:
        """Have a layer here, which counts as here for the session. Raises ImagesErrors for other content."""
        blob = Descriptor(media_type=found.media_type, digest=Digest.parse(found.blob), size=found.size)
        return self._import(DiffID.parse(found.content), blob)

    def fetch_image(self, found: Artifact) -> None:
        """Have an image with all its layers here. Raises ImagesErrors for other content."""
        raw = self._repository.manifest(Digest.parse(found.manifest))
        manifest = decode_manifest(raw.data)
        if str(manifest.config.digest) != found.content:
            raise OutputsAwayError(f"the registry has image {manifest.config.digest} where {found.content} was sent")
        config = self._repository.blob(manifest.config.digest, manifest.config.size)
        diff_ids = decode_config(config).rootfs.diff_ids
        for diff_id, layer in zip(diff_ids, manifest.layers, strict=True):
            self._import(diff_id, layer)
        self._store.images.put(config, diff_ids, manifest=raw.data)

    def _import(self, diff_id: DiffID, blob: Descriptor) -> DiffID:
        if self._store.layers.is_stored(diff_id):  # the run made it: that it is here for others is no matter
            self._store.holdings.admit((diff_id,))
            return diff_id
        reporter = LayerReporter(NullTransferMonitor(), blob.digest.short, blob.size)
        import_layer(self._store, diff_id, blob, self._place.domain, lambda get: get(self._repository), reporter)
        return diff_id


@contextlib.contextmanager
def crossing(
    service: Service,
    settings: WorkerSettings,
    store: Store,
    job: int,
    domain: Domain,
    *,
    cancelled: threading.Event,
    insist: Insist,
) -> Iterator[Crossing | None]:
    """What the domain's jobs have in the registry, with a token that is good until the block ends, an hour at most.

    job: the number of the job for which it is needed.
    Gives None where outputs do not cross: the service has no registry, or one that is not its own.
    Raises RegistryErrors, DatabaseUnreachableError.
    """
    if not crosses(service, domain):
        yield None
        return
    place = Reference.parse(f"{service.settings.registry}/{outputs_of(domain)}")
    token = insist(lambda: service.output_tokens.create(job, domain))
    try:
        with outputs_client(token, service, settings, cancelled=cancelled) as client:
            endpoint = client.endpoints(place, mirrors=False)[0]
            is_ours = client.is_ours(endpoint)
            yield Crossing(store, Repository(client, endpoint, place.path), place) if is_ours else None
    finally:
        with contextlib.suppress(DatabaseUnreachableError):  # it ends by itself
            service.output_tokens.forget(token)


def crosses(service: Service, domain: Domain) -> bool:
    """Whether outputs of the domain can be in a registry at all."""
    return bool(service.settings.registry and outputs_of(domain))


def has_image(store: Store, identity: str) -> bool:
    """Whether the store has an image with all its layers, whoever holds them."""
    try:
        image = store.images.get(Digest.parse(identity))
    except ImageNotFoundError:
        return False
    return all(store.layers.is_stored(layer) for layer in image.diff_ids)


def _ignore(moved: int) -> None:
    del moved
