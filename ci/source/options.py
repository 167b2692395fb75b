"""Which of the options of ``source`` can be had."""

from __future__ import annotations

from typing import Final

from ci.errors import RepositoryError
from ci.model import SourceOptions

_LFS_HINT: Final = "leave source.lfs out, and let the job fetch what it needs: git lfs pull"


def check_options(options: SourceOptions) -> None:
    """Raises RepositoryError for what is not there yet."""
    if options.lfs:
        raise RepositoryError("not yet: source.lfs (what Git LFS keeps elsewhere is not fetched)", hint=_LFS_HINT)
