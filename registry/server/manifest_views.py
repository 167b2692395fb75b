"""Manifests, tags, referrers and the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from flask import Response, g, request

from core.digests import Digest
from images.oci import OCI_INDEX
from registry.errors import ErrorCode
from registry.server.errors import SpecError
from registry.server.http import empty, json_response, location, next_link, page_limit, read_body
from registry.server.manifests import Manifest
from registry.server.names import parse_digest, parse_reference, parse_tag
from registry.server.registry import Registry

_MAX_TAGS: Final = 100
_ANYTHING: Final = frozenset({"*/*", "application/*", "application/json"})


class ManifestViews:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._manifests = registry.manifests

    def get(self, name: str, reference: str) -> Response:
        """GET and HEAD: 200, 304, 404."""
        wanted = parse_reference(reference)
        if self._registry.mirror is not None:
            self._registry.mirror.refresh(name, wanted)
        manifest = self._manifests.find(name, wanted)
        if not isinstance(wanted, Digest):
            _check_accept(manifest, request.headers.getlist("Accept"))
        headers = {"Docker-Content-Digest": str(manifest.digest), "ETag": f'"{manifest.digest}"'}
        if manifest.digest in request.if_none_match:
            return empty(304, headers)
        if request.method == "HEAD":
            response = Response(b"", 200, headers)
            response.content_length = manifest.size
        else:
            response = Response(self._manifests.read(manifest), 200, headers)
        response.headers["Content-Type"] = manifest.media_type
        return response

    def put(self, name: str, reference: str) -> Response:
        """201; 400, 404 for missing references, 409 for an immutable tag, 413."""
        limit = self._registry.settings.max_manifest_bytes
        too_large = SpecError(413, ErrorCode.SIZE_INVALID, f"manifest of over {limit} bytes")
        digest, tags = None, [parse_tag(tag) for tag in dict.fromkeys(request.args.getlist("tag"))]
        if ":" in reference:
            digest = parse_digest(reference)
        else:
            tags.insert(0, parse_tag(reference))
        if len(tags) > _MAX_TAGS:
            raise SpecError(414, ErrorCode.TAG_INVALID, f"more than {_MAX_TAGS} tags in one request")
        data = read_body(limit, too_large)
        pushed = self._manifests.put(name, data, request.headers.get("Content-Type", ""), digest=digest, tags=tags)
        response = empty(
            201,
            {
                "Location": location(f"/v2/{name}/manifests/{pushed.digest}"),
                "Docker-Content-Digest": str(pushed.digest),
            },
        )
        if pushed.subject is not None:
            response.headers["OCI-Subject"] = str(pushed.subject)
        if digest is not None:
            for tag in pushed.tags:
                response.headers.add("OCI-Tag", tag)
        return response

    def delete(self, name: str, reference: str) -> Response:
        """202, 404, 409 for an immutable tag."""
        self._manifests.delete(name, parse_reference(reference))
        return empty(202, {})

    def tags(self, name: str) -> Response:
        """200 with a part of the list; 400, 404."""
        limit = page_limit()
        page = self._manifests.tags(name, limit=limit, last=request.args.get("last", ""))
        headers = next_link(f"/v2/{name}/tags/list", {"n": limit, "last": page.last}) if page.last else None
        return json_response({"name": name, "tags": page.items}, headers=headers)

    def catalog(self) -> Response:
        """200 with a part of the list of what this client may pull; 400."""
        limit = page_limit()
        page = self._manifests.repositories(
            limit=limit,
            last=request.args.get("last", ""),
            visible=lambda name: bool(g.client.has_right(name, "pull")),
        )
        headers = next_link("/v2/_catalog", {"n": limit, "last": page.last}) if page.last else None
        return json_response({"repositories": page.items}, headers=headers)

    def referrers(self, name: str, digest: str) -> Response:
        """200 with an index, which may be empty; 400."""
        subject = parse_digest(digest)
        artifact_type = request.args.get("artifactType", "")
        page = self._manifests.referrers(name, subject, artifact_type=artifact_type, last=request.args.get("last", ""))
        response = json_response({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": page.items})
        response.headers["Content-Type"] = OCI_INDEX
        if artifact_type:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        if page.last:
            parameters = {"artifactType": artifact_type, "last": page.last}
            response.headers.update(next_link(f"/v2/{name}/referrers/{subject}", parameters))
        return response


def _check_accept(manifest: Manifest, lines: Iterable[str]) -> None:
    """A tag's manifest is not sent to a client that says it cannot read its type. By digest nothing is refused."""
    accepted = {word.partition(";")[0].strip().lower() for line in lines for word in line.split(",")} - {""}
    if accepted and manifest.media_type not in accepted and not accepted & _ANYTHING:
        raise SpecError(
            404,
            ErrorCode.MANIFEST_UNKNOWN,
            f"the manifest is of type {manifest.media_type}, which the Accept header does not allow",
            detail={"mediaType": manifest.media_type},
        )
