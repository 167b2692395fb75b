"""Tags, referrers and the catalog: every status. docs/registry.md lists these tests beside the statuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.registry.server.serving import (
    OCI_INDEX,
    OCI_MANIFEST,
    InProcess,
    code_of,
    descriptor,
    digest_of,
    index_of,
)

_ABSENT = digest_of(b"nobody has this")


# /v2/<name>/tags/list


def test_tags_200_in_lexical_order_without_regard_to_case(client: InProcess) -> None:
    manifest = client.push_image("b")
    for tag in ("A", "c", "B", "a", "10", "9"):
        client.put_manifest(manifest, tag)
    response = client("GET", "/v2/team/app/tags/list")
    assert response.json == {"name": "team/app", "tags": ["10", "9", "A", "a", "B", "b", "c"]}


def test_tags_200_in_pages(client: InProcess) -> None:
    manifest = client.push_image("a")
    for tag in "bcde":
        client.put_manifest(manifest, tag)
    first = client("GET", "/v2/team/app/tags/list?n=2")
    assert first.json == {"name": "team/app", "tags": ["a", "b"]}
    assert first.headers["Link"] == '</v2/team/app/tags/list?n=2&last=b>; rel="next"'
    assert client("GET", "/v2/team/app/tags/list?n=2&last=b").json == {"name": "team/app", "tags": ["c", "d"]}
    last = client("GET", "/v2/team/app/tags/list?n=2&last=d")
    assert last.json == {"name": "team/app", "tags": ["e"]}
    assert "Link" not in last.headers
    assert client("GET", "/v2/team/app/tags/list?last=bb").json == {"name": "team/app", "tags": ["c", "d", "e"]}
    exact = client("GET", "/v2/team/app/tags/list?n=5")
    assert "Link" not in exact.headers


def test_tags_200_n_0_is_empty_without_link(client: InProcess) -> None:
    client.push_image("a")
    response = client("GET", "/v2/team/app/tags/list?n=0")
    assert response.json == {"name": "team/app", "tags": []}
    assert "Link" not in response.headers


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "", "9" * 30])
@pytest.mark.parametrize("path", ["/v2/team/app/tags/list", "/v2/_catalog"])
def test_bad_page_size_400(client: InProcess, path: str, n: str) -> None:
    client.push_image("a")
    response = client("GET", f"{path}?n={n}")
    assert response.status_code == 400
    assert code_of(response) == "PAGINATION_NUMBER_INVALID"


def test_tags_404(client: InProcess) -> None:
    response = client("GET", "/v2/nobody/here/tags/list")
    assert response.status_code == 404
    assert code_of(response) == "NAME_UNKNOWN"


# /v2/<name>/referrers/<digest>


def test_referrers_200_empty(client: InProcess) -> None:
    response = client("GET", f"/v2/nobody/here/referrers/{_ABSENT}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == OCI_INDEX
    assert response.json == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}


def test_referrers_200_with_filter(client: InProcess) -> None:
    subject = client.push_image("v1")
    about = descriptor(subject, OCI_MANIFEST)
    signature = client.push_image(subject=about, artifactType="application/signature", annotations={"by": "me"})
    plain = client.push_image(subject=about)
    index = index_of([subject], subject=about, artifactType="application/bundle")
    client.put_manifest(index, media_type=OCI_INDEX)
    path = f"/v2/team/app/referrers/{digest_of(subject)}"
    every = client("GET", path)
    assert {item["digest"]: item for item in json.loads(every.data)["manifests"]} == {
        digest_of(signature): descriptor(
            signature, OCI_MANIFEST, artifactType="application/signature", annotations={"by": "me"}
        ),
        digest_of(plain): descriptor(plain, OCI_MANIFEST, artifactType="application/vnd.oci.image.config.v1+json"),
        digest_of(index): descriptor(index, OCI_INDEX, artifactType="application/bundle"),
    }
    assert "OCI-Filters-Applied" not in every.headers
    some = client("GET", f"{path}?artifactType=application/signature")
    assert [item["digest"] for item in json.loads(some.data)["manifests"]] == [digest_of(signature)]
    assert some.headers["OCI-Filters-Applied"] == "artifactType"


def test_referrers_200_in_pages_that_clients_can_take(client: InProcess) -> None:
    subject = client.push_image("v1")
    about = descriptor(subject, OCI_MANIFEST)
    pushed = {
        digest_of(client.push_image(subject=about, annotations={"n": str(n), "x": "A" * 1_200_000})) for n in range(5)
    }
    path, found = f"/v2/team/app/referrers/{digest_of(subject)}", set()
    while path:
        response = client("GET", path)
        assert len(response.data) < 4 << 20
        found |= {item["digest"] for item in json.loads(response.data)["manifests"]}
        path = response.headers.get("Link", "<>").partition("<")[2].partition(">")[0]
    assert found == pushed


def test_referrers_malformed_digest_400(client: InProcess) -> None:
    response = client("GET", "/v2/team/app/referrers/sha256:bad")
    assert response.status_code == 400
    assert code_of(response) == "DIGEST_INVALID"


# /v2/_catalog


def test_catalog_200_in_pages(client: InProcess) -> None:
    for name in ("c", "a/b", "d"):
        client.push_blob(b"x", name=name)
    assert client("GET", "/v2/_catalog").json == {"repositories": ["a/b", "c", "d"]}
    first = client("GET", "/v2/_catalog?n=2")
    assert first.json == {"repositories": ["a/b", "c"]}
    assert first.headers["Link"] == '</v2/_catalog?n=2&last=c>; rel="next"'
    assert client("GET", "/v2/_catalog?n=2&last=c").json == {"repositories": ["d"]}


def test_every_status_that_the_documentation_lists_has_its_test() -> None:
    checkout = Path(__file__).resolve().parents[3]
    named = set(re.findall(r"`(test_\w+)`", (checkout / "docs" / "registry.md").read_text().partition("## Server")[2]))
    files = Path(__file__).parent.glob("test_*.py")
    there = set(re.findall(r"^def (test_\w+)", "".join(path.read_text() for path in files), re.MULTILINE))
    assert named
    assert named - there == set()
