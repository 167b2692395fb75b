"""The ``-o`` option, in buildx's syntax: ``type=oci,dest=x.tar``; ``dir`` is a local directory, ``-`` is a tar."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Final

from builder.errors import OutputError
from builder.exporting.annotations import annotation_option
from builder.request.output import OUTPUT_TYPES, Annotation, Compression, Output, OutputType, Packaging
from core.gobool import parse_bool
from core.references import Reference
from core.suggestions import suggestion

_STREAMED: Final = {"oci", "docker", "tar"}
_OF_IMAGES: Final = (
    "name",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
)
_OPTIONS: Final[Mapping[OutputType, tuple[str, ...]]] = {
    "image": (*_OF_IMAGES, "push", "push-by-digest", "store"),
    "oci": (*_OF_IMAGES, "dest", "tar"),
    "docker": (*_OF_IMAGES, "dest", "tar"),
    "tar": ("dest", "platform-split"),
    "local": ("dest", "platform-split"),
}
_COMPRESSIONS: Final[Mapping[str, Compression]] = {"uncompressed": "none", "gzip": "gzip", "zstd": "zstd"}
_MAX_LEVELS: Final[Mapping[Compression, int]] = {"gzip": 9, "zstd": 22}


def parse_output(text: str, *, names: Sequence[Reference] = (), annotations: Sequence[Annotation] = ()) -> Output:
    """Parse one ``-o`` value. Raises OutputError.

    names: the ``-t`` names, for an output without names of its own.
    annotations: those of ``--annotation``, for outputs that are images.
    """
    if "=" not in text:
        if text == "-":
            return Output("tar", "-")
        return Output("local", _needed_dest(text, "local"))
    options = _Options(text)
    kind = options.type
    dest = options.take("dest")
    if kind in ("tar", "local"):
        split = options.boolean_or_none("platform-split")
        options.finish()
        return Output(kind, _needed_dest(dest, kind), platform_split=split)
    own = tuple(Reference.parse(part) for part in options.take("name").split(",") if part)
    by_digest = options.boolean("push-by-digest", default=False)
    chosen = own or tuple(names)
    output = Output(
        kind,
        dest,
        tuple(name if by_digest else name.with_default_tag() for name in chosen),
        push=options.boolean("push", default=options.is_registry or by_digest),
        by_digest=by_digest,
        store=options.boolean("store", default=True),
        as_tar=options.boolean("tar", default=True),
        packaging=_packaging(options, tuple(annotations)),
    )
    options.finish()
    return _checked(output, text)


def _packaging(options: _Options, annotations: tuple[Annotation, ...]) -> Packaging:
    compression = options.compression()
    level = options.level(compression)
    packaging = Packaging(
        "gzip" if compression is None and level is not None else compression,
        level,
        options.boolean("force-compression", default=False),
        options.boolean("oci-mediatypes", default=True),
        options.boolean_or_none("rewrite-timestamp"),
        (*annotations, *options.annotations()),
    )
    if not packaging.oci and (compression == "zstd" or packaging.annotations):
        what = "layers compressed by zstd" if compression == "zstd" else "annotations"
        raise OutputError(
            f"invalid output {options.text!r}: docker's manifests have no {what}", hint="leave oci-mediatypes=false out"
        )
    return packaging


def _checked(output: Output, text: str) -> Output:
    if output.type == "docker" and not output.dest:
        return Output("image", "", output.names, packaging=output.packaging)  # as buildx: into the local image store
    if output.type != "image":
        _needed_dest(output.dest, output.type)
        if output.dest == "-" and not output.as_tar:
            raise OutputError(f"invalid output {text!r}: a directory cannot go to standard output")
        return output
    if output.push and not output.names:
        raise OutputError(f"invalid output {text!r}: a push needs a name", hint="give it one: -t REGISTRY/NAME:TAG")
    if output.by_digest and not output.push:
        raise OutputError(f"invalid output {text!r}: push-by-digest without push")
    return output


class _Options:
    """The ``key=value`` pairs of one ``-o`` value, each to be taken once."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._members: dict[str, str] = {}
        for member in next(csv.reader([text])):
            key, equals, value = member.partition("=")
            key = key.strip() if key.startswith("annotation") else key.strip().lower()
            if not equals or not key:
                raise OutputError(f"invalid output {text!r}: {member!r} is not key=value")
            if key in self._members:
                raise OutputError(f"invalid output {text!r}: {key} is given twice")
            self._members[key] = value
        kind = self._members.pop("type", "")
        self.is_registry = kind == "registry"
        self.type = _type("image" if self.is_registry else kind, text)

    def take(self, key: str, default: str = "") -> str:
        return self._members.pop(key, default) if key in _OPTIONS[self.type] else default

    def boolean(self, key: str, *, default: bool) -> bool:
        found = self.boolean_or_none(key)
        return default if found is None else found

    def boolean_or_none(self, key: str) -> bool | None:
        if key not in self._members or key not in _OPTIONS[self.type]:
            return None
        value = self.take(key)
        said = parse_bool(value) if value else True  # an empty value is true, as in buildx
        if said is None:
            raise OutputError(f"invalid output {self.text!r}: {key}={value} is neither true nor false")
        return said

    def compression(self) -> Compression | None:
        text = self.take("compression")
        if not text:
            return None
        if text not in _COMPRESSIONS:
            known = ", ".join(_COMPRESSIONS)
            what = "is not supported" if text in ("estargz", "nydus") else "is not known"
            raise OutputError(f"invalid output {self.text!r}: compression={text} {what}", hint=f"supported: {known}")
        return _COMPRESSIONS[text]

    def level(self, compression: Compression | None) -> int | None:
        text = self.take("compression-level")
        if not text:
            return None
        most = _MAX_LEVELS.get(compression or "gzip", 0)
        if not (text.isascii() and text.isdigit() and int(text) <= most) or compression == "none":
            hint = "uncompressed layers have no level" if compression == "none" else f"0 to {most}"
            raise OutputError(f"invalid output {self.text!r}: compression-level={text}", hint=hint)
        return int(text)

    def annotations(self) -> list[Annotation]:
        found = {key: annotation_option(key, value) for key, value in self._members.items()}
        made = [annotation for annotation in found.values() if annotation is not None]
        for key, annotation in found.items():
            if annotation is not None:
                del self._members[key]
        return made

    def finish(self) -> None:
        """Raises OutputError when nobody took some option."""
        if not self._members:
            return
        key = next(iter(self._members))
        known = sorted(_OPTIONS[self.type])
        if key == "registry.insecure":
            raise OutputError(
                f"invalid output {self.text!r}: {key} is not an option of outputs", hint="use --insecure-registry HOST"
            )
        raise OutputError(
            f"invalid output {self.text!r}: unsupported option {key!r}",
            hint=suggestion(key, known) or f"supported for type={self.type}: {', '.join(known)}",
        )


def _type(name: str, text: str) -> OutputType:
    for kind in OUTPUT_TYPES:
        if name == kind:
            return kind
    known = (*OUTPUT_TYPES, "registry")
    raise OutputError(
        f"invalid output {text!r}: " + (f"unknown type {name!r}" if name else "no type"),
        hint=suggestion(name, known, form="type={}") or f"types: {', '.join(known)}",
    )


def _needed_dest(dest: str, kind: str) -> str:
    if not dest:
        raise OutputError(f"output type={kind} needs a destination", hint=f"write type={kind},dest=PATH")
    if dest == "-" and kind not in _STREAMED:
        raise OutputError(f"output type={kind} cannot go to standard output", hint="use type=tar,dest=-")
    return dest
