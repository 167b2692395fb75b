"""``--filter`` of the commands about the cache, in docker's words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from cli.errors import CommandError
from cli.options import duration

if TYPE_CHECKING:
    from images.cacheuse import CacheItem

_Test: TypeAlias = "Callable[[CacheItem], bool]"

_FLAGS: Final[dict[str, _Test]] = {
    "inuse": lambda item: item.in_use,
    "shared": lambda item: item.shared,
    "private": lambda item: not item.shared,
}
_HELP: Final = (
    "filters: until=AGE, id=ID, type=layer|mount|cache|mirror, description=TEXT, description~=REGEX, inuse, shared,"
    " private"
)


def parse_filters(texts: Sequence[str]) -> Callable[[CacheItem], bool]:
    """A test for items that pass all of these filters. Raises CommandError."""
    tests = [_test(text) for text in texts]
    return lambda item: all(test(item) for test in tests)


def _test(text: str) -> _Test:
    name, operator, value = _parts(text)
    if name in _FLAGS and operator in ("", "=", "==") and value in ("", "true", "1", "false", "0"):
        wanted = value not in ("false", "0")
        return lambda item: _FLAGS[name](item) is wanted
    if name == "until" and operator == "=":
        before = time.time() - duration(value, "--filter until=")
        return lambda item: item.used_at < before
    if name == "id" and operator in ("=", "==") and value:
        return lambda item: item.id.startswith(value) or item.id.removeprefix("sha256:").startswith(value)
    if name == "type" and operator in ("=", "==") and value in ("layer", "mount", "cache", "mirror"):
        return lambda item: item.type == value
    if name == "description" and operator in ("=", "=="):
        return lambda item: value in item.description
    if name == "description" and operator == "~=":
        try:
            pattern = re.compile(value)
        except re.error as error:
            raise CommandError(f"--filter {text!r}: {error}") from error
        return lambda item: pattern.search(item.description) is not None
    raise CommandError(f"--filter {text!r} is not known", hint=_HELP)


def _parts(text: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"([a-z]+)(?:(==|~=|=)(.*))?", text, re.DOTALL)
    return (match[1], match[2] or "", match[3] or "") if match else (text, "", "")
