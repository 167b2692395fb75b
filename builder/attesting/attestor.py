"""Makes the statements about a build's images."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from builder.assembly import BuiltImage
from builder.attesting import spdx
from builder.attesting.invocation import BaseImage, Invocation
from builder.attesting.packages.scan import Contents, scan
from builder.attesting.provenance import PREDICATE_TYPE, provenance
from builder.attesting.statements import Statement, docker_purl, statement, statement_of_files
from builder.bases import NewStep
from builder.request.attestations import Attestations
from core.digests import DiffID, Digest
from core.errors import InvalidReferenceError
from core.events import Monitor, Warned
from core.platforms import Platform
from core.references import Reference
from images.oci import encode, format_time, parse_time
from images.store import Store
from images.summary import Image

_UNNAMED: Final = "image"


class RecordingResolver:
    """Looks images up as ``resolve`` does, and keeps which they were."""

    def __init__(self, store: Store, resolve: Callable[[str, Platform | None, NewStep | None], Image]) -> None:
        self._store = store
        self._resolve = resolve
        self.images: dict[Digest, BaseImage] = {}

    def __call__(self, name: str, platform: Platform | None, new_step: NewStep | None) -> Image:
        image = self._resolve(name, platform, new_step)
        try:
            reference = Reference.parse(name)
        except InvalidReferenceError:
            reference = None
        digest = self._digest(image, reference)
        self.images[image.id] = BaseImage(image.id, reference, image.config.platform, digest)
        return image

    def _digest(self, image: Image, name: Reference | None) -> Digest:
        """The digest that the image has at its registry, else the one that it has in the store."""
        if name is None:
            return image.manifest_digest
        if name.digest is not None:
            return name.digest
        for known in self._store.images.digests(image.id):
            if known.digest is not None and known.name == name.name:
                return known.digest
        return image.manifest_digest


class Attestor:
    """Makes the attestations that were asked for, image by image."""

    def __init__(
        self, store: Store, monitor: Monitor, options: Attestations, invocation: Callable[[], Invocation]
    ) -> None:
        """invocation: called once, when the build has ended."""
        self._store = store
        self._monitor = monitor
        self._options = options
        self._make_invocation = invocation
        self._invocation: Invocation | None = None
        self._contents: dict[tuple[DiffID, ...], Contents] = {}
        self._lock = threading.Lock()

    def of_image(self, built: BuiltImage, manifest: Digest, names: Sequence[Reference]) -> list[Statement]:
        """About the image with this manifest. Raises InvalidLayerError when the layers cannot be read."""
        name = docker_purl(names[0], built.platform) if names else _UNNAMED
        return [
            statement(kind, predicate, manifest=manifest, platform=built.platform, names=names, about=about)
            for kind, predicate, about in self._predicates(built, name, manifest)
        ]

    def of_files(self, built: BuiltImage, files: Mapping[str, str]) -> list[Statement]:
        """About the image's files, with their sha256 by name. Raises InvalidLayerError."""
        image_id = Digest.of(encode(built.config))
        return [
            statement_of_files(kind, predicate, files, about)
            for kind, predicate, about in self._predicates(built, _UNNAMED, image_id)
        ]

    def _predicates(self, built: BuiltImage, name: str, digest: Digest) -> list[tuple[str, dict[str, object], str]]:
        made: list[tuple[str, dict[str, object], str]] = []
        if self._options.sbom:
            made.append((spdx.PREDICATE_TYPE, self._sbom(built, built.diff_ids, name, digest), ""))
            for about, diff_ids in built.scanned:
                made.append((spdx.PREDICATE_TYPE, self._sbom(built, diff_ids, f"sbom-{about}", digest, about), about))
        if self._options.provenance is not None:
            if self._invocation is None:
                self._invocation = self._make_invocation()
            made.append((PREDICATE_TYPE, provenance(self._options.provenance, self._invocation, built.platform), ""))
        return made

    def _sbom(
        self, built: BuiltImage, diff_ids: tuple[DiffID, ...], name: str, digest: Digest, about: str = ""
    ) -> dict[str, object]:
        """The SBOM of the packages in these layers: the image's own, or those of something else that was scanned."""
        from importlib.metadata import version

        return spdx.document(
            self._contents_of(diff_ids),
            name=name,
            digest=digest,
            about=about,
            created=format_time(int(parse_time(built.config.created)) if built.config.created else 0),
            tool=f"shiplap-{version('shiplap')}",
        )

    def _contents_of(self, diff_ids: tuple[DiffID, ...]) -> Contents:
        with self._lock:
            if diff_ids not in self._contents:
                self._contents[diff_ids] = contents = scan(self._store, diff_ids)
                for name in contents.unreadable:
                    self._monitor.emit(Warned(f"SBOM: {name} cannot be read, its packages are missing"))
            return self._contents[diff_ids]
