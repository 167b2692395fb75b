"""How a word looks that names something to fetch: a URL, or a git repository as ssh writes it.

This test comes first, and costs nothing. ``builder/remotes/giturls.py`` says what the word means and whether it is
well-formed: there ``https://host/file`` is a file, and ``https://host/repository.git`` a repository.
"""

from __future__ import annotations

import re
from typing import Final

PORTS: Final = {"https": 443, "http": 80, "ssh": 22, "git": 9418}
"""Where the servers of each scheme listen; nothing of another scheme is fetched."""

USER_AT_HOST: Final = r"(?P<user>[A-Za-z0-9_][A-Za-z0-9._-]*)@(?P<host>[A-Za-z0-9.-]+):"
"""How ``USER@HOST:PATH`` begins. A name that begins with "-" would be an option of ssh."""

_START: Final = re.compile(rf"(?i:{'|'.join(PORTS)})://|{USER_AT_HOST}")
_SHORT: Final = "github.com/"


def is_fetchable(word: str) -> bool:
    """Whether ``word`` is written like what ADD fetches; for ADD and COPY, all else is a path in the context."""
    return _START.match(word) is not None


def is_fetchable_context(word: str) -> bool:
    """Whether a build context is written as what is fetched. Here, and only here, ``github.com/…`` is a repository."""
    return is_short(word) or is_fetchable(word)


def is_short(word: str) -> bool:
    """Whether ``word`` is ``github.com/…``, which docker build reads as ``https://github.com/…``."""
    return word.startswith(_SHORT)
