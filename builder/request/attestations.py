"""Which attestations a build is asked for: ``--attest``, ``--provenance`` and ``--sbom``, in buildx's syntax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from builder.errors import OutputError
from core.gobool import parse_bool

_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "provenance": ("mode", "builder-id", "reproducible", "version", "disabled"),
    "sbom": ("disabled",),
}
_WHY_NOT: Final = {
    "generator": "Shiplap finds packages itself and runs no scanner",
    "capture-usage": "what steps used is not recorded",
    "inline-only": "attestations go with every output that has a place for them",
    "filename": "the files are provenance.json and sbom.spdx.json",
}


class Provenance(NamedTuple):
    """The options of the provenance attestation: how an image was built.

    mode: "max" adds the build's arguments, secrets' names and steps.
    builder_id: who vouches for it, a URI.
    reproducible: whether the user says that the build is reproducible.
    """

    mode: Literal["min", "max"] = "min"
    builder_id: str = ""
    reproducible: bool = False


class Attestations(NamedTuple):
    """The attestations to make of the images; none by default."""

    provenance: Provenance | None = None
    sbom: bool = False

    def __bool__(self) -> bool:
        return self.provenance is not None or self.sbom


def parse_attestations(attest: Sequence[str], provenance: str | None, sbom: str | None) -> Attestations:
    """Parse ``--attest``, ``--provenance`` and ``--sbom``. The latter two beat ``--attest``. Raises OutputError."""
    if not attest and provenance is None and sbom is None:
        return Attestations()
    members: dict[str, dict[str, str]] = {}
    for text in attest:
        found = _members(text, "--attest")
        kind = found.pop("type", "")
        if kind not in _KNOWN:
            raise OutputError(f"invalid --attest {text!r}: type={kind}", hint=f"types: {', '.join(_KNOWN)}")
        members[kind] = found
    for kind, value in (("provenance", provenance), ("sbom", sbom)):
        if value is not None:
            members[kind] = _shorthand(value, f"--{kind}")
    for kind, found in members.items():
        _check(kind, found)
    wanted = {kind: found for kind, found in members.items() if not _boolean(found.pop("disabled", "false"), kind)}
    return Attestations(
        _provenance(wanted["provenance"]) if "provenance" in wanted else None,
        sbom="sbom" in wanted,
    )


def _provenance(members: Mapping[str, str]) -> Provenance:
    mode = members.get("mode", "min")
    if mode not in ("min", "max"):
        raise OutputError(f"invalid provenance: mode={mode}", hint="modes: min, max")
    version = members.get("version", "v1")
    if version != "v1":
        raise OutputError(f"invalid provenance: version={version} is not written", hint="version=v1 is")
    reproducible = _boolean(members.get("reproducible", "false"), "provenance")
    return Provenance("max" if mode == "max" else "min", members.get("builder-id", ""), reproducible)


def _shorthand(text: str, option: str) -> dict[str, str]:
    """``true``, ``false``, or options as of ``--attest``."""
    said = parse_bool(text)
    if said is None:
        return _members(text, option)
    return {} if said else {"disabled": "true"}


def _members(text: str, option: str) -> dict[str, str]:
    import csv

    members: dict[str, str] = {}
    for member in next(csv.reader([text]), []):
        key, equals, value = member.partition("=")
        if not equals:
            raise OutputError(f"invalid {option} {text!r}: {member!r} is not key=value")
        members[key.strip().lower()] = value
    return members


def _check(kind: str, members: Mapping[str, str]) -> None:
    for key in members:
        if key not in _KNOWN[kind]:
            known = ", ".join(_KNOWN[kind])
            raise OutputError(
                f"invalid {kind}: unsupported option {key!r}", hint=_WHY_NOT.get(key, f"options: {known}")
            )


def _boolean(text: str, kind: str) -> bool:
    said = parse_bool(text)
    if said is None:
        raise OutputError(f"invalid {kind}: {text!r} is neither true nor false")
    return said
