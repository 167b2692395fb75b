"""What is attested of images: where it is attached, what provenance tells and what it does not, what the SBOM lists."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.attesting.statements import docker_purl, package_url
from builder.errors import OutputError
from builder.request.attestations import Attestations, Provenance
from builder.request.output import Output
from core.digests import Digest
from core.platforms import Platform
from core.references import Reference
from images.attestations import attestations
from registry.client import Client, ClientConfig
from tests.builder.workshops import Layout, Workshop, workshop
from tests.toolkit.foreign import run_tool
from tests.toolkit.registries import debian_registry

pytestmark = pytest.mark.usefixtures("privileged")

TEXT = """\
FROM base AS build
ARG VERSION=0
RUN --mount=type=secret,id=token,required=true --mount=type=tmpfs,target=/t cat /run/secrets/token > /dev/null
WORKDIR /w
FROM scratch
COPY --from=build /w /w
COPY status /var/lib/dpkg/status
"""
OPTIONS: dict[str, Any] = {
    "build_args": {"VERSION": "7"},
    "labels": {"team": "shipping"},
    "secrets": {"token": b"do-not-tell"},
}
BOTH = Attestations(Provenance("max", "https://ci.example/runs/7", reproducible=True), sbom=True)
HOST = Platform.host()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, busybox_tar: Path, privileged: None) -> Iterator[Workshop]:
    with workshop(tmp_path_factory.mktemp("attestations"), busybox_tar) as made:
        (made.context / "status").write_text("Package: hello\nVersion: 2.10-5\nArchitecture: amd64\n")
        yield made


def predicates(
    shop: Workshop, tmp_path: Path, attest: Attestations, text: str = TEXT, **options: Any
) -> dict[str, Any]:
    """By predicate type, of a build for this platform alone."""
    output = Output("oci", str(tmp_path / "out"), as_tar=False)
    shop.build(text, output, attest=attest, **{**OPTIONS, **options})
    layout = Layout(tmp_path / "out")
    described = layout.document(layout.root())["manifests"][1]
    statements = [layout.document(layer) for layer in layout.document(described)["layers"]]
    return {statement["predicateType"]: statement["predicate"] for statement in statements}


def test_statements_are_attached_as_buildkit_attaches_them(shop: Workshop, tmp_path: Path) -> None:
    name = Reference.parse("ci:5000/team/app:1")
    shop.build(TEXT, Output("oci", str(tmp_path / "out"), (name,), as_tar=False), attest=BOTH, **OPTIONS)
    layout = Layout(tmp_path / "out")
    image, described = layout.document(layout.root())["manifests"]
    assert described["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert described["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }
    manifest = layout.document(described)
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.in-toto+json"] * 2
    kinds = [layer["annotations"]["in-toto.io/predicate-type"] for layer in manifest["layers"]]
    assert kinds == ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]
    config = layout.document(manifest["config"])
    assert config["architecture"] == "unknown"
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    for layer, kind in zip(manifest["layers"], kinds, strict=True):
        statement = layout.document(layer)
        assert statement["_type"] == "https://in-toto.io/Statement/v0.1"
        assert statement["predicateType"] == kind
        (subject,) = statement["subject"]
        assert subject["name"] == f"pkg:docker/ci:5000/team/app@1?platform=linux%2F{HOST.architecture}"
        assert subject["digest"] == {"sha256": image["digest"].removeprefix("sha256:")}


def test_each_platform_has_statements_of_its_own(shop: Workshop, tmp_path: Path) -> None:
    platforms = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    text = "FROM scratch\nARG TARGETARCH\nLABEL for=$TARGETARCH\nCOPY status /var/lib/dpkg/status\n"
    name = Reference.parse("two:1")
    shop.build(text, Output("image", "", (name,)), attest=BOTH, platforms=platforms)
    index = shop.store.images.indexes.find("two:1")
    assert index is not None
    assert [entry.image is None for entry in index.entries] == [False, False, True, True]
    said = [(each.platform, each.predicate_type.rpartition("/")[2]) for each in attestations(shop.store, "two:1")]
    assert said == [(platform, kind) for platform in platforms for kind in ("Document", "v1")]


def test_nothing_is_attested_unless_asked_for(shop: Workshop) -> None:
    name = Reference.parse("plain:1")
    result = shop.build(TEXT, Output("image", "", (name,)), **OPTIONS)
    assert not result.is_index
    assert list(attestations(shop.store, "plain:1")) == []


def test_provenance_of_mode_max(shop: Workshop, tmp_path: Path) -> None:
    found = predicates(shop, tmp_path, BOTH)["https://slsa.dev/provenance/v1"]
    definition, details = found["buildDefinition"], found["runDetails"]
    assert definition["buildType"].startswith("https://github.com/moby/buildkit/")
    assert definition["externalParameters"] == {
        "configSource": {"path": "Dockerfile"},
        "request": {
            "frontend": "dockerfile.v0",
            "args": {"build-arg:VERSION": "7", "label:team": "shipping"},
            "secrets": [{"id": "token"}],
            "ssh": [],
            "locals": [{"name": "context"}, {"name": "dockerfile"}],
        },
    }
    assert definition["internalParameters"]["builderPlatform"] == str(HOST)
    base = shop.store.images.resolve("base")
    assert definition["resolvedDependencies"] == [
        {
            "uri": f"pkg:docker/base@latest?platform=linux%2F{HOST.architecture}",
            "digest": {"sha256": base.manifest_digest.hex},
        }
    ]
    assert details["builder"] == {"id": "https://ci.example/runs/7"}
    metadata = details["metadata"]
    assert metadata["invocationId"]
    assert metadata["startedOn"] <= metadata["finishedOn"]
    assert metadata["buildkit_hermetic"] is False
    assert metadata["buildkit_reproducible"] is True
    assert metadata["buildkit_completeness"] == {"request": True, "resolvedDependencies": False}
    (source,) = metadata["buildkit_metadata"]["source"]["infos"]
    assert base64.b64decode(source["data"]).decode() == TEXT


def test_base_has_the_digest_that_its_own_repository_knows_it_by(shop: Workshop, tmp_path: Path) -> None:
    """Another repository may call the same image by another manifest, or by an index."""
    images = shop.store.images
    base = images.resolve("base")
    images.tag(Reference.parse("ci.example/base:1"), base.id)

    def said() -> str:
        found = predicates(shop, tmp_path, BOTH, TEXT.replace("FROM base", "FROM ci.example/base:1"))
        (dependency,) = found["https://slsa.dev/provenance/v1"]["buildDefinition"]["resolvedDependencies"]
        return str(dependency["digest"]["sha256"])

    images.note_digest(Reference.parse("a.example/base:1"), Digest.of(b"elsewhere"), base.id)
    assert said() == base.manifest_digest.hex
    images.note_digest(Reference.parse("ci.example/base:1"), Digest.of(b"there"), base.id)
    assert said() == Digest.of(b"there").hex


def test_provenance_of_mode_max_has_the_steps_and_their_lines(shop: Workshop, tmp_path: Path) -> None:
    found = predicates(shop, tmp_path, BOTH)["https://slsa.dev/provenance/v1"]
    steps = found["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"]
    operations = {step["id"]: step["op"]["Op"] for step in steps}
    (run,) = [step for step in steps if "exec" in step["op"]["Op"]]
    (below,) = run["inputs"]
    assert "docker-image://docker.io/library/base" in operations[below.partition(":")[0]]["source"]["identifier"]
    assert run["op"]["Op"]["exec"]["meta"]["args"][-1] == "cat /run/secrets/token > /dev/null"
    assert "VERSION=7" in run["op"]["Op"]["exec"]["meta"]["env"]
    mounts = {mount["dest"]: mount for mount in run["op"]["Op"]["exec"]["mounts"]}
    assert mounts["/run/secrets/token"]["secretOpt"] == {"ID": "token", "optional": False}
    locations = found["runDetails"]["metadata"]["buildkit_metadata"]["source"]["locations"]
    assert locations[run["id"]]["locations"][0]["ranges"] == [{"start": {"line": 3}, "end": {"line": 3}}]
    assert "do-not-tell" not in json.dumps(found)


def test_provenance_of_mode_min_keeps_arguments_to_itself(shop: Workshop, tmp_path: Path) -> None:
    found = predicates(shop, tmp_path, Attestations(Provenance()))["https://slsa.dev/provenance/v1"]
    request = found["buildDefinition"]["externalParameters"]["request"]
    assert request == {
        "frontend": "dockerfile.v0",
        "args": {},
        "locals": [{"name": "context"}, {"name": "dockerfile"}],
    }
    assert "buildConfig" not in found["buildDefinition"]["internalParameters"]
    assert found["runDetails"]["metadata"]["buildkit_completeness"]["request"] is False
    assert not {"shipping", "VERSION"} & set(json.dumps(found).split('"'))


def test_sbom(shop: Workshop, tmp_path: Path) -> None:
    document = predicates(shop, tmp_path, Attestations(sbom=True))["https://spdx.dev/Document"]
    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["dataLicense"] == "CC0-1.0"
    image, package = document["packages"]
    assert image["primaryPackagePurpose"] == "CONTAINER"
    assert (package["name"], package["versionInfo"]) == ("hello", "2.10-5")
    (reference,) = package["externalRefs"]
    assert reference["referenceLocator"] == "pkg:deb/debian/hello@2.10-5?arch=amd64"
    relationships = [
        (each["spdxElementId"], each["relationshipType"], each["relatedSpdxElement"])
        for each in document["relationships"]
    ]
    assert relationships == [
        ("SPDXRef-DOCUMENT", "DESCRIBES", image["SPDXID"]),
        (image["SPDXID"], "CONTAINS", package["SPDXID"]),
    ]


def test_files_have_them_beside_them(shop: Workshop, tmp_path: Path) -> None:
    shop.build(TEXT, Output("local", str(tmp_path / "out")), attest=BOTH, **OPTIONS)
    provenance, sbom = (tmp_path / "out" / name for name in ("provenance.json", "sbom.spdx.json"))
    statement = json.loads(provenance.read_text())
    assert provenance.stat().st_mode & 0o777 == sbom.stat().st_mode & 0o777 == 0o600
    (subject,) = statement["subject"]
    written = (tmp_path / "out" / subject["name"]).read_bytes()
    assert subject == {"name": "var/lib/dpkg/status", "digest": {"sha256": hashlib.sha256(written).hexdigest()}}
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    assert [each["name"] for each in json.loads(sbom.read_text())["predicate"]["packages"]] == ["image", "hello"]


def test_files_of_several_platforms_have_one_each(shop: Workshop, tmp_path: Path) -> None:
    platforms = (Platform.parse("linux/amd64"), Platform.parse("linux/arm64"))
    text = "FROM scratch\nARG TARGETARCH\nCOPY status /$TARGETARCH\n"
    attest = Attestations(Provenance())
    shop.build(text, Output("local", str(tmp_path / "apart")), attest=attest, platforms=platforms)
    shop.build(text, Output("local", str(tmp_path / "one"), platform_split=False), attest=attest, platforms=platforms)
    assert sorted(path.name for path in (tmp_path / "apart" / "linux_arm64").iterdir()) == ["arm64", "provenance.json"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "amd64",
        "arm64",
        "provenance.linux_amd64.json",
        "provenance.linux_arm64.json",
    ]


SCANNED = """\
ARG BUILDKIT_SBOM_SCAN_CONTEXT=true
FROM base AS tools
ARG BUILDKIT_SBOM_SCAN_STAGE=true
COPY tool.json /node_modules/tool/package.json
RUN env > /variables
FROM base AS other
RUN true
FROM scratch
COPY --from=tools /variables /
COPY --from=other /bin/sh /
COPY status /var/lib/dpkg/status
"""


def names_of_packages(statement: dict[str, Any]) -> list[str]:
    return [package["name"] for package in statement["predicate"]["packages"][1:]]


def test_stages_and_the_context_are_scanned_where_an_arg_says_so(shop: Workshop, tmp_path: Path) -> None:
    (shop.context / "tool.json").write_text('{"name": "tool", "version": "1.0"}')
    lib = shop.context / "node_modules" / "lib"
    lib.mkdir(parents=True)
    (lib / "package.json").write_text('{"name": "lib", "version": "2.0"}')
    shop.build(SCANNED, Output("local", str(tmp_path)), attest=Attestations(sbom=True))
    found = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert {name: names_of_packages(statement) for name, statement in found.items()} == {
        "sbom.spdx.json": ["hello"],
        "sbom-tools.spdx.json": ["tool"],
        "sbom-context.spdx.json": ["lib"],
    }
    namespaces = {statement["predicate"]["documentNamespace"] for statement in found.values()}
    assert len(namespaces) == 3
    assert "BUILDKIT_SBOM" not in (tmp_path / "variables").read_text()


def test_scanned_stages_are_statements_about_the_image(shop: Workshop, tmp_path: Path) -> None:
    args = {"BUILDKIT_SBOM_SCAN_STAGE": "other,more", "BUILDKIT_SBOM_SCAN_CONTEXT": "false"}
    text = SCANNED.replace("AS other\n", "AS other\nARG BUILDKIT_SBOM_SCAN_STAGE\n")
    output = Output("oci", str(tmp_path), as_tar=False)
    shop.build(text, output, attest=Attestations(sbom=True), build_args=args)
    layout = Layout(tmp_path)
    image, described = layout.document(layout.root())["manifests"]
    statements = [layout.document(layer) for layer in layout.document(described)["layers"]]
    assert [statement["predicate"]["name"] for statement in statements] == ["image", "sbom-other"]
    assert {statement["subject"][0]["digest"]["sha256"] for statement in statements} == {image["digest"][7:]}


def test_outputs_without_a_place_for_them_refuse(shop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no room for attestations"):
        shop.build(TEXT, Output("docker", str(tmp_path / "out")), attest=BOTH, **OPTIONS)


def test_buildx_reads_what_is_pushed(shop: Workshop, tmp_path: Path) -> None:
    with debian_registry(tmp_path) as registry:
        name = Reference.parse(f"{registry.host}/attested:1")

        def connect() -> Client:
            return Client(ClientConfig(tmp_path, insecure=(registry.host,)))

        output = Output("image", "", (name,), push=True)
        shop.build(TEXT, output, attest=BOTH, connect=connect, **OPTIONS)
        inspect = ("docker", "buildx", "imagetools", "inspect", str(name), "--format")
        provenance = json.loads(run_tool(*inspect, "{{json .Provenance}}"))
        assert provenance["SLSA"]["runDetails"]["builder"]["id"] == "https://ci.example/runs/7"
        packages = json.loads(run_tool(*inspect, "{{json .SBOM}}"))["SPDX"]["packages"]
        assert {package["name"] for package in packages} >= {"hello"}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (
            docker_purl(Reference.parse("alpine:3.17"), HOST),
            f"pkg:docker/alpine@3.17?platform=linux%2F{HOST.architecture}",
        ),
        (
            docker_purl(Reference.parse("ghcr.io/a/b@sha256:" + "0" * 64), Platform.parse("linux/arm/v7")),
            "pkg:docker/ghcr.io/a/b?digest=sha256:" + "0" * 64 + "&platform=linux%2Farm%2Fv7",
        ),
        (package_url("npm", "@types/node", "24.1.0"), "pkg:npm/%40types/node@24.1.0"),
        (package_url("deb", "debian/libstdc++6", "1:2~3+b1", {"arch": ""}), "pkg:deb/debian/libstdc%2B%2B6@1:2~3%2Bb1"),
    ],
)
def test_package_urls(url: str, expected: str) -> None:
    assert url == expected
