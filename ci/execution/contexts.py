"""Files of a workspace as the context of a build: a view of layers, of which nothing is copied."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from builder.contexts.context import Context
from builder.contexts.dockerfiles import read_ignore_patterns, require_dockerfile
from ci.errors import JobFaultError
from ci.outcome import JobTools
from core.digests import DiffID
from core.kernel import RESOLVE_IN_ROOT, openat2

_OF_THE_FILES: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class OpenedContext(NamedTuple):
    """A build's context, through its ignore file. name, dockerfile: of the Dockerfile, its path and its text."""

    context: Context
    name: str
    dockerfile: bytes


@contextlib.contextmanager
def opened_context(tools: JobTools, layers: Sequence[DiffID], directory: str, file: str) -> Iterator[OpenedContext]:
    """A directory of a workspace that is made of ``layers``, base first. file: empty: the usual Dockerfile.

    Raises JobFaultError when there is no such directory, DockerfileNotFoundError, ContextError.
    """
    root = tools.launcher.view(tools.store.snapshots.lowers(layers))
    try:
        fd = _opened(root, directory)
    finally:
        os.close(root)
    with Context(fd, directory, is_private=True) as whole:
        name, dockerfile = require_dockerfile(whole, file or None, f"the build context {directory}")
        with whole.with_ignore(read_ignore_patterns(whole, name)) as context:
            yield OpenedContext(context, name, dockerfile)


def _opened(root: int, directory: str) -> int:
    try:
        return openat2(root, directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=RESOLVE_IN_ROOT)
    except OSError as error:
        if error.errno not in _OF_THE_FILES:
            raise
        what = "is no directory" if error.errno == errno.ENOTDIR else "is not among the files"
        raise JobFaultError(
            f"the build context {directory} {what}", hint="it is a path from the top of the repository"
        ) from error
