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
        ("type=oci,dest=d,compression=uncompressed,compression-level=0", "uncompressed layers have no level"),
        ("type=oci,dest=d,compression-level=٣", "0 to 9"),
        ("type=oci,dest=d,frobnicate=1", "supported for type=oci: compression, compression-level, dest"),
        ("type=image,push", "'push' is not key=value"),
        ("type=image,=x", "'=x' is not key=value"),
        ("type=image,push=1,PUSH=0", "push is given twice"),
        ("dest=d", "no type types: "),
        ("type=ocy,dest=d", "unknown type 'ocy' did you mean type=oci?"),
        ("type=oci", "output type=oci needs a destination write type=oci,dest=PATH"),
        ("type=local,dest=-", "output type=local cannot go to standard output use type=tar,dest=-"),
        ("", "output type=local needs a destination"),
    ],
)
def test_outputs_that_cannot_be(text: str, message: str) -> None:
    with pytest.raises(OutputError) as caught:
        parse_output(text, names=[NAME])
    assert message in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize(("text", "output"), [("out", Output("local", "out")), ("-", Output("tar", "-"))])
def test_path_alone_is_a_directory_and_a_dash_a_tar(text: str, output: Output) -> None:
    assert parse_output(text, names=[NAME]) == output


def test_levels_go_from_the_least_to_the_most_of_each_compression() -> None:
    for compression, level in (("gzip", 0), ("gzip", 9), ("zstd", 0), ("zstd", 22)):
        packaging = parse_output(f"type=oci,dest=d,compression={compression},compression-level={level}").packaging
        assert (packaging.compression, packaging.level) == (compression, level)


def test_image_needs_no_name_and_its_own_beat_those_of_the_command() -> None:
    assert parse_output("type=image") == Output("image")
    own = parse_output('type=image,"name=ci/a,ci/b:2"', names=[NAME])
    assert [name.familiar for name in own.names] == ["ci/a:latest", "ci/b:2"]


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
        ((), None, "1", Attestations(sbom=True)),
        ((), "0", None, Attestations()),
        (("type=provenance,builder-id=x", "type=sbom"), None, "0", Attestations(Provenance(builder_id="x"))),
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
        ("mode=min,depth=1", "unsupported option 'depth' options: mode, builder-id, reproducible, version, disabled"),
        ("reproducible=maybe", "invalid provenance: 'maybe' is neither true nor false"),
        ("disabled=maybe", "neither true nor false"),
    ],
)
def test_attestations_that_cannot_be(provenance: str, message: str) -> None:
    with pytest.raises(OutputError) as caught:
        parse_attestations((), provenance, None)
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_attestations_are_true_where_there_is_one() -> None:
    assert not Attestations()
    assert Attestations(Provenance())
    assert Attestations(sbom=True)


def test_sbom_has_no_options_but_whether_it_is_wanted() -> None:
    with pytest.raises(OutputError, match="invalid sbom: unsupported option 'generator'") as refused:
        parse_attestations((), None, "generator=x")
    assert refused.value.hint == "Shiplap finds packages itself and runs no scanner"


def test_an_attestation_needs_a_type_that_is_known() -> None:
    with pytest.raises(OutputError, match="type="):
        parse_attestations(("mode=max",), None, None)
