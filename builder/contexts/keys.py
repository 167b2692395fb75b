"""What names mean: the keys of named contexts."""

from __future__ import annotations

from builder.errors import ContextError
from core.errors import InvalidReferenceError
from core.references import Reference

SCRATCH = "scratch"
_RESERVED = ("context", SCRATCH)


def context_key(name: str) -> str:
    """The key of a named context: like an image's short name, without ``:latest``.

    Raises ContextError for a name that neither a stage nor an image can have.
    """
    try:
        familiar = Reference.parse(name.lower() if ":" not in name and "/" not in name else name).familiar
    except InvalidReferenceError as error:
        raise ContextError(f"a build context cannot have the name {name!r}", hint=error.hint) from error
    if familiar in _RESERVED:
        raise ContextError(f"the name {name!r} is reserved", hint="choose another one for the context")
    return familiar.removesuffix(":latest")
