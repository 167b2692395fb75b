"""Which time SOURCE_DATE_EPOCH gives to everything that a build makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.errors import BuilderError
from builder.request.arguments import EPOCH_ARG

if TYPE_CHECKING:
    from builder.request.request import BuildRequest
    from dockerfile_grammar import Dockerfile

_EPOCH_HINT: Final = "it is a number of seconds since 1970-01-01 UTC"
_EPOCH_DIGITS: Final = 11  # what Python's and a tar's times take; the year 5138


def dated(request: BuildRequest, dockerfile: Dockerfile) -> BuildRequest:
    """Let the build argument SOURCE_DATE_EPOCH and the request's ``source_date_epoch`` agree.

    The build argument wins, then the request, then the default of an ARG of that name before the first FROM.
    Raises BuilderError when the argument is no number, and DockerfileError when the default is none.
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
    """The value of the last ``ARG SOURCE_DATE_EPOCH=N`` before the first FROM; None if there is none or it is empty."""
    if not dockerfile.meta_args:
        return None
    from builder.frontend.evaluation import Evaluator  # most Dockerfiles have nothing to evaluate before FROM

    epoch = None
    for declaration, name, default, _ in Evaluator(dockerfile, request.build_args).meta_args(request.platform).declared:
        if name != EPOCH_ARG or declaration.default is None:
            continue
        if default and not _is_epoch(default):
            raise dockerfile.error(f"ARG {EPOCH_ARG} is {default!r}", declaration.default.span, hint=_EPOCH_HINT)
        epoch = int(default) if default else None
    return epoch


def _is_epoch(text: str) -> bool:
    """Whether ``text`` is a number of seconds that can be a file's time."""
    return text.isascii() and text.isdigit() and len(text) <= _EPOCH_DIGITS
