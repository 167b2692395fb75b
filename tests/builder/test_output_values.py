"""The values of ``-o``, ``--annotation`` and ``--attest``: what they mean, and what is said of those that do not."""

from __future__ import annotations

import pytest

from builder.errors import OutputError
from builder.exporting.annotations import parse_annotation
from builder.exporting.options import parse_output
from builder.request.attestations import Attestations, Provenance, parse_attestations
from builder.request.output import Annotation, Output, Packaging
from core.platforms import Platform
from core.references import Reference

NAME = Reference.parse("ci:5000/app:1")
ARM = Platform.parse("linux/arm64")


@pytest.mark.parametrize(
    ("text", "output"),
    [
        ("type=image", Output("image", names=(NAME,))),
        ("type=registry", Output("image", names=(NAME,), push=True)),
        ("type=image,push=true,store=false", Output("image", names=(NAME,), push=True, store=False)),
        (
            "type=image,push-by-digest=true,name=ci/app",
            Output("image", names=(Reference.parse("ci/app"),), push=True, by_digest=True),
        ),
        ("type=oci,dest=d,tar=false", Output("oci", "d", (NAME,), as_tar=False)),
        ("type=docker", Output("image", names=(NAME,))),
        ("type=local,dest=d,platform-split=false", Output("local", "d", platform_split=False)),
        ("type=tar,dest=-,platform-split=1", Output("tar", "-", platform_split=True)),
        (
            "type=oci,dest=d,compression=zstd,compression-level=19,force-compression=true",
            Output("oci", "d", (NAME,), packaging=Packaging("zstd", 19, force=True)),
        ),
        ("type=oci,dest=d,compression=uncompressed", Output("oci", "d", (NAME,), packaging=Packaging("none"))),
        ("type=oci,dest=d,compression-level=9", Output("oci", "d", (NAME,), packaging=Packaging("gzip", 9))),
        (
            "type=docker,dest=d,oci-mediatypes=false,rewrite-timestamp=",
            Output("docker", "d", (NAME,), packaging=Packaging(oci=False, rewrite_timestamp=True)),
        ),
        (
            '"type=image","annotation-index.a=b,c",annotation[linux/arm64].D=e',
            Output(
                "image",
                names=(NAME,),
                packaging=Packaging(
                    annotations=(Annotation("index", "a", "b,c"), Annotation("manifest", "D", "e", ARM))
                ),
            ),
        ),
    ],
)
def test_outputs(text: str, output: Output) -> None:
    assert parse_output(text, names=[NAME]) == output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type=oci,dest=d,compression=estargz", "compression=estargz is not supported"),
        ("type=oci,dest=d,compression=lzma", "compression=lzma is not known"),
        ("type=oci,dest=d,compression=gzip,compression-level=10", "0 to 9"),
        ("type=oci,dest=d,compression=zstd,compression-level=-1", "0 to 22"),
        ("type=oci,dest=d,compression=uncompressed,compression-level=1", "have no level"),
        ("type=oci,dest=d,tar=maybe", "neither true nor false"),
        ("type=oci,dest=-,tar=false", "a directory cannot go to standard output"),
        ("type=oci,dest=d,compression=zstd,oci-mediatypes=false", "layers compressed by zstd"),
        ("type=oci,dest=d,annotation.a=b,oci-mediatypes=false", "no annotations"),
        ("type=oci,dest=d,annotation-layer.a=b", "'layer' is no place"),
        ("type=oci,dest=d,push=true", "unsupported option 'push'"),
        ("type=oci,dest=d,compresion=gzip", "did you mean compression?"),
        ("type=image,registry.insecure=true", "use --insecure-registry"),
        ("type=image,push-by-digest=true,push=false", "push-by-digest without push"),
    ],
)
def test_outputs_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(OutputError) as caught:
        parse_output(text, names=[NAME])
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_a_push_needs_a_name() -> None:
    with pytest.raises(OutputError, match="a push needs a name"):
        parse_output("type=registry")


def test_annotations() -> None:
    assert parse_annotation("a=b=c") == (Annotation("manifest", "a", "b=c"),)
    assert parse_annotation("index,manifest[linux/arm64]:a=") == (
        Annotation("index", "a", ""),
        Annotation("manifest", "a", "", ARM),
    )


@pytest.mark.parametrize("text", ["a", "=b", "layer:a=b", "index[linux/arm64]:a=b", "manifest[/]:a=b", "manifest[:a=b"])
def test_annotations_that_cannot_be(text: str) -> None:
    with pytest.raises(OutputError, match="invalid annotation"):
        parse_annotation(text)


@pytest.mark.parametrize(
    ("attest", "provenance", "sbom", "expected"),
    [
        ((), None, None, Attestations()),
        ((), "true", "true", Attestations(Provenance(), sbom=True)),
        (("type=provenance,mode=max", "type=sbom"), None, None, Attestations(Provenance("max"), sbom=True)),
        (("type=provenance,mode=max",), "false", None, Attestations()),
        (("type=sbom,disabled=true",), None, None, Attestations()),
        ((), "True", "f", Attestations(Provenance())),
        (
            (),
            "mode=max,builder-id=https://ci/1,reproducible=true",
            None,
            Attestations(Provenance("max", "https://ci/1", True)),
        ),
    ],
)
def test_attestations(
    attest: tuple[str, ...], provenance: str | None, sbom: str | None, expected: Attestations
) -> None:
    assert parse_attestations(attest, provenance, sbom) == expected


@pytest.mark.parametrize(
    ("provenance", "message"),
    [
        ("mode=all", "modes: min, max"),
        ("version=v0.2", "version=v1 is"),
        ("generator=scanner", "runs no scanner"),
        ("maybe", "not key=value"),
        ("disabled=maybe", "neither true nor false"),
    ],
)
def test_attestations_that_cannot_be(provenance: str, message: str) -> None:
    with pytest.raises(OutputError) as caught:
        parse_attestations((), provenance, None)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_an_attestation_needs_a_type_that_is_known() -> None:
    with pytest.raises(OutputError, match="type="):
        parse_attestations(("mode=max",), None, None)
