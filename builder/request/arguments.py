"""Build arguments that need no ARG: proxies, and the platforms that BuildKit defines globally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.gobool import parse_bool
from core.platforms import Platform

EPOCH_ARG: Final = "SOURCE_DATE_EPOCH"

PROXY_ARGS: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Set for every RUN when given on the command line, in whatever case; neither in the history nor in the cache key
unless declared."""


HOSTNAME_ARG = "BUILDKIT_SANDBOX_HOSTNAME"
"""What RUN steps see as the name of their host; ``builder.graph.vertices`` has what they see without it."""

MULTI_PLATFORM_ARG: Final = "BUILDKIT_MULTI_PLATFORM"
"""The result is an index even where it is of one platform, and a directory of files has one for the platform."""

INLINE_CACHE_ARG: Final = "BUILDKIT_INLINE_CACHE"
"""The image carries its build cache in its config, as with ``--cache-to type=inline``."""

SCAN_CONTEXT_ARG: Final = "BUILDKIT_SBOM_SCAN_CONTEXT"
SCAN_STAGE_ARG: Final = "BUILDKIT_SBOM_SCAN_STAGE"
SCAN_ARGS: Final = frozenset({SCAN_CONTEXT_ARG, SCAN_STAGE_ARG})
"""What the SBOM is of besides the final stage. They take effect where an ARG declares them, and are no variables."""

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


def names_stage(value: str, stage: str) -> bool:
    """Whether an argument that is a boolean, or a list of stages, is about this one."""
    said = parse_bool(value)
    return stage in value.split(",") if said is None else said


def proxy_env(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxies given as build arguments, each as variables in upper and in lower case: programs differ in which
    they read. Of one that is given in several cases the last in the order of the alphabet counts, as in BuildKit.
    """
    given = {name.upper(): build_args[name] for name in sorted(build_args)}
    return tuple((name, given[upper]) for upper in PROXY_ARGS if given.get(upper) for name in (upper, upper.lower()))
