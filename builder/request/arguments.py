"""Build arguments that need no ARG: proxies, and the platforms that BuildKit defines globally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from core.gobool import parse_bool
from core.platforms import Platform

EPOCH_ARG: Final = "SOURCE_DATE_EPOCH"

PROXY_ARGS: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Set for every RUN when given on the command line, whatever the case of their letters.

Unless an ARG declares them, they are neither in the history nor in the cache key.
"""


HOSTNAME_ARG = "BUILDKIT_SANDBOX_HOSTNAME"
"""The host name that RUN steps see; ``builder.graph.vertices`` has the default."""

MULTI_PLATFORM_ARG: Final = "BUILDKIT_MULTI_PLATFORM"
"""Treats one platform like several: the result is an index, and an output directory has one for the platform."""

INLINE_CACHE_ARG: Final = "BUILDKIT_INLINE_CACHE"
"""The image carries its build cache in its config, as with ``--cache-to type=inline``."""

SCAN_CONTEXT_ARG: Final = "BUILDKIT_SBOM_SCAN_CONTEXT"
SCAN_STAGE_ARG: Final = "BUILDKIT_SBOM_SCAN_STAGE"
SCAN_ARGS: Final = frozenset({SCAN_CONTEXT_ARG, SCAN_STAGE_ARG})
"""They add to the SBOM of the final stage. They take effect where an ARG declares them, and are no variables."""

CACHE_NAMESPACE_ARG = "BUILDKIT_CACHE_MOUNT_NS"
"""The namespace of ``RUN --mount=type=cache``: builds with different values have different cache directories.

A step that mounts such a directory never answers for a step of a build with another value.
"""


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
    """Whether an argument's value, a boolean or a list of stages, includes ``stage``."""
    said = parse_bool(value)
    return stage in value.split(",") if said is None else said


def proxy_env(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxies given as build arguments, as variables.

    Each comes in upper and in lower case, since programs differ in which they read. Where one is given in several
    cases, the last in alphabetical order counts, as in BuildKit.
    """
    given = {name.upper(): build_args[name] for name in sorted(build_args)}
    return tuple((name, given[upper]) for upper in PROXY_ARGS if given.get(upper) for name in (upper, upper.lower()))
