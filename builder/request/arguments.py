"""Build arguments that need no ARG: proxies, and the platforms that BuildKit defines globally."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from builder.errors import BuilderError
from core.gobool import parse_bool
from core.platforms import Platform

if TYPE_CHECKING:
    from builder.request.request import BuildRequest
    from dockerfile_grammar import Dockerfile

EPOCH_ARG: Final = "SOURCE_DATE_EPOCH"
_EPOCH_HINT: Final = "it is a number of seconds since 1970-01-01 UTC"
_EPOCH_DIGITS: Final = 11  # what Python's and a tar's times take; the year 5138

PROXY_ARGS: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
"""Set for every RUN when given on the command line, in whatever case; neither in the history nor in the cache key
unless declared."""


HOSTNAME_ARG = "BUILDKIT_SANDBOX_HOSTNAME"
"""What RUN steps see as the name of their host, ``DEFAULT_HOSTNAME`` unless it is given: the same in every build."""

DEFAULT_HOSTNAME = "buildkitsandbox"

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


def dated(request: BuildRequest, dockerfile: Dockerfile) -> BuildRequest:
    """Let the build argument SOURCE_DATE_EPOCH and the request's ``source_date_epoch`` agree.

    The build argument wins, then the request, then the default of an ARG of that name before the first FROM.
    Raises BuilderError for an argument that is no number, and DockerfileError for a default that is none.
    """
    text = request.build_args.get(EPOCH_ARG)
    if text is None and request.source_date_epoch is not None:
        build_args = {**request.build_args, EPOCH_ARG: str(request.source_date_epoch)}
        return request._replace(build_args=build_args)
    if text is None:
        epoch = _declared_epoch(request, dockerfile)
        return request if epoch is None else request._replace(source_date_epoch=epoch)
    if text and not _is_epoch(text):
        raise BuilderError(f"build argument {EPOCH_ARG} is {text!r}", hint=_EPOCH_HINT)
    return request._replace(source_date_epoch=int(text) if text else None)


def _declared_epoch(request: BuildRequest, dockerfile: Dockerfile) -> int | None:
    """What the last ``ARG SOURCE_DATE_EPOCH=N`` before the first FROM says; None without one, or for an empty one."""
    if not dockerfile.meta_args:
        return None
    from builder.frontend.evaluation import Evaluator  # a remembered build evaluates nothing

    epoch = None
    for declaration, name, default, _ in Evaluator(dockerfile, request.build_args).meta_args(request.platform).declared:
        if name != EPOCH_ARG or declaration.default is None:
            continue
        if default and not _is_epoch(default):
            raise dockerfile.error(f"ARG {EPOCH_ARG} is {default!r}", declaration.default.span, hint=_EPOCH_HINT)
        epoch = int(default) if default else None
    return epoch


def _is_epoch(text: str) -> bool:
    """Whether it is a number of seconds that files can have as their time."""
    return text.isascii() and text.isdigit() and len(text) <= _EPOCH_DIGITS


def proxy_env(build_args: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The proxies given as build arguments, each as variables in upper and in lower case: programs differ in which
    they read. Of one that is given in several cases the last in the order of the alphabet counts, as in BuildKit.
    """
    given = {name.upper(): build_args[name] for name in sorted(build_args)}
    return tuple((name, given[upper]) for upper in PROXY_ARGS if given.get(upper) for name in (upper, upper.lower()))
