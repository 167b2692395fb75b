"""The options of ``shiplap build`` for platforms, attestations and outputs: the form and place of the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from builder.request.attestations import Attestations, parse_attestations
from builder.request.output import Output, Packaging
from cli.declared import Option
from cli.errors import CommandError
from core.platforms import Platform
from core.references import Reference


class OutputOptions(NamedTuple):
    """The values as they were given."""

    outputs: tuple[str, ...] = ()
    push: bool = False
    load: bool = False
    annotations: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    attest: tuple[str, ...] = ()
    provenance: str | None = None
    sbom: str | None = None

    def not_on_a_server(self) -> dict[str, object]:
        """Options that a server does not take, and whether they were given."""
        return {
            "--output": self.outputs,
            "--push": self.push,
            "--load": self.load,
            "--annotation": self.annotations,
            "--attest": self.attest,
            "--provenance": self.provenance,
            "--sbom": self.sbom,
            "--platform with several platforms": len(self.all_platforms()) > 1,
        }

    def all_platforms(self) -> tuple[Platform, ...]:
        """The platforms, each once, in order; empty: this machine's. Raises InvalidReferenceError."""
        texts = [text.strip() for value in self.platforms for text in value.split(",")]
        return tuple(dict.fromkeys(Platform.parse(text) for text in texts if text))

    def attestations(self) -> Attestations:
        """The attestations to make of the images. Raises OutputError."""
        return parse_attestations(self.attest, self.provenance, self.sbom)

    def all_outputs(self, names: tuple[Reference, ...]) -> tuple[Output, ...]:
        """The outputs. names: the ``-t`` names. Raises OutputError, CommandError."""
        stored = Output("image", names=names)
        if not self.outputs and not self.push and not self.annotations:
            return (stored,)
        from builder.exporting.annotations import parse_annotation
        from builder.exporting.options import parse_output

        annotations = tuple(made for text in self.annotations for made in parse_annotation(text))
        outputs = [parse_output(text, names=names, annotations=annotations) for text in self.outputs]
        if self.push:
            outputs = _pushed(outputs, names, annotations)
        if not outputs or (self.load and all(output.type != "image" for output in outputs)):
            outputs.append(stored._replace(packaging=Packaging(annotations=annotations)))
        _check_standard_output(outputs)
        return tuple(outputs)


def _pushed(outputs: Sequence[Output], names: tuple[Reference, ...], annotations: tuple[Any, ...]) -> list[Output]:
    """``--push``: outputs that are images also go to their registries. Without such an output, one is added."""
    pushed = [output._replace(push=True) if output.type == "image" else output for output in outputs]
    if not any(output.push for output in pushed):
        pushed.append(Output("image", names=names, push=True, packaging=Packaging(annotations=annotations)))
    if not all(output.names for output in pushed if output.push):
        raise CommandError("--push needs a name", hint="give the image one: -t REGISTRY/NAME:TAG")
    return pushed


def _check_standard_output(outputs: Sequence[Output]) -> None:
    to_stdout = [output for output in outputs if output.dest == "-"]
    if len(to_stdout) > 1:
        raise CommandError("only one output can go to standard output")
    if to_stdout and sys.stdout.isatty():
        raise CommandError("a tar is not written to a terminal", hint="redirect it: > FILE, or write dest=FILE")


OUTPUT_OPTIONS: Final = (
    Option(
        ("-o", "--output"),
        "Where the result goes instead of the image store: type=image|registry|oci|docker|tar|local,dest=PATH "
        "(docs/outputs.md has all options); DIR is type=local,dest=DIR; '-' is a tar on standard output. Repeatable.",
        metavar="OUTPUT",
        dest="outputs",
        multiple=True,
    ),
    Option(("--push",), "Send the image to the registries that its names begin with.", flag=True),
    Option(("--load",), "Keep the image in the image store besides other outputs.", flag=True),
    Option(
        ("--annotation",),
        "Annotate the manifest, or what PLACE says: index, manifest-descriptor, index-descriptor. Repeatable.",
        metavar="[PLACE:]NAME=VALUE",
        dest="annotations",
        multiple=True,
    ),
    Option(
        ("--platform",),
        "What the image is for; of several platforms an index is made.  [default: this machine]",
        metavar="OS/ARCH[,…]",
        dest="platforms",
        multiple=True,
    ),
    Option(
        ("--attest",),
        "Attach a statement about the image: how it was built, or what packages are in it. Repeatable.",
        metavar="type=provenance|sbom[,…]",
        multiple=True,
    ),
    Option(
        ("--provenance",),
        "Short for --attest type=provenance: SLSA provenance; mode=max has arguments and steps too.",
        metavar="true|false|mode=min|max[,…]",
    ),
    Option(("--sbom",), "Short for --attest type=sbom: an SPDX document.", metavar="true|false"),
)
"""Their values are the members of ``OutputOptions``."""
