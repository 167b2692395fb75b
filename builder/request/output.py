"""Where the result of a build goes, and in which form: the values of ``-o``, parsed."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias, get_args

from core.platforms import Platform
from core.references import Reference

OutputType: TypeAlias = Literal["image", "oci", "docker", "tar", "local"]
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)

Compression: TypeAlias = Literal["none", "gzip", "zstd"]

AnnotationLevel: TypeAlias = Literal["manifest", "manifest-descriptor", "index", "index-descriptor"]
ANNOTATION_LEVELS: tuple[AnnotationLevel, ...] = get_args(AnnotationLevel)


class Annotation(NamedTuple):
    """One annotation.

    level: the kind of document that gets it.
    platform: only this platform's manifest or descriptor gets it.
    """

    level: AnnotationLevel
    name: str
    value: str
    platform: Platform | None = None


class Packaging(NamedTuple):
    """The form of an image's documents and layers.

    compression: of new layers, and with ``force`` of all; None is the output's default.
    level: the codec's, None is its default.
    oci: OCI's media types rather than docker's.
    rewrite_timestamp: clamp times in the new layers to SOURCE_DATE_EPOCH; None: clamp if there is one.
    """

    compression: Compression | None = None
    level: int | None = None
    force: bool = False
    oci: bool = True
    rewrite_timestamp: bool | None = None
    annotations: tuple[Annotation, ...] = ()


class Output(NamedTuple):
    """One ``-o`` value.

    dest: a path; ``-`` is standard output (oci, docker, tar only); empty for image.
    names: under which names the image goes out (image, oci, docker).
    push: (image) send it to the registries that the names begin with.
    by_digest: (image) push without tags.
    store: (image) keep it here.
    as_tar: (oci, docker) one file rather than a directory.
    platform_split: (local, tar) a directory for each platform; None: when there are several.
    """

    type: OutputType
    dest: str = ""
    names: tuple[Reference, ...] = ()
    push: bool = False
    by_digest: bool = False
    store: bool = True
    as_tar: bool = True
    platform_split: bool | None = None
    packaging: Packaging = Packaging()

    @property
    def is_image(self) -> bool:
        """Whether what goes out is an image, with manifest and config, rather than the files in it."""
        return self.type in ("image", "oci", "docker")
