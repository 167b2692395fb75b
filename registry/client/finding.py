"""Where an image is: its mirrors in order, then the registry itself; and what its name stands for there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Final, TypeVar

from core.digests import Digest
from core.references import Reference
from core.suggestions import did_you_mean, nearest
from images.oci import OCI_INDEX, OCI_MANIFEST
from registry.client.client import Client
from registry.client.monitor import TransferMonitor
from registry.client.repository import RawManifest, Repository, is_index, is_manifest
from registry.client.retrying import check_cancelled
from registry.errors import InvalidResponseError, NotFoundError, RegistryError, ResponseError, UnsupportedContentError

_T = TypeVar("_T")

_TAGS_ASKED: Final = 1000
_TAGS_TOLD: Final = 3


class Finder:
    """Asks the mirrors of a reference's registry, then the registry. A mirror that fails is not asked again."""

    def __init__(self, reference: Reference, client: Client, monitor: TransferMonitor) -> None:
        self._reference = reference
        self._client = client
        self._monitor = monitor
        self._repositories = [
            Repository(client, endpoint, reference.path) for endpoint in client.endpoints(reference, mirrors=True)
        ]

    def head(self) -> Digest | None:
        """What the tag, or the digest, stands for now: costs less than asking for the manifest, and no quota.

        None where only a GET can say (more).
        """
        tag = str(self._reference.digest or self._reference.tag)
        for mirror in self._repositories[:-1]:
            try:
                return mirror.resolve(tag)
            except NotFoundError:
                continue
            except RegistryError as error:
                self._drop(mirror, error)
        try:
            return self._repositories[-1].resolve(tag)
        except ResponseError as error:
            if error.retryable:
                raise
            return None  # the answer to a HEAD has no body that says why

    def manifest(self, wanted: str | Digest) -> tuple[RawManifest, Repository]:
        """The manifest or index, and who had it."""
        for mirror in self._repositories[:-1]:
            try:
                return self._manifest(mirror, wanted), mirror
            except RegistryError as error:
                self._drop(mirror, error)
        last = self._repositories[-1]
        try:
            return self._manifest(last, wanted), last
        except NotFoundError as error:
            error.hint = self._other_tags(last) or error.hint
            raise

    def blob(self, found_in: Repository, get: Callable[[Repository], _T]) -> _T:
        """Get a blob from where the manifest was, or from the registry itself when its mirror has the manifest only."""
        last = self._repositories[-1]
        if found_in is last:
            return get(last)
        try:
            return get(found_in)
        except RegistryError:
            check_cancelled(self._client.cancelled)
            return get(last)

    def any_blob(self, get: Callable[[Repository], _T]) -> _T:
        """Get a blob from the first that has it."""
        for mirror in self._repositories[:-1]:
            try:
                return get(mirror)
            except RegistryError as error:
                self._drop(mirror, error)
        return get(self._repositories[-1])

    def _manifest(self, repository: Repository, wanted: str | Digest) -> RawManifest:
        try:
            return repository.manifest(wanted)
        except NotFoundError:
            if self._reference.digest is not None or not isinstance(wanted, Digest) or self._reference.tag is None:
                raise
            return repository.manifest(self._reference.tag)  # retagged since, or HEAD told nonsense

    def _other_tags(self, repository: Repository) -> str | None:
        """The hint for when the repository exists and this tag does not."""
        tag = self._reference.tag
        if tag is None or self._reference.digest is not None:
            return None
        tags = repository.tags(_TAGS_ASKED)
        if not tags or tag in tags:
            return None
        meant = did_you_mean(nearest(tag, tags, _TAGS_TOLD))
        if meant:
            return f"there is no tag {tag!r}; {meant}"
        more = ", …" if len(tags) > _TAGS_TOLD else ""
        return f"there is no tag {tag!r}; there are {', '.join(tags[:_TAGS_TOLD])}{more}"

    def _drop(self, mirror: Repository, error: RegistryError) -> None:
        check_cancelled(self._client.cancelled)
        with contextlib.suppress(ValueError):  # another thread has done it
            self._repositories.remove(mirror)
            self._monitor.message(f"mirror {mirror} does not help: {error.message}")


def document_type(raw: RawManifest) -> str:
    """The document's type: by Content-Type, or by what it says of itself where a server sends no useful one."""
    if is_index(raw.media_type) or is_manifest(raw.media_type):
        return raw.media_type
    try:
        document = json.loads(raw.data)
        stated = document.get("mediaType") or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
    except (ValueError, AttributeError) as error:
        raise InvalidResponseError(
            f"the manifest {raw.digest} is no JSON object, but {raw.media_type or 'without any type'}",
            hint="is it a registry that answers there, or a page for people, as of a proxy that wants a login?",
        ) from error
    if not is_index(stated) and not is_manifest(stated):
        raise UnsupportedContentError(f"manifest {raw.digest} is of a kind that is not known: {str(stated)[:100]}")
    return str(stated)
