"""What an image says of itself: where its source is, which commit and version it was built from, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from images.oci import CREATED_ANNOTATION, ImageConfig
from pipelines.model import GitSource, Source
from pipelines.projects.defaultnames import Origin, version_of

_PREFIX: Final = "org.opencontainers.image."
_SOURCE: Final = f"{_PREFIX}source"
_REVISION: Final = f"{_PREFIX}revision"
_VERSION: Final = f"{_PREFIX}version"


def labels_of(source: Source, commit: str, origin: Origin) -> Mapping[str, str]:
    """Of what came from a repository; what somebody sent is labelled as at their own host. See ``default_labels``."""
    if not isinstance(source, GitSource):
        return {}
    url = "" if urlsplit(source.url).scheme == "file" else source.url
    known = {_SOURCE: url, _REVISION: commit, _VERSION: version_of(origin.tag)}
    return {CREATED_ANNOTATION: "", **{name: value for name, value in known.items() if value}}


def annotations_of(source: Source, config: ImageConfig) -> Mapping[str, str]:
    """The same of the manifest, as the labels have it in the end."""
    if not isinstance(source, GitSource):
        return {}
    found = config.config.labels
    return {name: found[name] for name in (_SOURCE, _REVISION, CREATED_ANNOTATION, _VERSION) if found.get(name)}
