"""What a solve asks for: the attributes of BuildKit's Dockerfile frontend, its exporters and caches, read.

An attribute that would change the result and is not done is refused by name, and so is one that nobody here knows.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.cacheio.options import parse_cache_from, parse_cache_to
from builder.exporting.options import parse_output
from builder.request.attestations import parse_attestations
from core.platforms import Platform
from dockerapi.errors import bad, not_done

if TYPE_CHECKING:
    from builder.request.cache import CacheFrom, CacheTo
    from builder.request.output import Output

FRONTEND: Final = "dockerfile.v0"
CACHE_IMPORTS: Final = "cache-imports"
"""The attribute that has where caches come from, as JSON: within a solve it is all that a client says of them."""


_PASSED_OVER: Final = (
    CACHE_IMPORTS,
    "frontend.caps",
    "hostname",
    "contextkey",
    "dockerfilekey",
    "multi-platform",
    "build-arg-default",
    "requestid",
    "linux.cgroup",
)
_PREFIXES_PASSED_OVER: Final = ("vcs:", "local-sessionid:", "input-metadata:", "buildinfo", "sharedkey:")
_REFUSED: Final[Mapping[str, str]] = {
    "ulimit": "limits of steps are not done over the API",
    "shm-size": "limits of steps are not done over the API",
    "cgroup-parent": "control groups are made where this engine's are",
    "source": "a frontend of one's own is not done: the Dockerfile's language is built in",
    "cmdline": "a frontend of one's own is not done: the Dockerfile's language is built in",
}
_MODES: Final = {"": False, "default": False, "local": False, "preferlocal": False, "pull": True}
_NETWORKS: Final = {"": "default", "default": "default", "bridge": "default", "none": "none"}


class Attributes(NamedTuple):
    """The attributes of a Dockerfile's build.

    request: members of BuildRequest.
    filename: of the Dockerfile, in the client's directory of it or in the fetched context.
    context: a URL or a repository; empty: the client's directory.
    named: other contexts by their name.
    """

    request: dict[str, Any]
    filename: str
    context: str
    named: dict[str, str]


class Export(NamedTuple):
    """Where a build's result goes to.

    number: of the exporter, as the client counts them.
    output: what the builder makes.
    is_sent: whether it goes to the client.
    """

    number: int
    output: Output
    is_sent: bool


def read_attributes(given: Mapping[str, str]) -> Attributes:
    """Read the frontend's attributes. Raises ShiplapErrors."""
    left = dict(given)
    build_args = _taken(left, "build-arg:")
    labels = _taken(left, "label:")
    named = _taken(left, "context:")
    attest = _taken(left, "attest:")
    for name in list(left):
        if name in _REFUSED:
            if left[name]:
                raise not_done(f"{name}: {_REFUSED[name]}")
            del left[name]
        elif name in _PASSED_OVER or name.startswith(_PREFIXES_PASSED_OVER):
            del left[name]
    network = _NETWORKS.get(left.pop("force-network-mode", ""))
    if network is None:
        raise not_done(f"network {given['force-network-mode']}: default and none are done")
    mode = left.pop("image-resolve-mode", "")
    if mode not in _MODES:
        raise bad(f"image-resolve-mode {mode!r} is not known")
    no_cache = left.pop("no-cache", None)
    request: dict[str, Any] = {
        "target": left.pop("target", ""),
        "build_args": build_args,
        "labels": labels,
        "pull": _MODES[mode],
        "platforms": tuple(map(Platform.parse, _split(left.pop("platform", "")))),
        "network": network,
        "add_hosts": tuple(_host(text) for text in _split(left.pop("add-hosts", ""))),
        "no_cache": no_cache == "",
        "no_cache_stages": tuple(name.lower() for name in _split(no_cache or "")),
        "attest": _attestations(attest),
    }
    found = Attributes(request, left.pop("filename", "") or "Dockerfile", left.pop("context", ""), named)
    if left:
        raise not_done(f"{next(iter(left))}: this attribute of a build is not done")
    return found


def read_exports(exporters: Iterable[tuple[str, Mapping[str, str]]]) -> list[Export]:
    """Read exporters, as kinds and attributes. Raises ShiplapErrors."""
    return [_export(number, kind, attributes) for number, (kind, attributes) in enumerate(exporters)]


def _export(number: int, kind: str, attributes: Mapping[str, str]) -> Export:
    members = {name: value for name, value in attributes.items() if name not in ("unpack", "context", "load")}
    if kind == "moby":
        kind = "image"
    if kind in ("image", "docker", "oci", "tar", "local"):
        is_sent = kind != "image"
        if is_sent:
            members["dest"] = "a place that solving chooses"
        output = parse_output(_option(kind, members))
        if not output.as_tar:
            raise not_done(f"output type={kind},tar=false: a layout is not sent as a directory; leave tar=false out")
        return Export(number, output, is_sent)
    raise not_done(f"output type={kind} is not done: image, docker, oci, tar and local are")


def read_cache_imports(entries: Iterable[Any], attributes: Mapping[str, str]) -> tuple[CacheFrom, ...]:
    """Read where caches come from: of a request's member, else of its attributes. Raises ShiplapErrors."""
    found = [(str(entry.Type), dict(entry.Attrs)) for entry in entries]
    if not found and attributes.get(CACHE_IMPORTS):
        try:
            told = json.loads(attributes[CACHE_IMPORTS]) or []
            found = [(str(each["Type"]), {str(name): str(is_) for name, is_ in each["Attrs"].items()}) for each in told]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise bad(f"{CACHE_IMPORTS}: this is no list of caches") from error
    return tuple(parse_cache_from(_cache_option(kind, attrs)) for kind, attrs in found)


def read_cache_exports(entries: Iterable[Any]) -> tuple[CacheTo, ...]:
    """Read where caches go to. Raises ShiplapErrors."""
    found = tuple(parse_cache_to(_cache_option(entry.Type, dict(entry.Attrs))) for entry in entries)
    if sum(target.type == "local" for target in found) > 1:
        raise not_done("--cache-to type=local twice: a client writes down one manifest; one directory is done")
    return found


def _cache_option(kind: str, members: dict[str, str]) -> str:
    return _option(kind, {} if kind == "inline" else members)


def _option(kind: str, members: Mapping[str, str]) -> str:
    """An option in buildx's syntax, as the builder's own parsers read it. Raises ApiError for one that is too long."""
    fields = [f"type={kind}", *(f"{key}={value}" for key, value in members.items())]
    if any(len(field) > csv.field_size_limit() for field in fields):
        raise bad(f"an option of type={kind[:100]} has more than {csv.field_size_limit()} characters")
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(fields)  # which has fields with ends of lines quoted
    return line.getvalue().removesuffix("\r\n")


def _attestations(given: Mapping[str, str]) -> Any:
    """The attestations. buildx asks for ``inline-only`` provenance when nobody does: that is left out."""
    texts = []
    for kind, value in given.items():
        members = [member for member in value.split(",") if member]
        if "inline-only=true" not in members:
            texts.append(",".join([f"type={kind}", *(each for each in members if each != "inline-only=false")]))
    return parse_attestations(texts, None, None)


def _taken(left: dict[str, str], prefix: str) -> dict[str, str]:
    """The members with a prefix, without it; they are taken out."""
    return {name.removeprefix(prefix): left.pop(name) for name in list(left) if name.startswith(prefix)}


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _host(text: str) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    if not equals or not name or not address:
        raise bad(f"bad format for add-host: {text!r}")
    return name, address
