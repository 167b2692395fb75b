"""Build arguments that need no ARG: proxies, and the platforms that BuildKit defines globally."""

from __future__ import annotations

from collections.abc import Mapping

from core.platforms import Platform

PROXY_ARGS = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Set for every RUN when given on the command line; neither in the history nor in the cache key unless declared."""


def platform_args(build: Platform, target: Platform) -> dict[str, str]:
    """``BUILDPLATFORM``, ``TARGETARCH`` and so on; visible to FROM, and in a stage once redeclared."""
    args: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        args[f"{prefix}PLATFORM"] = str(platform)
        args[f"{prefix}OS"] = platform.os
        args[f"{prefix}ARCH"] = platform.architecture
        args[f"{prefix}VARIANT"] = platform.variant
    return args


def proxy_env(build_args: Mapping[str, str], declared: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The proxies given as build arguments and not declared as ARG."""
    return tuple((name, value) for name, value in build_args.items() if name in PROXY_ARGS and name not in declared)
