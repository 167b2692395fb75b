"""A software bill of materials in SPDX 2.3: an image, and the packages in it.  Spec: spdx.github.io/spdx-spec/v2.3."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

from builder.attesting.packages.model import Package
from builder.attesting.packages.scan import Contents
from builder.attesting.statements import package_url
from core.digests import Digest

PREDICATE_TYPE: Final = "https://spdx.dev/Document"
_NAMESPACE: Final = "https://spdx.org/spdxdocs/shiplap-"
_DOCUMENT: Final = "SPDXRef-DOCUMENT"
_IMAGE: Final = "SPDXRef-DocumentRoot-Image"
_NO_ASSERTION: Final = "NOASSERTION"
_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9.-]+")


def document(
    contents: Contents, *, name: str, digest: Digest, created: str, tool: str, about: str = ""
) -> dict[str, Any]:
    """The predicate.

    name, digest: of the image.
    created: RFC 3339, whole seconds.
    tool: its name and version.
    about: the stage or the context that has these packages. It is then the document's root, in place of a container.
    Equal images give equal documents: the namespace, which must be unique to a document, is made from the digest.
    """
    packages = [_package(package, number) for number, package in enumerate(contents.packages)]
    image = {
        "name": name,
        "SPDXID": _IMAGE,
        "versionInfo": str(digest),
        "downloadLocation": _NO_ASSERTION,
        "filesAnalyzed": False,
        "primaryPackagePurpose": "CONTAINER",
        "checksums": [{"algorithm": digest.algorithm.upper(), "checksumValue": digest.hex}],
        "licenseConcluded": _NO_ASSERTION,
        "licenseDeclared": _NO_ASSERTION,
        "copyrightText": _NO_ASSERTION,
    }
    if about:
        del image["versionInfo"], image["checksums"]
        image["primaryPackagePurpose"] = "OTHER"
    if contents.system.name:
        image["comment"] = contents.system.name
    contained = [_relationship(_IMAGE, "CONTAINS", package["SPDXID"]) for package in packages]
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": _DOCUMENT,
        "name": name,
        "documentNamespace": f"{_NAMESPACE}{digest.hex}" + (f"-{quote(about)}" if about else ""),
        "creationInfo": {"created": created, "creators": [f"Tool: {tool}"]},
        "packages": [image, *packages],
        "relationships": [_relationship(_DOCUMENT, "DESCRIBES", _IMAGE), *contained],
    }


def _package(package: Package, number: int) -> dict[str, Any]:
    full_name = f"{package.namespace}/{package.name}" if package.namespace else package.name
    shown = full_name if package.kind == "npm" else package.name
    url = package_url(package.kind, full_name, package.version, dict(package.qualifiers))
    return {
        "name": shown,
        "SPDXID": f"SPDXRef-Package-{package.kind}-{_NOT_IN_IDS.sub('-', shown)}-{number}",
        "versionInfo": package.version,
        "supplier": package.supplier or _NO_ASSERTION,
        "downloadLocation": _NO_ASSERTION,
        "filesAnalyzed": False,
        "sourceInfo": f"found in {package.found_in}",
        "licenseConcluded": _NO_ASSERTION,
        "licenseDeclared": _NO_ASSERTION,
        "copyrightText": _NO_ASSERTION,
        "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": url}],
    }


def _relationship(element: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": element, "relationshipType": kind, "relatedSpdxElement": related}
