"""The ``-o`` option, in buildx's syntax: ``type=oci,dest=x.tar``; ``dir`` is a local directory, ``-`` is a tar."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from difflib import get_close_matches

from builder.errors import OutputError
from builder.request import OUTPUT_TYPES, Output, OutputType
from core.references import Reference

_STREAMED = {"oci", "docker", "tar"}
_NAMED = {"image", "oci", "docker"}


def parse_output(text: str, *, names: Sequence[Reference] = ()) -> Output:
    """Parse one ``-o`` value. names: the ``-t`` names, for an output without names of its own. Raises OutputError."""
    if "=" not in text:
        if text == "-":
            return Output("tar", "-")
        return Output("local", _needed_dest(text, "local"))
    members: dict[str, str] = {}
    for member in next(csv.reader([text])):
        key, equals, value = member.partition("=")
        key = key.strip().lower()
        if not equals or not key:
            raise OutputError(f"invalid output {text!r}: {member!r} is not key=value")
        if key in members:
            raise OutputError(f"invalid output {text!r}: {key} is given twice")
        members[key] = value
    kind = _type(members.pop("type", ""), text)
    dest = members.pop("dest", "")
    name = members.pop("name", "")
    if members:
        raise OutputError(
            f"invalid output {text!r}: unsupported option {next(iter(members))!r}",
            hint="supported: type, dest, and name for image, oci and docker",
        )
    if kind not in _NAMED and name:
        raise OutputError(f"invalid output {text!r}: an output of type {kind} has no name")
    own = tuple(Reference.parse(part).with_default_tag() for part in name.split(",") if part)
    chosen = (own or tuple(names)) if kind in _NAMED else ()
    if kind == "image":
        if dest:
            raise OutputError(f"invalid output {text!r}: type=image goes to the image store, it has no dest")
        return Output("image", "", chosen)
    if kind == "docker" and not dest:
        return Output("image", "", chosen)  # as buildx: without dest, into the local image store
    return Output(kind, _needed_dest(dest, kind), chosen)


def _type(name: str, text: str) -> OutputType:
    for kind in OUTPUT_TYPES:
        if name == kind:
            return kind
    close = get_close_matches(name, OUTPUT_TYPES, 1)
    raise OutputError(
        f"invalid output {text!r}: " + (f"unknown type {name!r}" if name else "no type"),
        hint=f"did you mean type={close[0]}?" if close else f"types: {', '.join(OUTPUT_TYPES)}",
    )


def _needed_dest(dest: str, kind: str) -> str:
    if not dest:
        raise OutputError(f"output type={kind} needs a destination", hint=f"write type={kind},dest=PATH")
    if dest == "-" and kind not in _STREAMED:
        raise OutputError(f"output type={kind} cannot go to standard output", hint="use type=tar,dest=-")
    return dest
