"""What provenance tells of a build, other than its steps: the images it began from, and how it was asked for."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from builder.attesting.statements import docker_purl, package_url
from builder.graph.vertices import GitOp, HttpOp, Plan
from builder.request.request import BuildRequest
from core.digests import Digest
from core.platforms import Platform
from core.references import Reference


class BaseImage(msgspec.Struct, frozen=True):
    """An image that a build started from or copied from. name: None for one that was named by its ID."""

    image_id: str
    name: Reference | None
    platform: Platform
    digest: Digest

    @property
    def uri(self) -> str:
        if self.name is None:
            return package_url("oci", self.image_id.partition(":")[2], "", {"platform": str(self.platform)})
        return docker_purl(self.name, self.platform)


class Invocation(msgspec.Struct, frozen=True):
    """One build that has ended.

    started_at, finished_at: seconds since the epoch.
    fetched: the ``sha256:…`` or the commit of everything that came from URLs and repositories.
    """

    id: str
    started_at: float
    finished_at: float
    request: BuildRequest
    plan: Plan
    images: tuple[BaseImage, ...]
    fetched: Mapping[HttpOp | GitOp, str]
