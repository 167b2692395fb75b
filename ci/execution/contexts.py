"""Files of a workspace as the context of a build: a view of layers, of which nothing is copied."""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import stat
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from builder.contexts.context import Context
from builder.contexts.dockerfiles import read_ignore_patterns, require_dockerfile
from ci.errors import JobFaultError
from ci.outcome import JobTools
from ci.workspace.stack import Stack
from core.kernel import RESOLVE_IN_ROOT, openat2

_OF_THE_FILES: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


class OpenedContext(NamedTuple):
    """A build's context, through its ignore file. name, dockerfile: of the Dockerfile, its path and its text."""

    context: Context
    name: str
    dockerfile: bytes


@contextlib.contextmanager
def opened_context(tools: JobTools, files: Stack, directory: str, file: str) -> Iterator[OpenedContext]:
    """A directory of a workspace. file: empty: the usual Dockerfile.

    Raises JobFaultError when there is no such directory, DockerfileNotFoundError, ContextError.
    """
    root = tools.launcher.view(tools.store.snapshots.lowers(files.layers))
    try:
        fd = _opened(root, directory)
    finally:
        os.close(root)
    with Context(fd, directory, is_private=True, contents=_contents(files, directory)) as whole:
        name, dockerfile = require_dockerfile(whole, file or None, f"the build context {directory}")
        with whole.with_ignore(read_ignore_patterns(whole, name)) as context:
            yield OpenedContext(context, name, dockerfile)


def _contents(files: Stack, directory: str) -> Mapping[str, bytes] | None:
    """The digests of the files of a directory, so that COPY reads none of them to know that nothing has changed.

    None where files have attributes, or several names, of which a digest says nothing. Below a link there are none.
    """
    top = posixpath.normpath(directory)
    prefix = "" if top == "." else f"{top}/"
    found = {}
    for path, (mode, what, more) in files.files.items():
        if more:
            return None
        if path.startswith(prefix) and stat.S_ISREG(int(mode.partition(" ")[0], 8)):
            found[path.removeprefix(prefix)] = bytes.fromhex(what)
    return found


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
