"""Pull-through: a repository that is filled from another registry when somebody pulls.

A tag is looked up upstream unless that was done a short while ago (``mirror_fresh_s``). If upstream is out of reach,
what is here is served. A blob is fetched when somebody asks for it, verified, and kept; but only if a manifest here
refers to it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from core.digests import Digest
from core.references import Reference
from images.oci import Descriptor
from registry.client import Client
from registry.client.repository import Repository
from registry.errors import ErrorCode, NotFoundError, RegistryError
from registry.server.errors import SpecError, manifest_unknown
from registry.server.manifests import Manifests
from registry.server.rows import Rows
from registry.server.settings import Policy, ServerSettings
from registry.server.uploads import Uploads

_PIECE_BYTES: Final = 1 << 20
_OCTETS: Final = "application/octet-stream"

_log = logging.getLogger(__name__)


class Mirror:
    """Fills repositories from the registries that they mirror. Thread-safe.

    What many clients ask for at once is fetched once.
    """

    def __init__(
        self,
        client: Client,
        rows: Rows,
        manifests: Manifests,
        uploads: Uploads,
        settings: ServerSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._rows = rows
        self._manifests = manifests
        self._uploads = uploads
        self._settings = settings
        self._clock = clock
        self._checked: dict[tuple[str, str], float] = {}
        self._locks: dict[tuple[str, str], tuple[threading.Lock, int]] = {}
        self._lock = threading.Lock()

    def mirrors(self, repository: str) -> bool:
        """Whether the repository is one of another registry: nobody pushes to it here."""
        return bool(self._settings.policy(repository).mirror)

    def refresh(self, repository: str, reference: Digest | str) -> None:
        """See to it that the manifest is here, and a tag up to date. Raises SpecError 404, 502."""
        policy = self._settings.policy(repository)
        key = (repository, str(reference))
        if not policy.mirror or self._is_fresh(policy, key):
            return
        with self._alone(key):
            if self._is_fresh(policy, key):
                return
            try:
                self._fetch_manifest(policy, repository, reference)
            except NotFoundError:
                raise manifest_unknown(reference) from None
            except RegistryError as error:
                if isinstance(error, SpecError):
                    raise
                if not self._has(repository, reference):
                    _log.warning("mirroring %s:%s: %s", repository, reference, error)
                    raise _bad_gateway(policy) from error
            self._checked[key] = self._clock()

    def fetch_blob(self, repository: str, digest: Digest) -> bool:
        """Fetch a blob that a manifest here refers to. False when it is none of those. Raises SpecError 404, 502."""
        policy = self._settings.policy(repository)
        if not policy.mirror or not self._is_referenced(repository, digest):
            return False
        with self._alone((repository, digest)):
            if self._rows.one(_HAS_BLOB, (repository, digest)) is not None:
                return True
            try:
                self._copy_blob(self._upstream(policy, repository), repository, digest)
            except NotFoundError:
                return False
            except RegistryError as error:
                if isinstance(error, SpecError):
                    raise
                _log.warning("mirroring %s@%s: %s", repository, digest, error)
                raise _bad_gateway(policy) from error
            return True

    def close(self) -> None:
        self._client.close()

    def _fetch_manifest(self, policy: Policy, repository: str, reference: Digest | str) -> None:
        upstream = self._upstream(policy, repository)
        if not isinstance(reference, Digest) and self._has(repository, reference):
            known = self._manifests.find(repository, reference).digest
            if upstream.resolve(reference) == known:
                return
        raw = upstream.manifest(reference)
        tags = [] if isinstance(reference, Digest) else [reference]
        # The parts come when they are asked for.
        self._manifests.put(
            repository, raw.data, raw.media_type, digest=raw.digest, tags=tags, complete=False, immutable=False
        )

    def _copy_blob(self, upstream: Repository, repository: str, digest: Digest) -> None:
        response = self._client.call(
            upstream.endpoint, "HEAD", upstream.url(f"blobs/{digest}"), expect={200}, scopes=upstream.scopes("pull")
        )
        response.close()
        size = int(response.headers.get("Content-Length") or 0)
        reader = upstream.open_blob(Descriptor(media_type=_OCTETS, digest=digest, size=size), lambda _: None)
        with contextlib.closing(reader):
            identity = self._uploads.begin(repository)
            with contextlib.ExitStack() as undo:
                undo.callback(self._cancel, repository, identity)
                pieces = iter(lambda: reader.read(_PIECE_BYTES), b"")
                self._uploads.finish(repository, identity, digest, pieces)
                undo.pop_all()

    def _cancel(self, repository: str, identity: str) -> None:
        with contextlib.suppress(SpecError):  # 404: a wrong digest has ended it already
            self._uploads.cancel(repository, identity)

    def _upstream(self, policy: Policy, repository: str) -> Repository:
        fixed = policy.pattern.partition("*")[0]
        path = repository.removeprefix(fixed) if policy.pattern.endswith("*") else repository
        reference = Reference.parse(f"{policy.mirror}/{path}")
        return Repository(self._client, self._client.endpoints(reference, mirrors=False)[0], reference.path)

    def _is_fresh(self, policy: Policy, key: tuple[str, str]) -> bool:
        repository, reference = key
        if ":" in reference:
            return self._has(repository, Digest(reference))
        checked = self._checked.get(key)
        return (
            checked is not None and self._clock() - checked < policy.mirror_fresh_s and self._has(repository, reference)
        )

    def _has(self, repository: str, reference: Digest | str) -> bool:
        try:
            self._manifests.find(repository, reference)
        except SpecError:
            return False
        return True

    def _is_referenced(self, repository: str, digest: Digest) -> bool:
        row = self._rows.one(
            "SELECT 1 FROM registry_edges e JOIN registry_repositories r ON r.id = e.repository"
            " WHERE r.name = ? AND e.target = ? LIMIT 1",
            (repository, digest),
        )
        return row is not None

    @contextlib.contextmanager
    def _alone(self, key: tuple[str, str]) -> Iterator[None]:
        """One thread at a time per key; keys that nobody holds are forgotten."""
        with self._lock:
            lock, waiting = self._locks.get(key, (threading.Lock(), 0))
            self._locks[key] = (lock, waiting + 1)
        try:
            with lock:
                yield
        finally:
            with self._lock:
                lock, waiting = self._locks[key]
                if waiting == 1:
                    del self._locks[key]
                else:
                    self._locks[key] = (lock, waiting - 1)


_HAS_BLOB: Final = (
    "SELECT 1 FROM registry_blobs b JOIN registry_repositories r ON r.id = b.repository"
    " WHERE r.name = ? AND b.digest = ?"
)


def _bad_gateway(policy: Policy) -> SpecError:
    return SpecError(502, ErrorCode.UNAVAILABLE, f"the mirrored registry {policy.mirror} gave no usable answer")
