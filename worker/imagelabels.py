"""Labels and annotations of an image: where its source is, its commit and version, and when it was built."""

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
    """Labels for an image from a repository; files that somebody sent get the default ones (``default_labels``)."""
    if not isinstance(source, GitSource):
        return {}
    url = "" if urlsplit(source.url).scheme == "file" else source.url
    known = {_SOURCE: url, _REVISION: commit, _VERSION: version_of(origin.tag)}
    return {CREATED_ANNOTATION: "", **{name: value for name, value in known.items() if value}}


def annotations_of(source: Source, config: ImageConfig) -> Mapping[str, str]:
    """The same facts as annotations of the manifest, as the image's labels have them in the end."""
    if not isinstance(source, GitSource):
        return {}
    found = config.config.labels
    return {name: found[name] for name in (_SOURCE, _REVISION, CREATED_ANNOTATION, _VERSION) if found.get(name)}
