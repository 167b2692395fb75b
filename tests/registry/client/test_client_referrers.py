"""What refers to an image: by the endpoint of registries that have it, by the fallback tag of others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.digests import Digest
from core.references import Reference
from images.oci import OCI_EMPTY, OCI_INDEX, OCI_MANIFEST, Descriptor
from images.store import Store
from images.summary import Image
from registry.client import Client, push, referrers_of
from registry.client.repository import Repository
from registry.client.sending import Sender
from registry.errors import NotFoundError
from tests.registry.server.serving import Server, serving
from tests.toolkit.faulty import Answer, ScriptedRegistry
from tests.toolkit.registries import DebianRegistry
from tests.toolkit.shiplap import Shiplap

SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("ours") / "root") as running:
        yield running


def attach(store: Store, client: Client, name: Reference, subject: Digest, kind: str) -> dict[str, Any]:
    """Push an artifact about ``subject``; returns its descriptor."""
    repository = Repository(client, client.endpoints(name, mirrors=False)[0], name.path)
    empty = store.blobs.put(b"{}")
    described = {"mediaType": OCI_EMPTY, "digest": empty, "size": 2}
    Sender(repository).send(
        Descriptor(media_type=OCI_EMPTY, digest=empty, size=2),
        lambda: store.blobs.open(empty),
        moved=lambda _: None,
    )
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": described,
        "layers": [described],
        "subject": {"mediaType": OCI_MANIFEST, "digest": subject, "size": 1},
    }
    data = json.dumps(document).encode()
    digest = Digest.of(data)
    repository.put_manifest(digest, OCI_MANIFEST, data)
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": len(data), "artifactType": kind}


def test_referrers_are_listed_and_filtered(
    ours: Server, store: Store, client: Client, make_image: Callable[..., Image], shiplap: Shiplap
) -> None:
    name = Reference.parse(f"{ours.host}/subject:1")
    make_image(store, str(name))
    subject = push(name, store, client=client).digest
    assert referrers_of(name, client=client) == (subject, [])
    sbom, signature = (attach(store, client, name, subject, kind)["digest"] for kind in (SBOM, SIGNATURE))
    found = referrers_of(name, client=client)[1]
    assert {entry.digest: entry.artifact_type for entry in found} == {sbom: SBOM, signature: SIGNATURE}
    pinned = name._replace(tag=None, digest=subject)
    assert [entry.digest for entry in referrers_of(pinned, client=client, artifact_type=SBOM)[1]] == [sbom]

    listed = shiplap("image", "referrers", str(name)).stdout.splitlines()
    assert len(listed) == 3
    document = json.loads(shiplap("image", "referrers", "--json", "--artifact-type", SIGNATURE, str(name)).stdout)
    assert document["subject"] == subject
    assert [entry["digest"] for entry in document["referrers"]] == [signature]


def test_a_registry_without_the_endpoint_has_them_under_a_tag(
    plain_registry: DebianRegistry, store: Store, client: Client, make_image: Callable[..., Image]
) -> None:
    name = Reference.parse(f"{plain_registry.host}/referrers/old:1")
    make_image(store, str(name))
    subject = push(name, store, client=client).digest
    assert referrers_of(name, client=client) == (subject, [])
    entries = [attach(store, client, name, subject, kind) for kind in (SBOM, SIGNATURE)]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    repository = Repository(client, client.endpoints(name, mirrors=False)[0], name.path)
    repository.put_manifest(f"sha256-{subject.hex}", OCI_INDEX, index)
    found = referrers_of(name, client=client, artifact_type=SIGNATURE)[1]
    assert [entry.digest for entry in found] == [entries[1]["digest"]]


def test_pages_are_followed(scripted: ScriptedRegistry, client: Client) -> None:
    subject = Digest.of(b"subject")
    pages = [
        json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [{"mediaType": OCI_MANIFEST, "digest": Digest.of(b"%d" % number), "size": 1}],
            }
        ).encode()
        for number in range(2)
    ]
    link = {"Link": f'</v2/paged/referrers/{subject}?last=x>; rel="next"', "Content-Type": OCI_INDEX}
    scripted.fault(rf"referrers/{subject}$", lambda _seen, _answer: Answer(200, link, pages[0]))
    scripted.fault("last=x", lambda _seen, _answer: Answer(200, {"Content-Type": OCI_INDEX}, pages[1]))
    name = Reference.parse(f"{scripted.host}/paged@{subject}")
    found = referrers_of(name, client=client)[1]
    assert [entry.digest for entry in found] == [Digest.of(b"0"), Digest.of(b"1")]


def test_the_referrers_of_nothing(ours: Server, client: Client) -> None:
    with pytest.raises(NotFoundError):
        referrers_of(Reference.parse(f"{ours.host}/nothing:1"), client=client)
