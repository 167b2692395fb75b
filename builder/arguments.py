"""Build arguments that need no ARG: proxies, and the platforms that BuildKit defines globally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from builder.errors import BuilderError
from core.platforms import Platform

if TYPE_CHECKING:
    from builder.request import BuildRequest

EPOCH_ARG: Final = "SOURCE_DATE_EPOCH"

PROXY_ARGS: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Set for every RUN when given on the command line, in whatever case; neither in the history nor in the cache key
unless declared."""


HOSTNAME_ARG = "BUILDKIT_SANDBOX_HOSTNAME"
"""What RUN steps see as the name of their host, ``DEFAULT_HOSTNAME`` unless it is given: the same in every build."""

DEFAULT_HOSTNAME = "buildkitsandbox"

MULTI_PLATFORM_ARG: Final = "BUILDKIT_MULTI_PLATFORM"
"""The result is an index even where it is of one platform, and a directory of files has one for the platform."""

SCAN_CONTEXT_ARG: Final = "BUILDKIT_SBOM_SCAN_CONTEXT"
SCAN_STAGE_ARG: Final = "BUILDKIT_SBOM_SCAN_STAGE"
SCAN_ARGS: Final = frozenset({SCAN_CONTEXT_ARG, SCAN_STAGE_ARG})
"""What the SBOM is of besides the final stage. They take effect where an ARG declares them, and are no variables."""

_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})

CACHE_NAMESPACE_ARG = "BUILDKIT_CACHE_MOUNT_NS"
"""Builds with another value of it have other directories for ``RUN --mount=type=cache``, and no step of theirs that
mounts one answers for a step of the others."""


def platform_args(build: Platform, target: Platform) -> dict[str, str]:
    """``BUILDPLATFORM``, ``TARGETARCH`` and so on; visible to FROM, and in a stage once redeclared."""
    args: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        args[f"{prefix}PLATFORM"] = str(platform)
        args[f"{prefix}OS"] = platform.os
        args[f"{prefix}ARCH"] = platform.architecture
        args[f"{prefix}VARIANT"] = platform.variant
    return args


def is_true(value: str) -> bool:
    """As Go's strconv.ParseBool; what is neither true nor false is false."""
    return value in _TRUE


def names_stage(value: str, stage: str) -> bool:
    """Whether an argument that is a boolean, or a list of stages, is about this one."""
    return value in _TRUE if value in _TRUE | _FALSE else stage in value.split(",")


def dated(request: BuildRequest) -> BuildRequest:
    """The request with SOURCE_DATE_EPOCH as one: a build argument of that name says it, and else becomes what it says.

    Raises BuilderError for an argument that is no number.
    """
    text = request.build_args.get(EPOCH_ARG)
    if text is None:
        if request.source_date_epoch is None:
            return request
        build_args = {**request.build_args, EPOCH_ARG: str(request.source_date_epoch)}
        return request._replace(build_args=build_args)
    if text and not (text.isascii() and text.isdigit()):
        raise BuilderError(
            f"build argument {EPOCH_ARG} is {text!r}", hint="it is a number of seconds since 1970-01-01 UTC"
        )
    return request._replace(source_date_epoch=int(text) if text else None)


def proxy_env(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxies given as build arguments, each as variables in upper and in lower case: programs differ in which
    they read. Of one that is given in several cases the last in the order of the alphabet counts, as in BuildKit.
    """
    given = {name.upper(): build_args[name] for name in sorted(build_args)}
    return tuple((name, given[upper]) for upper in PROXY_ARGS if given.get(upper) for name in (upper, upper.lower()))
