"""What refers to a manifest: signatures, SBOMs, attestations that were pushed beside it.

Source: distribution-spec "Listing Referrers" and "Backwards Compatibility": registries without the endpoint keep an
index of the referrers under a tag that is made of the subject's digest.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode

from core.digests import Digest
from core.references import Reference
from images.oci import INDEX_TYPES, MAX_DOCUMENT_BYTES, OCI_INDEX, Descriptor, decode_index
from registry.client.client import Client
from registry.client.http import joined
from registry.client.repository import Repository
from registry.errors import InvalidResponseError, NotFoundError

_MAX_PAGES: Final = 1000
_NEXT: Final = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_TAG_LENGTH: Final = 128


def referrers_of(reference: Reference, *, client: Client, artifact_type: str = "") -> tuple[Digest, list[Descriptor]]:
    """The digest of what the name stands for (``latest`` by default), and what refers to it. Raises RegistryErrors."""
    name = reference.with_default_tag()
    repository = Repository(client, client.endpoints(name, mirrors=False)[0], name.path)
    subject = name.digest or repository.resolve(str(name.tag)) or repository.manifest(str(name.tag)).digest
    return subject, referrers(repository, subject, artifact_type=artifact_type)


def referrers(repository: Repository, subject: Digest, *, artifact_type: str = "") -> list[Descriptor]:
    """Descriptors of all manifests in the repository that have ``subject``; of one artifact type, or of all.

    The subject itself need not exist. Raises InvalidResponseError and what ``Client.call`` raises.
    """
    try:
        found = _by_endpoint(repository, subject, artifact_type)
    except NotFoundError:
        found = _by_tag(repository, subject)
    unique = {entry.digest: entry for entry in found if not artifact_type or entry.artifact_type == artifact_type}
    return list(unique.values())


def _by_endpoint(repository: Repository, subject: Digest, artifact_type: str) -> list[Descriptor]:
    url = repository.url(f"referrers/{subject}")
    if artifact_type:
        url += f"?{urlencode({'artifactType': artifact_type})}"
    found: list[Descriptor] = []
    base = f"{repository.client.base(repository.endpoint)}/"
    for _ in range(_MAX_PAGES):
        response, data = repository.client.fetch(
            repository.endpoint,
            url,
            limit_bytes=MAX_DOCUMENT_BYTES,
            scopes=repository.scopes("pull"),
            headers={"Accept": OCI_INDEX},
        )
        if data is None:
            raise InvalidResponseError(f"the referrers of {repository}@{subject} have over {MAX_DOCUMENT_BYTES} bytes")
        if (response.headers.get("Content-Type") or "").partition(";")[0].strip() != OCI_INDEX:
            return _by_tag(repository, subject)  # some answer whatever is asked with a page of their own
        found += decode_index(data).manifests
        following = _NEXT.search(response.headers.get("Link") or "")
        if following is None:
            return found
        url = joined(joined(base, url), following[1])
    raise InvalidResponseError(f"the referrers of {repository}@{subject} have over {_MAX_PAGES} pages")


def _by_tag(repository: Repository, subject: Digest) -> list[Descriptor]:
    tag = f"{subject.algorithm}-{subject.hex}"[:_TAG_LENGTH]
    try:
        raw = repository.manifest(tag)
    except NotFoundError:
        return []
    if raw.media_type not in INDEX_TYPES:
        return []  # a tag that only looks like one of these
    return list(decode_index(raw.data).manifests)
