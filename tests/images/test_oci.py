"""OCI documents: names and order as Go writes them, unknown members kept, hostile input refused."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.digests import DiffID, Digest
from core.platforms import Platform
from images.errors import ImagesError, InvalidConfigError, InvalidManifestError
from images.oci import (
    DOCKER_MANIFEST,
    MAX_DOCUMENT_BYTES,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ContainerConfig,
    Descriptor,
    Healthcheck,
    History,
    ImageConfig,
    Index,
    Manifest,
    OciPlatform,
    RootFS,
    decode_config,
    decode_index,
    decode_manifest,
    encode,
    format_time,
    parse_time,
)

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

# As `docker buildx build` (26.1) left it, shortened.
BUILDKIT = (
    '{"architecture":"amd64","config":{"User":"app","ExposedPorts":{"443/tcp":{},"80/tcp":{}},'
    '"Env":["PATH=/usr/bin","A=b"],"Entrypoint":["/bin/app"],"Cmd":["-v"],"Volumes":{"/data":{}},"WorkingDir":"/w",'
    '"Labels":{"a":"1","b":"<2>"},"StopSignal":"SIGINT","ArgsEscaped":true,'
    '"Healthcheck":{"Test":["CMD","true"],"Interval":1000000000,"Retries":3},"OnBuild":["RUN x"],"Shell":["/bin/sh"]},'
    '"created":"2024-05-06T07:08:09.123456789Z",'
    '"history":[{"created":"2024-05-06T07:08:09Z","created_by":"RUN x # buildkit","comment":"buildkit.dockerfile.v0"},'
    '{"created_by":"CMD","empty_layer":true}],"os":"linux",'
    f'"rootfs":{{"type":"layers","diff_ids":["{DIGEST}"]}},"variant":"v2"}}'
)


def test_a_config_is_written_to_the_byte_as_buildkit_writes_it() -> None:
    config = decode_config(BUILDKIT.encode())
    assert encode(config).decode() == BUILDKIT
    assert config.config.exposed_ports == {"443/tcp": {}, "80/tcp": {}}
    assert config.config.healthcheck == Healthcheck(test=("CMD", "true"), interval_ns=10**9, retries=3)
    assert config.history[1] == History(created_by="CMD", empty_layer=True)
    assert config.rootfs.diff_ids == (DiffID(DIGEST),)
    assert type(config.rootfs.diff_ids[0]) is DiffID


def test_empty_members_are_left_out_but_config_and_rootfs_are_not() -> None:
    config = ImageConfig.for_platform(Platform("linux", "amd64"))
    expected = {"architecture": "amd64", "config": {}, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    assert json.loads(encode(config)) == expected


def test_null_means_absent_as_in_go() -> None:
    text = (
        b'{"architecture":"amd64","os":"linux","config":{"Cmd":null,"Labels":null,"Healthcheck":null},"history":null}'
    )
    assert decode_config(text) == ImageConfig(architecture="amd64", os="linux")


def test_unknown_members_survive_at_every_depth_and_in_order() -> None:
    text = (
        b'{"architecture":"amd64","os":"linux","config":{"Hostname":"h","Memory":5,"Cmd":["x"],"Healthcheck":{"New":[1]}},'
        b'"history":[{"created_by":"x","more":{"deep":null}}],"container_config":{"b":1,"a":2}}'
    )
    again = json.loads(encode(decode_config(text)))
    assert again["config"] == {"Cmd": ["x"], "Healthcheck": {"New": [1]}, "Hostname": "h", "Memory": 5}
    assert again["history"] == [{"created_by": "x", "more": {"deep": None}}]
    assert again["container_config"] == {"b": 1, "a": 2}


def test_maps_are_sorted_so_that_equal_documents_are_equal_bytes() -> None:
    one = ContainerConfig(labels={"b": "2", "a": "1"})
    two = ContainerConfig(labels={"a": "1", "b": "2"})
    assert encode(one) == encode(two) == b'{"Labels":{"a":"1","b":"2"}}'


def test_a_manifest_and_an_index_round_trip() -> None:
    layer = Descriptor(media_type=OCI_LAYER, digest=Digest(DIGEST), size=0, annotations={"k": "v"})
    config = Descriptor(media_type=OCI_CONFIG, digest=Digest(DIGEST), size=7)
    manifest = Manifest(schema_version=2, media_type=OCI_MANIFEST, config=config, layers=(layer,))
    assert decode_manifest(encode(manifest)) == manifest
    assert encode(manifest).startswith(
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":'
    )
    assert b'"size":0' in encode(manifest)
    where = OciPlatform.of(Platform("linux", "arm", "v7"))
    entry = Descriptor(media_type=OCI_MANIFEST, digest=Digest(DIGEST), size=1, platform=where)
    index = Index(schema_version=2, media_type=OCI_INDEX, manifests=(entry,))
    assert decode_index(encode(index)) == index
    assert decode_index(encode(index)).manifests[0].platform is not None
    assert where.normalised() == Platform("linux", "arm", "v7")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b"[" * 200_000,
        b'{"architecture":1,"os":"linux"}',
        b'{"architecture":"amd64","os":"linux","config":[]}',
        b'{"architecture":"amd64","os":"linux","config":{"Env":"PATH"}}',
        b'{"architecture":"amd64","os":"linux","history":[1]}',
        b'{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["sha256:short"]}}',
        b'{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[7]}}',
    ],
)
def test_a_config_that_is_none_is_an_error_of_ours(text: bytes) -> None:
    with pytest.raises(InvalidConfigError):
        decode_config(text)


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b'{"schemaVersion":1,"config":{},"layers":[]}',
        b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"sha256:x","size":1},"layers":[]}',
        b'{"schemaVersion":2,"config":{"mediaType":"a","digest":"%s","size":-1},"layers":[]}' % DIGEST.encode(),
        b'{"schemaVersion":1,"config":{"mediaType":"a","digest":"%s","size":1},"layers":[]}' % DIGEST.encode(),
        b'{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json",'
        b'"config":{"mediaType":"a","digest":"%s","size":1},"layers":[]}' % DIGEST.encode(),
        b" " * (5 << 20),
    ],
)
def test_a_manifest_that_is_none_is_an_error_of_ours(text: bytes) -> None:
    with pytest.raises(InvalidManifestError):
        decode_manifest(text)


_ONE = f'{{"mediaType":"a","digest":"{DIGEST}","size":1}}'


@pytest.mark.parametrize(
    ("decode", "text", "message", "hint"),
    [
        (decode_manifest, f'{{"schemaVersion":1,"config":{_ONE},"layers":[]}}',
         "image manifest has schemaVersion 1, expected 2",
         "schema 1 is obsolete; push the image again with a current tool"),
        (decode_manifest, f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","config":{_ONE},"layers":[]}}',
         f"not an image manifest: mediaType '{OCI_INDEX}'", None),
        (decode_index, '{"schemaVersion":1,"manifests":[]}', "image index has schemaVersion 1, expected 2", None),
        (decode_index, f'{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","manifests":[]}}',
         f"not an image index: mediaType '{OCI_MANIFEST}'", None),
        (decode_config, "[]", "image config: expected a JSON object, got list", None),
        (decode_manifest, f'{{"schemaVersion":2,"config":{_ONE.replace("1}", "-1}")},"layers":[]}}',
         "image manifest: Expected `int` >= 0", None),
        (decode_config, '{"architecture":"a","os":"b","rootfs":{"diff_ids":[7]}}',
         "image config: expected a digest, got int", None),
        (decode_config, '{"architecture":"a","os":"b","rootfs":{"diff_ids":["x"]}}', "image config: not a digest: 'x'",
         "expected sha256: followed by 64 lower-case hexadecimal digits"),
    ],
)  # fmt: skip
def test_document_that_is_none_is_refused_with_the_reason(
    decode: Callable[[bytes], object], text: str, message: str, hint: str | None
) -> None:
    with pytest.raises(ImagesError) as refused:
        decode(text.encode())
    assert message in refused.value.message
    if hint is not None:
        assert hint in str(refused.value.hint)


@pytest.mark.parametrize("decode", [decode_config, decode_manifest, decode_index])
def test_document_has_at_most_so_many_bytes(decode: Callable[[bytes], object]) -> None:
    for more, message in ((0, "Object missing required field"), (1, f"the limit is {MAX_DOCUMENT_BYTES}")):
        with pytest.raises(ImagesError) as refused:
            decode(b"{}".ljust(MAX_DOCUMENT_BYTES + more))
        assert message in refused.value.message


def test_what_may_be_left_out_is_left_out_of_an_index_and_a_manifest() -> None:
    assert decode_index(b'{"schemaVersion":2,"manifests":[]}').media_type == ""
    assert decode_manifest(f'{{"schemaVersion":2,"config":{_ONE},"layers":[]}}'.encode()).layers == ()


def test_dockers_schema_2_is_a_manifest_too() -> None:
    config = Descriptor(media_type="application/vnd.docker.container.image.v1+json", digest=Digest(DIGEST), size=3)
    manifest = Manifest(schema_version=2, media_type=DOCKER_MANIFEST, config=config, layers=())
    assert decode_manifest(encode(manifest)) == manifest


@given(st.binary(max_size=200))
def test_no_bytes_make_the_decoders_fail_otherwise(data: bytes) -> None:
    for decode in (decode_config, decode_manifest, decode_index):
        with pytest.raises(ImagesError):
            decode(data)


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), st.lists(st.text(max_size=8)), st.text(max_size=8))
def test_configs_round_trip(labels: dict[str, str], env: list[str], user: str) -> None:
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        config=ContainerConfig(labels=labels, env=tuple(env), user=user),
        rootfs=RootFS(),
    )
    assert decode_config(encode(config)) == config


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1714979289.5, "2024-05-06T07:08:09.5Z"), (1.000001, "1970-01-01T00:00:01.000001Z")],
)
def test_times_are_written_as_rfc3339nano(seconds: float, text: str) -> None:
    assert format_time(seconds) == text
    assert parse_time(text) == pytest.approx(seconds)


def test_times_are_read_with_zones_and_nanoseconds() -> None:
    assert parse_time("2024-05-06T09:08:09.000000001+02:00") == pytest.approx(1714979289)
    assert parse_time("0001-01-01T00:00:00Z") == 0.0
    assert parse_time("2024-05-06t07:08:09.25z") == parse_time("2024-05-06 07:08:09.25Z") == 1714979289.25
    assert parse_time("1969-12-31T23:59:59Z") == 0.0, "there is no time before the epoch"
    with pytest.raises(InvalidConfigError, match="not a time: 'yesterday'") as refused:
        parse_time("yesterday")
    assert refused.value.hint == "expected RFC 3339, as 2024-05-06T07:08:09Z"
    with pytest.raises(InvalidConfigError):
        parse_time("2024-13-45T00:00:00Z")
