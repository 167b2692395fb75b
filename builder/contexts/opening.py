"""Finding what to build: the Dockerfile, its ignore file and the context, as ``docker build`` does it."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.contexts.context import MAX_DOCKERFILE_BYTES, Context
from builder.contexts.dockerfiles import (
    DEFAULT_NAME,
    dockerfiles_in,
    parse_ignore_patterns,
    read_dockerfile,
    read_ignore_patterns,
)
from builder.errors import ContextError, DockerfileNotFoundError
from core.fetchable import is_fetchable_context
from core.suggestions import did_you_mean, nearest

if TYPE_CHECKING:
    from builder.remotes.access import Remote

_STDIN = "-"


class BuildSource(NamedTuple):
    """The context and Dockerfile that were found. The caller closes the context.

    dockerfile_name: for messages, as the user would write it.
    """

    dockerfile: bytes
    dockerfile_name: str
    context: Context


def open_source(
    context: str, file: str | None, *, stdin: BinaryIO, scratch: Path, remote: Remote | None = None
) -> BuildSource:
    """Open a context and read its Dockerfile.

    context: a directory; a git repository; a URL of a tar or a Dockerfile; or ``-``: a tar (of any compression) or a
    Dockerfile on ``stdin``.
    remote: how to fetch a repository or URL; None: these are refused.
    file: the ``-f`` option: a path from the working directory, or inside the fetched files; ``-``: the Dockerfile is on
    ``stdin``.
    scratch: a directory of the caller's in which a tar may be unpacked.
    Raises ContextError and DockerfileNotFoundError; for repositories and URLs also FetchError and InvalidUrlError.
    """
    if context == _STDIN:
        return _from_stdin(file, stdin, scratch)
    if remote is not None and is_fetchable_context(context) and not os.path.isdir(context):
        from builder.contexts.remote import is_remote

        if is_remote(context):
            return _from_elsewhere(context, file, stdin, scratch, remote)
    opened = Context.open_directory(context)
    if file is None or file == _STDIN:
        return _inside(opened, file, stdin)
    try:
        dockerfile, beside = _read_files(file)
        if beside is None:
            ignore = read_ignore_patterns(opened)
        else:
            ignore = parse_ignore_patterns(beside, f"{file}.dockerignore")
        return BuildSource(dockerfile, file, opened.with_ignore(ignore))
    except BaseException:
        opened.close()
        raise


def _from_stdin(file: str | None, stdin: BinaryIO, scratch: Path) -> BuildSource:
    if file == _STDIN:
        raise ContextError(
            "the Dockerfile and the context cannot both come from standard input",
            hint="give a directory as the context, or put the Dockerfile into the tar",
        )
    from builder.contexts.sniffing import looks_like_a_tar

    head = _read_head(stdin)
    if not looks_like_a_tar(head):
        if file is not None:
            raise ContextError(
                "standard input is not a tar, so -f has no meaning", hint="a Dockerfile on standard input needs no -f"
            )
        dockerfile = head + _read_all(stdin, already=len(head))
        return BuildSource(dockerfile, _STDIN, Context.empty(scratch))
    return _inside(Context.from_tar(_Prefixed(head, stdin), scratch), file, stdin)


def _from_elsewhere(context: str, file: str | None, stdin: BinaryIO, scratch: Path, remote: Remote) -> BuildSource:
    from builder.contexts.remote import fetch_context

    opened, dockerfile = fetch_context(context, scratch, remote)
    if dockerfile is not None and file is None:
        return BuildSource(dockerfile, opened.name, opened)
    return _inside(opened, file, stdin)


def _inside(opened: Context, file: str | None, stdin: BinaryIO) -> BuildSource:
    """Read a context that contains its ignore file, and its Dockerfile unless that is on ``stdin``."""
    try:
        if file == _STDIN:
            return BuildSource(_read_all(stdin), _STDIN, opened.with_ignore(read_ignore_patterns(opened)))
        found = read_dockerfile(opened, file)
        if found is None:
            raise _not_found(opened, file or DEFAULT_NAME)
        name, dockerfile = found
        return BuildSource(dockerfile, name, opened.with_ignore(read_ignore_patterns(opened, name)))
    except BaseException:
        opened.close()
        raise


def _read_files(file: str) -> tuple[bytes, bytes | None]:
    """A Dockerfile that may be outside of the context, and the ignore file that stands beside it."""
    try:
        with open(file, "rb") as opened:
            data = opened.read(MAX_DOCKERFILE_BYTES + 1)
    except FileNotFoundError as error:
        directory = os.path.dirname(file) or "."
        raise DockerfileNotFoundError(
            f"there is no Dockerfile {file}", hint=_near(_files_in(directory), os.path.basename(file), directory)
        ) from error
    except OSError as error:
        raise DockerfileNotFoundError(f"cannot read the Dockerfile {file}: {error.strerror}") from error
    if len(data) > MAX_DOCKERFILE_BYTES:
        raise DockerfileNotFoundError(f"{file} is bigger than {MAX_DOCKERFILE_BYTES} bytes: no Dockerfile is")
    try:
        with open(f"{file}.dockerignore", "rb") as opened:
            return data, opened.read(MAX_DOCKERFILE_BYTES)
    except OSError:
        return data, None


def _not_found(context: Context, name: str) -> DockerfileNotFoundError:
    tree = context.tree()
    files = [each for each in tree.names("") if stat.S_ISREG(tree.mode(each) or 0)]
    found = dockerfiles_in(context)
    # For a directory, -f is a path from here; for a repository or a tar, a path inside it.
    directory = context.name if os.path.isdir(context.name) else ""
    return DockerfileNotFoundError(
        f"there is no {name} in {tree.label}",
        hint=_near(files, name, directory) or _one_of(found, directory) or "name another file with -f",
        found=found,
    )


def _one_of(found: Sequence[str], directory: str) -> str | None:
    """The hint that names Dockerfiles further down."""
    if not found:
        return None
    call = f"-f {os.path.normpath(os.path.join(directory, found[0]))}"
    if len(found) == 1:
        return f"{did_you_mean(found)} (shiplap build {call})"
    return f"there are {', '.join(found)}; name one of them, as in shiplap build {call}"


def _near(names: list[str], wanted: str, directory: str) -> str | None:
    """The hint that names the file that was probably meant. names: the files in the directory."""
    found = nearest(wanted, names) or [
        name for name in names if name.lower().endswith((".dockerfile", "containerfile"))
    ]
    if not found:
        return None
    call = f"shiplap build -f {os.path.normpath(os.path.join(directory, found[0]))}"
    return f"{did_you_mean(found[:1])} ({call})"


def _files_in(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except OSError:
        return []


def _read_head(stream: BinaryIO) -> bytes:
    head = b""
    while len(head) < 512 and (data := stream.read(512 - len(head))):
        head += data
    return head


def _read_all(stream: BinaryIO, *, already: int = 0) -> bytes:
    data = stream.read(MAX_DOCKERFILE_BYTES + 1)
    if already + len(data) > MAX_DOCKERFILE_BYTES:
        raise ContextError(
            f"standard input is neither a tar nor a Dockerfile: over {MAX_DOCKERFILE_BYTES} bytes of it",
            hint="a context is a tar, plain or compressed with gzip, zstd, xz or bzip2",
        )
    return data


class _Prefixed(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._rest.read(size)
        if size < 0:
            data, self._head = self._head + self._rest.read(), b""
            return data
        data, self._head = self._head[:size], self._head[size:]
        return data
